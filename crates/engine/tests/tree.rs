//! What only the durable engine promises: how it fills up, how it closes, and what any crash leaves
//! of any history.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use kiva_base::KeyRange;
use kiva_engine::limits::L0_RUNS_FULL;
use kiva_engine::memory::MemoryEngine;
use kiva_engine::tree::{Options, TreeEngine};
use kiva_engine::{
    Cf, Engine, EngineError, Filter, Health, Order, Snapshot, SortedItem, SortedItems, Verdict,
    WriteBatch,
};
use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

fn open(directory: &TempDir, memtable_bytes: u64, threads: usize) -> TreeEngine {
    let options = Options { memtable_bytes, threads, ..Options::default() };
    TreeEngine::open(directory.path(), options).expect("opens")
}

fn put(engine: &dyn Engine, key: &[u8], value: &[u8]) {
    let mut batch = WriteBatch::new();
    for cf in Cf::ALL {
        batch.put(cf, key, value);
    }
    engine.write(&batch).expect("writes");
}

/// Every pair of all families.
fn all(snapshot: &dyn Snapshot) -> Vec<(Cf, Bytes, Bytes)> {
    let mut found = Vec::new();
    for cf in Cf::ALL {
        let mut iter = snapshot.iter(cf, &KeyRange::ALL, Order::Forward);
        while let Some((key, value)) = iter.next().expect("iterates") {
            found.push((cf, key, value));
        }
    }
    found
}

fn tables(directory: &TempDir) -> usize {
    fs::read_dir(directory.path().join("tree/tables")).expect("lists").count()
}

#[test]
fn snapshots_keep_reading_over_flushes_and_merges() {
    let directory = TempDir::new().expect("makes a directory");
    let engine = open(&directory, 64 * 1024, 2);
    let mut moments = Vec::new();
    for round in 0..200_u32 {
        for key in 0..20_u32 {
            let number = round * 7919 + key * 104_729;
            let mut batch = WriteBatch::new();
            match number % 5 {
                0 => batch.delete(Cf::Default, &key.to_be_bytes()),
                1 => batch.delete_range(
                    Cf::Default,
                    &KeyRange::new(key.to_be_bytes().to_vec(), (key + 3).to_be_bytes().to_vec())
                        .expect("runs forward"),
                ),
                _ => batch.put(Cf::Default, &key.to_be_bytes(), &[number as u8; 200]),
            }
            engine.write(&batch).expect("writes");
        }
        if round % 20 == 0 {
            let snapshot = engine.snapshot();
            let iter = snapshot.iter(Cf::Default, &KeyRange::ALL, Order::Reverse);
            moments.push((all(&*snapshot), snapshot, iter));
        }
        if round % 9 == 0 {
            engine.flush().expect("flushes");
        }
        if round % 50 == 49 {
            engine.compact().expect("compacts");
        }
    }
    for (seen, snapshot, mut iter) in moments {
        assert_eq!(all(&*snapshot), seen);
        for (_, key, value) in seen.into_iter().rev() {
            assert_eq!(iter.next().expect("iterates"), Some((key, value)));
        }
        assert_eq!(iter.next().expect("ends"), None);
    }
    // Nobody reads the old versions any more: one merge, and one value for each key is left.
    let whole = all(&*engine.snapshot());
    engine.compact().expect("compacts");
    assert_eq!(all(&*engine.snapshot()), whole);
    assert!(tables(&directory) <= 1, "{} tables", tables(&directory));
    let size = engine.approximate_size(Cf::Default, &KeyRange::ALL);
    assert!(size < 20 * 300 + 4096, "{size} bytes for {} pairs", whole.len());
}

/// What is flushed leaves memory and disk as soon as nobody reads it, not two flushes later.
#[test]
fn old_tables_and_manifests_go_when_nobody_reads_them() {
    let directory = TempDir::new().expect("makes a directory");
    let engine = open(&directory, u64::MAX, 1);
    for round in 0..4_u8 {
        put(&engine, b"k", &[round]);
        engine.compact().expect("compacts");
        assert_eq!(tables(&directory), 1);
        let names = fs::read_dir(directory.path().join("tree")).expect("lists");
        let manifests = names
            .filter(|entry| {
                let name = entry.as_ref().expect("lists").file_name();
                name.to_string_lossy().starts_with('v')
            })
            .count();
        assert_eq!(manifests, 1);
    }
    let snapshot = engine.snapshot();
    put(&engine, b"k", b"new");
    engine.compact().expect("compacts");
    assert!(tables(&directory) > 1);
    assert_eq!(&snapshot.get(Cf::Lock, b"k").expect("reads").expect("is there")[..], [3]);
    drop(snapshot);
    put(&engine, b"k", b"newer");
    engine.compact().expect("compacts");
    assert_eq!(tables(&directory), 1);
}

