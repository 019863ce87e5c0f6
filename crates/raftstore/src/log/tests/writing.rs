//! How writes become durable and visible, what memory holds, and what failures mean.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex};

use bytes::Bytes;
use kiva_base::Epoch;
use kiva_raft::{Change, Entries, Entry, EntryId, Index, MembershipChange, NodeId, Payload, Term};

use super::{SMALL, all, append, collect_all, crash, entries, hard_state, id, open, open_with};
use super::{region, write};
use crate::disk::{Disk, DiskFile, FileName, MemoryDisk, OpenMode, Operation, Space};
use crate::limits::LOG_BATCH_SIZE_MAX;
use crate::log::{Log, LogBatch, LogWriteError, Options};

#[test]
fn nothing_is_seen_before_it_is_durable() {
    let disk = MemoryDisk::new();
    let log = open(&disk).log;
    let mut batch = LogBatch::new();
    batch.entries(region(1), &entries(1, 1..3, 10));
    batch.hard_state(region(1), hard_state(1, 2, 0));
    let before = log.position();
    let written = log.write(&batch).expect("writes");
    let found = log.region(region(1));
    assert_eq!((found.last(), log.position()), (EntryId::ZERO, before));
    log.sync(&written).expect("syncs");
    assert_eq!((found.last(), found.hard_state()), (id(1, 2), hard_state(1, 2, 0)));
    assert_eq!(log.position(), written.end());
}

#[test]
fn one_sync_covers_all_that_was_written_before_it() {
    let disk = MemoryDisk::new();
    let log = open(&disk).log;
    let syncs = disk.counters().syncs;
    let written: Vec<_> = (1..=10)
        .map(|of| {
            let mut batch = LogBatch::new();
            batch.entries(region(of), &entries(1, 1..2, 10));
            log.write(&batch).expect("writes")
        })
        .collect();
    log.sync(&written[3]).expect("syncs");
    assert_eq!(disk.counters().syncs, syncs + 1);
    for written in &written {
        log.sync(written).expect("is durable already");
    }
    assert_eq!(disk.counters().syncs, syncs + 1);
    assert!((1..=10).all(|of| log.region(region(of)).last() == id(1, 1)));
}

/// Covers OPT-group-sync.
#[test]
fn a_hundred_regions_share_one_write_and_one_sync() {
    let disk = MemoryDisk::new();
    let log = open_with(&disk, Options { cache_bytes: 0, ..Options::default() }).log;
    let before = disk.counters();
    let mut batch = LogBatch::new();
    for of in 1..=100 {
        batch.entries(region(of), &entries(1, 1..2, 256));
        batch.hard_state(region(of), hard_state(1, 1, 0));
    }
    write(&log, &batch);
    let after = disk.counters();
    assert_eq!((after.writes - before.writes, after.syncs - before.syncs), (1, 1));
    assert!((1..=100).all(|of| log.region(region(of)).last() == id(1, 1)));
}

#[test]
fn a_batch_is_there_as_a_whole_or_not_at_all() {
    let mut draw = super::model::draws(3);
    for _ in 0..100 {
        let disk = MemoryDisk::new();
        let log = open(&disk).log;
        let mut batch = LogBatch::new();
        for of in 1..5 {
            batch.entries(region(of), &entries(1, 1..3, 300));
        }
        let _ = log.write(&batch).expect("writes");
        let opened = open(&disk.crash(&mut draw));
        let count = opened.regions.len();
        assert!(count == 0 || count == 4, "{count} regions");
    }
}

#[test]
fn a_batch_larger_than_a_segment_gets_a_larger_one() {
    let disk = MemoryDisk::new();
    let log = open(&disk).log;
    append(&log, 1, &entries(1, 1..2, 10));
    append(&log, 1, &entries(1, 2..4, 9000));
    append(&log, 1, &entries(1, 4..5, 10));
    let expected = [entries(1, 1..2, 10), entries(1, 2..4, 9000), entries(1, 4..5, 10)];
    let expected: Vec<Entry> = expected.iter().flat_map(|run| run.to_vec()).collect();
    assert_eq!(all(&log, 1), expected);
    let log = open(&crash(&disk)).log;
    assert_eq!(all(&log, 1), expected);
    log.compact(region(1), Index(4));
    for index in 5..20 {
        append(&log, 1, &entries(1, index..index + 1, 900));
    }
    collect_all(&log);
    assert_eq!(all(&log, 1).len(), 15);
}

