//! What is taken, and what is refused.

use kiva_engine::EngineError;

use super::*;
use crate::disk::{FileName, Operation};

/// Sends `chunks`, which must be refused, and then what was meant, which must arrive.
fn refused(chunks: &[Bytes], what: &str) -> ReceiveError {
    let disk = MemoryDisk::new();
    let folder = open(&disk);
    let error = receive(&folder, chunks).expect_err(what);
    assert_eq!(names(&disk), [""; 0], "{what} left something behind");
    assert_eq!(folder.list(), [], "{what}");
    let received = receive(&folder, &sample_chunks(id(7, 3, 17))).expect("arrives");
    assert_eq!(pairs(&received), sample_pairs());
    error
}

/// Covers 2C-receive-corrupt, OPT-snap-checksum: a byte changed on the way.
#[test]
fn every_changed_byte_is_noticed_and_nothing_stays() {
    let chunks = sample_chunks(id(7, 3, 17));
    for (number, chunk) in chunks.iter().enumerate() {
        for position in 0..chunk.len() {
            let mut changed = chunk.to_vec();
            changed[position] ^= 1 << (position % 8);
            let mut chunks = chunks.clone();
            chunks[number] = changed.into();
            let error = refused(&chunks, &format!("byte {position} of chunk {number}"));
            assert!(matches!(error, ReceiveError::Chunk(_)), "{error}");
        }
    }
}

/// Covers 2C-receive-corrupt: a chunk cut off at any byte, or followed by something.
#[test]
fn every_cut_is_noticed() {
    let chunks = sample_chunks(id(7, 3, 17));
    for (number, chunk) in chunks.iter().enumerate() {
        for size in 0..=chunk.len() {
            let mut changed = chunk[..size].to_vec();
            if size == chunk.len() {
                changed.push(0);
            }
            let mut chunks = chunks.clone();
            chunks[number] = changed.into();
            let error = refused(&chunks, &format!("{size} bytes of chunk {number}"));
            assert!(matches!(error, ReceiveError::Chunk(ChunkError::Size { .. })), "{error}");
        }
    }
}

/// Covers 2C-receive-corrupt: a chunk missing, repeated, or in another's place.
#[test]
fn every_chunk_comes_once_and_in_order() {
    let chunks = sample_chunks(id(7, 3, 17));
    assert!(chunks.len() > 5, "{} chunks", chunks.len());
    for number in 0..chunks.len() {
        let mut missing = chunks.clone();
        missing.remove(number);
        if number + 1 < chunks.len() {
            let error = refused(&missing, &format!("a missing chunk {number}"));
            assert!(matches!(error, ReceiveError::OutOfOrder { .. }), "{error}");
        }
        let mut repeated = chunks.clone();
        repeated.insert(number, chunks[number].clone());
        if number + 1 < chunks.len() {
            let error = refused(&repeated, &format!("a repeated chunk {number}"));
            assert!(matches!(error, ReceiveError::OutOfOrder { .. }), "{error}");
            let mut swapped = chunks.clone();
            swapped.swap(number, number + 1);
            let error = refused(&swapped, &format!("chunk {number} and the next swapped"));
            assert!(matches!(error, ReceiveError::OutOfOrder { .. }), "{error}");
        }
    }
}

/// Covers 2C-receive-corrupt: chunks of another snapshot.
#[test]
fn chunks_of_another_snapshot_are_refused() {
    let chunks = sample_chunks(id(7, 3, 17));
    for other in [id(8, 3, 17), id(7, 4, 17), id(7, 3, 18)] {
        let foreign = sample_chunks(other);
        for number in 1..chunks.len() {
            let mut mixed = chunks.clone();
            mixed[number] = foreign[number].clone();
            match refused(&mixed, &format!("chunk {number} of {other}")) {
                ReceiveError::Foreign { expected, found } => {
                    assert_eq!((expected, found), (id(7, 3, 17), other));
                }
                error => panic!("{error}"),
            }
        }
    }
}

/// Covers 2C-receive-concurrent: never a mixture, not even of snapshots of one name.
#[test]
fn chunks_of_two_senders_do_not_add_up() {
    let mut others = sample();
    others[2].2 = "4".into();
    let chunks = sample_chunks(id(7, 3, 17));
    let theirs = super::chunks(&engine(&others), meta(id(7, 3, 17), range("b", "e")), 20);
    assert_eq!(chunks.len(), theirs.len());
    for number in 1..chunks.len() {
        if chunks[number] != theirs[number] {
            let mut mixed = chunks.clone();
            mixed[number] = theirs[number].clone();
            let error = refused(&mixed, &format!("chunk {number} of the other"));
            assert!(matches!(error, ReceiveError::Sum { .. }), "{error}");
        }
    }
    let longer = super::chunks(&engine(&others), meta(id(7, 3, 17), range("b", "e")), 40);
    let mut mixed = chunks[..2].to_vec();
    mixed.extend_from_slice(&longer[2..]);
    refused(&mixed, "the rest of longer chunks");
}

