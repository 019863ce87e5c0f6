//! Raw commands on one store: scenario part 1, TTL, compare-and-swap, the three API versions.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use kiva_base::{Key, KeyRange, RegionError};
use kiva_engine::memory::MemoryEngine;
use kiva_engine::{Cf, Engine, Order, WriteBatch};
use kiva_kv::limits::{DELETE_RANGE_KEYS_MAX, KEY_SIZE_MAX, VALUE_SIZE_MAX};
use kiva_kv::raw::{
    BatchGet, BatchScan, Checksum, CompareAndSwap, Delete, DeleteRange, Get, GetTtl, Put, PutPair,
    Scan, SwapReply, TtlFilter,
};
use kiva_kv::{ApiVersion, Error, Refusal};
use kiva_raftstore::disk::Operation;
use support::{Store, block_on, scan, stored};

fn delete(store: &Store, key: &'static str) {
    let command = Delete { cf: Cf::Default, keys: vec![key.into()] };
    block_on(store.executor.write(&store.target, command)).expect("a delete");
}

fn swap(
    store: &Store,
    key: &'static str,
    expected: Option<&'static str>,
    value: &'static str,
) -> SwapReply {
    let command = CompareAndSwap {
        cf: Cf::Default,
        key: key.into(),
        expected: expected.map(Bytes::from),
        value: value.into(),
        ttl_s: 0,
    };
    block_on(store.executor.write(&store.target, command)).expect("a swap")
}

/// Covers 1-raw-get, 1-raw-get-missing.
#[test]
fn a_value_that_storage_holds_is_read() {
    let engine = MemoryEngine::new();
    let mut batch = WriteBatch::new();
    batch.put(Cf::Default, b"k", b"v");
    engine.write(&batch).unwrap();
    let store = Store::on(engine, ApiVersion::V1, KeyRange::ALL);
    assert_eq!(store.get("k").as_deref(), Some("v"));
    assert_eq!(store.get("other"), None);
}

/// Covers 1-raw-put, 1-cf-isolation, 1-scan-cf-boundary.
#[test]
fn families_keep_to_themselves() {
    let store = Store::new();
    for (cf, value) in [(Cf::Default, "1"), (Cf::Lock, "2"), (Cf::Write, "3")] {
        store.put_in(cf, "k", value, 0).unwrap();
        store.put_in(cf, "\u{7f}last", value, 0).unwrap();
        assert_eq!(stored(&store.engine, cf, b"k"), Some(value.into()));
    }
    for (cf, value) in [(Cf::Default, "1"), (Cf::Lock, "2"), (Cf::Write, "3")] {
        assert_eq!(store.get_in(cf, "k").as_deref(), Some(value));
        let expected = format!("k={value} \\x7flast={value}");
        assert_eq!(store.scan(Scan { cf, ..scan("", "", 100) }), expected);
        let order = Order::Reverse;
        let expected = format!("\\x7flast={value} k={value}");
        assert_eq!(store.scan(Scan { cf, order, ..scan("", "", 100) }), expected);
    }
}

/// Covers 1-get-after-delete, 1-raw-delete, 1-delete-missing.
#[test]
fn a_deleted_value_is_gone_and_deleting_nothing_is_fine() {
    let store = Store::new();
    store.put("k", "v");
    delete(&store, "k");
    assert_eq!(store.get("k"), None);
    assert_eq!(stored(&store.engine, Cf::Default, b"k"), None);
    delete(&store, "k");
    assert_eq!(store.scan(scan("", "", 10)), "");
}

/// Covers 1-scan-limit, 1-scan-after-put, 1-scan-after-delete, 1-scan-from-middle,
/// 1-scan-limit-zero.
#[test]
fn a_scan_begins_at_its_start_and_stops_at_its_limit() {
    let store = Store::new();
    ["b", "d", "f", "h"].iter().for_each(|key| store.put(key, "v"));
    assert_eq!(store.scan(scan("", "", 3)), "b=v d=v f=v");
    store.put("e", "v");
    assert_eq!(store.scan(scan("b", "", 10)), "b=v d=v e=v f=v h=v");
    delete(&store, "e");
    assert_eq!(store.scan(scan("c", "", 10)), "d=v f=v h=v");
    assert_eq!(store.scan(scan("d", "f", 10)), "d=v");
    assert_eq!(store.scan(scan("d", "", 0)), "");
    assert_eq!(store.scan(scan("f", "d", 10)), "", "bounds that run backwards hold nothing");
    let reverse = |start, end| Scan { order: Order::Reverse, ..scan(start, end, 10) };
    assert_eq!(store.scan(reverse("f", "b")), "d=v b=v", "the upper bound is exclusive");
    assert_eq!(store.scan(reverse("", "d")), "h=v f=v d=v");
    assert_eq!(store.scan(Scan { key_only: true, ..scan("", "", 2) }), "b= d=");
}

