//! Optimistic transactions of the official client.

mod cluster;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cluster::{
    ApiVersion, Cluster, commit, is_conflict, key, key_errors, latest, on_v1_and_v2, pairs,
    patient, plain, value,
};
use tikv_client::transaction::Mutation;
use tikv_client::{
    CheckLevel, Error, Key, TimestampExt, TransactionClient, TransactionOptions, Value,
};

/// Enough keys for scans of many pages and prewrites of many batches.
const KEYS: usize = 5_000;

on_v1_and_v2!(
    a_transaction_reads_its_own_writes_and_others_read_them_after_commit,
    thousands_of_keys_are_committed_and_scanned_page_by_page,
    a_scan_merges_what_the_transaction_wrote,
    the_first_to_commit_wins,
    a_locked_key_conflicts_with_a_write_since,
    a_rollback_leaves_nothing_behind,
    an_insert_over_a_value_is_refused,
    mutations_in_a_batch_commit_together,
    an_old_snapshot_stays_as_it_was,
    a_mebibyte_is_a_value_like_any_other,
    a_key_over_the_limit_is_refused_and_the_limit_named,
    timestamps_are_unique_and_rise,
    a_destroyed_range_is_gone_with_its_locks,
    the_safe_point_only_moves_forward,
);

/// Covers 4B-get, 4B-get-empty, 4B-get-none and 4B-commit-single.
async fn a_transaction_reads_its_own_writes_and_others_read_them_after_commit(cluster: &Cluster) {
    let client = cluster.txn().await;
    let mut txn = client.begin_optimistic().await.unwrap();
    assert_eq!(txn.get(key(2)).await.unwrap(), None);
    txn.put(key(1), value(1)).await.unwrap();
    txn.put(key(3), value(3)).await.unwrap();
    assert_eq!(txn.get(key(1)).await.unwrap(), Some(value(1)));

    let other = cluster.txn().await;
    assert_eq!(latest(&other, key(1)).await, None);
    let committed_at = txn.commit().await.unwrap().expect("it wrote something");
    assert!(committed_at.version() > txn.start_timestamp().version());
    assert_eq!(latest(&other, key(1)).await, Some(value(1)));
    assert_eq!(latest(&other, key(2)).await, None);
    assert!(matches!(txn.get(key(1)).await, Err(Error::OperationAfterCommitError)));

    let mut txn = other.begin_optimistic().await.unwrap();
    assert!(txn.key_exists(key(1)).await.unwrap());
    assert!(!txn.key_exists(key(2)).await.unwrap());
    txn.delete(key(1)).await.unwrap();
    txn.put(key(2), Value::new()).await.unwrap();
    txn.commit().await.unwrap();
    assert_eq!(latest(&client, key(1)).await, None);
    assert_eq!(latest(&client, key(2)).await, Some(Value::new()));
}

/// Covers 4C-scan-all, 4C-scan-limit, 4C-scan-limit-zero and 4C-scan-empty.
async fn thousands_of_keys_are_committed_and_scanned_page_by_page(cluster: &Cluster) {
    let client = cluster.txn().await;
    commit(&client, pairs(0..KEYS)).await;

    const PAGE: usize = 321;
    let now = client.current_timestamp().await.unwrap();
    let mut snapshot = client.snapshot(now, patient());
    let mut seen = Vec::new();
    loop {
        let from = key(seen.len());
        let page = plain(snapshot.scan(from.., PAGE as u32).await.unwrap());
        assert!(page.len() == PAGE || seen.len() + page.len() == KEYS, "a page was cut short");
        if page.is_empty() {
            break;
        }
        seen.extend(page);
    }
    assert_eq!(seen, pairs(0..KEYS));

    let mut seen = Vec::new();
    loop {
        let to = key(KEYS - seen.len());
        let page = plain(snapshot.scan_reverse(key(0)..to, PAGE as u32).await.unwrap());
        if page.is_empty() {
            break;
        }
        seen.extend(page);
    }
    seen.reverse();
    assert_eq!(seen, pairs(0..KEYS));

    let keys: Vec<Key> = snapshot.scan_keys(.., 2 * KEYS as u32).await.unwrap().collect();
    assert_eq!(keys, (0..KEYS).map(key).collect::<Vec<Key>>());
    assert_eq!(snapshot.scan(.., 0).await.unwrap().count(), 0);
    let mut found = plain(snapshot.batch_get((0..KEYS + 100).map(key)).await.unwrap());
    found.sort();
    assert_eq!(found, pairs(0..KEYS));

    let mut txn = client.begin_optimistic().await.unwrap();
    for number in (0..KEYS).filter(|n| n % 2 == 0) {
        txn.delete(key(number)).await.unwrap();
    }
    txn.commit().await.unwrap();
    let now = client.current_timestamp().await.unwrap();
    let left = client.snapshot(now, patient()).scan(.., KEYS as u32).await.unwrap();
    let odd: Vec<_> = (0..KEYS).filter(|n| n % 2 == 1).map(|n| (key(n), value(n))).collect();
    assert_eq!(plain(left), odd);
}

