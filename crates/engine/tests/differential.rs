//! Random histories on a durable engine, on the memory engine and on a plain map: whatever is read
//! is the same on all three.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kiva_base::KeyRange;
use kiva_engine::memory::MemoryEngine;
use kiva_engine::tree::{Options, TreeEngine};
use kiva_engine::{
    Cf, Engine, EngineError, Op, Order, Snapshot, SortedItem, SortedItems, WriteBatch,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use tempfile::TempDir;

type Model = BTreeMap<(Cf, Vec<u8>), Vec<u8>>;

/// What a snapshot must show, and the snapshots of both engines.
type Moment = (Model, Arc<dyn Snapshot>, Arc<dyn Snapshot>);

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Change>),
    Ingest(BTreeMap<(Cf, Vec<u8>), Option<Vec<u8>>>),
    /// Taken now, compared at the end.
    Snapshot,
    Read(Cf, Vec<u8>, Vec<u8>),
    Flush,
    Compact,
    Reopen,
}

#[derive(Clone, Debug)]
enum Change {
    Put(Cf, Vec<u8>, Vec<u8>),
    Delete(Cf, Vec<u8>),
    DeleteRange(Cf, Vec<u8>, Vec<u8>),
}

fn cf() -> impl Strategy<Value = Cf> {
    prop::sample::select(Cf::ALL.to_vec())
}

