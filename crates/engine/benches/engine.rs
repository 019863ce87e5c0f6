//! What a put, a get, a snapshot, a scan of 100 and a flush cost on each engine, with 200,000 keys
//! of 16 bytes and values of 256.
//!
//! `cargo bench -p kiva-engine`

// `criterion_group` makes a function without a doc comment.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use kiva_base::KeyRange;
use kiva_engine::memory::MemoryEngine;
use kiva_engine::tree::{Options, TreeEngine};
use kiva_engine::{Cf, Engine, Order, WriteBatch};

const KEYS: u64 = 200_000;

/// Spreads counters over the key space.
fn key(number: u64) -> [u8; 16] {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut key = [b'k'; 16];
    key[8..].copy_from_slice(&mixed.to_be_bytes());
    key
}

fn fill(engine: &dyn Engine) {
    for start in (0..KEYS).step_by(100) {
        let mut batch = WriteBatch::new();
        for number in start..start + 100 {
            batch.put(Cf::Default, &key(number), &[number as u8; 256]);
        }
        engine.write(&batch).expect("writes");
    }
}

fn bench(c: &mut Criterion, name: &str, engine: &dyn Engine) {
    let mut group = c.benchmark_group(name);
    let mut number = 0_u64;
    let mut next = || {
        number += 1;
        number
    };
    let snapshot = engine.snapshot();
    group.bench_function("snapshot", |b| b.iter(|| black_box(engine.snapshot())));
    group.bench_function("get", |b| {
        b.iter(|| snapshot.get(Cf::Default, &key(next() * 7 % KEYS)).expect("reads"));
    });
    group.bench_function("get missing", |b| {
        b.iter(|| snapshot.get(Cf::Lock, &key(next() * 7 % KEYS)).expect("reads"));
    });
    group.bench_function("snapshot and get", |b| {
        b.iter(|| {
            let snapshot = engine.snapshot();
            snapshot.get(Cf::Default, &key(next() * 7 % KEYS)).expect("reads")
        });
    });
    group.bench_function("iterator and first item", |b| {
        b.iter(|| {
            let start = key(next() * 7 % KEYS).to_vec();
            let range = KeyRange::new(start, "").expect("runs forward");
            let mut iter = snapshot.iter(Cf::Default, &range, Order::Forward);
            iter.next().expect("iterates")
        });
    });
    for (name, order) in [("scan 100", Order::Forward), ("scan 100 back", Order::Reverse)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let bound = key(next() * 7 % KEYS).to_vec();
                let range = match order {
                    Order::Forward => KeyRange::new(bound, ""),
                    Order::Reverse => KeyRange::new("", bound),
                };
                let range = range.expect("runs forward");
                let mut iter = snapshot.iter(Cf::Default, &range, order);
                for _ in 0..100 {
                    black_box(iter.next().expect("iterates"));
                }
            });
        });
    }
    drop(snapshot);
    for size in [1, 32] {
        group.bench_function(format!("put, batch of {size}"), |b| {
            b.iter(|| {
                let mut batch = WriteBatch::new();
                for _ in 0..size {
                    batch.put(Cf::Default, &key(next() % KEYS), &[7; 256]);
                }
                engine.write(&batch).expect("writes");
            });
        });
    }
    group.bench_function("32 puts and a flush", |b| {
        b.iter(|| {
            for _ in 0..32 {
                let mut batch = WriteBatch::new();
                batch.put(Cf::Default, &key(next() % KEYS), &[7; 256]);
                engine.write(&batch).expect("writes");
            }
            engine.flush().expect("flushes");
        });
    });
    group.finish();
}

fn engines(c: &mut Criterion) {
    let memory = MemoryEngine::new();
    fill(&memory);
    memory.flush().expect("flushes");
    bench(c, "memory", &memory);
    let directory = tempfile::tempdir().expect("makes a directory");
    let tree = TreeEngine::open(directory.path(), Options::default()).expect("opens");
    fill(&tree);
    bench(c, "tree, memtable", &tree);
    let directory = tempfile::tempdir().expect("makes a directory");
    let tree = TreeEngine::open(directory.path(), Options::default()).expect("opens");
    fill(&tree);
    tree.compact().expect("compacts");
    bench(c, "tree, tables", &tree);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = engines
}
criterion_main!(benches);