#[test]
fn what_is_too_large_for_any_segment_is_refused_and_nothing_happens() {
    let disk = MemoryDisk::new();
    let log = open(&disk).log;
    let payload = Payload::Command(Bytes::from(vec![0; LOG_BATCH_SIZE_MAX / 64]));
    let entry = |index| Entry { index: Index(index), term: Term(1), payload: payload.clone() };
    let mut batch = LogBatch::new();
    batch.entries(region(1), &(1..=65).map(entry).collect());
    let error = log.write(&batch).expect_err("is refused");
    assert!(matches!(error, LogWriteError::TooLarge { .. }), "{error:?}");
    append(&log, 1, &entries(1, 1..2, 10));
    assert_eq!(log.region(region(1)).last(), id(1, 1));
}

#[test]
#[should_panic(expected = "region 1: entries from 4 on, but the log ends at 2")]
fn a_gap_is_a_contradiction() {
    let log = open(&MemoryDisk::new()).log;
    append(&log, 1, &entries(1, 1..3, 10));
    append(&log, 1, &entries(1, 4..5, 10));
}

#[test]
fn every_kind_of_payload_comes_back() {
    let disk = MemoryDisk::new();
    let log = open(&disk).log;
    let node = |id| NodeId::new(id).expect("not zero");
    let changes = vec![Change::AddVoter(node(3)), Change::Remove(node(900))];
    let change = MembershipChange::new(changes, Bytes::from_static(b"why"));
    let payloads = [
        Payload::Empty,
        Payload::Command(Bytes::new()),
        Payload::Membership(Arc::new(change)),
        Payload::Command(Bytes::from(vec![7; 3000])),
    ];
    let entry = |(position, payload): (usize, &Payload)| Entry {
        index: Index(position as u64 + 1),
        term: Term(position as u64 / 2 + 1),
        payload: payload.clone(),
    };
    let written: Entries = payloads.iter().enumerate().map(entry).collect();
    append(&log, 1, &written);
    assert_eq!(all(&log, 1), written.to_vec());
    assert_eq!(all(&open(&crash(&disk)).log, 1), written.to_vec());
}

#[test]
fn the_newest_entries_of_all_regions_share_one_budget() {
    let disk = MemoryDisk::new();
    let weight = 100 + size_of::<Entry>();
    let options = Options { cache_bytes: 4 * weight, ..Options::default() };
    let log = open_with(&disk, options).log;
    for index in 1..=3 {
        append(&log, 1, &entries(1, index..index + 1, 100));
        append(&log, 2, &entries(1, index..index + 1, 100));
    }
    assert_eq!(log.status().cached_bytes, 4 * weight as u64);
    let reads = |of, first| {
        let before = log.status().disk_reads;
        let found = log.region(region(of)).entries(Index(first), Index(4), usize::MAX);
        assert_eq!(found, Ok(entries(1, first..4, 100)));
        log.status().disk_reads - before
    };
    assert_eq!([reads(1, 2), reads(2, 2)], [0, 0]);
    assert_eq!([reads(1, 1), reads(2, 1)], [1, 1], "the oldest went, whoever's they were");
    log.compact(region(1), Index(3));
    assert_eq!(log.status().cached_bytes, 2 * weight as u64);
    append(&log, 2, &entries(2, 2..3, 100));
    assert_eq!(log.status().cached_bytes, weight as u64, "what is replaced is forgotten");
    append(&log, 2, &entries(2, 3..4, 1000));
    assert_eq!(all(&log, 2).len(), 3, "an entry above the budget is read from disk");
}

#[test]
fn entries_in_memory_are_shared_and_those_from_disk_are_parts_of_one_buffer() {
    let disk = MemoryDisk::new();
    let log = open_with(&disk, Options::default()).log;
    let run = entries(1, 1..5, 100);
    append(&log, 1, &run);
    let read = log.region(region(1)).entries(Index(2), Index(4), usize::MAX).expect("reads");
    assert!(std::ptr::eq(&run[1], &read[0]), "a run is handed out as it was written");
    let log = open(&crash(&disk)).log;
    let read = log.region(region(1)).entries(Index(1), Index(5), usize::MAX).expect("reads");
    let bytes = |entry: &Entry| match &entry.payload {
        Payload::Command(bytes) => bytes.as_ptr() as usize,
        _ => panic!("a command was written"),
    };
    assert!(read.windows(2).all(|pair| bytes(&pair[0]) + 100 == bytes(&pair[1])));
}

