//! What a crash leaves, and each way to break.

use std::collections::BTreeSet;

use super::*;

fn name(text: &str) -> FileName {
    FileName::new(text).expect("a name")
}

fn names(disk: &MemoryDisk) -> Vec<String> {
    disk.list().expect("lists").iter().map(FileName::to_string).collect()
}

fn make(disk: &MemoryDisk, text: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let file = disk.open(&name(text), OpenMode::New).expect("makes a file");
    file.write_at(0, bytes).expect("writes");
    file
}

/// A file that survives every crash.
fn make_durable(disk: &MemoryDisk, text: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let file = make(disk, text, bytes);
    file.sync().expect("syncs");
    disk.sync_names().expect("syncs");
    file
}

fn read(disk: &MemoryDisk, text: &str) -> Vec<u8> {
    let file = disk.open(&name(text), OpenMode::Existing).expect("opens");
    let mut bytes = vec![0; file.size().expect("has a size") as usize];
    file.read_at(0, &mut bytes).expect("reads");
    bytes
}

/// Nothing that was not synced survives.
fn worst(disk: &MemoryDisk) -> MemoryDisk {
    disk.crash(&mut |_| 0)
}

/// Everything survives.
fn best(disk: &MemoryDisk) -> MemoryDisk {
    disk.crash(&mut |count| count - 1)
}

/// Every crash there can be.
fn all(disk: &MemoryDisk) -> Vec<MemoryDisk> {
    let mut found = Vec::new();
    let mut path: Vec<(usize, usize)> = Vec::new();
    loop {
        let mut depth = 0;
        found.push(disk.crash(&mut |count| {
            if depth == path.len() {
                path.push((0, count));
            }
            depth += 1;
            path[depth - 1].0
        }));
        while path.last().is_some_and(|(drawn, count)| drawn + 1 == *count) {
            path.pop();
        }
        match path.last_mut() {
            Some((drawn, _)) => *drawn += 1,
            None => return found,
        }
    }
}

/// Four sectors, each filled with one letter.
fn sectors(letters: &str) -> Vec<u8> {
    letters.bytes().flat_map(|letter| [letter; contents::SECTOR_SIZE]).collect()
}

/// The letters that a file consists of.
fn letters(bytes: &[u8]) -> String {
    let letter = |sector: &[u8]| {
        assert!(sector.iter().all(|byte| *byte == sector[0]), "a torn sector");
        char::from(if sector[0] == 0 { b'0' } else { sector[0] })
    };
    bytes.chunks(contents::SECTOR_SIZE).map(letter).collect()
}

#[test]
fn what_was_synced_survives_every_crash() {
    let disk = MemoryDisk::new();
    make_durable(&disk, "a", b"abc");
    for found in all(&disk) {
        assert_eq!(read(&found, "a"), b"abc");
    }
}

#[test]
fn unsynced_sectors_survive_each_by_itself() {
    let disk = MemoryDisk::new();
    let file = make_durable(&disk, "a", &sectors("ABCD"));
    file.write_at(512, &sectors("XY")).expect("writes");
    file.write_at(1024, &sectors("Z")).expect("writes");
    let found: BTreeSet<_> = all(&disk).iter().map(|disk| letters(&read(disk, "a"))).collect();
    let expected = ["ABCD", "ABYD", "ABZD", "AXCD", "AXYD", "AXZD"];
    assert_eq!(found, expected.map(String::from).into());
    assert_eq!(letters(&read(&worst(&disk), "a")), "ABCD");
    assert_eq!(letters(&read(&best(&disk), "a")), "AXZD");
}

#[test]
fn a_file_that_grew_may_have_holes_and_a_torn_end() {
    let disk = MemoryDisk::new();
    let file = make_durable(&disk, "a", &sectors("A"));
    file.write_at(512, &sectors("BC")).expect("writes");
    let found: BTreeSet<_> = all(&disk).iter().map(|disk| letters(&read(disk, "a"))).collect();
    let expected = ["A", "A00", "A0C", "AB0", "ABC"];
    assert_eq!(found, expected.map(String::from).into());
}

