//! A process that is killed in the middle of its writes, again and again, on one directory.
//!
//! The test runs itself: a child with `KIVA_ENGINE_CHILD` set writes batches, flushes now and then,
//! and prints the last number that a flush has made durable. The parent kills it after some lines.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use kiva_base::KeyRange;
use kiva_engine::tree::{Options, TreeEngine};
use kiva_engine::{Cf, Engine, Order, WriteBatch};
use tempfile::TempDir;

const DIRECTORY: &str = "KIVA_ENGINE_CHILD";
/// Largest value in bytes.
const VALUES: &str = "KIVA_ENGINE_CHILD_VALUES";

fn open(directory: &Path) -> TreeEngine {
    let options = Options {
        // So small that the child is also killed while tables are written and merged.
        memtable_bytes: 1024 * 1024,
        ..Options::default()
    };
    TreeEngine::open(directory, options).expect("opens")
}

/// How many numbers are there, from 0, in every family, with their values whole.
fn counted(engine: &dyn Engine, largest: u64) -> u64 {
    let snapshot = engine.snapshot();
    let counts = Cf::ALL.map(|cf| {
        let mut iter = snapshot.iter(cf, &KeyRange::ALL, Order::Forward);
        let mut next = 0_u64;
        while let Some((key, value)) = iter.next().expect("iterates") {
            assert_eq!(&key[..], next.to_be_bytes(), "a gap in {}", cf.name());
            assert!(value == self::value(next, largest), "the value of {next}");
            next += 1;
        }
        next
    });
    assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
    counts[0]
}

/// Bytes that do not compress.
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    (0..32_768_u64)
        .flat_map(|word| word.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes())
        .collect()
});

/// Some part of the noise, as long as the number says.
fn value(number: u64, largest: u64) -> &'static [u8] {
    let len = (number * 7919 % largest) as usize;
    let start = (number * 104_729 % 131_072) as usize;
    &NOISE[start..start + len]
}

/// The child: writes until it is killed.
#[test]
fn child_writes_until_it_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let largest = std::env::var(VALUES).expect("is set").parse().expect("is a number");
    let engine = open(Path::new(&directory));
    let mut out = std::io::stdout().lock();
    for number in counted(&engine, largest).. {
        let mut batch = WriteBatch::new();
        let value = value(number, largest);
        for cf in Cf::ALL {
            batch.put(cf, &number.to_be_bytes(), value);
        }
        engine.write(&batch).expect("writes");
        if number % 7 == 0 {
            engine.flush().expect("flushes");
            // The first line of a test has its name before it.
            writeln!(out, "\ndurable {number}").expect("prints");
        }
    }
}

/// Covers 1-durable and 1-batch-atomic with real processes.
#[test]
fn what_was_flushed_survives_kill_9_and_batches_are_whole() {
    kill(8, 700);
}

/// The same with values so large that memtables are also written in between, and merged.
#[test]
fn tables_that_are_merged_survive_kill_9() {
    kill(3, 120_000);
}

fn kill(rounds: u64, largest: u64) {
    let directory = TempDir::new().expect("makes a directory");
    let itself = std::env::current_exe().expect("has a path");
    let mut durable = None;
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64 ^ largest;
    for round in 0..rounds {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round);
        let lines = 1 + (seed >> 33) % 60;
        let mut child = Command::new(&itself)
            .args(["--exact", "child_writes_until_it_is_killed", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .env(VALUES, largest.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts itself");
        let out = BufReader::new(child.stdout.take().expect("is piped"));
        let mut numbers = out.lines().filter_map(|line| {
            let line = line.expect("reads");
            line.strip_prefix("durable ")?.parse::<u64>().ok()
        });
        let read: Vec<_> = numbers.by_ref().take(lines as usize).collect();
        assert_eq!(read.len(), lines as usize, "the child ended by itself");
        child.kill().expect("kills");
        child.wait().expect("ends");
        // What it printed before it died counts, too. The last line may be cut.
        durable = read.into_iter().chain(numbers).last().or(durable);

        let engine = open(directory.path());
        let found = counted(&engine, largest);
        let promised = durable.expect("has printed") + 1;
        assert!(found >= promised, "{found} of {promised} in round {round}");
    }
}
