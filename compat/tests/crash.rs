//! Clients that die in the middle of a commit, and those who find their locks.
//!
//! ```text
//!   prewrite ──┬── commit the primary ──┬── commit the secondaries
//!              │                        │
//!        after-prewrite        before-commit-secondary
//!        nothing is decided:   decided:
//!        roll back when the    roll forward at once
//!        locks are expired
//! ```
//!
//! The two points are the client's own failpoints, so it is the official client that dies, in the
//! places where it does what it does. They are global to the process, which is why every test here
//! holds a [`FailScenario`] and why there are no other tests in this target.

mod cluster;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cluster::{
    Cluster, commit, key, key_errors, latest, on_v1_and_v2, pairs, patient, plain, value,
};
use fail::FailScenario;
use tikv_client::transaction::{HeartbeatOption, ResolveLocksOptions};
use tikv_client::{
    Error, Key, TimestampExt, Transaction, TransactionClient, TransactionOptions, Value,
};

/// How many keys a victim writes. Enough for several batches of a prewrite.
const KEYS: usize = 500;

on_v1_and_v2!(
    a_reader_rolls_back_what_was_only_prewritten,
    a_writer_rolls_back_what_was_only_prewritten,
    a_reader_rolls_forward_what_was_committed_on_the_primary,
    some_secondaries_committed_is_all_committed,
    a_lock_that_is_alive_is_shown_to_those_who_will_not_wait,
    reads_before_a_lock_do_not_meet_it,
    a_cleanup_decides_every_abandoned_transaction,
    a_commit_that_comes_too_late_is_refused,
    a_status_check_and_a_commit_agree_on_the_outcome,
    every_lock_of_clients_that_died_at_random_is_resolved,
);

/// Without a heartbeat, as a dead client has none.
fn victim() -> TransactionOptions {
    patient().heartbeat_option(HeartbeatOption::NoHeartbeat)
}

/// Writes new values over the first [`KEYS`] keys and dies after the prewrite.
async fn die_after_prewrite(client: &TransactionClient) -> Transaction {
    let mut txn = client.begin_with_options(victim()).await.unwrap();
    for number in 0..KEYS {
        txn.put(key(number), value(number + 1)).await.unwrap();
    }
    fail::cfg("after-prewrite", "return").unwrap();
    let outcome = txn.commit().await;
    fail::cfg("after-prewrite", "off").unwrap();
    assert!(outcome.is_err(), "the failpoint did not trip");
    txn
}

/// The same, dying between the primary and the rest: of a hundred keys, `percent` are committed.
///
/// The failpoint stays armed until the scenario ends, because secondaries are committed in the
/// background and nothing tells when that has looked at it.
async fn die_after_primary(client: &TransactionClient, percent: usize) {
    let mut txn = client.begin_with_options(victim()).await.unwrap();
    for number in 0..KEYS {
        txn.put(key(number), value(number + 1)).await.unwrap();
    }
    fail::cfg("before-commit-secondary", &format!("return({percent})")).unwrap();
    txn.commit().await.unwrap();
    let left = KEYS - (KEYS * percent / 100).max(1);
    while locks(client).await.len() > left {
        tokio::task::yield_now().await;
    }
}

async fn locks(client: &TransactionClient) -> Vec<Key> {
    let now = client.current_timestamp().await.unwrap();
    let found = client.scan_locks(&now, .., 10_000).await.unwrap();
    found.into_iter().map(|lock| lock.key.into()).collect()
}

fn old_values() -> Vec<(Key, Value)> {
    pairs(0..KEYS)
}

fn new_values() -> Vec<(Key, Value)> {
    (0..KEYS).map(|number| (key(number), value(number + 1))).collect()
}

async fn scan(client: &TransactionClient) -> Vec<(Key, Value)> {
    let now = client.current_timestamp().await.unwrap();
    plain(client.snapshot(now, patient()).scan(.., 100_000).await.unwrap())
}

/// Covers 4B-crash-primary (after prewrite), 4C-status-expired and 4C-resolve-rollback.
async fn a_reader_rolls_back_what_was_only_prewritten(cluster: &Cluster) {
    let scenario = FailScenario::setup();
    let client = cluster.txn().await;
    commit(&client, old_values()).await;
    die_after_prewrite(&client).await;
    assert_eq!(locks(&client).await.len(), KEYS);

    let other = cluster.txn().await;
    assert_eq!(scan(&other).await, old_values());
    assert_eq!(locks(&other).await, []);
    commit(&other, new_values()).await;
    scenario.teardown();
}

/// Covers 4B-prewrite-locked.
async fn a_writer_rolls_back_what_was_only_prewritten(cluster: &Cluster) {
    let scenario = FailScenario::setup();
    let client = cluster.txn().await;
    commit(&client, old_values()).await;
    die_after_prewrite(&client).await;

    let other = cluster.txn().await;
    commit(&other, (0..KEYS).map(|number| (key(number), value(7)))).await;
    assert!(scan(&other).await.into_iter().all(|(_, found)| found == value(7)));
    assert_eq!(locks(&other).await, []);
    scenario.teardown();
}

