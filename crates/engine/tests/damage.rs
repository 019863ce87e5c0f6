//! A directory whose files are not what was written: an error that names the file, or all the data.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use kiva_base::KeyRange;
use kiva_engine::disk::{DiskEngine, Options};
use kiva_engine::{Cf, Engine, EngineError, Health, Order, WriteBatch};
use proptest::test_runner::{RngAlgorithm, TestRng};
use tempfile::TempDir;

const KEYS: u32 = 400;

/// A small generator, so that a failing seed can be run again.
fn random(seed: u64) -> impl FnMut(u64) -> u64 {
    use proptest::prelude::Rng;
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    move |below| rng.next_u64() % below
}

fn open(path: &Path) -> Result<DiskEngine, EngineError> {
    let options = Options { threads: 1, ..Options::default() };
    DiskEngine::open(path, options)
}

fn write(engine: &DiskEngine, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let mut batch = WriteBatch::new();
        for cf in Cf::ALL {
            batch.put(cf, &number.to_be_bytes(), format!("{number:0>100}").as_bytes());
        }
        engine.write(&batch).expect("writes");
    }
}

/// An engine that was closed: half its data in a table, the other half flushed to the journal.
fn closed() -> TempDir {
    let directory = TempDir::new().expect("makes a directory");
    let engine = open(directory.path()).expect("opens");
    write(&engine, 0..KEYS / 2);
    engine.compact().expect("compacts");
    write(&engine, KEYS / 2..KEYS);
    engine.flush().expect("flushes");
    drop(engine);
    // Opened once more, so that the journal ends where its batches do.
    drop(open(directory.path()).expect("opens"));
    directory
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("lists") {
        let entry = entry.expect("lists");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).expect("makes a directory");
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("copies");
        }
    }
}

fn copied(from: &TempDir) -> TempDir {
    let directory = TempDir::new().expect("makes a directory");
    copy(from.path(), directory.path());
    directory
}

/// Every file, as a path below the directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("lists") {
        let path = entry.expect("lists").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Reads everything; what is missing or wrong without an error fails the test.
fn read_all(engine: &DiskEngine) -> Result<(), EngineError> {
    let snapshot = engine.snapshot();
    for cf in Cf::ALL {
        let mut iter = snapshot.iter(cf, &KeyRange::ALL, Order::Forward);
        let mut found = BTreeMap::new();
        while let Some((key, value)) = iter.next()? {
            found.insert(key, value);
        }
        for number in 0..KEYS {
            let value = found.remove(&number.to_be_bytes()[..]);
            let expected = format!("{number:0>100}");
            assert_eq!(value.as_deref(), Some(expected.as_bytes()), "{number}");
        }
        assert!(found.is_empty(), "keys nobody wrote");
        assert!(snapshot.get(cf, &7_u32.to_be_bytes())?.is_some());
    }
    Ok(())
}

/// Opens and reads. An error must name `file`; without one everything must be there.
fn names_the_file_or_has_all(directory: &Path, file: &Path, what: &str) -> bool {
    let read = || open(directory).and_then(|engine| read_all(&engine));
    let result = catch_unwind(AssertUnwindSafe(read));
    let result = result.unwrap_or_else(|_| panic!("{what} of {} panicked", file.display()));
    match result {
        Ok(()) => true,
        Err(EngineError::Damaged { path, .. } | EngineError::Foreign { path, .. })
            if path == file =>
        {
            false
        }
        // `current` holds the checksum of a manifest, and which of the two is wrong nobody knows.
        Err(EngineError::Damaged { path, .. })
            if file.ends_with("current") && path.parent() == file.parent() =>
        {
            false
        }
        Err(error) => panic!("{what} of {}: {error}", file.display()),
    }
}

/// How many of the files still in use were damaged without an error. Old manifests are not in use.
fn in_use(file: &Path) -> bool {
    let name = file.file_name().expect("has a name").to_string_lossy();
    !name.starts_with('v') || name == "version"
}