/// Covers 2C-receive-concurrent: the first sender is served, the second refused; other regions do
/// not mind.
#[test]
fn a_region_receives_one_snapshot_at_a_time() {
    let disk = MemoryDisk::new();
    let folder = open(&disk);
    let first = sample_chunks(id(7, 3, 17));
    let second = sample_chunks(id(7, 3, 20));
    let mut receiver = begin(&folder, &first[0]);
    for other in [&first, &second] {
        match folder.begin(other[0].clone(), at(1)).expect_err("one at a time") {
            ReceiveError::Busy { region, receiving } => {
                assert_eq!((region, receiving), (id(7, 0, 0).region, id(7, 3, 17)));
            }
            error => panic!("{error}"),
        }
    }
    receive(&folder, &sample_chunks(id(8, 3, 17))).expect("another region");
    let mut received = None;
    for chunk in &first[1..] {
        received = receiver.on_chunk(chunk.clone(), at(2)).expect("takes");
    }
    assert_eq!(pairs(&received.expect("complete")), sample_pairs());
    let ended = receiver.on_chunk(first[1].clone(), at(2)).expect_err("it has ended");
    assert!(matches!(ended, ReceiveError::Ended { .. }), "{ended}");
    drop(receiver);
    receive(&folder, &second).expect("its turn now");
    assert_eq!(names(&disk).len(), 3);
}

/// Covers OPT-snap-timeout for the receiver: it is given up after its limit, and frees its place.
#[test]
fn a_sender_that_stalls_is_given_up() {
    let disk = MemoryDisk::new();
    let folder = open(&disk);
    let chunks = sample_chunks(id(7, 3, 17));
    let mut receiver = begin(&folder, &chunks[0]);
    assert!(!receiver.is_stalled(at(30)));
    assert!(receiver.is_stalled(at(31)));
    receiver.on_chunk(chunks[1].clone(), at(31)).expect("takes");
    assert!(!receiver.is_stalled(at(60)));
    assert!(receiver.is_stalled(at(61)));
    drop(receiver);
    assert_eq!(names(&disk), [""; 0]);
    receive(&folder, &chunks).expect("arrives");
}

#[test]
fn after_an_error_nothing_more_is_taken() {
    let folder = open(&MemoryDisk::new());
    let chunks = sample_chunks(id(7, 3, 17));
    let mut receiver = begin(&folder, &chunks[0]);
    receiver.on_chunk(chunks[2].clone(), at(1)).expect_err("out of order");
    let error = receiver.on_chunk(chunks[1].clone(), at(1)).expect_err("too late");
    assert!(matches!(error, ReceiveError::Ended { .. }), "{error}");
}

#[test]
fn a_snapshot_begins_with_its_head() {
    let folder = open(&MemoryDisk::new());
    for chunk in &sample_chunks(id(7, 3, 17))[1..] {
        let error = folder.begin(chunk.clone(), at(1)).expect_err("no head");
        assert!(matches!(error, ReceiveError::OutOfOrder { expected: 0, .. }), "{error}");
    }
}

/// Every operation of the disk fails once: the caller hears of it, nothing stays, and the next
/// attempt succeeds.
#[test]
fn a_disk_that_fails_loses_one_attempt() {
    let operations = [
        Operation::Create,
        Operation::Write,
        Operation::Sync,
        Operation::Rename,
        Operation::SyncNames,
    ];
    for operation in operations {
        let disk = MemoryDisk::new();
        let folder = open(&disk);
        let chunks = sample_chunks(id(7, 3, 17));
        disk.fail_next(operation);
        let error = receive(&folder, &chunks).expect_err("made to fail");
        assert!(matches!(error, ReceiveError::Io { .. }), "{operation:?}: {error}");
        assert_eq!(names(&disk), [""; 0], "{operation:?}");
        assert_eq!(folder.list(), []);
        let received = receive(&folder, &chunks).expect("works again");
        assert_eq!(pairs(&received), sample_pairs());
    }
}

#[test]
fn a_part_that_could_not_be_removed_is_replaced() {
    let disk = MemoryDisk::new();
    let folder = open(&disk);
    let chunks = sample_chunks(id(7, 3, 17));
    let receiver = begin(&folder, &chunks[0]);
    disk.fail_next(Operation::Remove);
    drop(receiver);
    assert_eq!(names(&disk), ["7-3-17.receiving"]);
    let received = receive(&folder, &chunks).expect("arrives");
    assert_eq!(pairs(&received), sample_pairs());
    assert_eq!(names(&disk), ["7-3-17.snapshot"]);
}

