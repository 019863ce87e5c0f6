//! A simulated cluster that never finds anything proves nothing: here is a bug in every run.
//!
//! ```sh
//! cargo test --release -p kiva-testkit --features seeded-bugs --test flaws -- --nocapture
//! ```

use std::time::Duration;

use kiva_raftstore::flaw::{Flaw, Flaws};
use kiva_testkit::sim::Trace;
use kiva_testkit::sim::world::{Work, run};

/// Seeds for each bug, at most: some minutes.
const SEEDS_MAX: u64 = 3_000;

fn find(flaw: Flaw) -> Option<(u64, Work, String)> {
    (0..SEEDS_MAX).find_map(|seed| {
        let work = Work::ALL[(seed % Work::ALL.len() as u64) as usize];
        let trouble = Duration::from_secs(20);
        let change = |setup: &mut kiva_testkit::sim::world::Setup| {
            setup.options.flaws = Flaws::one(flaw);
        };
        let failure = run(seed, work, trouble, &Trace::keeping(0), change).err()?;
        let first = failure.0.lines().next().unwrap_or_default().to_owned();
        Some((seed, work, first))
    })
}

#[test]
fn every_bug_that_is_put_in_is_found() {
    std::panic::set_hook(Box::new(|_| {}));
    let chosen = std::env::var("KIVA_FLAW").ok();
    let mut missed = Vec::new();
    for flaw in Flaw::ALL {
        if chosen.as_ref().is_some_and(|name| *name != format!("{flaw:?}")) {
            continue;
        }
        match find(flaw) {
            Some((seed, work, what)) => println!("{flaw:?}: seed {seed}, {}: {what}", work.name()),
            None => {
                println!("{flaw:?}: not found");
                missed.push(flaw);
            }
        }
    }
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "nobody notices {missed:?}");
}
