//! Random runs of a group, with every invariant looked at after every step.
//!
//! Covers 2A-log-fuzz, 2A-elect-liveness, 2A-raw-no-repeat, 2A-raw-crash-points, OPT-async-crash,
//! OPT-reorder, OPT-lease-hibernate, OPT-lease-clock.

mod support;

use kiva_raft::{Config, ReadMode};
#[cfg(feature = "seeded-bugs")]
use kiva_raft::{Flaw, Flaws};
#[cfg(feature = "seeded-bugs")]
use support::world::Story;
use support::world::{Plan, Summary, World};

/// Runs of one `cargo test`. `KIVA_RAFT_SEEDS=20000` looks longer, `KIVA_RAFT_SEED=42` at one run.
const SEEDS: u64 = 300;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn invariants_hold_and_the_group_recovers_for_every_seed() {
    if let Some(seed) = number("KIVA_RAFT_SEED") {
        let adjust = match std::env::var("KIVA_RAFT_SWITCH").ok() {
            None => |_: &mut Config| (),
            Some(wanted) => {
                let found = SWITCHES.iter().find(|(name, _)| *name == wanted);
                found.expect("one of the switches").1
            }
        };
        println!("{:#?}", World::run(seed, true, &Plan { adjust, ..Plan::default() }));
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
        sum.leaderless = sum.leaderless.max(run.leaderless);
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

/// Each optimisation alone, none of them, and all together.
const SWITCHES: [Switch; 11] = [
    ("none", none),
    ("pre-vote", |config| on(config, |config| config.pre_vote = true)),
    ("check-quorum", |config| on(config, |config| config.check_quorum = true)),
    ("lease", |config| on(config, lease)),
    ("eager commit", |config| on(config, |config| config.eager_commit = true)),
    ("forwarding", |config| on(config, |config| config.forward_proposals = true)),
    ("one append on its way", |config| on(config, |config| config.inflight_messages_max = 1)),
    ("one entry per append", |config| on(config, |config| config.append_bytes_max = 1)),
    ("one entry applied at a time", |config| on(config, one_applied)),
    ("nothing kept in memory", |config| on(config, |config| config.tail_bytes_max = 0)),
    ("all", |config| {
        lease(config);
        config.pre_vote = true;
        config.eager_commit = true;
        config.forward_proposals = true;
        config.inflight_messages_max = 1;
        config.append_bytes_max = 1;
        one_applied(config);
        config.tail_bytes_max = 0;
    }),
];

type Switch = (&'static str, fn(&mut Config));

fn none(config: &mut Config) {
    *config = Config { flaws: config.flaws, ..Config::new(config.id) };
    config.pre_vote = false;
    config.check_quorum = false;
}

fn on(config: &mut Config, switch: fn(&mut Config)) {
    none(config);
    switch(config);
}

fn lease(config: &mut Config) {
    config.check_quorum = true;
    config.reads = ReadMode::Lease { ticks: 4 };
}

fn one_applied(config: &mut Config) {
    config.apply_bytes_max = 0;
    config.applying_bytes_max = 0;
}

/// The invariants hold whichever optimisations are on. Covers OPT-matrix.
#[test]
fn every_switch_alone_and_together_keeps_the_invariants() {
    // A part for each, at whatever scale.
    let count = number("KIVA_RAFT_SEEDS").unwrap_or(SEEDS) / 15;
    for (name, adjust) in SWITCHES {
        let plan = Plan { adjust, ..Plan::default() };
        let mut committed = 0;
        for seed in 1..=count {
            let run = std::panic::catch_unwind(|| World::run(seed, false, &plan));
            let Ok(run) = run else {
                panic!(
                    "seed {seed} failed with {name}, see above; every step of it:\n    \
                     KIVA_RAFT_SWITCH='{name}' KIVA_RAFT_SEED={seed} cargo test -p kiva-raft \
                     --test model invariants -- --nocapture"
                );
            };
            committed += run.committed;
        }
        assert!(committed > 10 * count, "too little is committed with {name}");
    }
}

/// The bugs that are found by a test of their own, in `src/flaw/tests.rs`: nodes that are otherwise
/// right do not get into the position, or hardly ever.
#[cfg(feature = "seeded-bugs")]
const FOUND_ELSEWHERE: [Flaw; 3] =
    [Flaw::CommitUnverified, Flaw::PromiseByTerm, Flaw::AnswerBeforeSync];

/// Runs in which a bug has to show itself: about two minutes.
#[cfg(feature = "seeded-bugs")]
const SEEDS_PER_BUG: u64 = 5000;

/// `KIVA_RAFT_FLAW=VoteTwice` looks for one of them.
#[cfg(feature = "seeded-bugs")]
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "prints how long each took, and asserts nothing of it"
)]
fn seeded_bugs_are_found_by_random_runs() {
    let only = std::env::var("KIVA_RAFT_FLAW").ok();
    let is_wanted = |flaw: &Flaw| match &only {
        Some(name) => *name == format!("{flaw:?}"),
        None => !FOUND_ELSEWHERE.contains(flaw),
    };
    // Thousands of runs, each to be abandoned without a word.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let mut missed = Vec::new();
    for flaw in Flaw::ALL.into_iter().filter(is_wanted) {
        let plan = Plan { flaws: Flaws::one(flaw), story: story_of(flaw), ..Plan::default() };
        let start = std::time::Instant::now();
        let fails = |seed: &u64| std::panic::catch_unwind(|| World::run(*seed, false, &plan));
        let found = (1..=SEEDS_PER_BUG).find_map(|seed| Some((seed, fails(&seed).err()?)));
        let seconds = start.elapsed().as_secs_f64();
        match found {
            Some((seed, why)) => {
                println!("{flaw:?}: seed {seed}, {seconds:.1} s: {}", first_line(&*why));
            }
            None => missed.push(flaw),
        }
    }
    std::panic::set_hook(hook);
    assert!(missed.is_empty(), "not found in {SEEDS_PER_BUG} runs: {missed:?}");
}

/// The kind of run that a bug shows itself in soonest; every fourth run is of that kind anyway.
#[cfg(feature = "seeded-bugs")]
fn story_of(flaw: Flaw) -> Option<Story> {
    match flaw {
        Flaw::ElectByOneHalf | Flaw::ChangeWhilePending | Flaw::CampaignUnapplied => {
            Some(Story::Members)
        }
        Flaw::ReadByEarlierRound | Flaw::LeaseFromAnswer | Flaw::HandoverForEver => {
            Some(Story::Reads)
        }
        _ => None,
    }
}

#[cfg(feature = "seeded-bugs")]
fn first_line(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.and_then(|text| text.lines().next()).unwrap_or("")
}