#[test]
fn a_cut_may_come_undone() {
    let cut = || {
        let disk = MemoryDisk::new();
        let file = make_durable(&disk, "a", &sectors("AB"));
        file.truncate(512).expect("truncates");
        (disk, file)
    };
    let (disk, _) = cut();
    let found: BTreeSet<_> = all(&disk).iter().map(|disk| letters(&read(disk, "a"))).collect();
    assert_eq!(found, ["A", "A0", "AB"].map(String::from).into());
    let (disk, file) = cut();
    file.sync().expect("syncs");
    assert_eq!(letters(&read(&worst(&disk), "a")), "A");
}

#[test]
fn a_sync_covers_its_file_and_no_name() {
    let replaced = || {
        let disk = MemoryDisk::new();
        make_durable(&disk, "a", b"old");
        make(&disk, "b", b"new").sync().expect("syncs");
        disk.rename(&name("b"), &name("a")).expect("renames");
        disk
    };
    let disk = replaced();
    let found: BTreeSet<_> = all(&disk).iter().map(|disk| (names(disk), read(disk, "a"))).collect();
    let expected: [(&[&str], &[u8]); 3] =
        [(&["a"], b"old"), (&["a", "b"], b"old"), (&["a"], b"new")];
    let expected = expected.map(|(names, bytes)| {
        (names.iter().map(|name| (*name).to_owned()).collect(), bytes.to_owned())
    });
    assert_eq!(found, expected.into());
    let disk = replaced();
    disk.sync_names().expect("syncs");
    assert_eq!(read(&worst(&disk), "a"), b"new");
}

#[test]
fn a_name_may_survive_before_the_bytes() {
    let disk = MemoryDisk::new();
    make(&disk, "a", b"bytes");
    disk.sync_names().expect("syncs");
    assert_eq!(read(&worst(&disk), "a"), b"");
}

#[test]
fn a_removal_may_come_undone() {
    let removed = || {
        let disk = MemoryDisk::new();
        make_durable(&disk, "a", b"abc");
        disk.remove(&name("a")).expect("removes");
        disk
    };
    let disk = removed();
    assert_eq!(read(&worst(&disk), "a"), b"abc");
    assert_eq!(names(&best(&disk)), [""; 0]);
    let disk = removed();
    disk.sync_names().expect("syncs");
    assert_eq!(names(&worst(&disk)), [""; 0]);
}

#[test]
fn nothing_works_after_a_crash_but_what_was_found() {
    let disk = MemoryDisk::new();
    let file = make_durable(&disk, "a", b"abc");
    let found = worst(&disk);
    assert!(disk.is_crashed() && !found.is_crashed());
    assert!(file.write_at(0, b"x").is_err());
    assert!(file.read_at(0, &mut [0]).is_err());
    assert!(file.sync().is_err() && file.size().is_err());
    assert!(disk.list().is_err() && disk.sync_names().is_err() && disk.space().is_err());
    assert!(disk.open(&name("a"), OpenMode::Existing).is_err());
    drop(file);
    assert_eq!(read(&found, "a"), b"abc");
}

#[test]
fn a_crash_can_be_had_at_every_operation() {
    let work = |disk: &MemoryDisk| -> io::Result<()> {
        let file = disk.open(&name("a"), OpenMode::New)?;
        file.allocate(8)?;
        file.write_at(0, b"abc")?;
        file.truncate(3)?;
        file.sync()?;
        disk.rename(&name("a"), &name("b"))?;
        disk.sync_names()?;
        disk.remove(&name("b"))
    };
    let whole = MemoryDisk::new();
    work(&whole).expect("works");
    assert_eq!(whole.operations(), 8);
    for count in 0..8 {
        let disk = MemoryDisk::new();
        disk.crash_after(count);
        assert!(work(&disk).is_err(), "{count}");
        assert!(disk.is_crashed());
        assert_eq!(disk.operations(), count);
        // Before the names are synced everything may be lost, and then nothing but the removal.
        let expected: &[&str] = if count < 7 { &[] } else { &["b"] };
        assert_eq!(names(&worst(&disk)), expected, "{count}");
        // The operation that was interrupted may have happened.
        let expected: &[&str] = match count {
            0..5 => &["a"],
            5..7 => &["b"],
            _ => &[],
        };
        assert_eq!(names(&best(&disk)), expected, "{count}");
    }
}