async fn a_scan_merges_what_the_transaction_wrote(cluster: &Cluster) {
    let client = cluster.txn().await;
    commit(&client, pairs(0..10)).await;
    let mut txn = client.begin_optimistic().await.unwrap();
    txn.delete(key(3)).await.unwrap();
    txn.put(key(5), value(50)).await.unwrap();
    txn.put(key(10), value(10)).await.unwrap();
    let mut expected = pairs(0..11);
    expected[5].1 = value(50);
    expected.remove(3);
    assert_eq!(plain(txn.scan(.., 100).await.unwrap()), expected);
    expected.reverse();
    assert_eq!(plain(txn.scan_reverse(key(0).., 100).await.unwrap()), expected);
    txn.rollback().await.unwrap();
}

/// Covers 4B-prewrite-conflict.
async fn the_first_to_commit_wins(cluster: &Cluster) {
    let client = cluster.txn().await;
    commit(&client, pairs(0..2)).await;
    let mut first = client.begin_optimistic().await.unwrap();
    let mut second = client.begin_optimistic().await.unwrap();
    for txn in [&mut first, &mut second] {
        assert_eq!(txn.get(key(1)).await.unwrap(), Some(value(1)));
    }
    first.put(key(1), value(10)).await.unwrap();
    second.put(key(0), value(20)).await.unwrap();
    second.put(key(1), value(20)).await.unwrap();
    first.commit().await.unwrap();
    let error = second.commit().await.unwrap_err();
    assert!(is_conflict(&error), "{error:?}");
    let conflict = key_errors(&error)[0].conflict.as_ref().unwrap();
    assert_eq!(conflict.start_ts, second.start_timestamp().version());
    assert_eq!(conflict.conflict_ts, first.start_timestamp().version());
    second.rollback().await.unwrap();
    // Nothing of the second is there, and nothing of it is in the way.
    assert_eq!(latest(&client, key(0)).await, Some(value(0)));
    assert_eq!(latest(&client, key(1)).await, Some(value(10)));
    commit(&client, [(key(0), value(30)), (key(1), value(30))]).await;
}

async fn a_locked_key_conflicts_with_a_write_since(cluster: &Cluster) {
    let client = cluster.txn().await;
    commit(&client, pairs(0..2)).await;
    let mut reader = client.begin_optimistic().await.unwrap();
    reader.lock_keys([key(0)]).await.unwrap();
    reader.put(key(1), value(10)).await.unwrap();
    commit(&client, [(key(0), value(20))]).await;
    let error = reader.commit().await.unwrap_err();
    assert!(is_conflict(&error), "{error:?}");
    reader.rollback().await.unwrap();

    // A lock alone changes no value, and is no obstacle afterwards.
    let mut reader = client.begin_optimistic().await.unwrap();
    reader.lock_keys([key(0)]).await.unwrap();
    reader.commit().await.unwrap();
    assert_eq!(latest(&client, key(0)).await, Some(value(20)));
    commit(&client, [(key(0), value(30))]).await;
    assert_eq!(latest(&client, key(0)).await, Some(value(30)));
}