/// Covers 4B-crash-primary (after committing the primary) and 4C-resolve-commit.
async fn a_reader_rolls_forward_what_was_committed_on_the_primary(cluster: &Cluster) {
    let scenario = FailScenario::setup();
    let client = cluster.txn().await;
    commit(&client, old_values()).await;
    die_after_primary(&client, 0).await;
    assert_eq!(locks(&client).await.len(), KEYS - 1);

    // Nothing expires here: a committed primary is an answer at once, also to a client that waits
    // no longer than the default.
    let other = cluster.txn().await;
    let now = other.current_timestamp().await.unwrap();
    let mut snapshot = other.snapshot(now, TransactionOptions::new_optimistic());
    let found = snapshot.scan(.., 100_000).await.unwrap();
    assert_eq!(plain(found), new_values());
    assert_eq!(locks(&other).await, []);
    scenario.teardown();
}

/// Covers 4B-crash-primary (after some secondaries).
async fn some_secondaries_committed_is_all_committed(cluster: &Cluster) {
    let scenario = FailScenario::setup();
    let client = cluster.txn().await;
    commit(&client, old_values()).await;
    die_after_primary(&client, 50).await;
    let left = locks(&client).await;
    assert!((1..KEYS - 1).contains(&left.len()), "{} locks are left", left.len());

    let other = cluster.txn().await;
    for number in (0..KEYS).step_by(41).chain([KEYS - 1]) {
        assert_eq!(latest(&other, key(number)).await, Some(value(number + 1)));
    }
    assert_eq!(scan(&other).await, new_values());
    assert_eq!(locks(&other).await, []);
    scenario.teardown();
}

/// Covers 4B-get-locked, 4C-status-alive and 4C-scan-locked.
async fn a_lock_that_is_alive_is_shown_to_those_who_will_not_wait(cluster: &Cluster) {
    let scenario = FailScenario::setup();
    let client = cluster.txn().await;
    commit(&client, old_values()).await;
    let victim = die_after_prewrite(&client).await;
    let began = Instant::now();

    let other = cluster.txn().await;
    let now = other.current_timestamp().await.unwrap();
    let mut hasty = other.snapshot(now, TransactionOptions::new_optimistic().no_resolve_locks());
    let got = hasty.get(key(3)).await;
    let scanned = hasty.scan(.., 10).await;
    // Whoever was held up for longer than a lock lives has seen nothing.
    if began.elapsed() < Duration::from_secs(2) {
        assert!(scanned.is_err());
        let Err(Error::ResolveLockError(found)) = got else { panic!("{got:?}") };
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].lock_version, victim.start_timestamp().version());
        assert!(found[0].key.ends_with(b"key-000003"), "{found:?}");
        assert!(found[0].primary_lock.ends_with(b"key-000000"), "{found:?}");
        assert!(found[0].lock_ttl >= 3_000, "{found:?}");
    }
    scenario.teardown();
}

/// Covers the second half of 4B-get-locked: a lock of a later transaction is none of my business.
async fn reads_before_a_lock_do_not_meet_it(cluster: &Cluster) {
    let scenario = FailScenario::setup();
    let client = cluster.txn().await;
    commit(&client, old_values()).await;
    let before = client.current_timestamp().await.unwrap();
    die_after_prewrite(&client).await;

    let options = TransactionOptions::new_optimistic().no_resolve_locks();
    let mut snapshot = cluster.txn().await.snapshot(before, options);
    assert_eq!(plain(snapshot.scan(.., 10_000).await.unwrap()), old_values());
    assert_eq!(snapshot.get(key(3)).await.unwrap(), Some(value(3)));
    assert_eq!(locks(&client).await.len(), KEYS);
    scenario.teardown();
}

/// `cleanup_locks` does not wait for any TTL: it is what garbage collection begins with.
async fn a_cleanup_decides_every_abandoned_transaction(cluster: &Cluster) {
    let scenario = FailScenario::setup();
    let client = cluster.txn().await;
    commit(&client, old_values()).await;
    die_after_primary(&client, 0).await;
    let mut txn = client.begin_with_options(victim()).await.unwrap();
    for number in KEYS..2 * KEYS {
        txn.put(key(number), value(number)).await.unwrap();
    }
    fail::cfg("after-prewrite", "return").unwrap();
    assert!(txn.commit().await.is_err());
    fail::cfg("after-prewrite", "off").unwrap();
    assert_eq!(locks(&client).await.len(), 2 * KEYS - 1);

    let now = client.current_timestamp().await.unwrap();
    // Fewer than there are, so that it has to come back for more.
    let options = ResolveLocksOptions { batch_size: 64, ..Default::default() };
    client.cleanup_locks(.., &now, options).await.unwrap();
    assert_eq!(locks(&client).await, []);
    assert_eq!(scan(&client).await, new_values());
    scenario.teardown();
}

