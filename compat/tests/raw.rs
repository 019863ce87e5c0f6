//! The raw calls of the official client.

mod cluster;

use std::ops::Bound;

use cluster::{ApiVersion, Cluster, key, on_v1_and_v2, pairs, plain, value};
use tikv_client::{BoundRange, ColumnFamily, Key, RawClient, Value};

/// Enough keys for scans of many pages and requests of many batches.
const KEYS: usize = 5_000;

on_v1_and_v2!(
    a_value_is_there_until_it_is_deleted,
    an_empty_value_is_a_value,
    thousands_of_keys_are_scanned_page_by_page,
    a_scan_starts_at_its_lower_bound_whichever_way_it_runs,
    batches_write_and_delete_all_their_keys,
    several_ranges_are_scanned_in_one_call,
    a_range_delete_spares_its_end,
    a_range_delete_may_be_of_any_size,
    a_swap_happens_only_over_the_expected_value,
    concurrent_swaps_lose_no_increment,
    a_scan_never_sees_half_of_a_put,
    a_mebibyte_is_a_value_like_any_other,
    what_is_over_a_limit_is_refused_and_the_limit_named,
    no_coprocessor_is_there_and_that_is_said,
);

/// Covers 1-raw-get, 1-raw-get-missing, 1-raw-put, 1-get-after-delete and 1-delete-missing.
async fn a_value_is_there_until_it_is_deleted(cluster: &Cluster) {
    let client = cluster.raw().await;
    assert_eq!(client.get(key(1)).await.unwrap(), None);
    client.put(key(1), value(1)).await.unwrap();
    client.put(key(1), value(2)).await.unwrap();
    // Another client has no cache that could answer.
    assert_eq!(cluster.raw().await.get(key(1)).await.unwrap(), Some(value(2)));
    client.delete(key(1)).await.unwrap();
    assert_eq!(client.get(key(1)).await.unwrap(), None);
    client.delete(key(1)).await.unwrap();
}

/// Covers 1-empty-value.
async fn an_empty_value_is_a_value(cluster: &Cluster) {
    let client = cluster.raw().await;
    client.put(key(1), Value::new()).await.unwrap();
    assert_eq!(client.get(key(1)).await.unwrap(), Some(Value::new()));
    let found = client.batch_get([key(1), key(2)]).await.unwrap();
    assert_eq!(plain(found), [(key(1), Value::new())]);
    assert_eq!(plain(client.scan(.., 10).await.unwrap()), [(key(1), Value::new())]);
}

async fn load(client: &RawClient, numbers: std::ops::Range<usize>) {
    client.batch_put(pairs(numbers)).await.unwrap();
}

/// Covers 1-scan-limit and 1-scan-limit-zero.
async fn thousands_of_keys_are_scanned_page_by_page(cluster: &Cluster) {
    let client = cluster.raw().await;
    load(&client, 0..KEYS).await;

    // A page size that does not divide the number of keys, so that the last page is short.
    const PAGE: usize = 321;
    let mut seen = Vec::new();
    let mut from = Bound::Unbounded;
    loop {
        let range = BoundRange::from((from, Bound::Unbounded));
        let page = plain(client.scan(range, PAGE as u32).await.unwrap());
        assert!(page.len() == PAGE || seen.len() + page.len() == KEYS, "a page was cut short");
        let Some((last, _)) = page.last() else { break };
        from = Bound::Excluded(last.clone());
        seen.extend(page);
    }
    assert_eq!(seen, pairs(0..KEYS));

    let mut seen = Vec::new();
    let mut to = Bound::Excluded(key(KEYS));
    loop {
        let range = BoundRange::from((Bound::Included(key(0)), to));
        let page = plain(client.scan_reverse(range, PAGE as u32).await.unwrap());
        let Some((last, _)) = page.last() else { break };
        to = Bound::Excluded(last.clone());
        seen.extend(page);
    }
    seen.reverse();
    assert_eq!(seen, pairs(0..KEYS));

    let keys = client.scan_keys(.., 10_000).await.unwrap();
    assert_eq!(keys, (0..KEYS).map(key).collect::<Vec<Key>>());
    assert!(client.scan(.., 0).await.unwrap().is_empty());
}