/// Covers 4C-rollback-missing: nothing was prewritten when the rollback arrives.
async fn a_rollback_leaves_nothing_behind(cluster: &Cluster) {
    let client = cluster.txn().await;
    commit(&client, pairs(0..1)).await;
    let mut txn = client.begin_optimistic().await.unwrap();
    txn.put(key(0), value(10)).await.unwrap();
    txn.insert(key(1), value(1)).await.unwrap();
    txn.rollback().await.unwrap();
    assert!(matches!(txn.commit().await, Err(Error::OperationAfterCommitError)));
    assert_eq!(latest(&client, key(0)).await, Some(value(0)));
    assert_eq!(latest(&client, key(1)).await, None);
    assert_no_locks_stay(&client).await;
    commit(&client, pairs(0..2)).await;
}

async fn an_insert_over_a_value_is_refused(cluster: &Cluster) {
    let client = cluster.txn().await;
    let mut txn = client.begin_optimistic().await.unwrap();
    txn.insert(key(0), value(0)).await.unwrap();
    txn.commit().await.unwrap();

    let mut txn = client.begin_optimistic().await.unwrap();
    txn.insert(key(0), value(10)).await.unwrap();
    txn.put(key(1), value(1)).await.unwrap();
    let error = txn.commit().await.unwrap_err();
    let errors = key_errors(&error);
    assert!(errors.iter().any(|error| error.already_exist.is_some()), "{error:?}");
    txn.rollback().await.unwrap();
    assert_eq!(latest(&client, key(0)).await, Some(value(0)));
    assert_eq!(latest(&client, key(1)).await, None);

    // Deleting is enough to insert again, within a transaction too.
    let mut txn = client.begin_optimistic().await.unwrap();
    txn.delete(key(0)).await.unwrap();
    txn.commit().await.unwrap();
    let mut txn = client.begin_optimistic().await.unwrap();
    txn.insert(key(0), value(20)).await.unwrap();
    txn.commit().await.unwrap();
    assert_eq!(latest(&client, key(0)).await, Some(value(20)));
}

async fn mutations_in_a_batch_commit_together(cluster: &Cluster) {
    let client = cluster.txn().await;
    commit(&client, pairs(0..3)).await;
    let mut txn = client.begin_optimistic().await.unwrap();
    let batch = [Mutation::Delete(key(0)), Mutation::Put(key(1), value(10))];
    txn.batch_mutate(batch).await.unwrap();
    txn.commit().await.unwrap();
    let now = client.current_timestamp().await.unwrap();
    let found = client.snapshot(now, patient()).scan(.., 10).await.unwrap();
    assert_eq!(plain(found), [(key(1), value(10)), (key(2), value(2))]);
}

/// Covers 4C-scan-snapshot, 4B-get-versions, 4B-get-deleted and 4C-scan-deleted.
async fn an_old_snapshot_stays_as_it_was(cluster: &Cluster) {
    let client = cluster.txn().await;
    let mut history = Vec::new();
    for round in 0..5 {
        let mut txn = client.begin_optimistic().await.unwrap();
        for number in 0..200 {
            // Each round deletes other keys.
            if number % 5 == round {
                txn.delete(key(number)).await.unwrap();
            } else {
                txn.put(key(number), value(round)).await.unwrap();
            }
        }
        let at = txn.commit().await.unwrap().expect("it wrote something");
        let shown = (0..200).filter(|number| number % 5 != round);
        history.push((at, shown.map(|number| (key(number), value(round))).collect::<Vec<_>>()));
    }
    // Every version, read in two halves with a commit between them.
    for (at, expected) in history {
        let mut snapshot = client.snapshot(at, patient());
        let mut seen = plain(snapshot.scan(..key(100), 1_000).await.unwrap());
        commit(&client, (0..200).map(|number| (key(number), value(99)))).await;
        seen.extend(snapshot.scan(key(100).., 1_000).await.unwrap().map(|p| (p.0, p.1)));
        assert_eq!(seen, expected);
        let mut found = plain(snapshot.batch_get((0..200).map(key)).await.unwrap());
        found.sort();
        assert_eq!(found, expected);
        assert_eq!(snapshot.get(key(7)).await.unwrap(), expected_at(&expected, 7));
    }
}

fn expected_at(pairs: &[(Key, Value)], number: usize) -> Option<Value> {
    pairs.iter().find(|pair| pair.0 == key(number)).map(|pair| pair.1.clone())
}