/// Covers 1-empty-value, 1-empty-key: an empty key is a key like any other, the first one.
#[test]
fn empty_values_and_the_empty_key_are_kept() {
    for api in [ApiVersion::V1, ApiVersion::V1Ttl] {
        let store = Store::with(api, KeyRange::ALL);
        store.put("k", "");
        assert_eq!(store.get("k").as_deref(), Some(""));
        store.put("", "first");
        assert_eq!(store.get("").as_deref(), Some("first"));
        assert_eq!(store.scan(scan("", "", 10)), "=first k=");
        delete(&store, "");
        assert_eq!(store.get(""), None);
    }
}

/// Covers 1-durable: what was answered survives a crash that loses everything unsynced.
#[test]
fn an_acknowledged_write_survives_the_worst_crash() {
    let store = Store::new();
    for i in 0..50 {
        store.put(&format!("k{i}"), "v");
    }
    // The engine keeps what was flushed, which is none of it; the log what was synced, and no more.
    let engine = store.engine.crash(0);
    let survivor = Store::reopen(engine, store.disk.crash(&mut |_| 0), ApiVersion::V1);
    assert_eq!(survivor.scan(scan("", "", 100)).split(' ').count(), 50);
}

/// Nobody reads what a crash could take back.
#[test]
fn a_write_that_could_not_be_made_durable_is_not_shown() {
    let store = Store::new();
    store.put("k", "old");
    store.disk.fail_next(Operation::Sync);
    let error = store.put_in(Cf::Default, "k", "new", 0).expect_err("the sync fails");
    assert!(matches!(error, Error::Unknown), "{error}");
    assert_eq!(store.get("k").as_deref(), Some("old"));
    let error = store.put_in(Cf::Default, "k", "newer", 0).expect_err("the log has failed");
    assert!(matches!(error, Error::Region(RegionError::Other(_))), "it did not happen: {error}");
    // Whoever runs the store is told: nobody asked it to end.
    drop(store.threads);
    assert!(store.is_alive.upgrade().is_none());
}

/// Covers 1-concurrent: each scan is one moment. Every batch writes one number under all keys.
#[test]
fn scans_see_whole_batches_while_others_write() {
    let store = Arc::new(Store::new());
    let keys = ["a", "b", "c", "d"];
    let put = |store: &Store, number: usize| {
        let value: Bytes = number.to_string().into();
        let pairs = keys.map(|key| PutPair { key: key.into(), value: value.clone(), ttl_s: 0 });
        let command = Put { cf: Cf::Default, pairs: pairs.into() };
        block_on(store.executor.write(&store.target, command)).unwrap();
    };
    put(&store, 0);
    std::thread::scope(|threads| {
        for writer in 0..4 {
            let store = &store;
            threads.spawn(move || (0..100).for_each(|i| put(store, writer * 100 + i)));
        }
        for _ in 0..4 {
            let store = &store;
            threads.spawn(move || {
                for _ in 0..300 {
                    let seen = store.scan(scan("", "", 10));
                    let values: Vec<_> = seen.split(' ').map(|pair| &pair[2..]).collect();
                    assert!(values.iter().all(|value| value == &values[0]), "{seen}");
                }
            });
        }
    });
}

#[test]
fn a_batch_get_leaves_out_what_is_missing_and_keeps_the_order() {
    let store = Store::new();
    store.put("a", "1");
    store.put("c", "3");
    let command =
        BatchGet { cf: Cf::Default, keys: vec!["c".into(), "b".into(), "a".into(), "c".into()] };
    let pairs = block_on(store.executor.read(&store.target, command)).unwrap();
    let pairs: Vec<_> = pairs.into_iter().map(|(key, value)| (key.escaped(), value)).collect();
    assert_eq!(
        pairs,
        [("c".into(), "3".into()), ("a".into(), "1".into()), ("c".into(), "3".into())]
    );
}