#[test]
fn a_full_disk_is_final_and_reads_go_on() {
    let disk = MemoryDisk::new();
    let log = open(&disk).log;
    append(&log, 1, &entries(1, 1..3, 100));
    disk.set_capacity(2 * SMALL.segment_size - 1);
    let mut error = None;
    for index in 3..30 {
        let mut batch = LogBatch::new();
        batch.entries(region(1), &entries(1, index..index + 1, 500));
        match log.write(&batch) {
            Ok(written) => log.sync(&written).expect("syncs"),
            Err(found) => {
                error = Some(found);
                break;
            }
        }
    }
    assert!(matches!(error, Some(LogWriteError::Full(_))), "{error:?}");
    let last = log.region(region(1)).last();
    assert!(last.index > Index(3));
    disk.set_capacity(u64::MAX);
    let error = log.write(&LogBatch::new()).expect_err("nothing is accepted any more");
    assert!(matches!(error, LogWriteError::Poisoned(_)), "{error:?}");
    assert!(log.status().is_poisoned);
    assert_eq!(all(&log, 1).len() as u64, last.index.0);
    let opened = open(&crash(&disk));
    assert_eq!(opened.regions[&region(1)].last, last);
}

#[test]
fn a_disk_too_full_to_prepare_a_segment_stops_nobody_yet() {
    let disk = MemoryDisk::new();
    let log = open(&disk).log;
    disk.set_capacity(SMALL.segment_size);
    assert_eq!(log.collect().expect("is no failure"), None);
    append(&log, 1, &entries(1, 1..3, 100));
    disk.set_capacity(u64::MAX);
    assert!(log.collect().expect("prepares").is_some());
}

/// Covers OPT-async-io-error.
#[test]
fn a_failed_sync_is_final_and_what_it_left_is_not_believed() {
    let disk = MemoryDisk::new();
    let log = open(&disk).log;
    append(&log, 1, &entries(1, 1..3, 100));
    let mut batch = LogBatch::new();
    batch.entries(region(1), &entries(1, 3..4, 100));
    let written = log.write(&batch).expect("writes");
    disk.fail_next(Operation::Sync);
    let error = log.sync(&written).expect_err("fails");
    assert!(matches!(error, LogWriteError::Disk(_)), "{error:?}");
    assert_eq!(log.region(region(1)).last(), id(1, 2), "nobody sees it");
    for error in [
        log.sync(&written).expect_err("no second try"),
        log.write(&batch).expect_err("nothing more"),
        log.mark().expect_err("nothing more"),
        log.collect().expect_err("nothing more"),
    ] {
        assert!(matches!(error, LogWriteError::Poisoned(_)), "{error:?}");
    }
    // The process ends, and the next one reads what the system still has in memory. It is written
    // once more before anybody is told of it, because nothing else would bring it to the disk.
    let opened = open(&disk);
    assert_eq!(opened.regions[&region(1)].last, id(1, 3));
    let opened = open(&crash(&disk));
    assert_eq!(opened.regions[&region(1)].last, id(1, 3));
}

#[test]
fn positions_grow_through_segments_crashes_and_restarts() {
    let mut disk = MemoryDisk::new();
    let mut last = open(&disk).position;
    for round in 0..10 {
        let opened = open(&disk);
        assert!(opened.position > last, "opening writes a record");
        for index in 1..4 {
            append(&opened.log, round + 1, &entries(1, index..index + 1, 700));
            assert!(opened.log.position() > last);
            last = opened.log.position();
        }
        collect_all(&opened.log);
        disk = crash(&disk);
    }
}

#[test]
fn an_identity_and_tombstones_outlive_all_segments() {
    let mut disk = MemoryDisk::new();
    let peer = |id| kiva_base::PeerId::new(id).expect("not zero");
    let epoch = Epoch { conf_ver: 3, version: 4 };
    let mut batch = LogBatch::new();
    batch.ident(b"me");
    batch.entries(region(1), &entries(1, 1..3, 10));
    batch.tombstone(region(1), peer(9), epoch);
    batch.tombstone(region(2), peer(8), epoch);
    let log = open(&disk).log;
    write(&log, &batch);
    assert_eq!(log.region(region(1)).last(), EntryId::ZERO);
    assert!(log.forget(region(1)));
    let mut batch = LogBatch::new();
    batch.hard_state(region(1), hard_state(1, 10, 0));
    batch.remove(region(2));
    write(&log, &batch);
    assert!(!log.forget(region(1)), "something is left of it");
    for round in 0..5 {
        let opened = open(&disk);
        for index in round * 5 + 1..round * 5 + 6 {
            append(&opened.log, 3, &entries(1, index..index + 1, 900));
            opened.log.compact(region(3), Index(index));
        }
        collect_all(&opened.log);
        disk = crash(&disk);
    }
    let opened = open(&disk);
    assert_eq!(opened.ident.as_deref(), Some(&b"me"[..]));
    assert_eq!(opened.tombstones.keys().copied().collect::<Vec<_>>(), [region(1)]);
    assert_eq!(opened.tombstones[&region(1)].peer_id_max, peer(9));
    assert_eq!(opened.regions[&region(1)].hard_state, hard_state(1, 10, 0), "a newer peer");
    assert!(!opened.regions.contains_key(&region(2)));
}

