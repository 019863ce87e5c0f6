//! What was durable and cannot be read is said to be lost, by region and index, and never passed
//! over. What nobody vouches for is the torn end of a crash.

use kiva_raft::{Index, LogError};

use super::model::draws;
use super::{SMALL, all, append, collect_all, crash, entries, hard_state, id, open, region, write};
use crate::disk::{Disk, DiskFile, MemoryDisk, OpenMode, Operation};
use crate::log::segment::file_name;
use crate::log::{Damage, InspectedItem, InspectedRecord, LogBatch, Lost, inspect};

/// A log in one segment: two regions in every batch, and a third one in the first only. Everything
/// is vouched for.
fn written() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let opened = open(&disk);
    for index in 1..=4 {
        let mut batch = LogBatch::new();
        batch.entries(region(1), &entries(1, index..index + 1, 50));
        batch.hard_state(region(2), hard_state(index, 1, 0));
        batch.entries(region(2), &entries(1, index..index + 1, 50));
        if index == 1 {
            batch.hard_state(region(3), hard_state(9, 3, 0));
        }
        write(&opened.log, &batch);
    }
    assert!(opened.log.mark().expect("marks"));
    assert!(!opened.log.mark().expect("has nothing to do"));
    crash(&disk)
}

fn records(disk: &MemoryDisk) -> Vec<InspectedRecord> {
    let mut records = Vec::new();
    inspect(disk, &mut |record| records.push(record)).expect("reads");
    records
}

/// The record in which region 1 has this entry.
fn record_of(disk: &MemoryDisk, index: u64) -> InspectedRecord {
    let holds = |record: &InspectedRecord| {
        record.items.iter().any(|item| match item {
            InspectedItem::Region { region: of, runs, .. } => {
                *of == region(1) && runs.iter().any(|run| run.first.index == Index(index))
            }
            _ => false,
        })
    };
    records(disk).into_iter().find(holds).expect("it was written")
}

#[test]
fn a_flipped_bit_in_a_payload_costs_one_entry() {
    let disk = written();
    // The payloads are at the end of the record: region 1's, then region 2's.
    let next = record_of(&disk, 4);
    disk.flip_bit(&file_name(1), next.offset - 100, 3);
    let opened = open(&disk);
    let damage = Damage { index: Index(3), is_state_lost: false };
    assert_eq!(opened.damage.into_iter().collect::<Vec<_>>(), [(region(1), damage)]);
    assert_eq!(opened.lost, []);
    let found = opened.log.region(region(1));
    assert_eq!(found.last(), id(1, 4), "the log is as long as it was");
    assert_eq!(found.term(Index(3)), Ok(kiva_raft::Term(1)), "which entry it was is known");
    let lost = Err(LogError::Damaged { index: Index(3) });
    assert_eq!(found.entries(Index(3), Index(4), usize::MAX), lost);
    let before = found.entries(Index(1), Index(5), usize::MAX).expect("reads up to it");
    assert_eq!(before, entries(1, 1..3, 50));
    assert_eq!(found.entries(Index(4), Index(5), usize::MAX), Ok(entries(1, 4..5, 50)));
    assert_eq!(all(&opened.log, 2).len(), 4);
}

#[test]
fn a_flipped_bit_in_a_directory_costs_the_regions_that_were_in_it_or_may_have_been() {
    let disk = written();
    let record = record_of(&disk, 3);
    disk.flip_bit(&file_name(1), record.offset + 45, 0);
    let opened = open(&disk);
    let end = Some(record_of(&disk, 4).offset);
    assert_eq!(opened.lost, [Lost { segment: 1, start: record.offset, end }]);
    let lost = |index| Damage { index: Index(index), is_state_lost: true };
    // Regions 1 and 2 have a number missing. Region 3 was not heard of since.
    let expected = [(region(1), lost(3)), (region(2), lost(3)), (region(3), lost(1))];
    assert_eq!(opened.damage.into_iter().collect::<Vec<_>>(), expected);
    let found = opened.log.region(region(1));
    assert_eq!(found.last(), id(1, 4), "it does not pass for a shorter log");
    assert_eq!(found.term(Index(3)), Err(LogError::Damaged { index: Index(3) }));
    assert_eq!(opened.regions[&region(3)].hard_state, hard_state(9, 3, 0));
}

