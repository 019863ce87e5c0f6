//! The behaviours of a store's log that have a name, see `docs/scenarios-covered.txt`.

use kiva_base::{Epoch, PeerId};
use kiva_raft::{Entries, EntryId, Index, LogError, Term};

use super::{
    SMALL, all, append, collect_all, crash, entries, hard_state, id, open, open_with, region, write,
};
use crate::disk::MemoryDisk;
use crate::log::{Log, LogBatch, Options};

/// A log of entries 4 and 5 behind 3, as terms 3, 4, 5.
fn three_to_five() -> Log {
    let log = open(&MemoryDisk::new()).log;
    let mut batch = LogBatch::new();
    batch.restart(region(1), id(3, 3));
    batch.entries(region(1), &entries(4, 4..5, 10));
    batch.entries(region(1), &entries(5, 5..6, 10));
    write(&log, &batch);
    log
}

/// Covers 2B-store-term.
#[test]
fn terms_are_known_from_the_one_before_the_first_entry_to_the_last() {
    let log = three_to_five().region(region(1));
    assert_eq!(log.term(Index(2)), Err(LogError::Compacted { first: Index(4) }));
    assert_eq!(log.term(Index(3)), Ok(Term(3)));
    assert_eq!(log.term(Index(4)), Ok(Term(4)));
    assert_eq!(log.term(Index(5)), Ok(Term(5)));
    assert_eq!(log.term(Index(6)), Err(LogError::BeyondEnd { last: Index(5) }));
}

/// Covers 2B-store-entries.
#[test]
fn a_range_is_read_exactly_and_within_its_limit() {
    let log = open(&MemoryDisk::new()).log;
    let run: Entries = [entries(3, 4..5, 10), entries(4, 5..6, 10), entries(6, 6..7, 10)]
        .iter()
        .flat_map(|run| run.to_vec())
        .collect();
    let mut batch = LogBatch::new();
    batch.restart(region(1), id(3, 3));
    batch.entries(region(1), &run);
    write(&log, &batch);
    let read =
        |first, end, bytes_max| log.region(region(1)).entries(Index(first), Index(end), bytes_max);
    let compacted = Err(LogError::Compacted { first: Index(4) });
    assert_eq!([read(2, 6, usize::MAX), read(3, 4, usize::MAX)], [compacted.clone(), compacted]);
    let part = |start, end| Ok(run.part(start, end));
    assert_eq!(read(4, 5, usize::MAX), part(0, 1));
    assert_eq!(read(4, 6, usize::MAX), part(0, 2));
    assert_eq!(read(4, 7, usize::MAX), part(0, 3));
    assert_eq!([read(4, 7, 0), read(4, 7, 19)], [part(0, 1), part(0, 1)]);
    assert_eq!([read(4, 7, 20), read(4, 7, 29)], [part(0, 2), part(0, 2)]);
    assert_eq!(read(4, 7, 30), part(0, 3));
    let beyond = Err(LogError::BeyondEnd { last: Index(6) });
    assert_eq!([read(4, 8, usize::MAX), read(7, 8, usize::MAX)], [beyond.clone(), beyond]);
}

/// Covers 2B-store-append.
#[test]
fn an_append_replaces_what_it_overlaps_and_all_behind() {
    type Ids = &'static [(u64, u64)];
    let cases: [(Ids, Ids); 5] = [
        (&[(4, 4), (5, 5)], &[(4, 4), (5, 5)]),
        (&[(4, 4), (6, 5)], &[(4, 4), (6, 5)]),
        (&[(4, 4), (5, 5), (5, 6)], &[(4, 4), (5, 5), (5, 6)]),
        (&[(5, 4)], &[(5, 4)]),
        (&[(5, 6)], &[(4, 4), (5, 5), (5, 6)]),
    ];
    for (appended, expected) in cases {
        let disk = MemoryDisk::new();
        let log = open(&disk).log;
        let mut batch = LogBatch::new();
        batch.restart(region(1), id(3, 3));
        batch.entries(region(1), &entries(4, 4..5, 10));
        batch.entries(region(1), &entries(5, 5..6, 10));
        write(&log, &batch);
        let run: Entries = appended
            .iter()
            .flat_map(|(term, index)| entries(*term, *index..*index + 1, 20).to_vec())
            .collect();
        append(&log, 1, &run);
        let check = |log: &Log| {
            let found = all(log, 1);
            let ids: Vec<_> = found.iter().map(|entry| (entry.term.0, entry.index.0)).collect();
            assert_eq!(ids, expected, "after {appended:?}");
            assert!(run.iter().all(|entry| found.contains(entry)), "payloads are the new ones");
        };
        check(&log);
        check(&open(&crash(&disk)).log);
    }
}

