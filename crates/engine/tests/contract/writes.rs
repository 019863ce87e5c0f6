//! Batches, range deletes, ingestions, sizes and the filter.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use kiva_base::KeyRange;
use kiva_engine::limits::{KEY_SIZE_MAX, VALUE_SIZE_MAX};
use kiva_engine::{Cf, EngineError, Filter, Health, Verdict, WriteBatch};

use crate::harness::{Harness, Items, get, range};

/// Covers 1-batch-atomic (visibility) and 1-engine-util.
pub(crate) fn a_batch_is_visible_whole_in_all_families<H: Harness>() {
    let h = H::open();
    h.put(Cf::Write, "old", "1");
    let before = h.engine().snapshot();
    h.write(|batch| {
        for cf in Cf::ALL {
            batch.put(cf, b"k", cf.name().as_bytes());
        }
        batch.delete(Cf::Write, b"old");
    });
    for cf in Cf::ALL {
        assert_eq!(get(&*before, cf, "k"), None);
        assert_eq!(h.get(cf, "k").as_deref(), Some(cf.name()));
    }
    assert_eq!(get(&*before, Cf::Write, "old").as_deref(), Some("1"));
    assert_eq!(h.get(Cf::Write, "old"), None);
}

/// Covers 1-batch-order.
pub(crate) fn the_last_operation_on_a_key_decides<H: Harness>() {
    let h = H::open();
    h.put(Cf::Default, "c", "old");
    h.write(|batch| {
        batch.put(Cf::Default, b"a", b"1");
        batch.delete(Cf::Default, b"a");
        batch.delete(Cf::Default, b"b");
        batch.put(Cf::Default, b"b", b"1");
        batch.put(Cf::Default, b"c", b"1");
        batch.put(Cf::Default, b"c", b"2");
        batch.put(Cf::Default, b"c", b"3");
    });
    assert_eq!(h.show(Cf::Default), "b=1 c=3");
}

/// Covers 1-delete-missing and 1-raw-get-missing at this level.
pub(crate) fn deleting_what_is_not_there_is_fine<H: Harness>() {
    let h = H::open();
    h.put(Cf::Default, "a", "1");
    h.write(|batch| {
        batch.delete(Cf::Default, b"b");
        batch.delete_range(Cf::Default, &range("x", "z"));
    });
    assert_eq!(h.get(Cf::Default, "b"), None);
    assert_eq!(h.show(Cf::Default), "a=1");
}

/// Covers 1-cf-isolation and 1-engine-util.
pub(crate) fn families_do_not_see_each_other<H: Harness>() {
    let h = H::open();
    for cf in Cf::ALL {
        h.put(cf, "k", cf.name());
    }
    h.write(|batch| {
        batch.delete(Cf::Lock, b"k");
        batch.delete_range(Cf::Write, &KeyRange::ALL);
    });
    assert_eq!(h.show(Cf::Default), "k=default");
    assert_eq!(h.show(Cf::Lock), "");
    assert_eq!(h.show(Cf::Write), "");
    assert_eq!(h.show(Cf::Local), "k=local");
}

/// Covers 1-empty-value and 1-empty-key at this level.
pub(crate) fn an_empty_key_and_an_empty_value_are_like_others<H: Harness>() {
    let h = H::open();
    h.put(Cf::Default, "", "at the empty key");
    h.put(Cf::Default, "e", "");
    h.put(Cf::Local, "", "");
    let h = h.reopen();
    assert_eq!(h.get(Cf::Default, "e").as_deref(), Some(""));
    assert_eq!(h.get(Cf::Default, "").as_deref(), Some("at the empty key"));
    assert_eq!(h.show(Cf::Default), "=at the empty key e=");
    assert_eq!(h.show(Cf::Local), "=");
    h.write(|batch| batch.delete(Cf::Default, b""));
    assert_eq!(h.show(Cf::Default), "e=");
}

/// Covers 1-engine-util.
pub(crate) fn a_range_delete_takes_what_lies_inside<H: Harness>() {
    let h = H::open();
    for key in ["", "a", "b", "bb", "c", "\u{7f}"] {
        h.put(Cf::Default, key, "1");
    }
    h.write(|batch| batch.delete_range(Cf::Default, &range("b", "c")));
    assert_eq!(h.show(Cf::Default), "=1 a=1 c=1 \\x7f=1");
    h.write(|batch| batch.delete_range(Cf::Default, &range("a", "a")));
    assert_eq!(h.show(Cf::Default), "=1 a=1 c=1 \\x7f=1");
    h.put(Cf::Lock, "z", "1");
    h.write(|batch| batch.delete_range(Cf::Default, &range("b", "")));
    assert_eq!(h.show(Cf::Default), "=1 a=1");
    h.write(|batch| batch.delete_range(Cf::Default, &KeyRange::ALL));
    assert_eq!(h.show(Cf::Default), "");
    assert_eq!(h.show(Cf::Lock), "z=1");
}