async fn a_mebibyte_is_a_value_like_any_other(cluster: &Cluster) {
    let client = cluster.txn().await;
    let large: Vec<(Key, Value)> = (0..3).map(|n| (key(n), vec![n as u8; 1 << 20])).collect();
    commit(&client, large.clone()).await;
    let now = client.current_timestamp().await.unwrap();
    let mut snapshot = client.snapshot(now, patient());
    assert!(plain(snapshot.scan(.., 3).await.unwrap()) == large, "scanned values differ");
    for (key, value) in large {
        assert!(snapshot.get(key).await.unwrap() == Some(value), "a value differs");
    }
}

async fn a_key_over_the_limit_is_refused_and_the_limit_named(cluster: &Cluster) {
    let client = cluster.txn().await;
    let mut txn = client.begin_optimistic().await.unwrap();
    txn.put(vec![b'k'; 9 << 10], value(1)).await.unwrap();
    let error = txn.commit().await.unwrap_err();
    let text = format!("{error:?}");
    assert!(text.contains("8192") || text.contains("8 KiB"), "{text}");
    commit(&client, pairs(0..1)).await;
}

async fn timestamps_are_unique_and_rise(cluster: &Cluster) {
    const TASKS: usize = 16;
    const EACH: usize = 200;
    let clients = [cluster.txn().await, cluster.txn().await];
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let client = clients[task % clients.len()].clone();
        tasks.push(tokio::spawn(async move {
            let mut drawn = Vec::new();
            for _ in 0..EACH {
                drawn.push(client.current_timestamp().await.unwrap().version());
            }
            drawn
        }));
    }
    let mut all = BTreeSet::new();
    for task in tasks {
        let drawn = task.await.unwrap();
        assert!(drawn.is_sorted(), "a client saw time run backwards");
        all.extend(drawn);
    }
    assert_eq!(all.len(), TASKS * EACH);
}

async fn a_destroyed_range_is_gone_with_its_locks(cluster: &Cluster) {
    let client = cluster.txn().await;
    commit(&client, pairs(0..300)).await;
    client.unsafe_destroy_range(key(100)..key(200)).await.unwrap();
    let now = client.current_timestamp().await.unwrap();
    let left = client.snapshot(now, patient()).scan(.., 1_000).await.unwrap();
    assert_eq!(plain(left), [pairs(0..100), pairs(200..300)].concat());
    client.unsafe_destroy_range(..).await.unwrap();
    let now = client.current_timestamp().await.unwrap();
    assert_eq!(client.snapshot(now, patient()).scan(.., 10).await.unwrap().count(), 0);
    // The keys can be written as if they had never been there.
    commit(&client, pairs(0..300)).await;
    assert_no_locks_stay(&client).await;
}

async fn the_safe_point_only_moves_forward(cluster: &Cluster) {
    let client = cluster.txn().await;
    commit(&client, pairs(0..10)).await;
    let earlier = client.current_timestamp().await.unwrap();
    let later = client.current_timestamp().await.unwrap();
    assert!(client.gc(later).await.unwrap());
    assert!(!client.gc(earlier).await.unwrap());
    assert_eq!(latest(&client, key(9)).await, Some(value(9)));
}