#[test]
fn regions_that_were_heard_of_afterwards_are_known_to_be_whole() {
    let disk = written();
    let opened = open(&disk);
    append(&opened.log, 5, &entries(1, 1..2, 50));
    let offset = records(&disk).last().expect("the last one").offset;
    append(&opened.log, 1, &entries(1, 5..6, 50));
    append(&opened.log, 2, &entries(1, 5..6, 50));
    let mut batch = LogBatch::new();
    batch.hard_state(region(3), hard_state(10, 3, 0));
    batch.entries(region(6), &entries(1, 1..2, 5));
    write(&opened.log, &batch);
    let disk = crash(&disk);
    disk.flip_bit(&file_name(1), offset + 41, 0);
    let opened = open(&disk);
    assert_eq!((opened.lost.len(), opened.damage.len()), (1, 0));
    assert!(!opened.regions.contains_key(&region(5)), "nobody can know of it: see `lost`");
}

#[test]
fn damage_is_remembered_until_the_region_starts_again() {
    let disk = written();
    disk.flip_bit(&file_name(1), record_of(&disk, 3).offset + 45, 0);
    let lost = Damage { index: Index(3), is_state_lost: true };
    let mut disk = disk;
    for _ in 0..3 {
        let opened = open(&disk);
        assert_eq!(opened.damage[&region(1)], lost);
        // Also when the segment is gone in which it was.
        for index in 1..40 {
            append(&opened.log, 7, &entries(1, index..index + 1, 300));
        }
        let mut batch = LogBatch::new();
        batch.remove(region(7));
        write(&opened.log, &batch);
        collect_all(&opened.log);
        opened.log.forget(region(7));
        assert_eq!(opened.log.region(region(1)).damage(), Some(lost));
        disk = crash(&disk);
    }
    let opened = open(&disk);
    assert!(opened.lost.is_empty(), "the segment is gone: {:?}", opened.lost);
    let mut batch = LogBatch::new();
    batch.restart(region(1), id(2, 9));
    batch.remove(region(2));
    write(&opened.log, &batch);
    assert_eq!(opened.log.region(region(1)).damage(), None);
    let opened = open(&crash(&disk));
    assert_eq!(opened.damage.keys().copied().collect::<Vec<_>>(), [region(3)]);
    assert_eq!(opened.regions[&region(1)].last, id(2, 9));
}