/// The manifest counts runs in one byte: as many flushes as it takes must not pass it.
#[test]
fn hundreds_of_small_flushes_and_openings_do_not_pile_up() {
    let directory = TempDir::new().expect("makes a directory");
    let mut engine = open(&directory, u64::MAX, 1);
    for number in 0..300_u32 {
        // Keys that overlap, so that no two flushes fit in one run.
        put(&engine, b"first", &number.to_be_bytes());
        put(&engine, b"last", &number.to_be_bytes());
        if number % 10 == 0 {
            drop(engine);
            engine = open(&directory, u64::MAX, 1);
        } else {
            engine.flush().expect("flushes");
        }
    }
    assert!(tables(&directory) < 60, "{} tables", tables(&directory));
    for key in [&b"first"[..], b"last"] {
        let value = engine.snapshot().get(Cf::Write, key).expect("reads");
        assert_eq!(value.as_deref(), Some(&299_u32.to_be_bytes()[..]));
    }
}

/// Holds every merge until it is let go.
#[derive(Default)]
struct Gate {
    reached: AtomicBool,
    open: AtomicBool,
}

impl Filter for Gate {
    fn judge(&self, _: Cf, _: &[u8], _: &[u8]) -> Verdict {
        self.reached.store(true, Ordering::Release);
        while !self.open.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        Verdict::Keep
    }
}

#[test]
fn pressure_is_told_while_merging_is_behind_and_passes() {
    let directory = TempDir::new().expect("makes a directory");
    let gate = Arc::new(Gate::default());
    let filter = Some(Arc::clone(&gate) as Arc<dyn Filter>);
    let options = Options { filter, ..Options::default() };
    let engine = TreeEngine::open(directory.path(), options).expect("opens");
    let mut flushes = 0;
    while engine.health() == Health::Good {
        put(&engine, b"a", &[flushes]);
        put(&engine, b"z", &[flushes]);
        engine.flush().expect("flushes");
        flushes += 1;
        assert!(flushes < 28, "nobody was told");
    }
    assert_eq!(engine.health(), Health::Pressed);
    assert!(gate.reached.load(Ordering::Acquire));
    // Reads and writes go on under pressure.
    put(&engine, b"m", b"still");
    assert_eq!(all(&*engine.snapshot()).len(), 12);
    gate.open.store(true, Ordering::Release);
    while engine.health() == Health::Pressed {
        std::thread::yield_now();
    }
    assert_eq!(engine.health(), Health::Good);
}

/// The last resort for callers that ignore pressure: they wait, so that runs stay few.
#[test]
fn a_flush_waits_when_merging_is_far_behind() {
    let directory = TempDir::new().expect("makes a directory");
    let gate = Arc::new(Gate::default());
    let filter = Some(Arc::clone(&gate) as Arc<dyn Filter>);
    let options = Options { filter, ..Options::default() };
    let engine = TreeEngine::open(directory.path(), options).expect("opens");
    let flushed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..L0_RUNS_FULL + 12 {
                put(&engine, b"a", &number.to_be_bytes());
                put(&engine, b"z", &number.to_be_bytes());
                engine.flush().expect("flushes");
                flushed.fetch_add(1, Ordering::Release);
            }
        });
        while flushed.load(Ordering::Acquire) < L0_RUNS_FULL {
            std::thread::yield_now();
        }
        // Long enough for some flushes, if nothing held them.
        let count = || (tables(&directory), flushed.load(Ordering::Acquire)).1;
        let most = (0..2000).map(|_| count()).max();
        // Before anything is checked: a failure here would wait for the other thread.
        gate.open.store(true, Ordering::Release);
        // The first run may have sunk to the bottom, which was empty.
        assert!(most <= Some(L0_RUNS_FULL + 1), "{most:?}");
    });
    assert_eq!(flushed.load(Ordering::Acquire), L0_RUNS_FULL + 12);
}

