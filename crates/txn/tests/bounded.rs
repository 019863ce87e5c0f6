//! How much work the rules do, counted in steps of the engine. Never measured in time.

#![expect(clippy::unwrap_used, reason = "a test fails where it panics")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use kiva_base::{Key, KeyRange, Timestamp};
use kiva_engine::memory::MemoryEngine;
use kiva_engine::{Cf, Engine, EngineError, Iter, Order, Snapshot, WriteBatch};
use kiva_txn::limits::{
    RESOLVE_KEY_BYTES_MAX, RESOLVE_LOCKS_EXAMINED_MAX, RESOLVE_LOCKS_MAX, STEPS_BEFORE_SEEK,
};
use kiva_txn::lock::Lock;
use kiva_txn::write::Write;
use kiva_txn::writer::MvccWriter;
use kiva_txn::*;

/// A snapshot that counts what is asked of it.
struct Counted {
    inner: Arc<dyn Snapshot>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    gets: AtomicUsize,
    iterators: AtomicUsize,
    steps: AtomicUsize,
}

struct CountedIter {
    inner: Box<dyn Iter>,
    counts: Arc<Counts>,
}

impl Snapshot for Counted {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.counts.gets.fetch_add(1, Ordering::Relaxed);
        self.inner.get(cf, key)
    }

    fn iter(&self, cf: Cf, range: &KeyRange, order: Order) -> Box<dyn Iter> {
        self.counts.iterators.fetch_add(1, Ordering::Relaxed);
        Box::new(CountedIter {
            inner: self.inner.iter(cf, range, order),
            counts: self.counts.clone(),
        })
    }
}

impl Iter for CountedIter {
    fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, EngineError> {
        self.counts.steps.fetch_add(1, Ordering::Relaxed);
        self.inner.next()
    }
}

impl Counted {
    fn of(engine: &MemoryEngine) -> Self {
        Self { inner: engine.snapshot(), counts: Arc::default() }
    }

    fn iterators(&self) -> usize {
        self.counts.iterators.load(Ordering::Relaxed)
    }

    fn steps(&self) -> usize {
        self.counts.steps.load(Ordering::Relaxed)
    }
}

fn numbered(number: usize) -> Key {
    Key::from(format!("k{number:06}"))
}

fn committed(start_ts: u64) -> Write {
    Write::of_lock(&lock(start_ts)).expect("a put leaves a record")
}

fn lock(start_ts: u64) -> Lock {
    Lock {
        kind: kiva_base::fault::LockKind::Put,
        primary: numbered(0),
        start_ts: Timestamp(start_ts),
        ttl_ms: 3_000,
        txn_size: 0,
        short_value: Some(Bytes::from("v")),
        min_commit_ts: Timestamp::ZERO,
        for_update_ts: Timestamp::ZERO,
        async_commit: None,
        rollbacks: Vec::new(),
    }
}

/// `keys` keys, each with one visible version, `above` records newer than timestamp 10 and
/// `rollbacks` rollback records between the version and that timestamp.
fn layered(keys: usize, above: u64, rollbacks: u64) -> MemoryEngine {
    let engine = MemoryEngine::new();
    for number in 0..keys {
        let key = numbered(number).encode();
        let mut writer = MvccWriter::new();
        writer.put_write(&key, Timestamp(2), &committed(1));
        for ts in 0..rollbacks {
            let ts = Timestamp(1_000 + ts);
            writer.put_write(&key, ts, &Write::rollback(ts, false));
        }
        for ts in 0..above {
            writer.put_write(&key, Timestamp(1_000_000 + ts), &committed(500_000 + ts));
        }
        engine.write(&writer.into_batch()).unwrap();
    }
    engine
}

fn scan_all(engine: &MemoryEngine, order: Order) -> Counted {
    let view = Counted::of(engine);
    let request = Scan {
        range: KeyRange::ALL,
        order,
        limit: usize::MAX,
        version: Timestamp(500_000),
        key_only: false,
        sample_step: 0,
        rules: ReadRules::default(),
    };
    let pairs = scan(&view, &request).unwrap().unwrap();
    assert_eq!(pairs.len(), 20);
    view
}