#[test]
fn the_footer_of_a_segment_does_not_hide_what_was_lost_in_it() {
    let disk = written();
    disk.flip_bit(&file_name(1), record_of(&disk, 3).offset + 45, 0);
    let log = open(&disk).log;
    for index in 1..20 {
        append(&log, 7, &entries(1, index..index + 1, 500));
    }
    assert!(log.status().segments > 2, "the segment has its footer: {:?}", log.status());
    let opened = open(&crash(&disk));
    assert_eq!(opened.lost, [], "the footer does not tell of it");
    let lost = |index| Damage { index: Index(index), is_state_lost: true };
    let expected = [(region(1), lost(3)), (region(2), lost(3)), (region(3), lost(1))];
    assert_eq!(opened.damage.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn what_is_replaced_or_compacted_needs_no_healing() {
    for is_replaced in [true, false] {
        let disk = written();
        let next = record_of(&disk, 4).offset;
        disk.flip_bit(&file_name(1), next - 100, 3);
        let opened = open(&disk);
        if is_replaced {
            append(&opened.log, 1, &entries(2, 3..4, 10));
        } else {
            opened.log.compact(region(1), Index(3));
        }
        assert_eq!(opened.log.region(region(1)).damage(), None);
        let rest = all(&opened.log, 1);
        assert_eq!(rest.last().map(|last| last.index), Some(Index(4 - u64::from(is_replaced))));
    }
}

#[test]
fn a_bad_record_that_nobody_vouches_for_is_cut_with_all_behind_it() {
    let disk = MemoryDisk::new();
    let opened = open(&disk);
    append(&opened.log, 1, &entries(1, 1..3, 50));
    let mut ends = Vec::new();
    for index in 3..6 {
        let mut batch = LogBatch::new();
        batch.entries(region(1), &entries(1, index..index + 1, 600));
        ends.push(opened.log.write(&batch).expect("writes").end());
    }
    // The middle one is torn, the last one is whole.
    let torn = disk.crash(&mut |count| count - 1);
    torn.flip_bit(&file_name(1), ends[0].0 + 200, 1);
    let opened = open(&torn);
    assert!(opened.damage.is_empty());
    assert_eq!(opened.lost, []);
    assert_eq!(opened.regions[&region(1)].last, id(1, 3));
    // What is written over it ends where the last one begins, and still it does not come back.
    let before = opened.position.0;
    append(&opened.log, 2, &entries(1, 1..2, (ends[1].0 - before) as usize - 60));
    assert_eq!(opened.log.position(), ends[1]);
    let opened = open(&crash(&torn));
    assert_eq!(opened.regions[&region(1)].last, id(1, 3));
    assert_eq!(opened.regions[&region(2)].last, id(1, 1));
}

#[test]
fn after_a_mark_a_bad_record_is_damage() {
    for is_marked in [false, true] {
        let disk = MemoryDisk::new();
        let opened = open(&disk);
        append(&opened.log, 1, &entries(1, 1..3, 50));
        if is_marked {
            opened.log.mark().expect("marks");
        }
        let disk = crash(&disk);
        disk.flip_bit(&file_name(1), record_of(&disk, 1).offset + 120, 0);
        let opened = open(&disk);
        assert_eq!(opened.damage.contains_key(&region(1)), is_marked);
        assert_eq!(opened.regions.contains_key(&region(1)), is_marked);
    }
}

/// Fills some segments with entries of two regions.
fn segments() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let opened = open(&disk);
    for index in 1..30 {
        let mut batch = LogBatch::new();
        batch.entries(
            region(1 + index % 2),
            &entries(1, index / 2 + index % 2..index / 2 + index % 2 + 1, 500),
        );
        write(&opened.log, &batch);
    }
    assert!(opened.log.status().segments > 3);
    crash(&disk)
}

#[test]
fn a_full_segment_is_read_by_its_footer_or_without() {
    let disk = segments();
    let whole = open(&crash(&disk));
    let reads = |disk: &MemoryDisk| (all(&open(disk).log, 1), all(&open(disk).log, 2));
    let expected = reads(&crash(&disk));
    assert_eq!(expected.0.len() + expected.1.len(), 29);
    let size = SMALL.segment_size;
    for offset in [size - 20, size - 1, 0, 20, 30] {
        let disk = crash(&disk);
        disk.flip_bit(&file_name(2), offset, 5);
        let opened = open(&crash(&disk));
        assert!(opened.damage.is_empty() && opened.lost.is_empty(), "at {offset}");
        assert_eq!(opened.regions, whole.regions);
        assert_eq!(reads(&crash(&disk)), expected, "at {offset}");
    }
}

#[test]
fn payloads_of_full_segments_are_looked_at_when_they_are_read() {
    let disk = segments();
    disk.flip_bit(&file_name(2), 300, 5);
    let log = open(&disk).log;
    let damaged = (1..=2).find_map(|of| {
        let found = log.region(region(of));
        assert_eq!(found.damage(), None, "only its footer was read");
        let read = |index| found.entries(Index(index), Index(index + 1), usize::MAX);
        (1..=found.last().index.0).find_map(|index| read(index).err()).map(|error| (of, error))
    });
    let Some((of, LogError::Damaged { index })) = damaged else {
        panic!("an entry is damaged: {damaged:?}");
    };
    let damage = Damage { index, is_state_lost: false };
    assert_eq!(log.region(region(of)).damage(), Some(damage));
    // It is not passed for whole when its segment goes.
    for index in 100..150 {
        let mut batch = LogBatch::new();
        batch.restart(region(3), id(1, index - 1));
        batch.entries(region(3), &entries(1, index..index + 1, 900));
        write(&log, &batch);
    }
    collect_all(&log);
    assert!(log.status().segments_dropped > 3, "{:?}", log.status());
    let opened = open(&crash(&disk));
    assert_eq!(opened.damage[&region(of)], damage);
}

#[test]
fn a_missing_segment_is_damage() {
    let disk = segments();
    disk.remove(&file_name(2)).expect("removes");
    let opened = open(&disk);
    assert_eq!(opened.lost, [Lost { segment: 2, start: 0, end: None }]);
    assert!(opened.damage[&region(1)].is_state_lost);
    assert!(opened.damage[&region(2)].is_state_lost);
    let disk = segments();
    disk.remove(&file_name(1)).expect("removes");
    let opened = open(&disk);
    assert_eq!(opened.lost.len(), 1, "nobody said that it may go");
    assert_eq!(opened.damage.len(), 2);
}

#[test]
fn no_bit_can_be_flipped_in_silence() {
    let disk = segments();
    // Vouched for to the end.
    open(&disk).log.mark().expect("marks");
    let disk = crash(&disk);
    let expected = (all(&open(&crash(&disk)).log, 1), all(&open(&crash(&disk)).log, 2));
    let mut draw = draws(5);
    let mut found = 0;
    for _ in 0..600 {
        let disk = crash(&disk);
        let names = disk.list().expect("lists");
        let name = &names[draw(names.len())];
        let file: std::sync::Arc<dyn DiskFile> =
            disk.open(name, OpenMode::Existing).expect("is there");
        let offset = draw(file.size().expect("has a size") as usize) as u64;
        drop(file);
        disk.flip_bit(name, offset, draw(8) as u8);
        let opened = open(&disk);
        for (of, expected) in [(1, &expected.0), (2, &expected.1)] {
            let log = opened.log.region(region(of));
            let read = log.entries(Index(1), Index(expected.len() as u64 + 1), usize::MAX);
            // Either all of it, or a word about what is missing.
            match read {
                Ok(read) if read.len() == expected.len() => assert_eq!(read[..], expected[..]),
                Ok(read) => {
                    found += 1;
                    let next = Index(read.len() as u64 + 1);
                    assert_eq!(read[..], expected[..read.len()]);
                    let lost = log.entries(next, next.next(), usize::MAX);
                    assert_eq!(lost, Err(LogError::Damaged { index: next }));
                    let damage = log.damage().expect("is said");
                    assert!(damage.index <= next, "{damage:?} at {next}");
                }
                Err(LogError::Damaged { .. }) => found += 1,
                Err(error) => {
                    let damage = log.damage().unwrap_or_else(|| panic!("in silence: {error}"));
                    assert!(damage.index <= log.last().index.next());
                    found += 1;
                }
            }
        }
    }
    assert!(found > 200, "only {found} of 600 flips hit something");
}

#[test]
fn a_disk_that_does_not_answer_once_has_lost_nothing() {
    let disk = MemoryDisk::new();
    let log = open(&disk).log;
    append(&log, 1, &entries(1, 1..4, 1500));
    append(&log, 1, &entries(1, 4..6, 1500));
    let read = || log.region(region(1)).entries(Index(1), Index(2), usize::MAX);
    disk.fail_next(Operation::Read);
    assert_eq!(read(), Err(LogError::Damaged { index: Index(1) }));
    assert_eq!(log.region(region(1)).damage(), None);
    assert_eq!(read(), Ok(entries(1, 1..2, 1500)));
    // Nor when what is left of a segment is written again.
    log.compact(region(1), Index(3));
    for index in 6..20 {
        append(&log, 1, &entries(1, index..index + 1, 1500));
        log.compact(region(1), Index(index - 2));
        disk.fail_next(Operation::Read);
        collect_all(&log);
    }
    assert_eq!(log.region(region(1)).damage(), None);
    assert!(log.status().rewritten_bytes > 0, "{:?}", log.status());
}

#[test]
fn any_garbage_opens_or_is_refused() {
    let disk = segments();
    let mut draw = draws(11);
    for round in 0..200 {
        let disk = crash(&disk);
        let names = disk.list().expect("lists");
        for name in &names {
            let file = disk.open(name, OpenMode::Existing).expect("is there");
            let size = file.size().expect("has a size") as usize;
            for _ in 0..draw(6) {
                let at = draw(size);
                let junk: Vec<u8> =
                    (0..draw(200).min(size - at)).map(|_| draw(256) as u8).collect();
                file.write_at(at as u64, &junk).expect("writes");
            }
            if round % 5 == 0 && draw(4) == 0 {
                file.truncate(draw(size) as u64).expect("truncates");
            }
        }
        let opened = open(&disk);
        for of in opened.regions.keys() {
            let log = opened.log.region(*of);
            if log.first_index() <= log.last().index {
                let _ = log.entries(log.first_index(), log.last().index.next(), usize::MAX);
            }
        }
        collect_all(&opened.log);
        append(&opened.log, 9, &entries(1, 1..3, 500));
        let again = open(&crash(&disk));
        assert_eq!(again.regions[&region(9)].last, id(1, 2), "round {round}");
    }
}
