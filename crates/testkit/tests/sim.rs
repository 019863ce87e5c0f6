//! The parts of the simulator together, on the smallest cluster that needs them all.

#[path = "support/toy.rs"]
mod toy;

use std::time::Duration;

use kiva_testkit::sim::play::{attempt, play};
use kiva_testkit::sim::{Failure, Kit, Profile, Summary, Trace, TraceHash};
use kiva_testkit::workload::{self, Append, Register, Workload};
use toy::{Bug, Toy};

const TROUBLE: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(30);

fn run(seed: u64, bug: Bug, workload: &dyn Workload) -> (Result<Summary, Failure>, Trace) {
    let trace = Trace::default();
    let mut kit = Kit::new(seed, trace.clone());
    let profile = match seed % 3 {
        0 => Profile::network(TROUBLE),
        1 => Profile::processes(TROUBLE),
        _ => Profile::everything(TROUBLE),
    };
    let result = attempt(move || {
        let mut toy = Toy::new(&kit, bug);
        play(&mut toy, &mut kit, workload, &profile, PATIENCE)
    });
    (result, trace)
}

fn register() -> Register {
    Register::new(workload::register::Options::default())
}

fn append() -> Append {
    Append::new(workload::append::Options::default())
}

fn hash(seed: u64) -> (TraceHash, Result<Summary, Failure>) {
    let (result, trace) = run(seed, Bug::None, &register());
    (trace.hash(), result)
}

/// Covers INV-linearizable, INV-one-leader and INV-durable for one group without the store's loops.
#[test]
fn a_replicated_register_is_linearizable_whatever_happens() {
    for seed in 0..12 {
        let (result, trace) = run(seed, Bug::None, &register());
        match result {
            Ok(summary) => println!("seed {seed}: {} steps, {}", summary.steps, summary.verdict),
            Err(failure) => panic!("seed {seed}: {failure}\n{}", trace.story()),
        }
    }
}

#[test]
fn lists_stay_complete_whatever_happens() {
    for seed in 0..12 {
        let (result, trace) = run(seed, Bug::None, &append());
        match result {
            Ok(summary) => println!("seed {seed}: {} steps, {}", summary.steps, summary.verdict),
            Err(failure) => panic!("seed {seed}: {failure}\n{}", trace.story()),
        }
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    assert_eq!(hash(5), hash(5));
    assert_ne!(hash(5).0, hash(6).0);
}

/// A simulator that never finds anything proves nothing.
#[test]
fn every_bug_is_found() {
    for bug in [
        Bug::ReadUnconfirmed,
        Bug::AcknowledgeEarly,
        Bug::AnswerByIndex,
        Bug::RefuseAppended,
        Bug::SyncLies,
        Bug::AnswersGetLost,
    ] {
        let found = (0..200).find_map(|seed| {
            // Answers that never come show where somebody insists on one.
            let list = (bug == Bug::AnswersGetLost).then(append);
            let workload: &dyn Workload = match &list {
                Some(list) => list,
                None => &register(),
            };
            let failure = run(seed, bug, workload).0.err();
            failure.map(|failure| (seed, failure))
        });
        let (seed, failure) = found.unwrap_or_else(|| panic!("nobody notices {bug:?}"));
        println!("{bug:?}: seed {seed}: {failure}");
    }
}
