//! Optimistic transactions: the order of requests, conflicts, and what is told about the outcome.

use std::time::Duration;

use kiva_base::{Key, KeyRange, RegionError};
use kiva_client::{Client, CommitError, KvPair};

use crate::world::{Fault, World};

fn keys(pairs: &[KvPair]) -> String {
    pairs.iter().map(|pair| pair.key.escaped()).collect::<Vec<_>>().join(" ")
}

/// Commits these keys, each with itself as value.
pub(crate) fn write(world: &World, client: &Client, keys: &[&'static str]) {
    world.run(async {
        let mut txn = client.begin().await.unwrap();
        for &key in keys {
            txn.put(key, key);
        }
        txn.commit().await.unwrap();
    });
    world.settle();
    world.trace();
}

fn without_lookups(world: &World) -> Vec<String> {
    let mut trace = world.trace();
    trace.retain(|line| line != "region?");
    trace
}

#[test]
fn the_primary_is_locked_first_and_committed_before_the_answer() {
    let world = World::txn(&["g", "p"]);
    let client = world.client();
    let committed = world.run(async {
        let mut txn = client.begin().await.unwrap();
        for key in ["a", "b", "h", "z"] {
            txn.put(key, "1");
        }
        txn.commit_primary().await.unwrap().expect("something was written")
    });
    assert_eq!(
        without_lookups(&world),
        [
            "tso 1",
            "s1 KvPrewrite r1 a b primary=a",
            "s2 KvPrewrite r2 h primary=a",
            "s3 KvPrewrite r3 z primary=a",
            "tso 1",
            "s1 KvCommit r1 a b",
        ]
    );
    assert_eq!(world.locks(), ["h", "z"]);
    world.run(committed.secondaries.expect("two regions are left"));
    assert_eq!(without_lookups(&world), ["s2 KvCommit r2 h", "s3 KvCommit r3 z"]);
    assert!(world.locks().is_empty());
}

#[test]
fn commit_gives_the_rest_to_the_runtime() {
    let world = World::txn(&["g"]);
    let client = world.client();
    world.run(async {
        let mut txn = client.begin().await.unwrap();
        txn.put("a", "1");
        txn.put("z", "1");
        txn.commit().await.unwrap()
    });
    assert_eq!(world.locks(), ["z"]);
    world.settle();
    assert!(world.locks().is_empty());
}

#[test]
fn a_transaction_of_one_region_needs_two_requests() {
    let world = World::txn(&[]);
    let client = world.client();
    write(&world, &client, &["x"]);
    write(&world, &client, &["a", "b", "c"]);
    world.run(async {
        let mut txn = client.begin().await.unwrap();
        txn.put("a", "2");
        txn.delete("b");
        assert!(txn.commit().await.unwrap().is_some());
        assert!(client.begin().await.unwrap().commit().await.unwrap().is_none());
    });
    let trace = without_lookups(&world);
    assert_eq!(
        trace,
        ["tso 1", "s1 KvPrewrite r1 a b primary=a", "tso 1", "s1 KvCommit r1 a b", "tso 1"]
    );
}

#[test]
fn reads_see_own_writes_over_the_snapshot() {
    let world = World::txn(&["c"]);
    let client = world.client();
    write(&world, &client, &["a", "b", "c", "d"]);
    world.run(async {
        let mut txn = client.begin().await.unwrap();
        let mut other = client.begin().await.unwrap();
        other.put("e", "later");
        other.commit().await.unwrap();
        txn.put("bb", "own");
        txn.delete("c");
        assert_eq!(txn.get("e").await.unwrap(), None, "committed after the start");
        assert_eq!(txn.get("c").await.unwrap(), None);
        assert_eq!(txn.get("bb").await.unwrap(), Some("own".into()));
        assert_eq!(keys(&txn.scan(KeyRange::ALL, 9).await.unwrap()), "a b bb d");
        assert_eq!(keys(&txn.scan(KeyRange::ALL, 2).await.unwrap()), "a b");
        assert_eq!(keys(&txn.scan_reverse(KeyRange::ALL, 3).await.unwrap()), "d bb b");
        let asked = ["d", "c", "bb", "no"].map(Key::from).to_vec();
        assert_eq!(keys(&txn.batch_get(asked).await.unwrap()), "d bb");
        txn.rollback();
    });
}

#[test]
fn of_two_writers_of_a_key_one_is_told_of_a_conflict() {
    let world = World::txn(&[]);
    let client = world.client();
    let error = world.run(async {
        let mut one = client.begin().await.unwrap();
        let mut two = client.begin().await.unwrap();
        one.put("a", "1");
        two.put("a", "2");
        one.commit().await.unwrap();
        two.commit().await.unwrap_err()
    });
    assert!(matches!(error, CommitError::Conflict(_)), "{error}");
    assert!(error.is_retryable() && !error.is_unknown());
    world.settle();
    let trace = world.trace();
    assert!(!trace.iter().any(|line| line.contains("Rollback")), "nothing was locked: {trace:?}");
}

#[test]
fn a_conflict_in_a_later_region_takes_the_first_locks_back() {
    let world = World::txn(&["m"]);
    let client = world.client();
    let error = world.run(async {
        let mut one = client.begin().await.unwrap();
        let mut two = client.begin().await.unwrap();
        one.put("z", "1");
        one.commit().await.unwrap();
        two.put("a", "2");
        two.put("z", "2");
        two.commit().await.unwrap_err()
    });
    assert!(matches!(error, CommitError::Conflict(_)), "{error}");
    assert_eq!(world.locks(), ["a"]);
    world.settle();
    assert!(world.locks().is_empty());
}

#[test]
fn an_insert_over_a_value_is_refused_by_its_name() {
    let world = World::txn(&[]);
    let client = world.client();
    write(&world, &client, &["a"]);
    world.run(async {
        let mut txn = client.begin().await.unwrap();
        txn.insert("a", "2").unwrap();
        assert!(txn.insert("a", "3").is_err(), "the transaction itself has written it");
        let error = txn.commit().await.unwrap_err();
        assert_eq!(error, CommitError::AlreadyExists("a".into()));

        let mut txn = client.begin().await.unwrap();
        txn.delete("a");
        txn.insert("a", "2").unwrap();
        txn.insert("b", "1").unwrap();
        txn.delete("b");
        txn.commit().await.unwrap();

        // Nothing but a check: no lock, no commit.
        let mut txn = client.begin().await.unwrap();
        txn.insert("c", "1").unwrap();
        txn.delete("c");
        assert_eq!(txn.commit().await, Ok(None));
    });
    assert!(world.locks().is_empty());
}

/// A check leaves no lock, so nobody who meets a lock could ask it.
#[test]
fn a_check_is_never_the_primary() {
    let world = World::txn(&[]);
    let client = world.client();
    world.run(async {
        let mut txn = client.begin().await.unwrap();
        txn.insert("a", "1").unwrap();
        txn.delete("a");
        txn.put("b", "1");
        txn.commit().await.unwrap()
    });
    let trace = without_lookups(&world);
    assert_eq!(trace, ["tso 1", "s1 KvPrewrite r1 b a primary=b", "tso 1", "s1 KvCommit r1 b"]);
}

#[test]
fn a_locked_key_conflicts_with_a_later_writer_of_it() {
    let world = World::txn(&[]);
    let client = world.client();
    let error = world.run(async {
        let mut reader = client.begin().await.unwrap();
        let mut writer = client.begin().await.unwrap();
        reader.lock("a");
        reader.put("b", "1");
        writer.put("a", "1");
        writer.commit().await.unwrap();
        reader.commit().await.unwrap_err()
    });
    assert!(matches!(error, CommitError::Conflict(_)), "{error}");
}

#[test]
fn a_split_between_the_phases_goes_unnoticed() {
    let world = World::txn(&[]);
    let client = world.client();
    let split = Fault::First(Box::new(|state| state.split(1, 9, Key::from("m").encode().0)));
    world.fault("KvCommit", split);
    world.run(async {
        let mut txn = client.begin().await.unwrap();
        txn.put("a", "1");
        txn.put("z", "1");
        txn.commit().await.unwrap()
    });
    world.settle();
    assert_eq!(
        without_lookups(&world)[2..],
        ["tso 1", "s1 KvCommit r1 a z: epoch", "s1 KvCommit r1 a", "s1 KvCommit r9 z"]
            .map(String::from)[..]
    );
    assert!(world.locks().is_empty());
}

#[test]
fn a_prewrite_is_grouped_anew_when_its_region_has_split() {
    let world = World::txn(&[]);
    let client = world.client();
    write(&world, &client, &["x"]);
    world.state().split(1, 9, Key::from("m").encode().0);
    world.run(async {
        let mut txn = client.begin().await.unwrap();
        txn.put("a", "1");
        txn.put("z", "1");
        txn.commit().await.unwrap()
    });
    assert_eq!(
        without_lookups(&world)[1..],
        [
            "s1 KvPrewrite r1 a z primary=a: epoch",
            "s1 KvPrewrite r1 a primary=a",
            "s1 KvPrewrite r9 z primary=a",
            "tso 1",
            "s1 KvCommit r1 a",
        ]
        .map(String::from)[..]
    );
}

#[test]
fn a_lost_prewrite_is_repeated() {
    for fault in [Fault::LoseBefore, Fault::LoseAfter] {
        let world = World::txn(&[]);
        let client = world.client();
        world.fault("KvPrewrite", fault);
        write(&world, &client, &["a"]);
        assert!(world.locks().is_empty());
    }
}

#[test]
fn a_lost_commit_is_repeated_and_then_known() {
    for fault in [Fault::LoseBefore, Fault::LoseAfter] {
        let world = World::txn(&[]);
        let client = world.client();
        world.fault("KvCommit", fault);
        write(&world, &client, &["a"]);
        assert!(world.locks().is_empty());
    }
}

#[test]
fn a_commit_that_stays_lost_is_undetermined_and_leaves_its_locks() {
    for is_executed in [false, true] {
        let world = World::txn(&[]);
        let client = world.client();
        let lost = if is_executed { Fault::LoseAfter } else { Fault::LoseBefore };
        world.fault("KvCommit", lost);
        for _ in 0..200 {
            world.fault("KvCommit", Fault::Refuse(RegionError::StaleCommand));
        }
        let error = world.run(async {
            let mut txn = client.begin().await.unwrap();
            txn.put("a", "1");
            txn.commit().await.unwrap_err()
        });
        assert!(matches!(error, CommitError::Undetermined { .. }), "{error}");
        assert!(error.is_unknown() && !error.is_retryable());
        world.settle();
        let trace = world.trace();
        assert!(!trace.iter().any(|line| line.contains("Rollback")), "{trace:?}");

        // A later reader settles it.
        world.state().faults.clear();
        world.pass(Duration::from_secs(4));
        let found = world.run(async {
            let snapshot = client.snapshot(client.timestamp().await.unwrap());
            snapshot.get("a").await.unwrap()
        });
        assert_eq!(found.is_some(), is_executed);
    }
}

#[test]
fn a_commit_that_was_never_sent_did_not_happen() {
    let world = World::txn(&[]);
    let client = world.client();
    for _ in 0..200 {
        world.fault("KvCommit", Fault::Refuse(RegionError::StaleCommand));
    }
    let error = world.run(async {
        let mut txn = client.begin().await.unwrap();
        txn.put("a", "1");
        txn.commit().await.unwrap_err()
    });
    assert!(matches!(error, CommitError::GaveUp(_)), "{error}");
    assert!(!error.is_unknown());
    world.settle();
    assert!(world.locks().is_empty(), "rolled back");
}

#[test]
fn a_scan_and_a_batch_see_one_moment_over_many_regions() {
    let world = World::txn(&["c", "e"]);
    let client = world.client();
    write(&world, &client, &["a", "b", "c", "d", "e", "f"]);
    world.run(async {
        let snapshot = client.snapshot(client.timestamp().await.unwrap());
        let mut txn = client.begin().await.unwrap();
        txn.delete("d");
        txn.put("bb", "1");
        txn.commit().await.unwrap();
        assert_eq!(keys(&snapshot.scan(KeyRange::ALL, 9).await.unwrap()), "a b c d e f");
        assert_eq!(keys(&snapshot.scan_reverse(KeyRange::ALL, 4).await.unwrap()), "f e d c");
        let found = snapshot.scan_keys(KeyRange::ALL, 3).await.unwrap();
        assert_eq!(found, ["a", "b", "c"].map(Key::from));
        let asked = ["f", "bb", "d"].map(Key::from).to_vec();
        assert_eq!(keys(&snapshot.batch_get(asked).await.unwrap()), "f d");
    });
}

/// The first region's lock is there for longer than it would live by itself.
#[test]
fn a_slow_commit_keeps_its_primary_alive() {
    let world = World::txn(&["m"]);
    let client = world.client();
    // Only the second region is slow.
    world.fault("KvPrewrite", Fault::First(Box::new(|_| {})));
    for _ in 0..12 {
        let busy = RegionError::ServerIsBusy { reason: "slow".into() };
        world.fault("KvPrewrite", Fault::Refuse(busy));
    }
    world.run(async {
        let mut txn = client.begin().await.unwrap();
        txn.put("a", "1");
        txn.put("z", "1");
        txn.commit().await.unwrap()
    });
    assert!(world.elapsed() > Duration::from_secs(3));
    let beats = world.trace().iter().filter(|line| line.contains("HeartBeat r1 a")).count();
    assert!(beats >= 2, "{beats}");
}