/// A disk whose syncs wait until as many are on their way as are wanted.
struct Gate {
    disk: MemoryDisk,
    /// How many threads are inside a sync, and how many are let in before any is let out.
    inside: Arc<(Mutex<u64>, Condvar)>,
    wanted: Arc<AtomicU64>,
    most: Arc<AtomicU64>,
}

struct GateFile {
    file: Arc<dyn DiskFile>,
    inside: Arc<(Mutex<u64>, Condvar)>,
    wanted: Arc<AtomicU64>,
    most: Arc<AtomicU64>,
}

impl Disk for Gate {
    fn open(&self, name: &FileName, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(name, mode)?;
        let (inside, wanted) = (Arc::clone(&self.inside), Arc::clone(&self.wanted));
        Ok(Arc::new(GateFile { file, inside, wanted, most: Arc::clone(&self.most) }))
    }

    fn rename(&self, from: &FileName, to: &FileName) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &FileName) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn list(&self) -> io::Result<Vec<FileName>> {
        self.disk.list()
    }

    fn sync_names(&self) -> io::Result<()> {
        self.disk.sync_names()
    }

    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }
}

impl DiskFile for GateFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        let (count, changed) = &*self.inside;
        let mut inside = count.lock().expect("nobody panics");
        *inside += 1;
        self.most.fetch_max(*inside, Ordering::SeqCst);
        changed.notify_all();
        while *inside < self.wanted.load(Ordering::SeqCst) {
            inside = changed.wait(inside).expect("nobody panics");
        }
        self.wanted.store(0, Ordering::SeqCst);
        drop(inside);
        let synced = self.file.sync();
        *count.lock().expect("nobody panics") -= 1;
        synced
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        self.file.allocate(size)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.file.truncate(size)
    }
}

#[test]
fn two_syncs_may_be_on_their_way_and_never_three() {
    let disk = MemoryDisk::new();
    let gate = Gate {
        disk: disk.clone(),
        inside: Arc::default(),
        wanted: Arc::default(),
        most: Arc::default(),
    };
    let (wanted, most) = (Arc::clone(&gate.wanted), Arc::clone(&gate.most));
    let log = Log::open(Arc::new(gate), Options::default()).expect("opens").log;
    most.store(0, Ordering::SeqCst);
    // Nobody is let out before two are in: with one at a time this test would never end.
    wanted.store(2, Ordering::SeqCst);
    let barrier = Barrier::new(4);
    std::thread::scope(|scope| {
        for of in 1..=4 {
            let (log, barrier) = (&log, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for index in 1..=50 {
                    append(log, of, &entries(1, index..index + 1, 10));
                    let found = log.region(region(of));
                    assert_eq!(found.last(), id(1, index), "it is seen once it is synced");
                }
            });
        }
    });
    assert_eq!(most.load(Ordering::SeqCst), 2);
    let opened = open_with(&crash(&disk), Options::default());
    assert!((1..=4).all(|of| opened.regions[&region(of)].last == id(1, 50)));
}

#[test]
fn readers_writers_and_the_collector_get_along() {
    let disk = MemoryDisk::new();
    let log = open(&disk).log;
    const LAST: u64 = 400;
    let is_over = AtomicBool::new(false);
    let is_done = || is_over.load(Ordering::SeqCst);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for index in 1..=LAST {
                for of in 1..=2 {
                    append(&log, of, &entries(1, index..index + 1, 200));
                }
                log.compact(region(1), Index(index.saturating_sub(20)));
                log.compact(region(2), Index(index.saturating_sub(60)));
            }
            is_over.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            while !is_done() {
                if log.collect().expect("collects").is_none() {
                    std::thread::yield_now();
                }
            }
        });
        scope.spawn(|| {
            let found = log.region(region(2));
            while !is_done() {
                let (first, end) = (found.first_index(), found.last().index.next());
                if first >= end {
                    continue;
                }
                match found.entries(first, end, usize::MAX) {
                    Ok(read) => assert_eq!(read, entries(1, first.0..end.0, 200)),
                    Err(kiva_raft::LogError::Compacted { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    });
    collect_all(&log);
    assert!(log.status().segments_dropped > 10, "{:?}", log.status());
    let opened = open(&crash(&disk));
    assert!((1..=2).all(|of| opened.regions[&region(of)].last == id(1, LAST)));
}