/// Covers 1-batch-order.
pub(crate) fn a_range_delete_and_its_neighbours_in_a_batch_keep_their_order<H: Harness>() {
    let h = H::open();
    h.put(Cf::Default, "b", "old");
    h.write(|batch| {
        batch.put(Cf::Default, b"a", b"before");
        batch.put(Cf::Default, b"x", b"outside");
        batch.delete_range(Cf::Default, &range("a", "d"));
        batch.put(Cf::Default, b"c", b"after");
        batch.put(Cf::Default, b"d", b"after");
        batch.delete_range(Cf::Default, &range("d", "e"));
    });
    assert_eq!(h.show(Cf::Default), "c=after x=outside");
}

/// No batch of ours holds one; bytes from elsewhere may.
pub(crate) fn a_range_delete_that_runs_backward_covers_nothing<H: Harness>() {
    let h = H::open();
    for key in ["a", "b", "c"] {
        h.put(Cf::Default, key, "1");
    }
    let bytes = Bytes::from_static(b"\x03d\x01c\x01a");
    let batch = WriteBatch::decode(&bytes).expect("is well-formed");
    h.engine().write(&batch).expect("writes");
    assert_eq!(h.show(Cf::Default), "a=1 b=1 c=1");
}

pub(crate) fn an_empty_batch_does_nothing<H: Harness>() {
    let h = H::open();
    h.write(|_| {});
    h.engine().flush().expect("flushes");
    assert_eq!(h.show(Cf::Default), "");
}

pub(crate) fn keys_and_values_beyond_the_limit_are_refused_and_do_no_harm<H: Harness>() {
    let h = H::open();
    let mut batch = WriteBatch::new();
    batch.put(Cf::Default, b"a", b"1");
    batch.put(Cf::Default, &vec![b'k'; KEY_SIZE_MAX + 1], b"");
    let error = h.engine().write(&batch).expect_err("the key is too long");
    assert!(matches!(error, EngineError::TooLarge { .. }), "{error}");
    let mut batch = WriteBatch::new();
    batch.put(Cf::Default, b"a", &vec![0; VALUE_SIZE_MAX + 1]);
    let error = h.engine().write(&batch).expect_err("the value is too long");
    assert!(matches!(error, EngineError::TooLarge { .. }), "{error}");
    assert_eq!(h.engine().health(), Health::Good);
    assert_eq!(h.show(Cf::Default), "");
    h.put(Cf::Default, "a", "2");
    assert_eq!(h.show(Cf::Default), "a=2");
}

pub(crate) fn the_largest_key_and_a_large_value_fit<H: Harness>() {
    let h = H::open();
    let key = vec![0xFF; KEY_SIZE_MAX];
    let value = vec![7; 1024 * 1024];
    h.write(|batch| batch.put(Cf::Local, &key, &value));
    h.compact();
    let h = h.reopen();
    let found = h.engine().snapshot().get(Cf::Local, &key).expect("reads");
    assert!(found.is_some_and(|found| found == value));
}

pub(crate) fn an_ingestion_appears_at_once<H: Harness>() {
    let h = H::open();
    h.put(Cf::Default, "a", "old");
    h.put(Cf::Default, "b", "old");
    h.put(Cf::Write, "b", "old");
    let before = h.engine().snapshot();
    h.engine()
        .ingest(&mut Items::new(&[
            (Cf::Default, "", Some("empty")),
            (Cf::Default, "a", None),
            (Cf::Default, "c", Some("new")),
            (Cf::Lock, "a", Some("")),
            (Cf::Write, "b", Some("new")),
            (Cf::Local, "zzz", Some("new")),
        ]))
        .expect("ingests");
    assert_eq!(h.show(Cf::Default), "=empty b=old c=new");
    assert_eq!(h.show(Cf::Lock), "a=");
    assert_eq!(h.show(Cf::Write), "b=new");
    assert_eq!(h.show(Cf::Local), "zzz=new");
    assert_eq!(get(&*before, Cf::Default, "a").as_deref(), Some("old"));
    assert_eq!(get(&*before, Cf::Default, "c"), None);
    assert_eq!(get(&*before, Cf::Write, "b").as_deref(), Some("old"));
    h.put(Cf::Default, "a", "newer");
    h.write(|batch| batch.delete(Cf::Default, b"c"));
    assert_eq!(h.show(Cf::Default), "=empty a=newer b=old");
}

