//! Snapshots, iterators, and readers beside writers.

use std::sync::atomic::{AtomicBool, Ordering};

use kiva_base::KeyRange;
use kiva_engine::{Cf, Order, WriteBatch};

use crate::harness::{Harness, drain, get, range, show};

pub(crate) fn a_snapshot_never_changes<H: Harness>() {
    let h = H::open();
    h.put(Cf::Default, "a", "1");
    h.put(Cf::Default, "b", "1");
    let first = h.engine().snapshot();
    h.put(Cf::Default, "a", "2");
    h.write(|batch| batch.delete(Cf::Default, b"b"));
    let second = h.engine().snapshot();
    h.write(|batch| {
        batch.delete_range(Cf::Default, &KeyRange::ALL);
        batch.put(Cf::Default, b"c", b"3");
    });
    h.engine().flush().expect("flushes");
    h.compact();
    let all = KeyRange::ALL;
    assert_eq!(show(&*first, Cf::Default, &all, Order::Forward), "a=1 b=1");
    assert_eq!(show(&*first, Cf::Default, &all, Order::Reverse), "b=1 a=1");
    assert_eq!(show(&*second, Cf::Default, &all, Order::Forward), "a=2");
    assert_eq!(get(&*second, Cf::Default, "b"), None);
    assert_eq!(get(&*first, Cf::Default, "b").as_deref(), Some("1"));
    assert_eq!(h.show(Cf::Default), "c=3");
}

/// Covers 1-iterator-snapshot.
pub(crate) fn an_iterator_outlives_its_snapshot_and_sees_no_later_write<H: Harness>() {
    let h = H::open();
    for key in ["a", "b", "c", "d"] {
        h.put(Cf::Default, key, "1");
    }
    let snapshot = h.engine().snapshot();
    let mut forward = snapshot.iter(Cf::Default, &KeyRange::ALL, Order::Forward);
    let mut reverse = snapshot.iter(Cf::Default, &KeyRange::ALL, Order::Reverse);
    drop(snapshot);
    let first = forward.next().expect("iterates").expect("is there");
    assert_eq!(first, ("a".into(), "1".into()));
    h.write(|batch| {
        batch.delete(Cf::Default, b"c");
        batch.put(Cf::Default, b"b", b"2");
        batch.put(Cf::Default, b"bb", b"2");
    });
    h.engine().flush().expect("flushes");
    h.compact();
    assert_eq!(drain(&mut *forward), "b=1 c=1 d=1");
    assert_eq!(drain(&mut *reverse), "d=1 c=1 b=1 a=1");
    assert_eq!(h.show(Cf::Default), "a=1 b=2 bb=2 d=1");
}

/// Covers 1-scan-from-middle at this level.
pub(crate) fn iteration_respects_bounds_and_order<H: Harness>() {
    let h = H::open();
    for key in ["1", "2", "3", "4", "5"] {
        h.put(Cf::Write, key, key);
    }
    let snapshot = h.engine().snapshot();
    let shown = |range: &KeyRange, order| show(&*snapshot, Cf::Write, range, order);
    for (range, expected) in [
        (range("2", "4"), "2=2 3=3"),
        (range("15", "35"), "2=2 3=3"),
        (range("2", ""), "2=2 3=3 4=4 5=5"),
        (range("", "2"), "1=1"),
        (range("3", "3"), ""),
        (range("6", ""), ""),
        (range("41", "42"), ""),
        (KeyRange::ALL, "1=1 2=2 3=3 4=4 5=5"),
    ] {
        assert_eq!(shown(&range, Order::Forward), expected);
        let mut reversed: Vec<_> = expected.split(' ').collect();
        reversed.reverse();
        assert_eq!(shown(&range, Order::Reverse), reversed.join(" "));
    }
}