/// Covers 1-scan-from-middle and 1-scan-after-delete.
async fn a_scan_starts_at_its_lower_bound_whichever_way_it_runs(cluster: &Cluster) {
    let client = cluster.raw().await;
    load(&client, 0..10).await;
    client.delete(key(5)).await.unwrap();

    let numbers = |found: Vec<Key>| -> Vec<usize> {
        (found.iter()).map(|found| (0..10).find(|n| key(*n) == *found).unwrap()).collect()
    };
    let forward = client.scan_keys(key(3)..key(8), 100).await.unwrap();
    assert_eq!(numbers(forward), [3, 4, 6, 7]);
    let forward = client.scan_keys(key(3)..=key(8), 2).await.unwrap();
    assert_eq!(numbers(forward), [3, 4]);
    // A start between two keys.
    let forward = client.scan_keys(key(5)..key(8), 100).await.unwrap();
    assert_eq!(numbers(forward), [6, 7]);

    let reverse = client.scan_keys_reverse(key(3)..key(8), 100).await.unwrap();
    assert_eq!(numbers(reverse), [7, 6, 4, 3]);
    let reverse = client.scan_keys_reverse(key(3)..=key(8), 2).await.unwrap();
    assert_eq!(numbers(reverse), [8, 7]);
    let reverse = client.scan_keys_reverse(key(7).., 100).await.unwrap();
    assert_eq!(numbers(reverse), [9, 8, 7]);
    assert!(client.scan(key(20)..key(30), 10).await.unwrap().is_empty());
}

async fn batches_write_and_delete_all_their_keys(cluster: &Cluster) {
    let client = cluster.raw().await;
    load(&client, 0..KEYS).await;

    let wanted: Vec<Key> = (0..KEYS + 100).map(key).collect();
    let mut found = plain(client.batch_get(wanted).await.unwrap());
    found.sort();
    assert_eq!(found, pairs(0..KEYS));

    client.batch_delete((0..KEYS).filter(|n| n % 2 == 0).map(key)).await.unwrap();
    let left = plain(client.scan(.., KEYS as u32).await.unwrap());
    let odd: Vec<_> = (0..KEYS).filter(|n| n % 2 == 1).map(|n| (key(n), value(n))).collect();
    assert_eq!(left, odd);
    // The later of two writes of a key in one batch counts.
    client.batch_put([(key(0), value(1)), (key(0), value(2))]).await.unwrap();
    assert_eq!(client.get(key(0)).await.unwrap(), Some(value(2)));
}

async fn several_ranges_are_scanned_in_one_call(cluster: &Cluster) {
    let client = cluster.raw().await;
    load(&client, 0..100).await;
    let ranges = [key(10)..key(20), key(50)..key(52), key(15)..key(90)];
    let found = plain(client.batch_scan(ranges, 5).await.unwrap());
    let expected = [pairs(10..15), pairs(50..52), pairs(15..20)].concat();
    assert_eq!(found, expected);
}

async fn a_range_delete_spares_its_end(cluster: &Cluster) {
    let client = cluster.raw().await;
    load(&client, 0..1_000).await;
    client.delete_range(key(100)..key(900)).await.unwrap();
    let left = plain(client.scan(.., 1_000).await.unwrap());
    assert_eq!(left, [pairs(0..100), pairs(900..1_000)].concat());
    client.delete_range(..).await.unwrap();
    assert!(client.scan(.., 1_000).await.unwrap().is_empty());
}

/// More keys than a store deletes in one step.
async fn a_range_delete_may_be_of_any_size(cluster: &Cluster) {
    let client = cluster.raw().await;
    load(&client, 0..25_000).await;
    client.delete_range(key(1)..key(24_999)).await.unwrap();
    let left = plain(client.scan(.., 10_000).await.unwrap());
    assert_eq!(left, [pairs(0..1), pairs(24_999..25_000)].concat());
}

async fn a_swap_happens_only_over_the_expected_value(cluster: &Cluster) {
    let client = cluster.raw().await.with_atomic_for_cas();
    let swap = |from: Option<&str>, to: &str| {
        client.compare_and_swap(key(1), from.map(|v| v.as_bytes().to_vec()), to.to_owned())
    };
    assert_eq!(swap(Some("a"), "b").await.unwrap(), (None, false));
    assert_eq!(swap(None, "a").await.unwrap(), (None, true));
    assert_eq!(swap(None, "b").await.unwrap(), (Some(b"a".to_vec()), false));
    assert_eq!(swap(Some("a"), "b").await.unwrap(), (Some(b"a".to_vec()), true));
    assert_eq!(client.get(key(1)).await.unwrap(), Some(b"b".to_vec()));
    client.delete(key(1)).await.unwrap();
    assert_eq!(swap(Some("b"), "c").await.unwrap(), (None, false));
}

