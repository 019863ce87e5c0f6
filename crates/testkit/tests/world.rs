//! The product's stores, simulated: whatever happens, and in every way that clients work.
//!
//! `KIVA_SIM_SEEDS` says how many seeds instead of a hundred.

use std::process::Command;
use std::time::Duration;

use kiva_testkit::sim::Trace;
use kiva_testkit::sim::world::{Work, run};

const TROUBLE: Duration = Duration::from_secs(6);

fn seeds() -> u64 {
    let asked = std::env::var("KIVA_SIM_SEEDS").ok();
    asked.and_then(|seeds| seeds.parse().ok()).unwrap_or(100)
}

fn all_seeds_pass(work: Work) {
    let position = Work::ALL.iter().position(|it| *it == work).expect("it is listed") as u64;
    for seed in (0..seeds()).filter(|seed| seed % Work::ALL.len() as u64 == position) {
        let trace = Trace::default();
        if let Err(failure) = run(seed, work, TROUBLE, &trace, |_| {}) {
            panic!("seed {seed} of {}: {failure}\n{}", work.name(), trace.story());
        }
    }
}

/// Covers INV-linearizable, INV-durable, INV-one-reply and INV-one-leader.
#[test]
fn keys_are_registers_that_everybody_shares() {
    all_seeds_pass(Work::Register);
}

/// Covers INV-durable for lists, read as ranges, over logs that are cut all the time.
#[test]
fn lists_stay_complete() {
    all_seeds_pass(Work::Append);
}

/// Covers INV-no-residue and INV-at-most-once while peers come and go and disks are lost.
#[test]
fn groups_change_and_lose_nothing() {
    all_seeds_pass(Work::Membership);
}

/// Covers OPT-lease-linearizable.
#[test]
fn reads_are_never_stale_while_leadership_moves() {
    all_seeds_pass(Work::Leaders);
}

/// Two processes, because what differs between processes is what must not matter.
#[test]
fn the_same_seed_is_the_same_run_in_another_process() {
    let play = || {
        let mut sim = Command::new(env!("CARGO_BIN_EXE_sim"));
        sim.args(["--seed", "6", "--seeds", "2", "--seconds", "3"]);
        let printed = sim.output().expect("the simulator runs").stdout;
        let printed = String::from_utf8(printed).expect("it prints text");
        // The last line has a figure of real time.
        printed.lines().filter(|line| line.starts_with("seed ")).map(str::to_owned).collect()
    };
    let (one, other): (Vec<String>, Vec<String>) = (play(), play());
    assert_eq!((one.len(), &one), (2, &other));
}