/// Covers 1-scan-cf-boundary.
pub(crate) fn a_scan_stays_in_its_family<H: Harness>() {
    let h = H::open();
    let last = [0xFF; 9];
    for cf in [Cf::Default, Cf::Write] {
        h.write(|batch| {
            batch.put(cf, b"", b"first");
            batch.put(cf, &last, b"last");
        });
    }
    h.write(|batch| batch.put(Cf::Local, b"", b"first"));
    let snapshot = h.engine().snapshot();
    let all = "=first \\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff=last";
    let reverse = "\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff=last =first";
    for (cf, forward, backward) in [
        (Cf::Default, all, reverse),
        (Cf::Lock, "", ""),
        (Cf::Write, all, reverse),
        (Cf::Local, "=first", "=first"),
    ] {
        assert_eq!(show(&*snapshot, cf, &KeyRange::ALL, Order::Forward), forward);
        assert_eq!(show(&*snapshot, cf, &KeyRange::ALL, Order::Reverse), backward);
    }
}

pub(crate) fn an_iterator_that_has_ended_stays_ended<H: Harness>() {
    let h = H::open();
    h.put(Cf::Default, "a", "1");
    for order in [Order::Forward, Order::Reverse] {
        let mut iter = h.engine().snapshot().iter(Cf::Default, &KeyRange::ALL, order);
        assert!(iter.next().expect("iterates").is_some());
        h.put(Cf::Default, "z", "1");
        h.put(Cf::Default, "", "1");
        assert!(iter.next().expect("ends").is_none());
        assert!(iter.next().expect("stays ended").is_none());
        h.write(|batch| {
            batch.delete(Cf::Default, b"z");
            batch.delete(Cf::Default, b"");
        });
    }
}

/// Covers 1-reader-release.
pub(crate) fn thousands_of_readers_come_and_go<H: Harness>() {
    let h = H::open();
    let mut kept = Vec::new();
    for number in 0..3000_u32 {
        h.put(Cf::Default, "k", &number.to_string());
        let snapshot = h.engine().snapshot();
        let unused = snapshot.iter(Cf::Default, &KeyRange::ALL, Order::Reverse);
        let mut used = snapshot.iter(Cf::Default, &KeyRange::ALL, Order::Forward);
        assert!(used.next().expect("iterates").is_some());
        if number % 500 == 0 {
            kept.push((number, snapshot, unused));
        }
    }
    for (number, snapshot, mut iter) in kept {
        let expected = number.to_string();
        assert_eq!(get(&*snapshot, Cf::Default, "k"), Some(expected.clone()));
        assert_eq!(drain(&mut *iter), format!("k={expected}"));
    }
    h.engine().flush().expect("flushes");
    h.compact();
    let h = h.reopen();
    assert_eq!(h.show(Cf::Default), "k=2999");
}

/// Covers 1-concurrent: writers move numbers that always add up, readers add them up.
pub(crate) fn readers_see_whole_batches_while_writers_write<H: Harness>() {
    const WRITERS: u8 = 4;
    const ROUNDS: u32 = 150;
    let h = H::open();
    let engine = h.engine();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn(move || {
                    for round in 1..=ROUNDS {
                        let mut batch = WriteBatch::new();
                        batch.delete_range(Cf::Lock, &KeyRange::prefix(vec![writer]));
                        for cf in Cf::ALL {
                            let key = [&[writer][..], &round.to_be_bytes()].concat();
                            batch.put(cf, &key, &round.to_be_bytes());
                        }
                        engine.write(&batch).expect("writes");
                    }
                })
            })
            .collect();
        for order in [Order::Forward, Order::Reverse] {
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let snapshot = engine.snapshot();
                    for writer in 0..WRITERS {
                        let range = KeyRange::prefix(vec![writer]);
                        let count = |cf| {
                            let mut iter = snapshot.iter(cf, &range, order);
                            let mut count = 0;
                            while iter.next().expect("iterates").is_some() {
                                count += 1;
                            }
                            count
                        };
                        let rounds = count(Cf::Default);
                        assert_eq!(count(Cf::Write), rounds);
                        assert_eq!(count(Cf::Local), rounds);
                        assert_eq!(count(Cf::Lock), rounds.min(1));
                    }
                }
            });
        }
        for writer in writers {
            writer.join().expect("a writer ends well");
        }
        done.store(true, Ordering::Relaxed);
    });
    let mut iter = h.engine().snapshot().iter(Cf::Default, &KeyRange::ALL, Order::Forward);
    for writer in 0..WRITERS {
        for round in 1..=ROUNDS {
            let (key, _) = iter.next().expect("iterates").expect("is there");
            assert_eq!(key, [&[writer][..], &round.to_be_bytes()].concat());
        }
    }
}
