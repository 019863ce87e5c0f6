//! Runs seeds, and prints the story of one that fails.
//!
//! ```sh
//! cargo run --release -p kiva-testkit --bin sim -- --seed 42
//! ```
//!
//! What is simulated is a cluster of three or five stores, with the product's own loops, log and
//! replication, whose disks, clocks and networks go wrong: see `kiva_testkit::sim::world`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user")]

mod options;
mod runtime;

use std::process::ExitCode;
use std::time::Duration;

use kiva_testkit::sim::world::{Work, run};
use kiva_testkit::sim::{Failure, Summary, Trace};
use options::{Options, USAGE};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let Some(workloads) = chosen(options.workload.as_deref()) else {
        eprintln!("no such workload\n{USAGE}");
        return ExitCode::from(2);
    };
    let mut totals = Totals::default();
    for seed in options.seed..options.seed.saturating_add(options.seeds) {
        let workload = workloads[(seed % workloads.len() as u64) as usize];
        let trace = Trace::keeping(options.lines);
        let (result, took) = runtime::timed(|| play(seed, workload, &options, &trace));
        let hash = trace.hash();
        let failure = match result {
            Ok(summary) => {
                println!("seed {seed} {} {hash}: {}", workload.name(), summary.verdict);
                totals.add(&summary, took);
                let again = Trace::keeping(options.lines);
                if options.twice {
                    let _ = play(seed, workload, &options, &again);
                }
                match options.twice && again.hash() != hash {
                    true => Failure(format!("the second run has the hash {}", again.hash())),
                    false => continue,
                }
            }
            Err(failure) => failure,
        };
        print!("{}", trace.story());
        println!("\nseed {seed} {} {hash} FAILED: {failure}", workload.name());
        println!("repeat it with\n  {}", command(seed, workload, &options));
        return ExitCode::FAILURE;
    }
    println!("{totals}");
    ExitCode::SUCCESS
}

fn chosen(name: Option<&str>) -> Option<Vec<Work>> {
    match name {
        None => Some(Work::ALL.to_vec()),
        Some(name) => Work::ALL.into_iter().find(|known| known.name() == name).map(|it| vec![it]),
    }
}

fn command(seed: u64, work: Work, options: &Options) -> String {
    let (name, seconds) = (work.name(), options.seconds);
    format!(
        "cargo run --release -p kiva-testkit --bin sim -- --seed {seed} --workload {name} \
         --seconds {seconds}"
    )
}

fn play(seed: u64, work: Work, options: &Options, trace: &Trace) -> Result<Summary, Failure> {
    run(seed, work, Duration::from_secs(options.seconds), trace, |_| {})
}

/// What all seeds come to.
#[derive(Default)]
struct Totals {
    seeds: u64,
    steps: u64,
    simulated: Duration,
    took: Duration,
}

impl Totals {
    fn add(&mut self, summary: &Summary, took: Duration) {
        self.seeds += 1;
        self.steps += summary.steps;
        self.simulated += summary.simulated;
        self.took += took;
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hours = self.simulated.as_secs_f64() / 3_600.0;
        let per_minute = hours / (self.took.as_secs_f64() / 60.0).max(1e-9);
        write!(
            f,
            "{} seeds, {} steps, {hours:.2} simulated hours, {per_minute:.2} per minute",
            self.seeds, self.steps
        )
    }
}