#[test]
fn a_flipped_byte_is_named_or_does_no_harm() {
    let original = closed();
    let mut random = random(1);
    let mut harmless = Vec::new();
    for round in 0..25 {
        let directory = copied(&original);
        let files = files(directory.path());
        // One byte in each file would name only the first one, so one file at a time.
        let file = &files[round % files.len()];
        let mut bytes = fs::read(file).expect("reads");
        if bytes.is_empty() {
            continue;
        }
        let at = random(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << random(8);
        fs::write(file, bytes).expect("writes");
        let what = format!("flip at {at}");
        if names_the_file_or_has_all(directory.path(), file, &what) && in_use(file) {
            harmless.push((file.strip_prefix(directory.path()).expect("below").to_owned(), at));
        }
    }
    // The mark may go: it is not synced. A sequence number may change when order stays.
    harmless.retain(|(file, _)| file != Path::new("SYNCED") && file != Path::new("0.jnl"));
    assert_eq!(harmless, []);
}

#[test]
fn every_byte_of_the_small_files_counts() {
    let original = closed();
    for name in ["KIVA", "version", "keyspaces/0/current", "keyspaces/1/current"] {
        let len = fs::read(original.path().join(name)).expect("reads").len();
        for at in 0..len {
            let directory = copied(&original);
            let file = directory.path().join(name);
            let mut bytes = fs::read(&file).expect("reads");
            bytes[at] ^= 0x01;
            fs::write(&file, bytes).expect("writes");
            let what = format!("flip at {at}");
            let harmless = names_the_file_or_has_all(directory.path(), &file, &what);
            assert!(!harmless, "{what} of {name} was not noticed");
        }
    }
}

#[test]
fn a_truncated_file_is_named() {
    let original = closed();
    let mut random = random(2);
    for file in files(original.path()) {
        let len = fs::metadata(&file).expect("has metadata").len();
        if len == 0 || !in_use(&file) || file.ends_with("SYNCED") {
            continue;
        }
        for keep in [0, random(len), len - 1] {
            let directory = copied(&original);
            let name = file.strip_prefix(original.path()).expect("below");
            let cut = directory.path().join(name);
            let handle = fs::File::options().write(true).open(&cut).expect("opens");
            handle.set_len(keep).expect("truncates");
            let what = format!("truncation to {keep}");
            let harmless = names_the_file_or_has_all(directory.path(), &cut, &what);
            assert!(!harmless, "{what} of {} was not noticed", name.display());
        }
    }
}

#[test]
fn a_missing_file_is_named() {
    let original = closed();
    for file in files(original.path()) {
        if file.ends_with("SYNCED") {
            continue;
        }
        let directory = copied(&original);
        let name = file.strip_prefix(original.path()).expect("below");
        let gone = directory.path().join(name);
        fs::remove_file(&gone).expect("removes");
        let harmless = names_the_file_or_has_all(directory.path(), &gone, "removal");
        assert_eq!(harmless, !in_use(&file) && !is_current_manifest(&original, &file));
    }
}

/// Whether this manifest is the one that `current` names.
fn is_current_manifest(original: &TempDir, file: &Path) -> bool {
    let directory = file.parent().expect("has a parent");
    let Ok(current) = fs::read(directory.join("current")) else {
        return false;
    };
    let number = u64::from_le_bytes(current[..8].try_into().expect("has 25 bytes"));
    assert!(directory.starts_with(original.path()));
    file.ends_with(format!("v{number}"))
}

#[test]
fn a_foreign_file_is_named_and_left_alone() {
    let original = closed();
    for name in [
        "notes.txt",
        "01.jnl",
        "x.jnl",
        "keyspaces/2",
        "keyspaces/notes.txt",
        "keyspaces/1/notes.txt",
        "keyspaces/1/tables/notes.txt",
    ] {
        let directory = copied(&original);
        let file = directory.path().join(name);
        fs::write(&file, "mine").expect("writes");
        match open(directory.path()).expect_err("is foreign") {
            EngineError::Foreign { path, .. } => assert_eq!(path, file),
            error => panic!("{error}"),
        }
        assert_eq!(fs::read_to_string(&file).expect("reads"), "mine");
        fs::remove_file(&file).expect("removes");
        read_all(&open(directory.path()).expect("opens")).expect("reads");
    }
    let directory = TempDir::new().expect("makes a directory");
    fs::write(directory.path().join("thesis.tex"), "mine").expect("writes");
    assert!(matches!(open(directory.path()), Err(EngineError::Foreign { .. })));
}

#[test]
fn a_second_opener_is_refused_until_the_last_reader_is_gone() {
    let directory = TempDir::new().expect("makes a directory");
    let engine = open(directory.path()).expect("opens");
    // The system has a part of the last batches now, which must not be taken for a torn tail.
    write(&engine, 0..KEYS);
    let refused = || matches!(open(directory.path()), Err(EngineError::InUse { .. }));
    assert!(refused());
    engine.flush().expect("flushes");
    let iter = engine.snapshot().iter(Cf::Default, &KeyRange::ALL, Order::Forward);
    drop(engine);
    assert!(refused());
    drop(iter);
    read_all(&open(directory.path()).expect("opens")).expect("reads");
}

#[test]
fn a_newer_format_is_refused_with_a_clear_sentence() {
    let directory = closed();
    let marker = directory.path().join("KIVA");
    fs::write(&marker, "kiva engine 2\n").expect("writes");
    let error = open(directory.path()).expect_err("is newer").to_string();
    assert!(error.contains("the data has format 2"), "{error}");
    assert!(error.contains("reads up to format 1"), "{error}");
    fs::write(&marker, "kiva engine 1\n").expect("writes");
    read_all(&open(directory.path()).expect("opens")).expect("reads");
}

#[test]
fn a_creation_that_never_ended_starts_again() {
    for names in [
        &["lock"][..],
        &["lock", "0.jnl"],
        &["lock", "0.jnl", "version"],
        &["lock", "0.jnl", "version", "KIVA.new"],
    ] {
        let directory = TempDir::new().expect("makes a directory");
        for name in names {
            fs::write(directory.path().join(name), "").expect("writes");
        }
        let engine = open(directory.path()).expect("starts again");
        write(&engine, 0..KEYS);
        read_all(&engine).expect("reads");
    }
    // But with data in it, a directory without its marker is damaged.
    let directory = closed();
    fs::remove_file(directory.path().join("KIVA")).expect("removes");
    match open(directory.path()).expect_err("has data") {
        EngineError::Damaged { path, .. } => assert!(path.ends_with("KIVA")),
        error => panic!("{error}"),
    }
}

/// Covers 1-batch-atomic: the journal is cut at every place its last batch can be torn.
#[test]
fn a_torn_tail_is_cut_off_and_everything_before_it_is_there() {
    let original = closed();
    let engine = open(original.path()).expect("opens");
    let journal = original.path().join("0.jnl");
    let synced = fs::metadata(&journal).expect("has metadata").len();
    write(&engine, KEYS..KEYS + 1);
    drop(engine);
    let end = fs::metadata(&journal).expect("has metadata").len();
    assert!(end > synced);
    // A mark of before: the last batch was never synced, as far as anybody was told.
    let mut mark = Vec::new();
    mark.extend(0_u64.to_le_bytes());
    mark.extend(synced.to_le_bytes());
    mark.extend(crc32fast::hash(&mark).to_le_bytes());
    fs::write(original.path().join("SYNCED"), mark).expect("writes");
    for cut in (synced..end).step_by(23) {
        for garbage in [None, Some(0), Some(0xFF)] {
            let directory = copied(&original);
            let journal = directory.path().join("0.jnl");
            let mut bytes = fs::read(&journal).expect("reads");
            bytes.truncate(cut as usize);
            bytes.extend(garbage.iter().flat_map(|byte| [*byte; 300]));
            fs::write(&journal, bytes).expect("writes");
            let engine = open(directory.path()).expect("opens");
            read_all(&engine).expect("reads");
            write(&engine, 0..KEYS);
            engine.flush().expect("flushes");
            drop(engine);
            read_all(&open(directory.path()).expect("opens")).expect("reads");
        }
    }
    // One byte less than was synced is damage, not a torn tail.
    let directory = copied(&original);
    let journal = directory.path().join("0.jnl");
    let handle = fs::File::options().write(true).open(&journal).expect("opens");
    handle.set_len(synced - 1).expect("truncates");
    match open(directory.path()).expect_err("is damaged") {
        EngineError::Damaged { path, .. } => assert_eq!(path, journal),
        error => panic!("{error}"),
    }
}

#[test]
fn without_its_mark_a_journal_is_damaged_when_a_whole_batch_follows() {
    let original = closed();
    fs::remove_file(original.path().join("SYNCED")).expect("removes");
    let journal = original.path().join("0.jnl");
    let len = fs::metadata(&journal).expect("has metadata").len();
    for (at, damaged) in [(20, true), (len / 2, true), (len - 1, false)] {
        let directory = copied(&original);
        let journal = directory.path().join("0.jnl");
        let mut bytes = fs::read(&journal).expect("reads");
        bytes[at as usize] ^= 0x20;
        fs::write(&journal, bytes).expect("writes");
        match open(directory.path()) {
            Err(EngineError::Damaged { path, .. }) if damaged => assert_eq!(path, journal),
            Err(error) => panic!("{error}"),
            Ok(_) => assert!(!damaged, "the flip at {at} was not noticed"),
        }
    }
}

#[test]
fn a_failure_in_the_background_is_an_error() {
    let directory = TempDir::new().expect("makes a directory");
    let options = Options { threads: 1, memtable_bytes: 16 * 1024, ..Options::default() };
    let engine = DiskEngine::open(directory.path(), options).expect("opens");
    fs::remove_dir_all(directory.path().join("keyspaces/1/tables")).expect("removes");
    let mut batch = WriteBatch::new();
    batch.put(Cf::Default, b"k", &[7; 1024]);
    let error = loop {
        if let Err(error) = engine.write(&batch) {
            break error;
        }
    };
    assert!(error.to_string().contains("a thread"), "{error}");
    assert_eq!(engine.health(), Health::Poisoned);
    let value = engine.snapshot().get(Cf::Default, b"k").expect("reads");
    assert!(value.is_some_and(|value| value == [7; 1024][..]));
    engine.write(&batch).expect_err("is poisoned");
}

#[test]
fn a_failed_flush_poisons_and_reads_go_on() {
    let directory = TempDir::new().expect("makes a directory");
    let engine = open(directory.path()).expect("opens");
    write(&engine, 0..KEYS);
    fs::remove_file(directory.path().join("0.jnl")).expect("removes");
    engine.flush().expect_err("there is nothing to sync");
    assert_eq!(engine.health(), Health::Poisoned);
    for _ in 0..2 {
        let mut batch = WriteBatch::new();
        batch.put(Cf::Default, b"k", b"v");
        let refused = engine.write(&batch).expect_err("is poisoned");
        assert!(matches!(refused, EngineError::Poisoned { .. }), "{refused}");
        let refused = engine.flush().expect_err("is poisoned");
        assert!(matches!(refused, EngineError::Poisoned { .. }), "{refused}");
    }
    read_all(&engine).expect("reads");
}
