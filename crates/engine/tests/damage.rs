//! A directory whose files are not what was written: an error that names the file, or all the data.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use kiva_base::KeyRange;
use kiva_engine::tree::{Options, TreeEngine};
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

fn open(path: &Path) -> Result<TreeEngine, EngineError> {
    let options = Options { threads: 1, ..Options::default() };
    TreeEngine::open(path, options)
}

fn write(engine: &TreeEngine, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let mut batch = WriteBatch::new();
        for cf in Cf::ALL {
            batch.put(cf, &number.to_be_bytes(), format!("{number:0>100}").as_bytes());
        }
        engine.write(&batch).expect("writes");
    }
}

/// An engine that was closed: half its data in a merged table, the other half in a young one.
fn closed() -> TempDir {
    let directory = TempDir::new().expect("makes a directory");
    let engine = open(directory.path()).expect("opens");
    write(&engine, 0..KEYS / 2);
    engine.compact().expect("compacts");
    write(&engine, KEYS / 2..KEYS);
    engine.flush().expect("flushes");
    drop(engine);
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
fn read_all(engine: &TreeEngine) -> Result<(), EngineError> {
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
        if names_the_file_or_has_all(directory.path(), file, &what) {
            harmless.push((file.strip_prefix(directory.path()).expect("below").to_owned(), at));
        }
    }
    assert_eq!(harmless, []);
}

#[test]
fn every_byte_of_the_small_files_counts() {
    let original = closed();
    let manifest = format!("tree/v{}", manifest(original.path()));
    for name in ["KIVA", "tree/current", &manifest] {
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
        if len == 0 {
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
        let directory = copied(&original);
        let name = file.strip_prefix(original.path()).expect("below");
        let gone = directory.path().join(name);
        fs::remove_file(&gone).expect("removes");
        let harmless = names_the_file_or_has_all(directory.path(), &gone, "removal");
        assert!(!harmless, "removal of {} was not noticed", name.display());
    }
}

/// The number of the manifest that `current` names.
fn manifest(directory: &Path) -> u64 {
    let current = fs::read(directory.join("tree/current")).expect("reads");
    u64::from_le_bytes(current[..8].try_into().expect("has 25 bytes"))
}

#[test]
fn a_foreign_file_is_named_and_left_alone() {
    let original = closed();
    for name in [
        "notes.txt",
        "0.jnl",
        "tree/notes.txt",
        "tree/v01",
        "tree/blobs",
        "tree/tables/notes.txt",
        "tree/tables/01",
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
fn another_format_is_refused_with_a_clear_sentence() {
    let directory = closed();
    let marker = directory.path().join("KIVA");
    for (format, sentence) in [
        (1, "the data has format 1, which had a journal"),
        (3, "the data has format 3, and this version reads format 2"),
    ] {
        fs::write(&marker, format!("kiva engine {format}\n")).expect("writes");
        // What that format has and ours has not is no surprise.
        fs::write(directory.path().join("0.jnl"), "").expect("writes");
        let error = open(directory.path()).expect_err("is another format");
        assert!(matches!(error, EngineError::Foreign { .. }), "{error}");
        assert!(error.to_string().contains(sentence), "{error}");
    }
    fs::remove_file(directory.path().join("0.jnl")).expect("removes");
    fs::write(&marker, "kiva engine 2\n").expect("writes");
    read_all(&open(directory.path()).expect("opens")).expect("reads");
}

#[test]
fn a_creation_that_never_ended_starts_again() {
    for names in
        [&["lock"][..], &["lock", "tree/current"], &["lock", "tree/current", "tree/v0", "KIVA.new"]]
    {
        let directory = TempDir::new().expect("makes a directory");
        fs::create_dir_all(directory.path().join("tree/tables")).expect("makes a directory");
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

/// What a crash leaves of work that did not end is no damage, and goes.
#[test]
fn tables_and_manifests_that_nothing_names_are_removed() {
    let directory = closed();
    let (table, old) = (directory.path().join("tree/tables/999"), directory.path().join("tree/v0"));
    fs::write(&table, "half a table").expect("writes");
    fs::write(&old, "an old manifest").expect("writes");
    fs::write(directory.path().join("tree/.tmpAbC"), "half a name").expect("writes");
    read_all(&open(directory.path()).expect("opens")).expect("reads");
    assert!(!table.exists());
    assert!(!old.exists());
}

/// Tables above a size are not read whole before opening.
#[test]
fn a_damaged_block_of_a_large_table_is_named_when_it_is_read() {
    let directory = TempDir::new().expect("makes a directory");
    let engine = open(directory.path()).expect("opens");
    let value = vec![7; 64 * 1024];
    for number in 0..40_u32 {
        let mut batch = WriteBatch::new();
        batch.put(Cf::Default, &number.to_be_bytes(), &value);
        engine.write(&batch).expect("writes");
    }
    drop(engine);
    let table = files(&directory.path().join("tree/tables")).pop().expect("is there");
    let mut bytes = fs::read(&table).expect("reads");
    assert!(bytes.len() as u64 > kiva_engine::limits::TABLE_BYTES_READ, "{}", bytes.len());
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&table, bytes).expect("writes");
    let engine = open(directory.path()).expect("opens");
    let snapshot = engine.snapshot();
    let mut iter = snapshot.iter(Cf::Default, &KeyRange::ALL, Order::Forward);
    let error = loop {
        match iter.next() {
            Ok(pair) => assert!(pair.is_some(), "the damage was not noticed"),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, EngineError::Damaged { path, .. } if *path == table), "{error}");
    assert!(iter.next().expect("has ended").is_none());
    assert!(snapshot.get(Cf::Default, &0_u32.to_be_bytes()).expect("reads").is_some());
}

#[test]
fn a_failure_in_the_background_is_an_error() {
    let directory = TempDir::new().expect("makes a directory");
    let options = Options { threads: 1, memtable_bytes: 16 * 1024, ..Options::default() };
    let engine = TreeEngine::open(directory.path(), options).expect("opens");
    fs::remove_dir_all(directory.path().join("tree/tables")).expect("removes");
    let mut batch = WriteBatch::new();
    batch.put(Cf::Default, b"k", &[7; 1024]);
    let error = loop {
        if let Err(error) = engine.write(&batch) {
            break error;
        }
    };
    assert!(error.to_string().contains("write a table to"), "{error}");
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
    fs::remove_dir_all(directory.path().join("tree/tables")).expect("removes");
    let error = engine.flush().expect_err("there is no folder for tables");
    assert!(matches!(error, EngineError::Io { .. }), "{error}");
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
