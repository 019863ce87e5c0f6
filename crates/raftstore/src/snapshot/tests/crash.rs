//! A crash at every operation of the disk and of the engine, on the way from the first chunk to the
//! installed snapshot, with everything that such a crash may leave.

use kiva_engine::memory::FailedWrite;

use super::*;

/// How many crashes are drawn at random, beside those below.
const DRAWS: u64 = 20;

/// What a crash may leave: nothing that is not synced, all of it, all but one piece, nothing but
/// one piece, and some in between.
fn crashes(disk: &MemoryDisk) -> Vec<MemoryDisk> {
    let mut pieces = 0;
    let best = disk.crash(&mut |count| {
        pieces += 1;
        count - 1
    });
    let mut found = vec![best, disk.crash(&mut |_| 0)];
    for piece in 0..pieces {
        for is_lost in [true, false] {
            let mut at = 0;
            found.push(disk.crash(&mut |count| {
                at += 1;
                if (at - 1 == piece) == is_lost { 0 } else { count - 1 }
            }));
        }
    }
    for seed in 0..DRAWS {
        let mut state = seed;
        found.push(disk.crash(&mut |count| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % count
        }));
    }
    found
}

/// A few sectors of every chunk.
fn source() -> Vec<Row> {
    let value = |byte| Bytes::from(vec![byte; 1_300]);
    let keys = [(Cf::Default, "b"), (Cf::Default, "c"), (Cf::Lock, "cc"), (Cf::Write, "d")];
    keys.into_iter().zip(1..).map(|((cf, key), byte)| (cf, key.into(), value(byte))).collect()
}

fn source_chunks() -> Vec<Bytes> {
    chunks(&engine(&source()), meta(id(7, 3, 17), range("b", "e")), 1_500)
}

fn old() -> Vec<Row> {
    rows(&["default a 1", "default bx old", "lock c old", "write f 6", "local r old"])
}

fn new() -> Vec<Row> {
    let mut rows = rows(&["default a 1", "write f 6", "local a applied", "local r new"]);
    rows.extend(source());
    rows.sort();
    rows
}

fn local() -> [(Vec<u8>, Vec<u8>); 2] {
    [(b"r".to_vec(), b"new".to_vec()), (b"a".to_vec(), b"applied".to_vec())]
}

/// Receives what is not there yet, and installs it.
fn attempt(folder: &Folder, engine: &MemoryEngine) -> Result<(), String> {
    let chunks = source_chunks();
    let received = receive(folder, &chunks).map_err(|error| error.to_string())?;
    let wrote = install(engine, &received, &[], &local()).map_err(|error| error.to_string())?;
    if wrote == Wrote::Batch {
        engine.flush().map_err(|error| error.to_string())?;
    }
    drop(received);
    folder.collect(at(3)).map_err(|error| error.to_string())?;
    Ok(())
}

/// Covers 2C-crash-apply, 2C-restart-storm for one store: wherever it dies, the next start finds
/// the old state or the new one with its record, no part of a file, and can finish the job; and the
/// folder is empty in the end.
#[test]
fn wherever_it_dies_it_finds_the_old_state_or_the_new() {
    let whole = MemoryDisk::new();
    attempt(&open(&whole), &engine(&old())).expect("works");
    let operations = whole.operations();
    assert!(operations > 10, "{operations} operations");
    let mut found_complete = 0;
    for count in 0..operations {
        let disk = MemoryDisk::new();
        // The folder is there and durable; what follows is interrupted.
        let folder = open(&disk);
        let store = engine(&old());
        disk.crash_after(count);
        // The crash may come so late that the data is there already, and only a removal fails.
        let outcome = attempt(&folder, &store);
        if disk.operations() < count || !disk.is_crashed() {
            outcome.expect("was not interrupted");
            continue;
        }
        for found in crashes(&disk) {
            for survivors in 0..=store.unsynced() {
                let store = store.crash(survivors);
                let state = contents(&store);
                assert!(state == old() || state == new(), "after {count}: {state:?}");
                let folder = open(&found);
                for name in names(&found) {
                    assert_eq!(name, "7-3-17.snapshot", "after {count}");
                    found_complete += 1;
                    assert_eq!(pairs(&folder.get(id(7, 3, 17)).expect("is whole")), source());
                }
                attempt(&folder, &store).expect("finishes the job");
                assert_eq!(contents(&store), new());
                assert_eq!(names(&found), [""; 0], "nothing stays of it");
            }
        }
    }
    assert!(found_complete > 0, "no crash came between the file and its removal");
}

/// What a receiver was given is there after any crash.
#[test]
fn a_snapshot_that_was_given_out_is_durable() {
    let disk = MemoryDisk::new();
    let received = receive(&open(&disk), &source_chunks()).expect("arrives");
    for found in crashes(&disk) {
        let again = open(&found).get(id(7, 3, 17)).expect("is there");
        assert_eq!((again.meta(), again.totals()), (received.meta(), received.totals()));
        assert_eq!(pairs(&again), source());
    }
}

/// Covers 2C-crash-apply for the engine: a batch that is not flushed is there whole or not at all,
/// and what was ingested is there.
#[test]
fn data_and_record_survive_together() {
    let received = receive(&open(&MemoryDisk::new()), &source_chunks());
    let received = received.expect("arrives");
    let store = engine(&old());
    assert_eq!(install(&store, &received, &[], &local()).expect("installs"), Wrote::Batch);
    assert_eq!(store.unsynced(), 1);
    assert_eq!(contents(&store.crash(0)), old());
    assert_eq!(contents(&store.crash(1)), new());

    let large = engine(&source());
    let value = vec![7; 5 * 1024 * 1024];
    fill(&large, &[(Cf::Write, "d".into(), value.into())]);
    let chunks = chunks(&large, meta(id(7, 3, 18), range("b", "e")), 1024 * 1024);
    let received = receive(&open(&MemoryDisk::new()), &chunks).expect("arrives");
    for outcome in [None, Some(FailedWrite::Lost), Some(FailedWrite::Happened)] {
        let store = engine(&old());
        outcome.into_iter().for_each(|outcome| store.fail_next_write(outcome));
        let installed = install(&store, &received, &[], &local());
        assert_eq!(installed.is_ok(), outcome.is_none());
        for survivors in 0..=store.unsynced() {
            let state = contents(&store.crash(survivors));
            let is_new = state.iter().any(|(_, _, value)| value == "new");
            let keys =
                |rows: Vec<Row>| rows.into_iter().map(|(cf, key, _)| (cf, key)).collect::<Vec<_>>();
            let expected = if is_new { new() } else { old() };
            assert_eq!(keys(state), keys(expected), "{outcome:?}");
            assert!(is_new || outcome.is_some(), "an ingestion is durable");
        }
    }
}
