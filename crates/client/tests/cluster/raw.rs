//! Raw operations over several regions.

use std::time::Duration;

use bytes::Bytes;
use kiva_base::{Key, KeyRange, RegionError, RegionId};
use kiva_client::rpc::CallError;
use kiva_client::{ApiVersion, KvPair, Obstacle, Options, RawError, Ttl};

use crate::world::{Fault, World};

fn pair(key: &str, value: &str) -> KvPair {
    KvPair { key: Key::from(key.to_owned()), value: value.to_owned().into() }
}

fn range(start: &'static str, end: &'static str) -> KeyRange {
    KeyRange::new(start, end).unwrap()
}

fn keys(pairs: &[KvPair]) -> String {
    pairs.iter().map(|pair| pair.key.escaped()).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_key_is_read_where_it_was_written() {
    let world = World::raw(&["m"]);
    let raw = world.client().raw();
    world.run(raw.put("a", "1")).unwrap();
    world.run(raw.put("z", "")).unwrap();
    world.trace();
    assert_eq!(world.run(raw.get("a")), Ok(Some("1".into())));
    assert_eq!(world.run(raw.get("z")), Ok(Some("".into())), "an empty value is a value");
    assert_eq!(world.run(raw.get("b")), Ok(None));
    assert_eq!(world.trace(), ["s1 RawGet r1 a", "s2 RawGet r2 z", "s1 RawGet r1 b"]);
    assert_eq!(world.run(raw.get_ttl("a")), Ok(Some(Ttl::Never)));
    world.run(raw.delete("a")).unwrap();
    assert_eq!(world.run(raw.get("a")), Ok(None));
}

#[test]
fn batches_go_once_to_each_region_and_come_back_in_the_order_asked_for() {
    let world = World::raw(&["g", "p"]);
    let raw = world.client().raw();
    let pairs = ["z", "a", "h", "b"].map(|key| pair(key, key)).to_vec();
    world.run(raw.batch_put(pairs, Duration::ZERO)).unwrap();
    let mut calls = world.trace();
    calls.retain(|line| line != "region?");
    calls.sort();
    assert_eq!(calls, ["s1 RawBatchPut r1 a b", "s2 RawBatchPut r2 h", "s3 RawBatchPut r3 z"]);
    let asked = ["h", "no", "z", "a", "h"].map(Key::from).to_vec();
    let found = world.run(raw.batch_get(asked)).unwrap();
    assert_eq!(keys(&found), "h z a h");
    world.run(raw.batch_delete(vec!["a".into(), "z".into()])).unwrap();
    let left = world.run(raw.scan_keys(KeyRange::ALL, 9)).unwrap();
    assert_eq!(left, [Key::from("b"), Key::from("h")]);
}

#[test]
fn a_large_batch_is_cut() {
    let world = World::raw(&[]);
    let raw = world.client().raw();
    let value = Bytes::from(vec![7; 40 * 1024]);
    let pairs = ["a", "b", "c"].map(|key| KvPair { key: key.into(), value: value.clone() });
    world.run(raw.batch_put(pairs.to_vec(), Duration::ZERO)).unwrap();
    let calls = world.trace().iter().filter(|line| line.contains("RawBatchPut")).count();
    assert_eq!(calls, 3);
}

/// Scans in both directions, whose limits end before, at and behind a region's end.
#[test]
fn scans_go_on_from_region_to_region() {
    let world = World::raw(&["c", "e"]);
    let raw = world.client().raw();
    for key in ["a", "b", "c", "d", "e", "f"] {
        world.run(raw.put(key, key)).unwrap();
    }
    for limit in 0..8 {
        let expected: Vec<&str> = ["a", "b", "c", "d", "e", "f"].into_iter().take(limit).collect();
        let found = world.run(raw.scan(KeyRange::ALL, limit)).unwrap();
        assert_eq!(keys(&found), expected.join(" "));
        let expected: Vec<&str> = ["f", "e", "d", "c", "b", "a"].into_iter().take(limit).collect();
        let found = world.run(raw.scan_reverse(KeyRange::ALL, limit)).unwrap();
        assert_eq!(keys(&found), expected.join(" "));
    }
    assert_eq!(keys(&world.run(raw.scan(range("b", "e"), 9)).unwrap()), "b c d");
    assert_eq!(keys(&world.run(raw.scan_reverse(range("b", "e"), 9)).unwrap()), "d c b");
    assert_eq!(keys(&world.run(raw.scan_reverse(range("b", "e"), 2)).unwrap()), "d c");
    assert_eq!(keys(&world.run(raw.scan(range("b", "b"), 9)).unwrap()), "");
    let both = vec![range("a", "b"), range("e", "")];
    let found = world.run(raw.batch_scan(both, 1)).unwrap();
    assert_eq!(found.iter().map(|pairs| keys(pairs)).collect::<Vec<_>>(), ["a", "e"]);
}

#[test]
fn a_reverse_scan_finds_its_way_without_a_cache() {
    let world = World::raw(&["b", "ba", "bb", "c"]);
    let raw = world.client().raw();
    for key in ["a", "b", "ba", "bb", "c"] {
        world.state().raw.insert(key.into(), key.into());
    }
    let found = world.run(raw.scan_reverse(range("", "c"), 9)).unwrap();
    assert_eq!(keys(&found), "bb ba b a");
    let other = world.client().raw();
    let found = world.run(other.scan_reverse(KeyRange::ALL, 1)).unwrap();
    assert_eq!(keys(&found), "c");
}

#[test]
fn a_scan_over_pages_misses_nothing_when_a_region_splits_under_it() {
    let world = World::raw(&[]);
    let raw = world.client().raw();
    for i in 0..3_000 {
        let key = Bytes::from(format!("k{i:04}"));
        world.state().raw.insert(key, "v".into());
    }
    // Between the first page and the second.
    world.fault("RawScan", Fault::First(Box::new(|_| {})));
    world.fault("RawScan", Fault::First(Box::new(|state| state.split(1, 9, "k1500"))));
    let found = world.run(raw.scan(KeyRange::ALL, 5_000)).unwrap();
    assert_eq!(found.len(), 3_000);
    assert!(found.is_sorted_by(|a, b| a.key < b.key));
    let trace = world.trace();
    assert_eq!(
        trace.iter().map(String::as_str).collect::<Vec<_>>(),
        [
            "region?",
            "s1 RawScan r1 ..",
            "s1 RawScan r1 k1023\\x00..: epoch",
            "s1 RawScan r1 k1023\\x00..k1500",
            "s1 RawScan r9 k1500..",
            "s1 RawScan r9 k2523\\x00..",
        ]
    );
}

#[test]
fn a_range_is_deleted_and_summed_region_by_region() {
    let world = World::raw(&["g", "p"]);
    let raw = world.client().raw();
    for key in ["a", "f", "g", "o", "p", "z"] {
        world.run(raw.put(key, "1")).unwrap();
    }
    let sum = world.run(raw.checksum(KeyRange::ALL)).unwrap();
    assert_eq!((sum.pairs, sum.bytes), (6, 12));
    world.trace();
    world.run(raw.delete_range(range("f", "q"))).unwrap();
    assert_eq!(
        world.trace(),
        ["s1 RawDeleteRange r1 f..g", "s2 RawDeleteRange r2 g..p", "s3 RawDeleteRange r3 p..q"]
    );
    assert_eq!(keys(&world.run(raw.scan(KeyRange::ALL, 9)).unwrap()), "a z");
}

#[test]
fn a_write_whose_answer_is_lost_is_not_sent_again() {
    for fault in [Fault::LoseBefore, Fault::LoseAfter] {
        let world = World::raw(&[]);
        let raw = world.client().raw();
        world.run(raw.get("a")).unwrap();
        world.trace();
        world.fault("RawPut", fault);
        let error = world.run(raw.put("a", "1")).unwrap_err();
        assert!(matches!(error, RawError::Unknown { last: CallError::Lost(_) }), "{error}");
        assert!(error.is_unknown() && !error.is_retryable());
        assert_eq!(world.trace().len(), 1);
    }
}

#[test]
fn a_swap_whose_answer_is_lost_is_not_sent_again() {
    let world = World::raw(&[]);
    let raw = world.client().raw().atomic();
    world.fault("RawCompareAndSwap", Fault::LoseAfter);
    let swap = raw.compare_and_swap("a", None, "1", Duration::ZERO);
    assert!(world.run(swap).unwrap_err().is_unknown());
    assert_eq!(world.run(raw.get("a")), Ok(Some("1".into())));
    let again = world.run(raw.compare_and_swap("a", None, "2", Duration::ZERO)).unwrap();
    assert!(!again.swapped);
    assert_eq!(again.previous, Some("1".into()));
}

#[test]
fn a_write_that_certainly_did_not_happen_is_sent_again() {
    let world = World::raw(&[]);
    let raw = world.client().raw();
    world.fault("RawPut", Fault::Unsent);
    world.fault("RawPut", Fault::Refuse(RegionError::StaleCommand));
    assert_eq!(world.run(raw.put("a", "1")), Ok(()));
    assert_eq!(world.run(raw.get("a")), Ok(Some("1".into())));
}

#[test]
fn a_read_whose_answer_is_lost_is_sent_again() {
    let world = World::raw(&[]);
    let raw = world.client().raw();
    world.run(raw.put("a", "1")).unwrap();
    world.fault("RawGet", Fault::LoseAfter);
    assert_eq!(world.run(raw.get("a")), Ok(Some("1".into())));
}

#[test]
fn a_batch_that_is_lost_in_one_region_says_what_is_written() {
    let world = World::raw(&["m"]);
    let raw = world.client().raw();
    world.fault("RawBatchPut", Fault::LoseBefore);
    let pairs = ["a", "b", "z"].map(|key| pair(key, key)).to_vec();
    let error = world.run(raw.batch_put(pairs, Duration::ZERO)).unwrap_err();
    let RawError::Partial { done, total, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!((*done, *total), (1, 3));
    assert!(error.is_unknown());
}

#[test]
fn an_entry_too_large_is_not_sent_again() {
    let world = World::raw(&[]);
    let raw = world.client().raw();
    let region = RegionId::new(1).unwrap();
    let error = RegionError::EntryTooLarge { region, size: 9, limit: 8 };
    world.fault("RawPut", Fault::Refuse(error.clone()));
    assert_eq!(world.run(raw.put("a", "1")), Err(RawError::Region(error)));
}

#[test]
fn an_operation_ends_with_its_time_and_tells_the_last_obstacle() {
    let world = World::raw(&[]);
    let raw = world.client().raw().with_timeout(Duration::from_secs(3));
    world.state().down.insert(1);
    let error = world.run(raw.put("a", "1")).unwrap_err();
    let RawError::GaveUp(gave_up) = &error else {
        panic!("{error}");
    };
    assert!(
        matches!(&gave_up.last, Obstacle::Call(last) if matches!(**last, CallError::Unsent(_)))
    );
    assert!(error.is_retryable() && !error.is_unknown());
    assert!(world.elapsed() <= Duration::from_secs(3));
    assert!(gave_up.waited > Duration::from_secs(2), "{:?}", gave_up.waited);
}

/// Under API version 2 keys carry their keyspace on the wire and lose it on the way back, and
/// boundaries are encoded.
#[test]
fn a_keyspace_is_invisible_to_its_user() {
    let world = World::txn(&["r\0\0\0m"]);
    let options = Options { api_version: ApiVersion::V2, ..Options::default() };
    let raw = world.client_with(options).raw();
    for key in ["a", "z"] {
        world.run(raw.put(key, key)).unwrap();
    }
    world.state().raw.insert(Bytes::from_static(b"r\0\0\x01a"), "other".into());
    world.trace();
    let found = world.run(raw.scan(KeyRange::ALL, 9)).unwrap();
    assert_eq!(keys(&found), "a z");
    let found = world.run(raw.scan_reverse(KeyRange::ALL, 9)).unwrap();
    assert_eq!(keys(&found), "z a");
    // Either way each region is asked for its own part only.
    let parts = [
        "s1 RawScan r1 r\\x00\\x00\\x00..r\\x00\\x00\\x00m",
        "s2 RawScan r2 r\\x00\\x00\\x00m..r\\x00\\x00\\x01",
    ];
    assert_eq!(world.trace(), [parts[0], parts[1], parts[1], parts[0]]);
}
