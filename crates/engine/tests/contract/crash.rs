//! What is found after a close and after a crash.

use kiva_base::KeyRange;
use kiva_engine::{Cf, Order};

use crate::harness::{Harness, Items, show};

/// Writes `from..to`, each number into all families with one batch.
fn count<H: Harness>(h: &H, from: u32, to: u32) {
    for number in from..to {
        h.write(|batch| {
            for cf in Cf::ALL {
                batch.put(cf, &number.to_be_bytes(), b"");
            }
        });
    }
}

/// How many numbers are there, from 0 and without a gap in any family.
fn counted<H: Harness>(h: &H) -> u32 {
    let snapshot = h.engine().snapshot();
    let numbers = Cf::ALL.map(|cf| {
        let mut iter = snapshot.iter(cf, &KeyRange::ALL, Order::Forward);
        let mut next = 0_u32;
        while let Some((key, _)) = iter.next().expect("iterates") {
            assert_eq!(&key[..], next.to_be_bytes(), "a gap in {}", cf.name());
            next += 1;
        }
        next
    });
    assert!(numbers.iter().all(|number| *number == numbers[0]), "{numbers:?}");
    numbers[0]
}

/// Covers 1-durable for a clean close.
pub(crate) fn a_clean_close_keeps_everything<H: Harness>() {
    let h = H::open();
    count(&h, 0, 10);
    let h = h.reopen();
    assert_eq!(counted(&h), 10);
    count(&h, 10, 20);
    h.engine().flush().expect("flushes");
    let h = h.reopen().reopen();
    assert_eq!(counted(&h), 20);
}

/// Covers 1-durable.
pub(crate) fn a_flush_survives_a_crash<H: Harness>() {
    let h = H::open();
    count(&h, 0, 100);
    h.engine().flush().expect("flushes");
    let h = h.crash();
    assert_eq!(counted(&h), 100);
    count(&h, 100, 150);
    h.engine().flush().expect("flushes");
    let h = h.crash().crash();
    assert_eq!(counted(&h), 150);
}

/// Covers 1-batch-atomic.
pub(crate) fn a_crash_leaves_a_prefix_of_whole_batches<H: Harness>() {
    let mut h = H::open();
    let mut next = 0;
    for round in 1..10 {
        count(&h, next, next + 17 * round);
        h.engine().flush().expect("flushes");
        let flushed = next + 17 * round;
        count(&h, flushed, flushed + 500);
        h = h.crash();
        next = counted(&h);
        assert!((flushed..=flushed + 500).contains(&next), "{next}");
    }
}

pub(crate) fn an_ingestion_is_durable_and_so_is_what_came_before<H: Harness>() {
    let h = H::open();
    h.put(Cf::Default, "a", "before");
    h.put(Cf::Default, "c", "before");
    h.engine()
        .ingest(&mut Items::new(&[(Cf::Default, "b", Some("ingested")), (Cf::Default, "c", None)]))
        .expect("ingests");
    let h = h.crash();
    assert_eq!(h.show(Cf::Default), "a=before b=ingested");
    h.put(Cf::Default, "b", "later");
    h.put(Cf::Default, "c", "later");
    h.engine().flush().expect("flushes");
    let h = h.crash();
    assert_eq!(h.show(Cf::Default), "a=before b=later c=later");
}

pub(crate) fn range_deletes_survive_a_crash<H: Harness>() {
    let h = H::open();
    for key in ["a", "b", "c"] {
        h.put(Cf::Default, key, "1");
    }
    h.compact();
    h.write(|batch| batch.delete_range(Cf::Default, &KeyRange::prefix("b")));
    h.engine().flush().expect("flushes");
    let h = h.crash();
    assert_eq!(h.show(Cf::Default), "a=1 c=1");
    h.compact();
    let h = h.crash();
    assert_eq!(h.show(Cf::Default), "a=1 c=1");
}

/// Covers 1-reader-release: the close neither hangs nor takes the reader's data away.
pub(crate) fn a_live_reader_does_not_stop_a_close<H: Harness>() {
    let h = H::open();
    h.put(Cf::Default, "a", "1");
    let snapshot = h.engine().snapshot();
    let iter = snapshot.iter(Cf::Default, &KeyRange::ALL, Order::Forward);
    h.compact();
    drop(h);
    let shown = show(&*snapshot, Cf::Default, &KeyRange::ALL, Order::Reverse);
    assert_eq!(shown, "a=1");
    drop(iter);
    drop(snapshot);
}