#[test]
fn a_full_disk_is_told_and_left_as_it_was() {
    let disk = MemoryDisk::new();
    let folder = open(&disk);
    let chunks = sample_chunks(id(7, 3, 17));
    let size: usize = chunks.iter().map(Bytes::len).sum();
    disk.set_capacity(size as u64 - 1);
    match receive(&folder, &chunks).expect_err("full") {
        ReceiveError::Io { action: "write", source, .. } => {
            assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
        }
        error => panic!("{error}"),
    }
    assert_eq!(names(&disk), [""; 0]);
    disk.set_capacity(size as u64);
    receive(&folder, &chunks).expect("fits");
}

/// Long snapshots are synced on the way, not all at their end.
#[test]
fn a_long_snapshot_is_synced_piece_by_piece() {
    let rows: Vec<Row> =
        (0..40_u8).map(|i| (Cf::Default, vec![i].into(), vec![i; 1024 * 1024].into())).collect();
    let disk = MemoryDisk::new();
    let mut builder = Builder::new(engine(&rows).snapshot(), meta(id(1, 1, 1), KeyRange::ALL));
    let chunks: Vec<_> = std::iter::from_fn(|| builder.next_chunk().expect("builds"))
        .map(|chunk| chunk.encoded().clone())
        .collect();
    let received = receive(&open(&disk), &chunks).expect("arrives");
    assert_eq!(disk.counters().syncs, 40 / 8 + 1);
    assert_eq!(pairs(&received), rows);
}

/// Covers OPT-snap-checksum on the disk: whatever changes in a file while it waits to be
/// installed is found out before anything of it can be seen, and the snapshot is sent again.
#[test]
fn every_changed_byte_of_a_file_is_noticed() {
    let chunks = sample_chunks(id(7, 3, 17));
    let size: usize = chunks.iter().map(Bytes::len).sum();
    let name = FileName::new("7-3-17.snapshot").expect("a name");
    for offset in 0..size as u64 {
        let disk = MemoryDisk::new();
        let folder = open(&disk);
        let received = receive(&folder, &chunks).expect("arrives");
        disk.flip_bit(&name, offset, (offset % 8) as u8);
        let engine = engine(&rows(&["default c old", "local r old"]));
        let before = contents(&engine);
        let local = [(b"r".to_vec(), b"new".to_vec())];
        match install(&engine, &received, &[], &local).expect_err("damaged") {
            EngineError::Damaged { path, .. } => assert_eq!(path.to_str(), Some(name.as_str())),
            error => panic!("byte {offset}: {error}"),
        }
        assert_eq!(contents(&engine), before, "byte {offset}");
        fill(&engine, &rows(&["default x the-engine-goes-on"]));
        // Also while somebody still holds the damaged one.
        assert!(folder.get(id(7, 3, 17)).is_none());
        let again = receive(&folder, &chunks).expect("is sent again");
        assert_eq!(pairs(&again), sample_pairs());
        drop(received);
        assert_eq!(folder.collect(at(2)).expect("removes"), []);
        assert_eq!(pairs(&folder.get(id(7, 3, 17)).expect("is whole")), sample_pairs());
    }
}

/// Covers OPT-snap-checksum after a restart: a damaged file is not offered, neither to whoever asks
/// for it nor to whoever would send it, so it cannot stop the store again and again.
#[test]
fn a_file_that_was_damaged_before_the_start_is_not_used() {
    let chunks = sample_chunks(id(7, 3, 17));
    let size: usize = chunks.iter().map(Bytes::len).sum();
    let name = FileName::new("7-3-17.snapshot").expect("a name");
    for offset in 0..size as u64 {
        for asks in [true, false] {
            let disk = MemoryDisk::new();
            drop(receive(&open(&disk), &chunks).expect("arrives"));
            disk.flip_bit(&name, offset, (offset % 8) as u8);
            let folder = open(&disk);
            if asks {
                assert!(folder.get(id(7, 3, 17)).is_none(), "byte {offset}");
                folder.collect(at(2)).expect("removes");
                assert_eq!(names(&disk), [""; 0], "byte {offset}");
            }
            let received = receive(&folder, &chunks).expect("is sent again");
            let again = install(&MemoryEngine::new(), &received, &[], &[]);
            assert!(again.is_ok(), "byte {offset}: {again:?}");
        }
    }
}

/// Covers 2C-receive-corrupt on the disk: a file that cannot be read goes, and is sent again.
#[test]
fn a_file_that_cannot_be_read_goes() {
    let disk = MemoryDisk::new();
    let folder = open(&disk);
    let received = receive(&folder, &sample_chunks(id(7, 3, 17))).expect("arrives");
    let engine = MemoryEngine::new();
    disk.fail_next(Operation::Read);
    match install(&engine, &received, &[], &[]).expect_err("made to fail") {
        EngineError::Io { action: "read", .. } => {}
        error => panic!("{error}"),
    }
    assert_eq!(folder.collect(at(3)).expect("removes"), [], "it is held");
    drop(received);
    assert_eq!(folder.collect(at(3)).expect("removes"), [id(7, 3, 17)]);
    assert_eq!(names(&disk), [""; 0]);
    assert!(folder.get(id(7, 3, 17)).is_none());
}