/// Covers 4C-scan-rollback-records: each record on top is stepped over once.
#[test]
fn rollback_records_on_top_cost_a_step_each() {
    for order in [Order::Forward, Order::Reverse] {
        let few = scan_all(&layered(20, 0, 100), order).steps();
        let many = scan_all(&layered(20, 0, 1_000), order).steps();
        assert!(few >= 20 * 100, "{order:?}: {few}");
        assert!(few <= 20 * (100 + 3 * STEPS_BEFORE_SEEK), "{order:?}: {few}");
        assert!(many <= 20 * (1_000 + 3 * STEPS_BEFORE_SEEK), "{order:?}: {many}");
    }
}

/// Versions nobody asked for are jumped over, however many there are.
#[test]
fn newer_versions_cost_the_same_whether_a_hundred_or_a_thousand() {
    for order in [Order::Forward, Order::Reverse] {
        let hundred = scan_all(&layered(20, 100, 0), order);
        let thousand = scan_all(&layered(20, 1_000, 0), order);
        assert_eq!(hundred.steps(), thousand.steps(), "{order:?}");
        assert!(thousand.steps() <= 20 * 3 * (STEPS_BEFORE_SEEK + 1), "{order:?}");
        assert!(thousand.iterators() <= 2 + 20 * 2, "{order:?}");
    }
}

/// A key with few versions is never worth a new iterator.
#[test]
fn few_versions_are_stepped_over() {
    for order in [Order::Forward, Order::Reverse] {
        let view = scan_all(&layered(20, 2, 2), order);
        assert_eq!(view.iterators(), 2, "{order:?}: one for locks, one for records");
    }
}

#[test]
fn a_get_opens_one_iterator() {
    let view = Counted::of(&layered(1, 1_000, 0));
    let request =
        Get { key: numbered(0), version: Timestamp(500_000), rules: ReadRules::default() };
    let value = get(&view, &request).unwrap().unwrap();
    assert_eq!(value, Some(Bytes::from("v")));
    assert_eq!((view.iterators(), view.steps()), (1, 1));
}

/// So many locks: of ten each, nine of transaction 10 and one of transaction 11.
fn many_locks(count: usize) -> MemoryEngine {
    let engine = MemoryEngine::new();
    let mut writer = MvccWriter::new();
    for number in 0..count {
        let owner = if number % 10 == 9 { 11 } else { 10 };
        writer.put_lock(&numbered(number).encode(), &lock(owner));
    }
    engine.write(&writer.into_batch()).unwrap();
    engine
}

/// Resolves everything as the executor would, and tells how many steps that took.
fn resolve_all(engine: &MemoryEngine, fates: &[(Timestamp, Fate)]) -> usize {
    let mut rest = Some(KeyRange::ALL);
    let mut steps = 0;
    while let Some(range) = rest {
        let view = Counted::of(engine);
        let request = FindLocks { fates: fates.iter().copied().collect(), range };
        let found = find_locks(&view, &request).unwrap().unwrap();
        assert!(found.resolve.locks.len() <= RESOLVE_LOCKS_MAX);
        assert!(view.steps() <= RESOLVE_LOCKS_EXAMINED_MAX + 1);
        let outcome = resolve(&*engine.snapshot(), &found.resolve).unwrap();
        outcome.reply.unwrap();
        assert!(outcome.batch.len() <= 3 * RESOLVE_LOCKS_MAX);
        engine.write(&outcome.batch).unwrap();
        rest = found.rest;
        steps += 1;
    }
    steps
}

fn locks_left(engine: &MemoryEngine) -> Vec<kiva_base::LockInfo> {
    let request = ScanLock { max_version: Timestamp::MAX, range: KeyRange::ALL, limit: usize::MAX };
    scan_lock(&*engine.snapshot(), &request).unwrap()
}

/// Everything in the engine.
fn contents(engine: &MemoryEngine) -> Vec<(Cf, Bytes, Bytes)> {
    let view = engine.snapshot();
    let mut all = Vec::new();
    for cf in Cf::ALL {
        let mut iter = view.iter(cf, &KeyRange::ALL, Order::Forward);
        while let Some((key, value)) = iter.next().unwrap() {
            all.push((cf, key, value));
        }
    }
    all
}

