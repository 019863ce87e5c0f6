//! Locks of others: alive, expired, committed, rolled back.

use std::time::Duration;

use kiva_base::{Key, KeyRange};
use kiva_client::{Client, CommitError, Obstacle, ReadError};

use crate::transaction::write;
use crate::world::World;

/// A client that dies after some calls to stores while it commits `keys`.
pub(crate) fn die_after(world: &World, calls: u64, keys: &[&'static str]) {
    let client = world.mortal(calls);
    let commit = async {
        let mut txn = client.begin().await.unwrap();
        for &key in keys {
            txn.put(key, "dead");
        }
        txn.commit().await
    };
    let before = world.elapsed();
    // The clock stands still for the others while this one dies.
    let outcome = world.try_run(async {
        let mut commit = std::pin::pin!(commit);
        for _ in 0..1_000 {
            if futures_util::poll!(&mut commit).is_ready() {
                return;
            }
            kiva_base::Clock::sleep(world, Duration::from_micros(100)).await;
        }
    });
    assert!(outcome.is_some());
    world.settle();
    world.forget_tasks();
    assert!(world.elapsed() - before < Duration::from_secs(1));
}

fn get(
    world: &World,
    client: &Client,
    key: &'static str,
) -> Result<Option<bytes::Bytes>, ReadError> {
    world.run(async {
        let snapshot = client.snapshot(client.timestamp().await.unwrap());
        snapshot.get(key).await
    })
}

#[test]
fn a_reader_passes_a_lock_whose_transaction_will_commit_later() {
    let world = World::txn(&["m"]);
    let client = world.client();
    write(&world, &client, &["a", "z"]);
    die_after(&world, 2, &["a", "z"]);
    assert_eq!(world.locks(), ["a", "z"]);
    world.trace();
    let before = world.elapsed();
    assert_eq!(get(&world, &client, "z"), Ok(Some("z".into())));
    assert!(world.elapsed() - before < Duration::from_millis(100), "without waiting");
    assert_eq!(
        world.trace(),
        ["tso 1", "s2 KvGet r2 z", "tso 1", "s1 KvCheckTxnStatus r1 a", "s2 KvGet r2 z"]
    );
}

#[test]
fn a_pushed_transaction_takes_a_later_timestamp() {
    let world = World::txn(&[]);
    let (client, reader) = (world.client(), world.client());
    let (commit_ts, read_ts) = world.run(async {
        let mut txn = client.begin().await.unwrap();
        txn.put("a", "1");
        let read_ts = reader.timestamp().await.unwrap();
        let snapshot = reader.snapshot(read_ts);
        // Reads once the lock is there; its commit timestamp is drawn before that.
        let read = async {
            loop {
                if world.locks() == ["a"] {
                    return snapshot.get("a").await.unwrap();
                }
                kiva_base::Clock::sleep(&world, Duration::from_micros(100)).await;
            }
        };
        let (committed, seen) = futures_util::join!(txn.commit(), read);
        assert_eq!(seen, None);
        (committed.unwrap().unwrap(), read_ts)
    });
    assert!(commit_ts > read_ts);
}

#[test]
fn an_expired_transaction_is_rolled_back_and_read_over() {
    let world = World::txn(&["m"]);
    let client = world.client();
    write(&world, &client, &["a", "z"]);
    die_after(&world, 2, &["a", "z"]);
    world.pass(Duration::from_secs(4));
    world.trace();
    assert_eq!(get(&world, &client, "z"), Ok(Some("z".into())));
    assert_eq!(
        world.trace(),
        [
            "tso 1",
            "s2 KvGet r2 z",
            "tso 1",
            "s1 KvCheckTxnStatus r1 a",
            "s2 KvResolveLock r2 z",
            "s2 KvGet r2 z",
        ]
    );
    assert!(world.locks().is_empty());
}

#[test]
fn a_lock_without_a_primary_is_waited_for_and_then_removed() {
    let world = World::txn(&["m"]);
    let client = world.client();
    die_after(&world, 2, &["a", "z"]);
    world.drop_lock("a");
    let begun = world.elapsed();
    assert_eq!(get(&world, &client, "z"), Ok(None));
    let waited = world.elapsed() - begun;
    assert!(waited > Duration::from_secs(2) && waited < Duration::from_secs(5), "{waited:?}");
    assert!(world.locks().is_empty());
}

#[test]
fn a_prewrite_that_comes_after_its_transaction_was_rolled_back_fails() {
    let world = World::txn(&["m"]);
    let client = world.client();
    let error = world.run(async {
        let mut txn = client.begin().await.unwrap();
        txn.put("a", "1");
        txn.put("z", "1");
        // Somebody meets a lock of it, finds it dead, and rolls its primary back.
        world.roll_back("a", txn.start_ts());
        txn.commit().await.unwrap_err()
    });
    assert!(matches!(error, CommitError::RolledBack(_)), "{error}");
    assert!(error.is_retryable());
}

#[test]
fn a_committed_transaction_is_finished_by_whoever_meets_it() {
    let world = World::txn(&["m"]);
    let client = world.client();
    die_after(&world, 3, &["a", "z"]);
    assert_eq!(world.locks(), ["z"]);
    assert_eq!(get(&world, &client, "z"), Ok(Some("dead".into())));
    assert!(world.locks().is_empty());
}

#[test]
fn a_writer_waits_for_a_lock_that_is_alive_and_rolls_an_expired_one_back() {
    let world = World::txn(&[]);
    let client = world.client();
    die_after(&world, 1, &["a"]);
    let begun = world.elapsed();
    write(&world, &client, &["a"]);
    let waited = world.elapsed() - begun;
    assert!(waited > Duration::from_secs(2) && waited < Duration::from_secs(5), "{waited:?}");
    assert_eq!(get(&world, &client, "a"), Ok(Some("a".into())));
}

#[test]
fn a_writer_that_may_not_wait_so_long_is_told_whose_lock_it_is() {
    let world = World::txn(&[]);
    let client = world.client();
    die_after(&world, 1, &["a"]);
    let error = world.run(async {
        let txn = client.begin().await.unwrap();
        let mut txn = txn.with_timeout(Duration::from_secs(1));
        txn.put("a", "1");
        txn.commit().await.unwrap_err()
    });
    let kiva_client::CommitError::GaveUp(gave_up) = error else {
        panic!("{error}");
    };
    assert!(matches!(gave_up.last, Obstacle::Locked(_)), "{gave_up}");
}

#[test]
fn all_locks_of_a_page_are_settled_with_one_question_per_transaction() {
    let world = World::txn(&["m"]);
    let client = world.client();
    die_after(&world, 2, &["a", "b", "c", "z"]);
    world.pass(Duration::from_secs(4));
    world.trace();
    world.run(async {
        let snapshot = client.snapshot(client.timestamp().await.unwrap());
        assert_eq!(snapshot.scan(KeyRange::ALL, 9).await, Ok(vec![]));
        let all = ["a", "z"].map(Key::from).to_vec();
        assert_eq!(snapshot.batch_get(all).await, Ok(vec![]));
    });
    let trace = world.trace();
    let asked = trace.iter().filter(|line| line.contains("CheckTxnStatus")).count();
    assert_eq!(asked, 1, "{trace:?}");
    assert!(trace.contains(&"s1 KvResolveLock r1 a b c".to_string()), "{trace:?}");
    assert!(world.locks().is_empty());
}

#[test]
fn a_large_transaction_is_settled_region_by_region() {
    let world = World::txn(&["m"]);
    let client = world.client();
    let keys: Vec<&'static str> = vec![
        "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "n", "o", "p", "q", "r", "s",
    ];
    die_after(&world, 2, &keys);
    world.pass(Duration::from_secs(4));
    world.trace();
    assert_eq!(get(&world, &client, "n"), Ok(None));
    let trace = world.trace();
    assert!(trace.contains(&"s2 KvResolveLock r2".to_string()), "{trace:?}");
    let left = world.locks();
    assert!(left.iter().all(|key| key.as_str() < "m"), "{left:?}");
}