/// Each of them writes the same number to all keys of a family of its own, so whoever sees two
/// numbers has seen half of something.
#[test]
fn batches_and_ingestions_are_whole_while_everything_goes_on() {
    const KEYS: u8 = 50;
    const ROUNDS: u32 = 60;
    let directory = TempDir::new().expect("makes a directory");
    let engine = open(&directory, 256 * 1024, 2);
    let batch = |cf, number: u32| {
        let mut batch = WriteBatch::new();
        (0..KEYS).for_each(|key| batch.put(cf, &[key], &number.to_be_bytes()));
        batch
    };
    let number_of = |snapshot: &dyn Snapshot, cf| {
        let mut iter = snapshot.iter(cf, &KeyRange::ALL, Order::Forward);
        let mut values = Vec::new();
        while let Some((_, value)) = iter.next().expect("iterates") {
            values.push(u32::from_be_bytes(value[..].try_into().expect("has four bytes")));
        }
        assert_eq!(values.len(), KEYS.into(), "{cf:?}");
        assert!(values.iter().all(|value| *value == values[0]), "{cf:?}: {values:?}");
        values[0]
    };
    for cf in [Cf::Default, Cf::Lock] {
        engine.write(&batch(cf, 0)).expect("writes");
    }
    let done = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut number = 0;
            while !done.load(Ordering::Acquire) {
                number += 1;
                engine.write(&batch(Cf::Default, number)).expect("writes");
                let snapshot = engine.snapshot();
                assert_eq!(number_of(&*snapshot, Cf::Default), number, "it reads its own writes");
                let value = snapshot.get(Cf::Default, &[0]).expect("reads");
                assert_eq!(value.as_deref(), Some(&number.to_be_bytes()[..]), "by key as well");
            }
            number
        });
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                engine.flush().expect("flushes");
            }
        });
        scope.spawn(|| {
            let mut last = (0, 0);
            while !done.load(Ordering::Acquire) {
                let snapshot = engine.snapshot();
                let seen = [Cf::Default, Cf::Lock].map(|cf| number_of(&*snapshot, cf));
                assert!(seen[0] >= last.0 && seen[1] >= last.1, "{seen:?} after {last:?}");
                last = (seen[0], seen[1]);
            }
        });
        for number in 1..=ROUNDS {
            let items: Vec<_> = (0..KEYS)
                .map(|key| SortedItem {
                    cf: Cf::Lock,
                    key: Bytes::copy_from_slice(&[key]),
                    value: Some(Bytes::copy_from_slice(&number.to_be_bytes())),
                })
                .collect();
            engine.ingest(&mut Items(items.into_iter())).expect("ingests");
        }
        done.store(true, Ordering::Release);
        writer.join().expect("ends well")
    });
    assert_eq!(number_of(&*engine.snapshot(), Cf::Default), written);
    assert_eq!(number_of(&*engine.snapshot(), Cf::Lock), ROUNDS);
    drop(engine);
    let engine = open(&directory, u64::MAX, 1);
    assert_eq!(number_of(&*engine.snapshot(), Cf::Default), written);
}

/// A filter that panics is a bug of ours, and must not pass for a slow disk.
#[test]
fn a_panic_in_a_merge_poisons() {
    struct Broken;
    impl Filter for Broken {
        fn judge(&self, _: Cf, _: &[u8], _: &[u8]) -> Verdict {
            panic!("a filter with a bug")
        }
    }
    let directory = TempDir::new().expect("makes a directory");
    let options = Options { filter: Some(Arc::new(Broken)), ..Options::default() };
    let engine = TreeEngine::open(directory.path(), options).expect("opens");
    let mut batch = WriteBatch::new();
    batch.put(Cf::Default, b"k", b"v");
    let error = loop {
        if let Err(error) = engine.write(&batch).and_then(|()| engine.flush()) {
            break error;
        }
    };
    assert!(matches!(error, EngineError::Poisoned { .. }), "{error}");
    assert_eq!(engine.health(), Health::Poisoned);
    assert!(engine.snapshot().get(Cf::Default, b"k").expect("reads").is_some());
}