/// Covers 4C-resolve-many.
#[test]
fn a_hundred_thousand_locks_are_resolved_in_bounded_batches() {
    let engine = many_locks(111_111);
    let fate = Fate::Committed(Timestamp(20));
    let steps = resolve_all(&engine, &[(Timestamp(10), fate)]);
    assert_eq!(steps, 100_000_usize.div_ceil(RESOLVE_LOCKS_MAX));
    let left = locks_left(&engine);
    assert_eq!(left.len(), 11_111);
    assert!(left.iter().all(|lock| lock.start_ts == Timestamp(11)));

    // The same as all at once.
    let at_once = many_locks(111_111);
    let keys = (0..111_111).filter(|n| n % 10 != 9).map(numbered);
    let request = Resolve::keys_of(Timestamp(10), fate, keys);
    let outcome = resolve(&*at_once.snapshot(), &request).unwrap();
    at_once.write(&outcome.batch).unwrap();
    assert!(contents(&engine) == contents(&at_once), "batches change the result");
}

/// Of many transactions each lock meets its own fate.
#[test]
fn transactions_are_resolved_together() {
    let engine = many_locks(3_000);
    let fates =
        [(Timestamp(10), Fate::RolledBack), (Timestamp(11), Fate::Committed(Timestamp(20)))];
    resolve_all(&engine, &fates);
    assert_eq!(locks_left(&engine), []);
    let read = |number| {
        let request =
            Get { key: numbered(number), version: Timestamp::MAX, rules: ReadRules::default() };
        get(&*engine.snapshot(), &request).unwrap().unwrap()
    };
    assert_eq!(read(8), None);
    assert_eq!(read(9), Some(Bytes::from("v")));
}

/// A region full of other transactions' locks is looked at in pieces too.
#[test]
fn foreign_locks_do_not_make_a_step_longer() {
    let engine = many_locks(40_000);
    let steps = resolve_all(&engine, &[(Timestamp(12), Fate::RolledBack)]);
    assert_eq!(steps, 40_000_usize.div_ceil(RESOLVE_LOCKS_EXAMINED_MAX));
    assert_eq!(locks_left(&engine).len(), 40_000);
}

/// Long keys fill a step before there are many of them.
#[test]
fn long_keys_make_steps_shorter() {
    let engine = MemoryEngine::new();
    let mut writer = MvccWriter::new();
    for number in 0..200 {
        let key = Key::from(format!("{number:06}{}", "k".repeat(7_000)));
        writer.put_lock(&key.encode(), &lock(10));
    }
    engine.write(&writer.into_batch()).unwrap();
    let request =
        FindLocks { fates: [(Timestamp(10), Fate::RolledBack)].into(), range: KeyRange::ALL };
    let found = find_locks(&*engine.snapshot(), &request).unwrap().unwrap();
    let size: usize = (found.resolve.keys().iter()).map(|key| key.as_bytes().len()).sum();
    assert!((RESOLVE_KEY_BYTES_MAX..RESOLVE_KEY_BYTES_MAX + 8 * 1024).contains(&size));
    assert!(found.rest.is_some());
    resolve_all(&engine, &[(Timestamp(10), Fate::RolledBack)]);
    assert_eq!(locks_left(&engine), []);
}

/// Somebody may finish a lock after it was found and before its key is latched. What they decided
/// stands; where they left nothing there is nothing to do, and no record is invented.
#[test]
fn a_lock_that_went_away_after_it_was_found_is_passed_over() {
    let engine = MemoryEngine::new();
    let mut writer = MvccWriter::new();
    for number in 0..3 {
        writer.put_lock(&numbered(number).encode(), &lock(10));
    }
    engine.write(&writer.into_batch()).unwrap();
    let find = |fate| {
        let request = FindLocks { fates: [(Timestamp(10), fate)].into(), range: KeyRange::ALL };
        let found = find_locks(&*engine.snapshot(), &request).unwrap().unwrap();
        found.resolve
    };
    let to_commit = find(Fate::Committed(Timestamp(20)));
    let to_roll_back = find(Fate::RolledBack);

    // A pessimistic lock would go like this: without a trace.
    let mut vanish = WriteBatch::new();
    vanish.delete(Cf::Lock, numbered(0).encode().as_bytes());
    engine.write(&vanish).unwrap();
    let outcome = resolve(&*engine.snapshot(), &to_commit).unwrap();
    assert_eq!(outcome.reply, Ok(()));
    engine.write(&outcome.batch).unwrap();
    let again = resolve(&*engine.snapshot(), &to_commit).unwrap();
    assert_eq!(again.reply, Ok(()));
    assert!(again.batch.is_empty());

    // Whoever was told the opposite hears of the contradiction.
    let opposite = resolve(&*engine.snapshot(), &to_roll_back).unwrap();
    assert!(matches!(opposite.reply, Err(kiva_base::KeyError::Abort(_))));
    assert!(opposite.batch.is_empty());
}