pub(crate) fn an_ingestion_that_fails_leaves_nothing<H: Harness>() {
    let h = H::open();
    h.put(Cf::Default, "a", "1");
    let mut items = Items::new(&[(Cf::Default, "a", Some("2")), (Cf::Default, "b", Some("2"))]);
    items.fails = true;
    let error = h.engine().ingest(&mut items).expect_err("the stream breaks");
    assert_eq!(error.to_string(), "malformed batch: the stream broke");
    assert_eq!(h.show(Cf::Default), "a=1");
    h.put(Cf::Default, "b", "3");
    let h = h.reopen();
    assert_eq!(h.show(Cf::Default), "a=1 b=3");
    h.engine().ingest(&mut Items::new(&[])).expect("nothing is fine");
}

pub(crate) fn items_that_do_not_ascend_are_refused<H: Harness>() {
    let h = H::open();
    for items in [
        [(Cf::Default, "b", Some("1")), (Cf::Default, "a", Some("1"))],
        [(Cf::Default, "a", Some("1")), (Cf::Default, "a", None)],
        [(Cf::Lock, "a", Some("1")), (Cf::Default, "b", Some("1"))],
    ] {
        let error = h.engine().ingest(&mut Items::new(&items)).expect_err("must ascend");
        assert!(matches!(error, EngineError::Malformed(_)), "{error}");
    }
    assert_eq!(h.show(Cf::Default), "");
    assert_eq!(h.engine().health(), Health::Good);
}

pub(crate) fn the_size_of_a_range_grows_with_it<H: Harness>() {
    let h = H::open();
    let all = KeyRange::ALL;
    assert_eq!(h.engine().approximate_size(Cf::Default, &all), 0);
    let keys: Vec<String> = (0..2000).map(|number| format!("{number:05}")).collect();
    let value = "v".repeat(100);
    let items: Vec<_> =
        keys.iter().map(|key| (Cf::Default, key.as_str(), Some(value.as_str()))).collect();
    h.engine().ingest(&mut Items::new(&items)).expect("ingests");
    let size = |cf, range: &KeyRange| h.engine().approximate_size(cf, range);
    let whole = size(Cf::Default, &all);
    let half = size(Cf::Default, &range("00000", "01000"));
    let little = size(Cf::Default, &range("01000", "01100"));
    assert!(whole > 10_000, "{whole}");
    assert!(half > whole / 4 && half < whole * 3 / 4, "{half} of {whole}");
    assert!(little > 0 && little < half, "{little} of {half}");
    assert_eq!(size(Cf::Default, &range("x", "")), 0);
    assert_eq!(size(Cf::Lock, &all), 0);
}

/// Removes what says so once it is told to.
#[derive(Default)]
struct Expired(AtomicBool);

impl Filter for Expired {
    fn judge(&self, cf: Cf, key: &[u8], value: &[u8]) -> Verdict {
        let expired = cf == Cf::Default && key != b"never" && value == b"expired";
        if expired && self.0.load(Ordering::Relaxed) { Verdict::Remove } else { Verdict::Keep }
    }
}

pub(crate) fn what_the_filter_removes_does_not_come_back<H: Harness>() {
    let filter = Arc::new(Expired::default());
    let h = H::open_with(Some(Arc::clone(&filter) as Arc<dyn Filter>));
    h.put(Cf::Default, "k", "older");
    h.put(Cf::Default, "old", "expired");
    h.put(Cf::Default, "other", "1");
    h.compact();
    assert_eq!(h.show(Cf::Default), "k=older old=expired other=1");
    // Now the older version of `k` is in a table, and the newer one is judged when they merge.
    h.put(Cf::Default, "k", "expired");
    h.put(Cf::Default, "never", "expired");
    h.put(Cf::Lock, "k", "expired");
    filter.0.store(true, Ordering::Relaxed);
    h.compact();
    assert_eq!(h.show(Cf::Default), "never=expired other=1");
    assert_eq!(h.show(Cf::Lock), "k=expired");
    h.compact();
    let h = h.reopen();
    assert_eq!(h.show(Cf::Default), "never=expired other=1");
}