#[test]
fn a_batch_scan_takes_missing_ends_from_the_next_range() {
    let store = Store::new();
    ["a", "b", "c", "d", "e"].iter().for_each(|key| store.put(key, "v"));
    let batch_scan = |ranges: &[(&'static str, &'static str)], order| {
        let ranges = ranges.iter().map(|&(start, end)| (start.into(), end.into())).collect();
        let command = BatchScan { cf: Cf::Default, ranges, limit: 2, key_only: true, order };
        let pairs = block_on(store.executor.read(&store.target, command))?;
        Ok::<_, Error>(pairs.iter().map(|(key, _)| key.escaped()).collect::<String>())
    };
    let forward = Order::Forward;
    assert_eq!(batch_scan(&[("a", ""), ("b", "c"), ("c", "")], forward).unwrap(), "abcd");
    assert_eq!(batch_scan(&[("c", "a"), ("", "d")], Order::Reverse).unwrap(), "baed");
    for backward in [[("b", "b")], [("c", "b")]] {
        let error = batch_scan(&backward, forward).expect_err("holds nothing");
        assert!(matches!(error, Error::Refused(Refusal::BackwardRange { position: 0 })));
    }
}

#[test]
fn a_swap_happens_only_over_the_expected_value_and_tells_what_was_there() {
    let store = Store::new();
    let reply = |succeeded, previous: Option<&'static str>| SwapReply {
        succeeded,
        previous: previous.map(Bytes::from),
    };
    assert_eq!(swap(&store, "k", Some("1"), "2"), reply(false, None));
    assert_eq!(swap(&store, "k", None, "1"), reply(true, None));
    assert_eq!(swap(&store, "k", None, "2"), reply(false, Some("1")));
    assert_eq!(swap(&store, "k", Some(""), "2"), reply(false, Some("1")), "empty is not absent");
    assert_eq!(swap(&store, "k", Some("1"), "2"), reply(true, Some("1")));
    assert_eq!(store.get("k").as_deref(), Some("2"));
}

/// A put that slipped in between a swap's look and its effect would be lost.
#[test]
fn swaps_and_puts_of_one_key_have_one_order() {
    let store = Store::new();
    store.put("n", "0");
    let increments = 200;
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                let mut done = 0;
                while done < increments {
                    let seen = store.get("n").expect("it is there");
                    let next = (seen.parse::<u64>().unwrap() + 1).to_string();
                    let command = CompareAndSwap {
                        cf: Cf::Default,
                        key: "n".into(),
                        expected: Some(seen.into()),
                        value: next.into(),
                        ttl_s: 0,
                    };
                    let reply = block_on(store.executor.write(&store.target, command)).unwrap();
                    done += u64::from(reply.succeeded);
                }
            });
        }
    });
    assert_eq!(store.get("n"), Some((4 * increments).to_string()));
}

#[test]
fn expired_values_are_invisible_at_once_to_everything() {
    for (api, key) in [(ApiVersion::V1Ttl, "k"), (ApiVersion::V2, "rk")] {
        let store = Store::with(api, KeyRange::ALL);
        store.put_in(Cf::Default, key, "v", 10).unwrap();
        let ttl = || {
            let command = GetTtl { cf: Cf::Default, key: key.into() };
            block_on(store.executor.read(&store.target, command)).unwrap()
        };
        assert_eq!(ttl(), Some(10));
        store.clock.advance_s(9);
        assert_eq!((store.get(key).as_deref(), ttl()), (Some("v"), Some(1)));
        store.clock.advance_s(1);
        assert_eq!((store.get(key), ttl()), (None, None));
        assert_eq!(store.scan(scan(key, if api == ApiVersion::V2 { "s" } else { "" }, 10)), "");
        assert_eq!(
            swap(&store, key, Some("v"), "w"),
            SwapReply { succeeded: false, previous: None }
        );
        let ranges = vec![(key.into(), Key::from(&b"s"[..]))];
        let checksum = Checksum { algorithm: 0, ranges };
        let reply = block_on(store.executor.read(&store.target, checksum)).unwrap();
        assert_eq!(reply.count, 0);
        assert_eq!(swap(&store, key, None, "w"), SwapReply { succeeded: true, previous: None });
        assert_eq!(ttl(), Some(0), "a value that never expires has no time left to tell");
    }
}

