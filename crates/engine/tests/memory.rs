//! What only the engine in memory can do: crash at a chosen batch, fail on command, and show that
//! versions go.

use kiva_base::KeyRange;
use kiva_engine::memory::{FailedWrite, MemoryEngine};
use kiva_engine::{Cf, Engine, EngineError, Health, Order, Snapshot, WriteBatch};

fn put(engine: &MemoryEngine, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
    let mut batch = WriteBatch::new();
    batch.put(Cf::Default, key, value);
    engine.write(&batch)
}

fn get(snapshot: &dyn Snapshot, key: &[u8]) -> Option<Vec<u8>> {
    let value = snapshot.get(Cf::Default, key).expect("reads");
    value.map(|value| value.to_vec())
}

#[test]
fn a_crash_keeps_as_many_batches_as_it_is_told() {
    for survivors in 0..=3 {
        let engine = MemoryEngine::new();
        put(&engine, b"k", b"flushed").expect("writes");
        put(&engine, b"gone", b"1").expect("writes");
        engine.flush().expect("flushes");
        put(&engine, b"k", b"1").expect("writes");
        put(&engine, b"k", b"2").expect("writes");
        let mut batch = WriteBatch::new();
        batch.delete(Cf::Default, b"gone");
        batch.put(Cf::Lock, b"k", b"3");
        engine.write(&batch).expect("writes");
        assert_eq!(engine.unsynced(), 3);

        let before = engine.snapshot();
        let found = engine.crash(survivors);
        let expected: &[u8] = [&b"flushed"[..], b"1", b"2", b"2"][survivors];
        assert_eq!(get(&*found.snapshot(), b"k").as_deref(), Some(expected));
        assert_eq!(get(&*found.snapshot(), b"gone").is_none(), survivors == 3);
        assert_eq!(found.unsynced(), 0);

        assert_eq!(get(&*before, b"k").as_deref(), Some(&b"2"[..]));
        assert_eq!(engine.health(), Health::Poisoned);
        put(&engine, b"k", b"late").expect_err("it has crashed");
        put(&found, b"k", b"on").expect("the new one goes on");
    }
}

#[test]
fn a_failed_write_poisons_and_may_have_happened() {
    for outcome in [FailedWrite::Lost, FailedWrite::Happened] {
        let engine = MemoryEngine::new();
        put(&engine, b"a", b"1").expect("writes");
        engine.fail_next_write(outcome);
        let failed = put(&engine, b"b", b"1").expect_err("is made to fail");
        assert!(matches!(failed, EngineError::Io { .. }), "{failed}");
        assert_eq!(engine.health(), Health::Poisoned);
        assert_eq!(get(&*engine.snapshot(), b"b"), None);
        assert_eq!(get(&*engine.snapshot(), b"a").as_deref(), Some(&b"1"[..]));
        let refused = put(&engine, b"c", b"1").expect_err("is poisoned");
        assert!(matches!(refused, EngineError::Poisoned { .. }), "{refused}");
        engine.flush().expect_err("is poisoned");

        let found = engine.crash(engine.unsynced());
        assert_eq!(get(&*found.snapshot(), b"a").as_deref(), Some(&b"1"[..]));
        let happened = get(&*found.snapshot(), b"b").is_some();
        assert_eq!(happened, outcome == FailedWrite::Happened);
    }
}

#[test]
fn a_failed_flush_poisons_and_makes_nothing_durable() {
    let engine = MemoryEngine::new();
    put(&engine, b"a", b"1").expect("writes");
    engine.fail_next_flush();
    engine.flush().expect_err("is made to fail");
    put(&engine, b"b", b"1").expect_err("is poisoned");
    engine.flush().expect_err("is poisoned");
    assert_eq!(get(&*engine.crash(0).snapshot(), b"a"), None);
}

/// Covers 1-reader-release.
#[test]
fn old_versions_go_when_nobody_can_ask_for_them() {
    let engine = MemoryEngine::new();
    put(&engine, b"k", b"0").expect("writes");
    let snapshot = engine.snapshot();
    let iter = snapshot.iter(Cf::Default, &KeyRange::ALL, Order::Forward);
    for number in 0..100_u8 {
        put(&engine, b"k", &[number]).expect("writes");
    }
    engine.flush().expect("flushes");
    assert!(engine.versions() > 1, "the snapshot still needs them");
    drop(snapshot);
    assert!(engine.versions() > 1, "the iterator still needs them");
    drop(iter);
    assert_eq!(engine.versions(), 1);

    for _ in 0..1000 {
        drop(engine.snapshot().iter(Cf::Lock, &KeyRange::ALL, Order::Reverse));
        put(&engine, b"k", b"1").expect("writes");
        engine.flush().expect("flushes");
    }
    assert_eq!(engine.versions(), 1);
    let mut batch = WriteBatch::new();
    batch.delete_range(Cf::Default, &KeyRange::ALL);
    engine.write(&batch).expect("writes");
    engine.flush().expect("flushes");
    assert_eq!(engine.versions(), 0);
}