#[test]
fn each_operation_fails_once_when_told() {
    let disk = MemoryDisk::new();
    disk.fail_next(Operation::Create);
    assert!(disk.open(&name("a"), OpenMode::New).is_err());
    assert_eq!(names(&disk), [""; 0]);
    let file = make_durable(&disk, "a", b"abcd");
    disk.fail_next(Operation::Write);
    assert!(file.write_at(0, b"wxyz").is_err());
    assert_eq!(read(&disk, "a"), b"wxcd");
    for operation in [Operation::Allocate, Operation::Truncate, Operation::Read] {
        disk.fail_next(operation);
    }
    assert!(file.allocate(100).is_err() && file.truncate(0).is_err());
    assert!(file.read_at(0, &mut [0]).is_err());
    assert_eq!(file.size().expect("has a size"), 4);
    for operation in [Operation::Rename, Operation::Remove, Operation::SyncNames] {
        disk.fail_next(operation);
    }
    assert!(disk.rename(&name("a"), &name("b")).is_err());
    assert!(disk.remove(&name("a")).is_err() && disk.sync_names().is_err());
    assert_eq!(names(&disk), ["a"]);
    disk.rename(&name("a"), &name("b")).expect("works again");
    assert_eq!(names(&disk), ["b"]);
}

#[test]
fn what_a_failed_sync_left_behind_no_later_one_saves() {
    let disk = MemoryDisk::new();
    let file = make_durable(&disk, "a", &sectors("AB"));
    file.write_at(0, &sectors("XY")).expect("writes");
    disk.fail_next(Operation::Sync);
    assert!(file.sync().is_err());
    assert_eq!(letters(&read(&disk, "a")), "XY");
    file.write_at(512, &sectors("Z")).expect("writes");
    file.sync().expect("syncs");
    assert_eq!(letters(&read(&worst(&disk), "a")), "AZ");
}

#[test]
fn a_full_disk_takes_what_fits() {
    let disk = MemoryDisk::new();
    disk.set_capacity(1_000);
    let file = make(&disk, "a", &[1; 400]);
    assert_eq!(disk.space().expect("has room"), Space { total: 1_000, free: 600 });
    let error = file.write_at(300, &[2; 800]).expect_err("too much");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.size().expect("has a size"), 1_000);
    file.write_at(0, &[3; 1_000]).expect("there is room where there was");
    let other = make(&disk, "b", b"");
    assert_eq!(other.allocate(1).expect_err("full").kind(), io::ErrorKind::StorageFull);
    disk.remove(&name("a")).expect("removes");
    assert_eq!(disk.space().expect("has room").free, 0, "it is still open");
    drop(file);
    other.allocate(1_000).expect("there is room again");
}

#[test]
fn a_flipped_bit_stays_through_a_crash() {
    let disk = MemoryDisk::new();
    let file = make_durable(&disk, "a", b"abc");
    file.write_at(1, b"X").expect("writes");
    disk.flip_bit(&name("a"), 2, 0);
    assert_eq!(read(&disk, "a"), b"aXb");
    assert_eq!(read(&worst(&disk), "a"), b"abb");
}

#[test]
fn files_that_nobody_can_find_are_forgotten() {
    let disk = MemoryDisk::new();
    for _ in 0..3 {
        make_durable(&disk, "a", b"abc");
        disk.remove(&name("a")).expect("removes");
    }
    assert_eq!(disk.lock().files.len(), 1, "the last removal may come undone");
    disk.sync_names().expect("syncs");
    assert_eq!(disk.lock().files.len(), 0);
}