/// The filter removes what has expired, and nothing that only looks like it.
#[test]
fn compaction_reclaims_expired_raw_values_only() {
    let clock = Arc::new(support::TestClock::default());
    let filter = TtlFilter::new(ApiVersion::V2, clock.clone()).expect("version 2 has TTL");
    let engine = MemoryEngine::with_filter(Arc::new(filter));
    let store = Store::on(engine, ApiVersion::V2, KeyRange::ALL);
    store.put_in(Cf::Default, "rshort", "v", 10).unwrap();
    store.put_in(Cf::Default, "rlong", "v", 1_000).unwrap();
    store.put_in(Cf::Default, "rever", "v", 0).unwrap();
    let record = stored(&store.engine, Cf::Default, Key::from("rshort").encode().as_bytes());
    let mut batch = WriteBatch::new();
    let txn_key = Key::from("xshort").encode();
    batch.put(Cf::Default, txn_key.as_bytes(), &record.expect("just written"));
    batch.put(Cf::Local, b"rshort", b"\x01\0\0\0\0\0\0\0\x01");
    store.engine.write(&batch).unwrap();

    clock.advance_s(11);
    store.engine.compact();
    let left = |key: &'static str| {
        stored(&store.engine, Cf::Default, Key::from(key).encode().as_bytes()).is_some()
    };
    assert!(!left("rshort") && left("rlong") && left("rever") && left("xshort"));
    assert!(stored(&store.engine, Cf::Local, b"rshort").is_some());
    assert!(TtlFilter::new(ApiVersion::V1, clock).is_none());
}

#[test]
fn without_ttl_a_cluster_refuses_to_keep_one() {
    let store = Store::new();
    let error = store.put_in(Cf::Default, "k", "v", 1).expect_err("no TTL in version 1");
    assert_eq!(
        error.to_string(),
        "a cluster of API version 1 keeps no TTL; API versions 1ttl and 2 do"
    );
    let command = GetTtl { cf: Cf::Default, key: "k".into() };
    assert!(block_on(store.executor.read(&store.target, command)).is_err());
    assert_eq!(store.get("k"), None);
}

#[test]
fn limits_are_refused_by_name() {
    let store = Store::new();
    let at_limit = "k".repeat(KEY_SIZE_MAX);
    store.put(&at_limit, "v");
    assert_eq!(store.get(&at_limit).as_deref(), Some("v"));
    let error = store.put_in(Cf::Default, &format!("{at_limit}k"), "v", 0).expect_err("too long");
    assert_eq!(error.to_string(), "a key of 8193 bytes is above the limit of 8192 bytes");

    let long = "v".repeat(VALUE_SIZE_MAX + 1);
    let error = store.put_in(Cf::Default, "k", &long, 0).expect_err("too long");
    assert_eq!(error.to_string(), "a value of 6291457 bytes is above the limit of 6291456 bytes");
    store.put("k", &long[1..]);
    assert_eq!(store.get("k").map(|value| value.len()), Some(VALUE_SIZE_MAX));

    let value = Bytes::from(vec![b'v'; VALUE_SIZE_MAX / 2]);
    let pairs =
        ["a", "b", "c"].map(|key| PutPair { key: key.into(), value: value.clone(), ttl_s: 0 });
    let command = Put { cf: Cf::Default, pairs: pairs.into() };
    let error = block_on(store.executor.write(&store.target, command)).expect_err("too much");
    assert!(matches!(error, Error::Region(RegionError::EntryTooLarge { .. })), "{error}");
    assert_eq!(store.get("a"), None);
}

/// Covers 4C-scan-region-end for raw scans: bounds are clamped, keys are not.
#[test]
fn scans_stop_at_the_region_and_points_outside_are_refused() {
    let engine = MemoryEngine::new();
    let mut batch = WriteBatch::new();
    ["a", "b", "c", "d"].iter().for_each(|key| batch.put(Cf::Default, key.as_bytes(), b"v"));
    engine.write(&batch).unwrap();
    let store = Store::on(engine, ApiVersion::V1, KeyRange::new("b", "d").unwrap());
    assert_eq!(store.scan(scan("", "", 10)), "b=v c=v");
    assert_eq!(store.scan(Scan { order: Order::Reverse, ..scan("z", "", 10) }), "c=v b=v");
    let command = Get { cf: Cf::Default, key: "d".into() };
    let error = block_on(store.executor.read(&store.target, command)).expect_err("outside");
    assert!(matches!(error, Error::Region(RegionError::KeyNotInRegion { .. })), "{error}");
    let everything = DeleteRange { cf: Cf::Default, start: "".into(), end: "".into() };
    block_on(store.executor.delete_range(&store.target, everything)).unwrap();
    assert_eq!(store.scan(scan("", "", 10)), "");
    for outside in ["a", "d"] {
        assert!(stored(&store.engine, Cf::Default, outside.as_bytes()).is_some());
    }
}

