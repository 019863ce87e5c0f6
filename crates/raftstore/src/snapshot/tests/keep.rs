//! What is kept, what is found at a start, and what goes.

use super::*;
use crate::disk::{FileName, OpenMode, Operation};

fn make_file(disk: &MemoryDisk, name: &str, bytes: &[u8]) {
    let name = FileName::new(name).expect("a name");
    let file = disk.open(&name, OpenMode::New).expect("makes a file");
    file.write_at(0, bytes).expect("writes");
}

fn ids(folder: &Folder) -> Vec<Id> {
    folder.list().iter().map(|listed| listed.id).collect()
}

/// Covers 2C-file-exists, OPT-snap-existing: what is complete is found with all it says, and not
/// sent again.
#[test]
fn a_complete_snapshot_is_found_and_used_again() {
    let disk = MemoryDisk::new();
    let chunks = sample_chunks(id(7, 3, 17));
    let folder = open(&disk);
    let first = receive(&folder, &chunks).expect("arrives");
    let totals = first.totals();
    let writes = disk.counters().writes;
    for folder in [&folder, &open(&disk)] {
        match folder.begin(chunks[0].clone(), at(1)).expect("is here") {
            Begun::Present(received) => {
                assert_eq!(*received.meta(), meta(id(7, 3, 17), range("b", "e")));
                assert_eq!(received.totals(), totals);
                assert_eq!(pairs(&received), sample_pairs());
            }
            Begun::Receiving(receiver) => panic!("{receiver:?}"),
        }
    }
    assert_eq!(disk.counters().writes, writes);
}

/// Covers 2C-file-exists, 2C-snapshot-gc: leftovers of a run that ended in the middle, cut off at
/// any byte, under either name.
#[test]
fn what_was_left_half_way_is_removed_at_the_next_start() {
    let chunks = sample_chunks(id(7, 3, 17));
    let whole: Vec<u8> = chunks.iter().flatten().copied().collect();
    for size in 0..whole.len() {
        let disk = MemoryDisk::new();
        make_file(&disk, "7-3-17.snapshot", &whole[..size]);
        make_file(&disk, "9-1-1.receiving", &whole[..size]);
        let folder = open(&disk);
        assert_eq!(folder.list(), [], "{size} of {} bytes", whole.len());
        assert_eq!(names(&disk), [""; 0]);
        let received = receive(&folder, &chunks).expect("is sent again");
        assert_eq!(pairs(&received), sample_pairs());
    }
}

/// Its ends are right, and what they say does not fit what is between them.
#[test]
fn a_file_with_a_hole_is_removed() {
    let chunks = sample_chunks(id(7, 3, 17));
    for missing in 1..chunks.len() - 1 {
        let mut rest = chunks.clone();
        rest.remove(missing);
        let disk = MemoryDisk::new();
        make_file(&disk, "7-3-17.snapshot", &rest.concat());
        assert_eq!(open(&disk).list(), [], "without chunk {missing}");
        assert_eq!(names(&disk), [""; 0]);
    }
}

#[test]
fn a_file_is_what_it_is_called() {
    let whole: Vec<u8> = sample_chunks(id(7, 3, 17)).iter().flatten().copied().collect();
    let disk = MemoryDisk::new();
    make_file(&disk, "7-3-18.snapshot", &whole);
    let foreign =
        ["0-3-17.snapshot", "07-3-17.snapshot", "7-3-17-1.snapshot", "7-3.snapshot", "other"];
    foreign.iter().for_each(|name| make_file(&disk, name, &whole));
    assert_eq!(open(&disk).list(), []);
    assert_eq!(names(&disk), foreign, "what is not called like ours is not touched");
}

/// Covers 2C-snapshot-gc: used, overtaken and forgotten ones go; a fresh one stays.
#[test]
fn what_nobody_needs_goes() {
    let disk = MemoryDisk::new();
    let folder = open(&disk);
    for id in [id(7, 3, 17), id(7, 3, 20), id(8, 1, 1), id(9, 1, 1)] {
        receive(&folder, &sample_chunks(id)).expect("arrives");
    }
    folder.get(id(8, 1, 1)).expect("is here").retire();
    assert_eq!(folder.collect(at(3)).expect("removes"), [id(7, 3, 17), id(8, 1, 1)]);
    assert_eq!(names(&disk), ["7-3-20.snapshot", "9-1-1.snapshot"]);
    assert_eq!(ids(&folder), [id(7, 3, 20), id(9, 1, 1)]);
    assert_eq!(folder.collect(at(3_601)).expect("removes"), []);
    assert_eq!(folder.collect(at(3_602)).expect("removes"), [id(7, 3, 20), id(9, 1, 1)]);
    assert_eq!(names(&disk), [""; 0]);
}

/// Covers OPT-snap-gc-race, 2C-snapshot-gc: never while in use.
#[test]
fn what_is_held_stays() {
    let disk = MemoryDisk::new();
    let folder = open(&disk);
    let received = receive(&folder, &sample_chunks(id(7, 3, 17))).expect("arrives");
    let clone = received.clone();
    received.retire();
    drop(received);
    assert_eq!(folder.collect(at(9_999)).expect("removes"), []);
    assert!(folder.list()[0].is_held);
    drop(clone);
    // Whoever begins to send it now finds it before it can go.
    let Begun::Present(again) =
        folder.begin(sample_chunks(id(7, 3, 17))[0].clone(), at(9_999)).expect("is here")
    else {
        panic!("it was here");
    };
    assert_eq!(folder.collect(at(9_999)).expect("removes"), []);
    // What reads it holds it too.
    let mut reading = again.pairs().expect("opens");
    again.retire();
    drop(again);
    assert_eq!(folder.collect(at(9_999)).expect("removes"), []);
    let read = std::iter::from_fn(|| reading.next_pair().expect("reads"));
    assert_eq!(read.collect::<Vec<_>>(), sample_pairs());
    drop(reading);
    assert_eq!(folder.collect(at(9_999)).expect("removes"), [id(7, 3, 17)]);
    assert_eq!(names(&disk), [""; 0]);
}

#[test]
fn a_snapshot_that_is_being_received_is_none_of_the_collection() {
    let disk = MemoryDisk::new();
    let folder = open(&disk);
    let chunks = sample_chunks(id(7, 3, 17));
    let receiver = begin(&folder, &chunks[0]);
    assert_eq!(folder.collect(at(9_999)).expect("removes"), []);
    assert_eq!(names(&disk), ["7-3-17.receiving"]);
    drop(receiver);
}

#[test]
fn what_could_not_be_removed_is_removed_later() {
    let disk = MemoryDisk::new();
    let folder = open(&disk);
    receive(&folder, &sample_chunks(id(7, 3, 17))).expect("arrives").retire();
    disk.fail_next(Operation::Remove);
    assert!(folder.collect(at(3)).is_err());
    assert_eq!(ids(&folder), [id(7, 3, 17)]);
    assert_eq!(folder.collect(at(3)).expect("removes"), [id(7, 3, 17)]);
}
