//! What people are shown of a log that lies on a disk.

use kiva_base::{Epoch, PeerId};

use super::{append, collect_all, crash, entries, hard_state, id, open, region, write};
use crate::disk::{Disk, MemoryDisk, OpenMode};
use crate::limits::LOG_FORMAT;
use crate::log::segment::file_name;
use crate::log::{Inspection, Log, LogBatch, LogOpenError, inspect};

fn shown(disk: &MemoryDisk) -> (String, Inspection) {
    let mut text = String::new();
    let seen = inspect(disk, &mut |record| text += &format!("{record}\n")).expect("reads");
    (text, seen)
}

#[test]
fn every_record_is_shown_with_what_it_says() {
    let disk = MemoryDisk::new();
    let log = open(&disk).log;
    let mut batch = LogBatch::new();
    batch.ident(b"store 1");
    batch.restart(region(1), id(5, 5));
    batch.hard_state(region(1), hard_state(6, 3, 5));
    batch.entries(region(1), &entries(6, 6..9, 100));
    write(&log, &batch);
    let mut batch = LogBatch::new();
    let peer = PeerId::new(9).expect("not zero");
    batch.tombstone(region(2), peer, Epoch { conf_ver: 3, version: 4 });
    write(&log, &batch);
    let position = log.position();
    let (text, seen) = shown(&disk);
    let expected = "\
segment 1 at 64: position 64, 0 bytes, durable up to 64, incarnation 1, mark
segment 1 at 104: position 104, 300 bytes, durable up to 104, incarnation 1
  identity of 7 bytes
  region 1 #1: restarts behind 5/5
  region 1 #2: term 6 vote 3 commit 5
  region 1 #3: entries 6/6..=6/8 of 300 bytes
segment 1 at 504: position 504, 0 bytes, durable up to 504, incarnation 1
  region 2 #0: removed
  region 2: peers up to 9 are gone, epoch 3.4
";
    assert_eq!(text, expected);
    let expected = Inspection {
        segments: 1,
        records: 3,
        entries: 3,
        end: position,
        vouched: crate::log::Position(504),
        ..Inspection::default()
    };
    assert_eq!(seen, expected);
}

#[test]
fn what_is_bad_is_shown_as_such() {
    let disk = MemoryDisk::new();
    let log = open(&disk).log;
    for index in 1..=60 {
        append(&log, 1, &entries(1, index..index + 1, 200));
    }
    log.mark().expect("marks");
    let disk = crash(&disk);
    disk.flip_bit(&file_name(2), 104 + 57 + 20, 0);
    disk.flip_bit(&file_name(2), 64 + 300 * 3, 0);
    disk.flip_bit(&file_name(2), 64 + 300 * 4 + 10, 0);
    let (text, seen) = shown(&disk);
    let damaged = text.matches("DAMAGED").count() as u64;
    assert_eq!(damaged, seen.bad_entries);
    assert_eq!(damaged + seen.unreadable.len() as u64, 3, "{text}{seen:?}");
    assert_eq!(seen.entries, 60 - seen.unreadable.len() as u64);
    assert!(seen.segments > 2);
}

#[test]
fn looking_changes_nothing() {
    let disk = MemoryDisk::new();
    let log = open(&disk).log;
    append(&log, 1, &entries(1, 1..9, 500));
    collect_all(&log);
    let before = (disk.operations(), disk.list().expect("lists"));
    let (_, seen) = shown(&disk);
    assert_eq!((disk.operations(), disk.list().expect("lists")), before);
    assert_eq!(seen.end, log.position());
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let disk = MemoryDisk::new();
    drop(open(&disk));
    let file = disk.open(&file_name(1), OpenMode::Existing).expect("is there");
    file.write_at(7, &[LOG_FORMAT + 1]).expect("writes");
    let before = disk.operations();
    let opened = Log::open(std::sync::Arc::new(disk.clone()), super::SMALL);
    let error = opened.err().expect("is refused");
    assert!(matches!(error, LogOpenError::Newer { format: 2, .. }), "{error:?}");
    assert_eq!(error.to_string(), "0000000001.log has format 2, newer than 1");
    assert_eq!(disk.operations(), before, "nothing was changed");
}