/// Covers 2B-store-clear-meta.
#[test]
fn one_region_is_removed_and_the_other_is_whole() {
    let disk = MemoryDisk::new();
    let log = open(&disk).log;
    for of in [1, 2] {
        let mut batch = LogBatch::new();
        batch.hard_state(region(of), hard_state(of, of, 1));
        batch.entries(region(of), &entries(1, 1..4, 100));
        write(&log, &batch);
    }
    let mut batch = LogBatch::new();
    let peer = PeerId::new(7).expect("not zero");
    batch.tombstone(region(1), peer, Epoch::FIRST);
    write(&log, &batch);
    let check = |log: &Log| {
        let gone = log.region(region(1));
        assert_eq!((gone.last(), gone.hard_state()), (EntryId::ZERO, hard_state(0, 0, 0)));
        assert_eq!(all(log, 2), entries(1, 1..4, 100).to_vec());
        assert_eq!(log.region(region(2)).hard_state(), hard_state(2, 2, 1));
    };
    check(&log);
    check(&open(&crash(&disk)).log);
}

/// Covers 2C-log-gc-worker.
#[test]
fn compaction_to_any_position_drops_exactly_what_is_below() {
    let disk = MemoryDisk::new();
    let options = Options { cache_bytes: 2000, ..SMALL };
    let log = open_with(&disk, options).log;
    for index in 1..=100 {
        append(&log, 1, &entries(1, index..index + 1, 100));
        append(&log, 2, &entries(1, index..index + 1, 10));
    }
    let before = log.status();
    let mut first = 1;
    // Repeated, backwards, and beyond the end.
    for upto in [10, 10, 20, 15, 20, 70, 69, 99, 100, 1000, 5] {
        log.compact(region(1), Index(upto));
        collect_all(&log);
        first = first.max(upto.min(100) + 1);
        let found = log.region(region(1));
        assert_eq!((found.first_index(), found.last()), (Index(first), id(1, 100)));
        let rest = all(&log, 1);
        assert_eq!(rest, entries(1, first..101, 100).to_vec());
        assert_eq!(all(&log, 2).len(), 100, "the other one keeps everything");
    }
    let after = log.status();
    assert!(after.segments_dropped > 2, "{after:?}");
    assert!(after.bytes < before.bytes / 2, "{after:?}");
    let opened = open(&crash(&disk));
    assert_eq!(opened.regions[&region(1)].last, id(1, 100));
    assert_eq!(all(&opened.log, 2), entries(1, 1..101, 10).to_vec());
}

/// Covers 2C-compact-restart.
#[test]
fn entries_left_over_by_a_crash_are_dropped_when_it_is_said_again() {
    let mut disk = MemoryDisk::new();
    let log = open(&disk).log;
    for index in 1..=60 {
        append(&log, 1, &entries(1, index..index + 1, 200));
    }
    // The caller has noted the truncation; the files are as they were.
    log.compact(region(1), Index(50));
    disk = crash(&disk);
    let opened = open(&disk);
    let found = opened.regions[&region(1)];
    assert!(found.start.index < Index(50), "left over: {found:?}");
    opened.log.compact(region(1), Index(50));
    let left = opened.log.region(region(1));
    assert_eq!((left.first_index(), left.term(Index(50))), (Index(51), Ok(Term(1))));
    assert_eq!(all(&opened.log, 1), entries(1, 51..61, 200).to_vec());
    collect_all(&opened.log);
    assert!(opened.log.status().segments <= 3, "{:?}", opened.log.status());
    let opened = open(&crash(&disk));
    assert!(opened.regions[&region(1)].start.index >= Index(50 - 20), "most of it is gone");
    opened.log.compact(region(1), Index(50));
    assert_eq!(all(&opened.log, 1), entries(1, 51..61, 200).to_vec());
}

#[test]
fn more_hard_states_than_fit_into_a_segment_do_not_keep_the_collector_busy() {
    let disk = MemoryDisk::new();
    let log = open(&disk).log;
    for round in 1..4 {
        for of in 1..=500 {
            let mut batch = LogBatch::new();
            batch.hard_state(region(of), hard_state(round, of, 0));
            write(&log, &batch);
        }
        collect_all(&log);
    }
    assert!(log.status().segments_dropped > 10, "{:?}", log.status());
    let opened = open(&crash(&disk));
    for of in 1..=500 {
        assert_eq!(opened.regions[&region(of)].hard_state, hard_state(3, of, 0));
    }
}