/// Covers 4B-commit-after-rollback and 4B-prewrite-after-rollback: rolled back is rolled back, also
/// for the client whose transaction it was and who is alive after all.
async fn a_commit_that_comes_too_late_is_refused(cluster: &Cluster) {
    let scenario = FailScenario::setup();
    let client = cluster.txn().await;
    commit(&client, old_values()).await;
    let mut late = die_after_prewrite(&client).await;
    let now = client.current_timestamp().await.unwrap();
    client.cleanup_locks(.., &now, ResolveLocksOptions::default()).await.unwrap();

    // It prewrites again, as a retry does.
    let error = late.commit().await.unwrap_err();
    assert!(!key_errors(&error).is_empty(), "{error:?}");
    assert_eq!(locks(&client).await, []);
    assert_eq!(scan(&client).await, old_values());
    late.rollback().await.unwrap();
    scenario.teardown();
}

/// Covers 4C-status-vs-commit: whoever is first decides, and both sides hear the same.
async fn a_status_check_and_a_commit_agree_on_the_outcome(cluster: &Cluster) {
    const WORKERS: usize = 4;
    const ROUNDS: usize = 250;
    let scenario = FailScenario::setup();
    let cleaner = cluster.txn().await;
    let (committed, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut workers = Vec::new();
    for worker in 0..WORKERS {
        let client = cluster.txn().await;
        let (committed, refused) = (committed.clone(), refused.clone());
        workers.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                // Two keys, so that the primary decides for another.
                let first = (worker * ROUNDS + round) * 2;
                let mut txn = client.begin_with_options(victim()).await.unwrap();
                txn.put(key(first), value(1)).await.unwrap();
                txn.put(key(first + 1), value(1)).await.unwrap();
                let expected = match txn.commit().await {
                    Ok(_) => {
                        committed.fetch_add(1, Ordering::Relaxed);
                        Some(value(1))
                    }
                    Err(error) => {
                        assert!(!key_errors(&error).is_empty(), "{error:?}");
                        refused.fetch_add(1, Ordering::Relaxed);
                        None
                    }
                };
                assert_eq!(latest(&client, key(first)).await, expected);
                assert_eq!(latest(&client, key(first + 1)).await, expected);
            }
        }));
    }
    let clean = async || {
        while workers.iter().any(|worker| !worker.is_finished()) {
            let now = cleaner.current_timestamp().await.unwrap();
            cleaner.cleanup_locks(.., &now, ResolveLocksOptions::default()).await.unwrap();
        }
    };
    // Several of them, or they lose nearly every race.
    tokio::join!(clean(), clean(), clean(), clean());
    for worker in workers {
        worker.await.unwrap();
    }
    // A race that one side always wins has shown nothing.
    let outcomes = (committed.load(Ordering::Relaxed), refused.load(Ordering::Relaxed));
    assert!(outcomes.0 > 0 && outcomes.1 > 0, "committed and refused: {outcomes:?}");
    scenario.teardown();
}

/// Covers 4C-lock-cleanup-liveness: clients with all their connections vanish at arbitrary moments
/// of a transfer, and afterwards everything can be read, nothing is locked and no money is lost.
async fn every_lock_of_clients_that_died_at_random_is_resolved(cluster: &Cluster) {
    const VICTIMS: usize = 24;
    let scenario = FailScenario::setup();
    let client = cluster.txn().await;
    commit(&client, (0..2 * VICTIMS).map(|n| (key(n), 100u64.to_be_bytes().to_vec()))).await;

    for victim in 0..VICTIMS {
        // A runtime of its own can be taken away with everything that runs in it, sockets included.
        let life = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (schedulers, config) = (cluster.schedulers(), cluster.config());
        let (sender, mut transfers) = tokio::sync::mpsc::unbounded_channel();
        life.spawn(async move {
            let client = TransactionClient::new_with_config(schedulers, config).await.unwrap();
            loop {
                // Accounts of its own: nobody should have to wait for the locks of its forerunner.
                transfer(&client, 2 * victim, 2 * victim + 1).await;
                let _ = sender.send(());
            }
        });
        for _ in 0..2 {
            transfers.recv().await.expect("it transfers until it dies");
        }
        // Each dies a little later within a transfer than the one before.
        tokio::time::sleep(Duration::from_micros(victim as u64 * 400)).await;
        life.shutdown_background();
    }

    let balances = scan(&client).await;
    assert_eq!(balances.len(), 2 * VICTIMS);
    for pair in balances.chunks(2) {
        let sum: u64 = pair.iter().map(|(_, value)| number(value)).sum();
        assert_eq!(sum, 200, "{pair:?}");
    }
    assert_eq!(locks(&client).await, []);
    scenario.teardown();
}

fn number(value: &[u8]) -> u64 {
    u64::from_be_bytes(value.try_into().expect("eight bytes"))
}

/// Moves one coin, in a transaction that nobody competes with.
async fn transfer(client: &TransactionClient, from: usize, to: usize) {
    let mut txn = client.begin_with_options(victim()).await.unwrap();
    let payer = number(&txn.get(key(from)).await.unwrap().expect("an account"));
    let payee = number(&txn.get(key(to)).await.unwrap().expect("an account"));
    let amount = payer.min(1);
    txn.put(key(from), (payer - amount).to_be_bytes().to_vec()).await.unwrap();
    txn.put(key(to), (payee + amount).to_be_bytes().to_vec()).await.unwrap();
    txn.commit().await.unwrap();
}
