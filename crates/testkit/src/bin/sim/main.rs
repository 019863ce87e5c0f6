//! Runs seeds, and prints the story of one that fails.
//!
//! ```sh
//! cargo run --release -p kiva-testkit --bin sim -- --seed 42
//! ```
//!
//! What is simulated is a group of three nodes of `kiva_raft` with a register on top.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user")]

mod options;
mod runtime;
#[path = "../../../tests/support/toy.rs"]
mod toy;

use std::process::ExitCode;
use std::time::Duration;

use kiva_testkit::sim::play::{attempt, play};
use kiva_testkit::sim::{Failure, Kit, Profile, Summary, Trace};
use kiva_testkit::workload::{self, Append, Register, Workload};
use options::{Options, USAGE};
use toy::{Bug, Toy};

const WORKLOADS: [&str; 2] = ["register", "append"];

/// How long the cluster may take to come back to life.
const PATIENCE: Duration = Duration::from_secs(30);

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
        let (result, took) = runtime::timed(|| run(seed, workload, &options, &trace));
        let hash = trace.hash();
        let failure = match result {
            Ok(summary) => {
                println!("seed {seed} {workload} {hash}: {}", summary.verdict);
                totals.add(&summary, took);
                let again = Trace::keeping(options.lines);
                if options.twice {
                    let _ = run(seed, workload, &options, &again);
                }
                match options.twice && again.hash() != hash {
                    true => Failure(format!("the second run has the hash {}", again.hash())),
                    false => continue,
                }
            }
            Err(failure) => failure,
        };
        print!("{}", trace.story());
        println!("\nseed {seed} {workload} {hash} FAILED: {failure}");
        println!("repeat it with\n  {}", command(seed, workload, &options));
        return ExitCode::FAILURE;
    }
    println!("{totals}");
    ExitCode::SUCCESS
}

fn chosen(name: Option<&str>) -> Option<Vec<&'static str>> {
    match name {
        None => Some(WORKLOADS.to_vec()),
        Some(name) => WORKLOADS.into_iter().find(|known| *known == name).map(|name| vec![name]),
    }
}

fn command(seed: u64, workload: &str, options: &Options) -> String {
    let Options { seconds, .. } = options;
    format!(
        "cargo run --release -p kiva-testkit --bin sim -- --seed {seed} --workload {workload} \
         --seconds {seconds}"
    )
}

fn run(seed: u64, name: &str, options: &Options, trace: &Trace) -> Result<Summary, Failure> {
    let trouble = Duration::from_secs(options.seconds);
    let profile = match seed % 3 {
        0 => Profile::network(trouble),
        1 => Profile::processes(trouble),
        _ => Profile::everything(trouble),
    };
    let workload: Box<dyn Workload> = match name {
        "append" => Box::new(Append::new(workload::append::Options::default())),
        _ => Box::new(Register::new(workload::register::Options::default())),
    };
    attempt(|| {
        let mut kit = Kit::new(seed, trace.clone());
        let mut cluster = Toy::new(&kit, Bug::None);
        play(&mut cluster, &mut kit, &*workload, &profile, PATIENCE)
    })
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
