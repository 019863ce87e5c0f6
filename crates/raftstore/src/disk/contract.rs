//! What both disks promise while nothing breaks.

use std::io::ErrorKind;
use std::sync::Arc;

use super::{Counters, Disk, DiskFile, FileDisk, FileName, MemoryDisk, OpenMode};

fn name(text: &str) -> FileName {
    FileName::new(text).expect("a name")
}

fn on_both(check: impl Fn(&dyn Disk)) {
    check(&MemoryDisk::new());
    let folder = tempfile::tempdir().expect("a folder");
    check(&FileDisk::open(folder.path()).expect("opens"));
}

fn make(disk: &dyn Disk, text: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let file = disk.open(&name(text), OpenMode::New).expect("makes a file");
    file.write_at(0, bytes).expect("writes");
    file
}

fn read(file: &dyn DiskFile) -> Vec<u8> {
    let mut bytes = vec![0; file.size().expect("has a size") as usize];
    file.read_at(0, &mut bytes).expect("reads");
    bytes
}

fn names(disk: &dyn Disk) -> Vec<String> {
    disk.list().expect("lists").iter().map(FileName::to_string).collect()
}

#[test]
fn what_is_written_is_read_by_every_handle() {
    on_both(|disk| {
        let first = make(disk, "a", b"abcdef");
        let second = disk.open(&name("a"), OpenMode::Existing).expect("opens");
        first.write_at(2, b"XY").expect("writes");
        assert_eq!(read(&*second), b"abXYef");
        let mut two = [0; 2];
        second.read_at(3, &mut two).expect("reads");
        assert_eq!(&two, b"Ye");
        first.sync().expect("syncs");
        disk.sync_names().expect("syncs");
        assert_eq!(read(&*second), b"abXYef");
    });
}

#[test]
fn writes_cross_sectors_and_leave_zeros_behind_the_end() {
    on_both(|disk| {
        let file = make(disk, "a", b"a");
        let long: Vec<u8> = (0..2_000).map(|i| i as u8 | 1).collect();
        file.write_at(700, &long).expect("writes");
        let mut expected = vec![0; 2_700];
        expected[0] = b'a';
        expected[700..].copy_from_slice(&long);
        assert_eq!(read(&*file), expected);
        file.write_at(2_700, &[]).expect("writes nothing");
        file.write_at(9_000, &[]).expect("writes nothing");
        assert_eq!(file.size().expect("has a size"), 2_700);
    });
}

#[test]
fn a_read_behind_the_end_is_an_error() {
    on_both(|disk| {
        let file = make(disk, "a", b"abc");
        for (offset, size) in [(0, 4), (3, 1), (100, 1), (1 << 40, 8)] {
            let error = file.read_at(offset, &mut vec![0; size]).expect_err("too far");
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        }
        file.read_at(3, &mut []).expect("reads nothing");
    });
}

#[test]
fn room_is_zeros_and_only_grows() {
    on_both(|disk| {
        let file = make(disk, "a", b"abc");
        file.allocate(1_000).expect("allocates");
        file.allocate(5).expect("stays");
        let mut expected = b"abc".to_vec();
        expected.resize(1_000, 0);
        assert_eq!(read(&*file), expected);
    });
}

#[test]
fn what_is_cut_off_is_gone() {
    on_both(|disk| {
        let file = make(disk, "a", &[7; 2_000]);
        file.truncate(3_000).expect("stays");
        assert_eq!(file.size().expect("has a size"), 2_000);
        file.truncate(700).expect("truncates");
        file.allocate(1_500).expect("allocates");
        let mut expected = vec![7; 700];
        expected.resize(1_500, 0);
        assert_eq!(read(&*file), expected);
    });
}

#[test]
fn a_new_file_must_be_new_and_an_existing_one_exist() {
    on_both(|disk| {
        make(disk, "a", b"");
        let kind = |text, mode| disk.open(&name(text), mode).err().expect("refused").kind();
        assert_eq!(kind("a", OpenMode::New), ErrorKind::AlreadyExists);
        assert_eq!(kind("b", OpenMode::Existing), ErrorKind::NotFound);
        let missing = name("b");
        assert_eq!(disk.remove(&missing).expect_err("missing").kind(), ErrorKind::NotFound);
        let error = disk.rename(&missing, &name("c")).expect_err("missing");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(names(disk), ["a"]);
    });
}

#[test]
fn names_are_listed_in_order_and_change() {
    on_both(|disk| {
        for text in ["c", "a", "b"] {
            make(disk, text, text.as_bytes());
        }
        assert_eq!(names(disk), ["a", "b", "c"]);
        disk.rename(&name("c"), &name("a")).expect("renames");
        assert_eq!(names(disk), ["a", "b"]);
        let renamed = disk.open(&name("a"), OpenMode::Existing).expect("opens");
        assert_eq!(read(&*renamed), b"c");
        disk.rename(&name("a"), &name("a")).expect("changes nothing");
        disk.remove(&name("b")).expect("removes");
        assert_eq!(names(disk), ["a"]);
        make(disk, "b", b"another");
    });
}

#[test]
fn open_files_survive_their_names() {
    on_both(|disk| {
        let removed = make(disk, "a", b"removed");
        let replaced = make(disk, "b", b"replaced");
        disk.remove(&name("a")).expect("removes");
        make(disk, "c", b"new");
        disk.rename(&name("c"), &name("b")).expect("renames");
        disk.sync_names().expect("syncs");
        removed.write_at(7, b"!").expect("writes");
        removed.sync().expect("syncs");
        assert_eq!(read(&*removed), b"removed!");
        assert_eq!(read(&*replaced), b"replaced");
        assert_eq!(names(disk), ["b"]);
    });
}

#[test]
fn room_is_told() {
    on_both(|disk| {
        let space = disk.space().expect("has room");
        assert!(space.free <= space.total && space.free > 0, "{space:?}");
    });
}

#[test]
fn work_is_counted() {
    let work = |disk: &dyn Disk| {
        let file = make(disk, "a", b"abc");
        file.write_at(3, b"de").expect("writes");
        file.sync().expect("syncs");
        disk.sync_names().expect("syncs");
        file.sync().expect("syncs");
    };
    let expected = Counters { writes: 2, written_bytes: 5, syncs: 2, name_syncs: 1 };
    let memory = MemoryDisk::new();
    work(&memory);
    assert_eq!(memory.counters(), expected);
    let folder = tempfile::tempdir().expect("a folder");
    let files = FileDisk::open(folder.path()).expect("opens");
    work(&files);
    assert_eq!(files.counters(), expected);
}