#[test]
fn a_long_range_is_deleted_in_pieces() {
    let engine = MemoryEngine::new();
    let mut batch = WriteBatch::new();
    let count = 2 * DELETE_RANGE_KEYS_MAX + 17;
    (0..count).for_each(|i| batch.put(Cf::Default, format!("k{i:06}").as_bytes(), b"v"));
    batch.put(Cf::Default, b"j", b"before");
    batch.put(Cf::Default, b"l", b"behind");
    batch.put(Cf::Write, b"k000001", b"another family");
    engine.write(&batch).unwrap();
    let store = Store::on(engine, ApiVersion::V1, KeyRange::ALL);
    let command = DeleteRange { cf: Cf::Default, start: "k".into(), end: "l".into() };
    block_on(store.executor.delete_range(&store.target, command)).unwrap();
    assert_eq!(store.scan(scan("", "", usize::MAX)), "j=before l=behind");
    assert!(stored(&store.engine, Cf::Write, b"k000001").is_some());
}

#[test]
fn a_destroyed_range_loses_every_family() {
    let engine = MemoryEngine::new();
    let mut batch = WriteBatch::new();
    for cf in [Cf::Default, Cf::Lock, Cf::Write] {
        for key in ["xa", "xb", "xc"] {
            batch.put(cf, Key::from(key).encode().as_bytes(), b"v");
        }
    }
    batch.put(Cf::Local, b"xb", b"ours");
    engine.write(&batch).unwrap();
    let store = Store::on(engine, ApiVersion::V2, KeyRange::ALL);
    block_on(store.executor.destroy_range(&"xb".into(), &"xc".into())).unwrap();
    for cf in [Cf::Default, Cf::Lock, Cf::Write] {
        let left = |key: &'static str| {
            stored(&store.engine, cf, Key::from(key).encode().as_bytes()).is_some()
        };
        assert!(left("xa") && !left("xb") && left("xc"));
    }
    block_on(store.executor.destroy_range(&"".into(), &"".into())).unwrap();
    assert_eq!(stored(&store.engine, Cf::Lock, Key::from("xa").encode().as_bytes()), None);
    assert!(stored(&store.engine, Cf::Local, b"xb").is_some(), "our own metadata stays");
}

/// The checksum of known pairs: exclusive or of CRC-64/XZ over key and value.
#[test]
fn a_checksum_does_not_depend_on_how_pairs_are_stored() {
    let checksum = |api, prefix: &str| {
        let store = Store::with(api, KeyRange::ALL);
        store.put(&format!("{prefix}1"), "one");
        store.put(&format!("{prefix}2"), "two");
        let end = format!("{prefix}3");
        let ranges = vec![(prefix.to_owned().into(), end.into())];
        let command = Checksum { algorithm: 0, ranges };
        block_on(store.executor.read(&store.target, command)).unwrap()
    };
    let plain = checksum(ApiVersion::V1, "r");
    assert_eq!(plain, checksum(ApiVersion::V2, "r"));
    assert_eq!((plain.count, plain.size), (2, 10));
    // CRC-64/XZ has the check value 0x995dc9bbdf1939fa for "123456789".
    let store = Store::new();
    store.put("1234", "56789");
    let command = Checksum { algorithm: 0, ranges: vec![("".into(), "".into())] };
    let reply = block_on(store.executor.read(&store.target, command)).unwrap();
    assert_eq!(reply.checksum, 0x995d_c9bb_df19_39fa);
    let command = Checksum { algorithm: 1, ranges: vec![] };
    assert!(block_on(store.executor.read(&store.target, command)).is_err());
}

#[test]
fn requests_of_another_mode_are_refused() {
    let refused = |store: &Store, api, key: &'static str| {
        let target = kiva_kv::Target { api, ..store.target.clone() };
        let command = Get { cf: Cf::Default, key: key.into() };
        match block_on(store.executor.read(&target, command)) {
            Ok(_) => false,
            Err(Error::Refused(_)) => true,
            Err(error) => panic!("{error}"),
        }
    };
    let v1 = Store::new();
    assert!(!refused(&v1, ApiVersion::V1, "k") && refused(&v1, ApiVersion::V2, "rk"));
    let v1ttl = Store::with(ApiVersion::V1Ttl, KeyRange::ALL);
    assert!(!refused(&v1ttl, ApiVersion::V1, "k") && refused(&v1ttl, ApiVersion::V2, "rk"));
    let v2 = Store::with(ApiVersion::V2, KeyRange::ALL);
    assert!(!refused(&v2, ApiVersion::V2, "rk") && refused(&v2, ApiVersion::V1, "k"));
    assert!(refused(&v2, ApiVersion::V2, "xk"), "a transactional key in a raw command");
}
