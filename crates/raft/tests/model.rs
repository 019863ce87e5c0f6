//! Random runs of a group, with every invariant looked at after every step.
//!
//! Covers 2A-log-fuzz, 2A-elect-liveness, 2A-raw-no-repeat, 2A-raw-crash-points, OPT-async-crash,
//! OPT-reorder.

mod support;

use support::world::{Plan, Summary, World};

/// Runs of one `cargo test`. `KIVA_RAFT_SEEDS=20000` looks longer, `KIVA_RAFT_SEED=42` at one run.
const SEEDS: u64 = 300;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn invariants_hold_and_the_group_recovers_for_every_seed() {
    if let Some(seed) = number("KIVA_RAFT_SEED") {
        println!("{:#?}", World::run(seed, true, &Plan::default()));
        return;
    }
    let first = number("KIVA_RAFT_FIRST_SEED").unwrap_or(1);
    let count = number("KIVA_RAFT_SEEDS").unwrap_or(SEEDS);
    let mut sum = Summary::default();
    for seed in first..first + count {
        let run = std::panic::catch_unwind(|| World::run(seed, false, &Plan::default()));
        let Ok(run) = run else {
            panic!(
                "seed {seed} failed, see above; every step of it:\n    \
                 KIVA_RAFT_SEED={seed} cargo test -p kiva-raft --test model -- --nocapture"
            );
        };
        sum.steps += run.steps;
        sum.committed += run.committed;
        sum.elections += run.elections;
        sum.snapshots += run.snapshots;
        sum.changes += run.changes;
        sum.crashes += run.crashes;
        sum.reads += run.reads;
        sum.leases += run.leases;
        sum.sleeps += run.sleeps;
    }
    println!("{count} seeds: {sum:?}");
    if count >= SEEDS {
        // A run in which nothing happens shows nothing.
        assert!(sum.committed > 30 * count, "too little is committed: {sum:?}");
        assert!(sum.changes > count && sum.snapshots > count, "too few changes: {sum:?}");
        assert!(sum.reads > count && sum.leases > count, "too few reads: {sum:?}");
        assert!(sum.sleeps > count / 10, "too few idle groups: {sum:?}");
    }
}

#[test]
fn a_seed_is_a_whole_run() {
    let twice = [(); 2].map(|()| World::run(7, false, &Plan::default()));
    assert_eq!(format!("{:?}", twice[0]), format!("{:?}", twice[1]));
}