async fn concurrent_swaps_lose_no_increment(cluster: &Cluster) {
    const CLIENTS: u64 = 16;
    const INCREMENTS: u64 = 20;
    let shared = cluster.raw().await.with_atomic_for_cas();
    let mut tasks = Vec::new();
    for _ in 0..CLIENTS {
        let client = shared.clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..INCREMENTS {
                let mut expected: Option<Value> = None;
                loop {
                    let old = expected.as_deref().map_or(0, number);
                    let new = (old + 1).to_be_bytes().to_vec();
                    let (found, swapped) =
                        client.compare_and_swap(key(0), expected, new).await.unwrap();
                    if swapped {
                        break;
                    }
                    expected = found;
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let sum = shared.get(key(0)).await.unwrap().as_deref().map_or(0, number);
    assert_eq!(sum, CLIENTS * INCREMENTS);
}

fn number(value: &[u8]) -> u64 {
    u64::from_be_bytes(value.try_into().expect("eight bytes"))
}

/// Covers 1-concurrent: a batch of one request is one write, so every page shows all of it or none.
async fn a_scan_never_sees_half_of_a_put(cluster: &Cluster) {
    const WRITERS: usize = 4;
    const ROUNDS: usize = 50;
    const WIDTH: usize = 20;
    let client = cluster.raw().await;
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let client = client.clone();
        writers.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                let batch = (0..WIDTH).map(|n| (key(writer * 1_000 + n), value(round)));
                client.batch_put(batch).await.unwrap();
            }
        }));
    }
    let mut scanned = 0;
    while scanned == 0 || writers.iter().any(|writer| !writer.is_finished()) {
        for writer in 0..WRITERS {
            let (start, end) = (key(writer * 1_000), key(writer * 1_000 + WIDTH));
            let page = plain(client.scan(start..end, 100).await.unwrap());
            assert!(page.is_empty() || page.len() == WIDTH, "half of a batch: {page:?}");
            assert!(page.iter().all(|(_, value)| *value == page[0].1), "two rounds: {page:?}");
            scanned += 1;
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
}

async fn a_mebibyte_is_a_value_like_any_other(cluster: &Cluster) {
    let client = cluster.raw().await;
    let large: Vec<Value> = (0..3u8).map(|n| vec![n; 1 << 20]).collect();
    for (number, value) in large.iter().enumerate() {
        client.put(key(number), value.clone()).await.unwrap();
    }
    for (number, value) in large.iter().enumerate() {
        assert_eq!(client.get(key(number)).await.unwrap().as_ref(), Some(value));
    }
    let found = plain(client.scan(.., 3).await.unwrap());
    assert!(found.iter().map(|(_, value)| value).eq(&large));
}

async fn what_is_over_a_limit_is_refused_and_the_limit_named(cluster: &Cluster) {
    let client = cluster.raw().await;
    let error = client.put(vec![b'k'; 9 << 10], value(1)).await.unwrap_err();
    assert!(error.to_string().contains("8192"), "{error}");
    let error = client.put(key(1), vec![0; 7 << 20]).await.unwrap_err();
    assert!(error.to_string().contains("6291456"), "{error}");
    // The refusals cost nobody the connection.
    client.put(key(1), value(1)).await.unwrap();

    // What is just within is served, to a client that accepts answers of that size.
    let config = cluster.config().with_grpc_max_decoding_message_size(16 << 20);
    let client = RawClient::new_with_config(cluster.schedulers(), config).await.unwrap();
    let large = vec![7; 6 << 20];
    client.put(key(2), large.clone()).await.unwrap();
    assert!(client.get(key(2)).await.unwrap() == Some(large), "six mebibytes differ");
}

async fn no_coprocessor_is_there_and_that_is_said(cluster: &Cluster) {
    let client = cluster.raw().await;
    let answer = client.coprocessor("sum", "^1.0.0", [key(0)..key(9)], |_, _| Vec::new()).await;
    let error = answer.unwrap_err();
    assert!(!error.to_string().is_empty());
    client.put(key(1), value(1)).await.unwrap();
}

/// Covers 1-cf-isolation and 1-scan-cf-boundary.
#[tokio::test]
async fn column_families_do_not_mix() {
    let cluster = Cluster::start(ApiVersion::V1);
    let client = cluster.raw().await;
    let families = [ColumnFamily::Default, ColumnFamily::Lock, ColumnFamily::Write];
    for (number, family) in families.iter().enumerate() {
        let client = client.with_cf(family.clone());
        client.put(key(0), value(number)).await.unwrap();
        client.put(vec![0xff; 9], value(number)).await.unwrap();
    }
    for (number, family) in families.iter().enumerate() {
        let client = client.with_cf(family.clone());
        assert_eq!(client.get(key(0)).await.unwrap(), Some(value(number)));
        let found = plain(client.scan(.., 10).await.unwrap());
        assert_eq!(found, [(key(0), value(number)), (vec![0xff; 9].into(), value(number))]);
    }
    client.with_cf(ColumnFamily::Lock).delete(key(0)).await.unwrap();
    assert_eq!(client.get(key(0)).await.unwrap(), Some(value(0)));
}

/// Covers 1-empty-key: it is a key, and the first one.
#[tokio::test]
async fn the_empty_key_is_the_first_key() {
    let cluster = Cluster::start(ApiVersion::V1);
    let client = cluster.raw().await;
    load(&client, 0..2).await;
    let empty = Key::EMPTY;
    assert_eq!(client.get(empty.clone()).await.unwrap(), None);
    client.put(empty.clone(), value(9)).await.unwrap();
    assert_eq!(client.get(empty.clone()).await.unwrap(), Some(value(9)));
    let all = [vec![(empty.clone(), value(9))], pairs(0..2)].concat();
    assert_eq!(plain(client.scan(.., 10).await.unwrap()), all);
    client.delete(empty).await.unwrap();
    assert_eq!(plain(client.scan(.., 10).await.unwrap()), pairs(0..2));
}

/// What holds for the life of a value wherever values may expire.
async fn values_expire_and_are_gone_for_every_call(cluster: &Cluster) {
    let client = cluster.raw().await;
    client.put(key(1), value(1)).await.unwrap();
    client.put_with_ttl(key(2), value(2), 1_000).await.unwrap();
    client.put_with_ttl(key(3), value(3), 1).await.unwrap();
    client.batch_put_with_ttl(pairs(4..6), vec![1, 0]).await.unwrap();

    assert_eq!(client.get_key_ttl_secs(key(0)).await.unwrap(), None);
    assert_eq!(client.get_key_ttl_secs(key(1)).await.unwrap(), Some(0));
    let left = client.get_key_ttl_secs(key(2)).await.unwrap();
    assert!(left.is_some_and(|left| (900..=1_000).contains(&left)), "{left:?}");

    // Expiry is the one thing here that only time brings about.
    let survivors = [pairs(1..3), pairs(5..6)].concat();
    let mut rounds = 0;
    while plain(client.scan(.., 10).await.unwrap()) != survivors {
        rounds += 1;
        assert!(rounds < 200, "still there: {:?}", client.scan(.., 10).await.unwrap());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(client.get(key(3)).await.unwrap(), None);
    assert_eq!(client.get_key_ttl_secs(key(3)).await.unwrap(), None);
    assert_eq!(plain(client.batch_get((0..10).map(key)).await.unwrap()), survivors);
    let atomic = client.with_atomic_for_cas();
    assert_eq!(atomic.compare_and_swap(key(4), None, value(9)).await.unwrap(), (None, true));
    // A put without a life of its own makes the key permanent again.
    client.put(key(2), value(2)).await.unwrap();
    assert_eq!(client.get_key_ttl_secs(key(2)).await.unwrap(), Some(0));
}

#[tokio::test]
async fn values_expire_on_v1_with_ttl() {
    values_expire_and_are_gone_for_every_call(&Cluster::start(ApiVersion::V1Ttl)).await;
}

#[tokio::test]
async fn values_expire_on_v2() {
    values_expire_and_are_gone_for_every_call(&Cluster::start(ApiVersion::V2)).await;
}

#[tokio::test]
async fn a_life_is_refused_where_values_cannot_expire() {
    let cluster = Cluster::start(ApiVersion::V1);
    let client = cluster.raw().await;
    let error = client.put_with_ttl(key(1), value(1), 10).await.unwrap_err();
    assert!(error.to_string().contains("TTL"), "{error:?}");
    assert_eq!(client.get(key(1)).await.unwrap(), None);
    assert!(client.get_key_ttl_secs(key(1)).await.is_err());
}

/// A client without a keyspace against a cluster that has them, and the reverse.
#[tokio::test]
async fn clients_of_the_other_api_version_are_refused() {
    let v1 = Cluster::start(ApiVersion::V1);
    let v2 = Cluster::start(ApiVersion::V2);
    let plain = RawClient::new(v2.schedulers()).await.unwrap();
    assert!(plain.put(key(1), value(1)).await.is_err());
    assert!(plain.get(key(1)).await.is_err());
    let prefixed = RawClient::new_with_config(v1.schedulers(), v2.config()).await.unwrap();
    assert!(prefixed.put(key(1), value(1)).await.is_err());
    assert!(prefixed.get(key(1)).await.is_err());
}

/// Covers 1-durable: what was acknowledged survives a power cut.
#[tokio::test]
async fn acknowledged_puts_survive_a_kill() {
    let mut cluster = Cluster::start(ApiVersion::V1);
    for round in 0..3 {
        let client = cluster.raw().await;
        load(&client, round * 1_000..(round + 1) * 1_000).await;
        client.put(key(999_999), value(round)).await.unwrap();
        cluster.kill_and_restart();
        let client = cluster.raw().await;
        let found = plain(client.scan(..key(999_999), 10_000).await.unwrap());
        assert_eq!(found, pairs(0..(round + 1) * 1_000));
        assert_eq!(client.get(key(999_999)).await.unwrap(), Some(value(round)));
    }
}