/// Few and short, so that histories meet the same keys again and again.
fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop::sample::select(vec![0, 1, b'd', b'l', 0xFF]), 0..3)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..20)
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (cf(), key(), value()).prop_map(|(cf, key, value)| Change::Put(cf, key, value)),
        2 => (cf(), key()).prop_map(|(cf, key)| Change::Delete(cf, key)),
        1 => (cf(), key(), key()).prop_map(|(cf, a, b)| {
            let end = if b.is_empty() { b } else { a.clone().max(b.clone()) };
            Change::DeleteRange(cf, if end.is_empty() { a } else { a.min(end.clone()) }, end)
        }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => vec(change(), 0..8).prop_map(Step::Write),
        1 => btree_map((cf(), key()), prop::option::of(value()), 0..12).prop_map(Step::Ingest),
        2 => Just(Step::Snapshot),
        3 => (cf(), key(), key()).prop_map(|(cf, start, end)| Step::Read(cf, start, end)),
        1 => Just(Step::Flush),
        1 => Just(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

struct Items(std::vec::IntoIter<SortedItem>);

impl SortedItems for Items {
    fn next(&mut self) -> Result<Option<SortedItem>, EngineError> {
        Ok(self.0.next())
    }
}

fn batch(changes: &[Change]) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for change in changes {
        match change {
            Change::Put(cf, key, value) => batch.put(*cf, key, value),
            Change::Delete(cf, key) => batch.delete(*cf, key),
            Change::DeleteRange(cf, start, end) => {
                batch.delete_range(*cf, &range(start.clone(), end.clone()));
            }
        }
    }
    batch
}

fn range(start: Vec<u8>, end: Vec<u8>) -> KeyRange {
    KeyRange::new(start, end).expect("runs forward")
}

fn apply(model: &mut Model, batch: &WriteBatch) {
    for op in batch.ops() {
        match op {
            Op::Put { cf, key, value } => {
                model.insert((cf, key.to_vec()), value.to_vec());
            }
            Op::Delete { cf, key } => {
                model.remove(&(cf, key.to_vec()));
            }
            Op::DeleteRange { cf, start, end } => model.retain(|(at, key), _| {
                *at != cf || &key[..] < start || (!end.is_empty() && &key[..] >= end)
            }),
        }
    }
}

fn pairs(snapshot: &dyn Snapshot, cf: Cf, range: &KeyRange, order: Order) -> Vec<(Bytes, Bytes)> {
    let mut iter = snapshot.iter(cf, range, order);
    std::iter::from_fn(|| iter.next().expect("iterates")).collect()
}

fn compare(
    model: &Model,
    snapshot: &dyn Snapshot,
    cf: Cf,
    range: &KeyRange,
) -> Result<(), TestCaseError> {
    let mut expected: Vec<(Bytes, Bytes)> = model
        .iter()
        .filter(|((at, key), _)| *at == cf && range.contains(key))
        .map(|((_, key), value)| (key.clone().into(), value.clone().into()))
        .collect();
    prop_assert_eq!(&pairs(snapshot, cf, range, Order::Forward), &expected);
    expected.reverse();
    prop_assert_eq!(&pairs(snapshot, cf, range, Order::Reverse), &expected);
    for (key, value) in expected.iter().take(3) {
        let found = snapshot.get(cf, key).expect("reads");
        prop_assert_eq!(found.as_ref(), Some(value));
    }
    let missing = snapshot.get(cf, b"missing").expect("reads");
    prop_assert_eq!(missing, None);
    Ok(())
}

fn open(directory: &TempDir) -> TreeEngine {
    let options = Options {
        threads: 1,
        // So small that memtables go to tables in the middle of a history.
        memtable_bytes: 2048,
        ..Options::default()
    };
    TreeEngine::open(directory.path(), options).expect("opens")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_engine_reads_like_a_map(steps in vec(step(), 1..60)) {
        run(&steps)?;
    }
}

fn run(steps: &[Step]) -> Result<(), TestCaseError> {
    let directory = TempDir::new().expect("makes a directory");
    let mut tree = open(&directory);
    let mut memory = MemoryEngine::new();
    let mut model = Model::new();
    let mut snapshots: Vec<Moment> = Vec::new();
    for step in steps {
        match step {
            Step::Write(changes) => {
                let batch = batch(changes);
                tree.write(&batch).expect("writes");
                memory.write(&batch).expect("writes");
                apply(&mut model, &batch);
            }
            Step::Ingest(items) => {
                let items: Vec<_> = items
                    .iter()
                    .map(|((cf, key), value)| SortedItem {
                        cf: *cf,
                        key: key.clone().into(),
                        value: value.clone().map(Bytes::from),
                    })
                    .collect();
                for engine in [&tree as &dyn Engine, &memory] {
                    engine.ingest(&mut Items(items.clone().into_iter())).expect("ingests");
                }
                for item in items {
                    let key = (item.cf, item.key.to_vec());
                    match item.value {
                        Some(value) => model.insert(key, value.to_vec()),
                        None => model.remove(&key),
                    };
                }
            }
            Step::Snapshot => {
                snapshots.push((model.clone(), tree.snapshot(), memory.snapshot()));
            }
            Step::Read(cf, start, end) => {
                let end = if end < start { Vec::new() } else { end.clone() };
                let range = range(start.clone(), end);
                compare(&model, &*tree.snapshot(), *cf, &range)?;
                compare(&model, &*memory.snapshot(), *cf, &range)?;
            }
            Step::Flush => {
                tree.flush().expect("flushes");
                memory.flush().expect("flushes");
            }
            Step::Compact => {
                tree.compact().expect("compacts");
                memory.compact();
            }
            Step::Reopen => {
                // A directory stays locked while it is read.
                for (model, of_tree, of_memory) in snapshots.drain(..) {
                    for cf in Cf::ALL {
                        compare(&model, &*of_tree, cf, &KeyRange::ALL)?;
                        compare(&model, &*of_memory, cf, &KeyRange::ALL)?;
                    }
                }
                drop(tree);
                tree = open(&directory);
                memory = memory.crash(memory.unsynced());
            }
        }
    }
    snapshots.push((model, tree.snapshot(), memory.snapshot()));
    for (model, of_tree, of_memory) in snapshots {
        for cf in Cf::ALL {
            compare(&model, &*of_tree, cf, &KeyRange::ALL)?;
            compare(&model, &*of_memory, cf, &KeyRange::ALL)?;
        }
    }
    Ok(())
}
