//! A crash at every operation of the disk and of the engine, on the way from the first chunk to the
//! installed snapshot, with everything that such a crash may leave.

use kiva_engine::memory::FailedWrite;

use super::*;

/// How many drawn crashes are looked at, beside the best and the worst.
const DRAWS: u64 = 20;

/// A crash as bad as can be, one that leaves everything, and some in between.
fn crashes(disk: &MemoryDisk) -> impl Iterator<Item = MemoryDisk> {
    (0..DRAWS + 2).map(|draw| {
        let mut state = draw;
        disk.crash(&mut |count| match draw {
            0 => 0,
            1 => count - 1,
            _ => {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(draw);
                (state >> 33) as usize % count
            }
        })
    })
}

fn old() -> Vec<Row> {
    rows(&["default a 1", "default bx old", "lock c old", "write f 6", "local r old"])
}

fn new() -> Vec<Row> {
    let mut rows = rows(&["default a 1", "write f 6", "local a applied", "local r new"]);
    rows.extend(sample_pairs());
    rows.sort();
    rows
}

fn local() -> [(Vec<u8>, Vec<u8>); 2] {
    [(b"r".to_vec(), b"new".to_vec()), (b"a".to_vec(), b"applied".to_vec())]
}

/// Receives what is not there yet, and installs it.
fn attempt(folder: &Folder, engine: &MemoryEngine) -> Result<(), String> {
    let chunks = sample_chunks(id(7, 3, 17));
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
                    assert_eq!(pairs(&folder.get(id(7, 3, 17)).expect("is whole")), sample_pairs());
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
    let received = receive(&open(&disk), &sample_chunks(id(7, 3, 17))).expect("arrives");
    for found in crashes(&disk) {
        let again = open(&found).get(id(7, 3, 17)).expect("is there");
        assert_eq!((again.meta(), again.totals()), (received.meta(), received.totals()));
        assert_eq!(pairs(&again), sample_pairs());
    }
}

/// Covers 2C-crash-apply for the engine: a batch that is not flushed is there whole or not at all,
/// and what was ingested is there.
#[test]
fn data_and_record_survive_together() {
    let received = receive(&open(&MemoryDisk::new()), &sample_chunks(id(7, 3, 17)));
    let received = received.expect("arrives");
    let store = engine(&old());
    assert_eq!(install(&store, &received, &[], &local()).expect("installs"), Wrote::Batch);
    assert_eq!(store.unsynced(), 1);
    assert_eq!(contents(&store.crash(0)), old());
    assert_eq!(contents(&store.crash(1)), new());

    let large = engine(&sample());
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