/// Secondaries are committed behind the back of whoever called `commit`, so their locks may be
/// there for a moment still.
async fn assert_no_locks_stay(client: &TransactionClient) {
    let began = Instant::now();
    loop {
        let now = client.current_timestamp().await.unwrap();
        let locks = client.scan_locks(&now, .., 1_024).await.unwrap();
        if locks.is_empty() {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{locks:?}");
    }
}

/// What is refused today is refused with a sentence, and the connection stays usable.
#[tokio::test]
async fn what_is_not_served_yet_is_refused_with_a_sentence() {
    let cluster = Cluster::start(ApiVersion::V1);
    let client = cluster.txn().await;
    for options in [patient().use_async_commit(), patient().try_one_pc()] {
        let mut txn = client.begin_with_options(options).await.unwrap();
        txn.put(key(1), value(1)).await.unwrap();
        let error = txn.commit().await.unwrap_err();
        let errors = key_errors(&error);
        assert!(errors.iter().any(|error| error.abort.contains(' ')), "{error:?}");
        txn.rollback().await.unwrap();
    }
    let options = TransactionOptions::new_pessimistic().drop_check(CheckLevel::None);
    let mut txn = client.begin_with_options(options).await.unwrap();
    let error = txn.put(key(1), value(1)).await.unwrap_err();
    let errors = key_errors(&error);
    assert!(errors.iter().any(|error| error.abort.contains(' ')), "{error:?}");
    commit(&client, pairs(0..1)).await;
    assert_no_locks_stay(&client).await;
}

/// Raw and transactional data of one keyspace lie apart, which API version 1 cannot offer.
#[tokio::test]
async fn raw_and_transactional_keys_of_a_keyspace_are_apart() {
    let cluster = Cluster::start(ApiVersion::V2);
    let (raw, txn) = (cluster.raw().await, cluster.txn().await);
    raw.put(key(1), value(1)).await.unwrap();
    commit(&txn, [(key(1), value(2)), (key(2), value(2))]).await;
    assert_eq!(raw.get(key(1)).await.unwrap(), Some(value(1)));
    assert_eq!(latest(&txn, key(1)).await, Some(value(2)));
    assert_eq!(raw.scan(.., 10).await.unwrap().len(), 1);
    raw.delete_range(..).await.unwrap();
    assert_eq!(latest(&txn, key(2)).await, Some(value(2)));
    txn.unsafe_destroy_range(..).await.unwrap();
    raw.put(key(1), value(1)).await.unwrap();
    assert_eq!(latest(&txn, key(2)).await, None);
}

/// A client without keyspaces finds the keys of TiDB, and no others, on a cluster that has them.
#[tokio::test]
async fn keys_of_tidb_need_no_keyspace() {
    let cluster = Cluster::start(ApiVersion::V2);
    let client = TransactionClient::new(cluster.schedulers()).await.unwrap();
    let tables = |n: usize| -> Key { [b"t".to_vec(), key(n).into()].concat().into() };
    commit(&client, (0..100).map(|n| (tables(n), value(n)))).await;
    commit(&client, [("meta".to_owned().into(), value(1))]).await;
    let now = client.current_timestamp().await.unwrap();
    let found = client.snapshot(now, patient()).scan(tables(0)..tables(50), 1_000).await.unwrap();
    assert_eq!(plain(found), (0..50).map(|n| (tables(n), value(n))).collect::<Vec<_>>());

    let mut txn = client.begin_with_options(patient()).await.unwrap();
    txn.put(key(1), value(1)).await.unwrap();
    let error = txn.commit().await.unwrap_err();
    assert!(key_errors(&error).iter().any(|error| error.abort.contains(' ')), "{error:?}");
}

#[tokio::test]
async fn an_unknown_keyspace_is_named() {
    let cluster = Cluster::start(ApiVersion::V2);
    let config = cluster.config().with_keyspace("elsewhere");
    let error = TransactionClient::new_with_config(cluster.schedulers(), config).await.err();
    assert!(error.is_some_and(|error| error.to_string().contains("elsewhere")));
}

#[tokio::test]
async fn transactions_are_refused_where_raw_values_expire() {
    let cluster = Cluster::start(ApiVersion::V1Ttl);
    let client = cluster.txn().await;
    let mut txn = client.begin_with_options(patient()).await.unwrap();
    assert!(txn.get(key(1)).await.is_err());
    txn.put(key(1), value(1)).await.unwrap();
    assert!(txn.commit().await.is_err());
}

/// Timestamps go on rising over a power cut, and commits that were acknowledged are there.
#[tokio::test]
async fn acknowledged_commits_survive_a_kill() {
    let mut cluster = Cluster::start(ApiVersion::V1);
    let mut last = 0;
    for round in 0..3 {
        let client = cluster.txn().await;
        commit(&client, pairs(round * 500..(round + 1) * 500)).await;
        let now = client.current_timestamp().await.unwrap().version();
        assert!(now > last, "time ran backwards over a restart");
        last = now;
        cluster.kill_and_restart();
        let client = cluster.txn().await;
        let now = client.current_timestamp().await.unwrap();
        assert!(now.version() > last, "time ran backwards over a restart");
        let found = client.snapshot(now, patient()).scan(.., 10_000).await.unwrap();
        assert_eq!(plain(found), pairs(0..(round + 1) * 500));
    }
}
