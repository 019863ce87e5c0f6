//! What does the journal cost, once there is another log? The same writes on the engine with one
//! (`disk`) and on the one without (`tree`), with flushing and merging until both are at rest.
//!
//! ```text
//! cargo run --release -p kiva-engine --example journal -- disk|tree [thousand keys] [batch size]
//! ```
//!
//! Keys are 16 random bytes, values 256 that do not compress, one writer. It prints
//!
//! - CPU of the whole process per put, the threads of the engine included, and wall time per put;
//! - bytes that went to files per byte of keys and values;
//! - what a flush takes when little was written, and how long writers and readers are held;
//! - what small flushes cost when their keys lie everywhere, merging included.

#![expect(clippy::disallowed_methods, reason = "it measures time, and waits")]
#![expect(clippy::print_stdout, reason = "the figures are printed")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kiva_engine::disk::DiskEngine;
use kiva_engine::tree::{Options, TreeEngine};
use kiva_engine::{Cf, Engine, Health, WriteBatch};

/// A clock tick of `/proc/self/stat`.
const TICK: Duration = Duration::from_millis(10);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next().expect("an engine: disk or tree");
    let mut number =
        |default: u64| arguments.next().map_or(default, |text| text.parse().expect("is a number"));
    let (keys, batch) = (number(500) * 1000, number(32));
    let directory = tempfile::tempdir().expect("makes a directory");
    let options = Options::default();
    match &kind[..] {
        "disk" => {
            run(&DiskEngine::open(directory.path(), options).expect("opens"), &kind, keys, batch);
        }
        "tree" => {
            run(&TreeEngine::open(directory.path(), options).expect("opens"), &kind, keys, batch);
        }
        _ => panic!("no engine is called {kind}"),
    }
}

fn run(engine: &dyn Engine, kind: &str, keys: u64, batch: u64) {
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let before = (cpu(), written());
    let start = Instant::now();
    let mut pressed = 0;
    for _ in 0..keys / batch {
        engine.write(&puts(&mut random, Cf::Default, batch)).expect("writes");
        // As a caller should: a pause when there is pressure.
        while engine.health() == Health::Pressed {
            pressed += 1;
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    engine.flush().expect("flushes");
    let wall = start.elapsed();
    rest();
    let cpu_spent = cpu() - before.0;
    let bytes = (written() - before.1) as f64;
    println!("{kind}, {keys} keys, batches of {batch}");
    println!("  CPU per put           {:6.2} µs", cpu_spent.as_secs_f64() * 1e6 / keys as f64);
    println!("  wall per put          {:6.2} µs", wall.as_secs_f64() * 1e6 / keys as f64);
    println!("  bytes per user byte   {:6.2}", bytes / (keys * 272) as f64);
    println!("  paused for pressure   {pressed:4} ms");
    flushes(engine, &mut random);
    holds(engine, &mut random);
    rest();
    scattered(engine, &mut random);
}

fn puts(random: &mut u64, cf: Cf, count: u64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    let mut pair = [0; 272];
    for _ in 0..count {
        for word in pair.chunks_exact_mut(8) {
            *random ^= *random << 13;
            *random ^= *random >> 7;
            *random ^= *random << 17;
            word.copy_from_slice(&random.to_be_bytes());
        }
        batch.put(cf, &pair[..16], &pair[16..]);
    }
    batch
}

/// A flush after 100 puts, again and again. They are in a family of their own: how long it takes to
/// merge them with everything else is not what is asked.
fn flushes(engine: &dyn Engine, random: &mut u64) {
    let mut times: Vec<_> = (0..101)
        .map(|_| {
            engine.write(&puts(random, Cf::Local, 100)).expect("writes");
            let start = Instant::now();
            engine.flush().expect("flushes");
            let time = start.elapsed();
            std::thread::sleep(Duration::from_millis(20));
            time
        })
        .collect();
    times.sort_unstable();
    println!(
        "  flush of 100 puts     {:6.2} ms half of the time, {:.2} ms at most",
        times[50].as_secs_f64() * 1e3,
        times[100].as_secs_f64() * 1e3
    );
}

/// The slowest writes and reads while another thread flushes.
fn holds(engine: &dyn Engine, random: &mut u64) {
    let done = AtomicBool::new(false);
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    let mut flushed = 0;
    std::thread::scope(|scope| {
        let flusher = scope.spawn(|| {
            for _ in 0..50 {
                engine.flush().expect("flushes");
                std::thread::sleep(Duration::from_millis(20));
            }
            done.store(true, Ordering::Relaxed);
            50
        });
        while !done.load(Ordering::Relaxed) {
            let batch = puts(random, Cf::Local, 1);
            let start = Instant::now();
            engine.write(&batch).expect("writes");
            writes.push(start.elapsed());
            let start = Instant::now();
            let snapshot = engine.snapshot();
            snapshot.get(Cf::Local, &random.to_be_bytes()).expect("reads");
            reads.push(start.elapsed());
            std::thread::sleep(Duration::from_micros(50));
        }
        flushed = flusher.join().expect("flushes");
    });
    for (name, mut times) in [("writes", writes), ("reads", reads)] {
        times.sort_unstable();
        let slow = times.iter().filter(|time| **time > Duration::from_micros(500)).count();
        println!(
            "  {name} beside {flushed} flushes: {slow} of {} over 0.5 ms, the slowest {:.2} ms",
            times.len(),
            times.last().expect("there are some").as_secs_f64() * 1e3
        );
    }
}

/// Small flushes of keys that lie everywhere.
fn scattered(engine: &dyn Engine, random: &mut u64) {
    let before = (cpu(), written());
    for _ in 0..100 {
        engine.write(&puts(random, Cf::Default, 100)).expect("writes");
        engine.flush().expect("flushes");
        std::thread::sleep(Duration::from_millis(20));
    }
    rest();
    println!(
        "  100 scattered flushes {:6.1} bytes per user byte, {:.1} s of CPU",
        (written() - before.1) as f64 / (100 * 100 * 272) as f64,
        (cpu() - before.0).as_secs_f64()
    );
}

/// Until the process has nothing to do for half a second.
fn rest() {
    loop {
        let before = cpu();
        std::thread::sleep(Duration::from_millis(500));
        if cpu() - before <= TICK {
            return;
        }
    }
}

/// CPU time of this process and its threads.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("is Linux");
    let behind_name = stat.rsplit(')').next().expect("has a part");
    let fields: Vec<&str> = behind_name.split_whitespace().collect();
    let ticks = |field: usize| fields[field].parse::<u32>().expect("is a number");
    TICK * (ticks(11) + ticks(12))
}

/// Bytes given to the system so far.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").expect("is Linux");
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("has a line");
    line.parse().expect("is a number")
}