/// One step of a history that crashes end.
#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    DeleteRange(u8, u8),
    Ingest(Vec<(u8, Option<u8>)>),
    Flush,
    Compact,
    /// A crash may have been here.
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<u8>(), any::<u8>()).prop_map(|(key, value)| Step::Put(key % 32, value)),
        2 => any::<u8>().prop_map(|key| Step::Delete(key % 32)),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(a, b)| {
            let (a, b) = (a % 32, b % 32);
            Step::DeleteRange(a.min(b), a.max(b))
        }),
        1 => prop::collection::btree_map(0..32_u8, any::<Option<u8>>(), 0..6)
            .prop_map(|items| Step::Ingest(items.into_iter().collect())),
        1 => Just(Step::Flush),
        1 => Just(Step::Compact),
        3 => Just(Step::Look),
    ]
}

struct Items(std::vec::IntoIter<SortedItem>);

impl SortedItems for Items {
    fn next(&mut self) -> Result<Option<SortedItem>, EngineError> {
        Ok(self.0.next())
    }
}

/// A value long enough that some writes fill a memtable.
fn value(byte: u8) -> Vec<u8> {
    vec![byte; 16 + usize::from(byte)]
}

/// Does the step on an engine, in all families.
fn take(engine: &dyn Engine, step: &Step) {
    let mut batch = WriteBatch::new();
    match step {
        Step::Put(key, byte) => {
            Cf::ALL.into_iter().for_each(|cf| batch.put(cf, &[*key], &value(*byte)));
        }
        Step::Delete(key) => Cf::ALL.into_iter().for_each(|cf| batch.delete(cf, &[*key])),
        Step::DeleteRange(start, end) => {
            let range = KeyRange::new(vec![*start], vec![*end]).expect("runs forward");
            Cf::ALL.into_iter().for_each(|cf| batch.delete_range(cf, &range));
        }
        Step::Ingest(items) => {
            let items: Vec<_> = Cf::ALL
                .into_iter()
                .flat_map(|cf| {
                    items.iter().map(move |(key, byte)| SortedItem {
                        cf,
                        key: Bytes::copy_from_slice(&[*key]),
                        value: byte.map(|byte| value(byte).into()),
                    })
                })
                .collect();
            return engine.ingest(&mut Items(items.into_iter())).expect("ingests");
        }
        Step::Flush => return engine.flush().expect("flushes"),
        Step::Compact | Step::Look => return,
    }
    engine.write(&batch).expect("writes");
}

/// A copy of the files while the engine runs. What `current` names is there as long as it names it.
fn crashed(from: &Path) -> TempDir {
    let current = || fs::read(from.join("tree/current")).expect("reads");
    loop {
        let before = current();
        let copy = TempDir::new().expect("makes a directory");
        fs::create_dir_all(copy.path().join("tree/tables")).expect("makes a directory");
        for folder in ["", "tree", "tree/tables"] {
            for entry in fs::read_dir(from.join(folder)).expect("lists") {
                let source = entry.expect("lists").path();
                let name = source.strip_prefix(from).expect("is below");
                match fs::copy(&source, copy.path().join(name)) {
                    _ if source.is_dir() => {}
                    // Nothing needs what goes meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    done => drop(done.expect("copies")),
                }
            }
        }
        if current() == before {
            return copy;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Covers 1-batch-atomic and 1-durable: compared with the memory engine, which may crash at any
    /// batch behind the last flush.
    #[test]
    fn a_crash_leaves_what_the_memory_engine_may_leave(steps in vec(step(), 1..80)) {
        let directory = TempDir::new().expect("makes a directory");
        let tree = open(&directory, 1024, 2);
        let memory = MemoryEngine::new();
        // What may be found: the state at the last flush, and after every batch since.
        let mut possible = vec![all(&*memory.snapshot())];
        for step in &steps {
            take(&tree, step);
            take(&memory, step);
            let now = all(&*memory.snapshot());
            match step {
                Step::Flush | Step::Ingest(_) => possible = vec![now],
                Step::Compact => {
                    tree.compact().expect("compacts");
                    possible = vec![now];
                }
                Step::Look => {
                    prop_assert_eq!(all(&*tree.snapshot()), now);
                    let copy = crashed(directory.path());
                    let found = all(&*open(&copy, 1024, 1).snapshot());
                    prop_assert!(possible.contains(&found), "found what never was: {:?}", found);
                }
                _ => possible.push(now),
            }
        }
        drop(tree);
        let found = all(&*open(&directory, 1024, 1).snapshot());
        prop_assert_eq!(found, all(&*memory.snapshot()));
    }
}
