//! Each workload against a map that keeps its promises, and against one that breaks them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use clap::Parser;
use kiva_base::{Key, KeyRange, Timestamp};
use kiva_client::KvPair;

use super::*;
use crate::bench::workload::{Shared, Worker};
use crate::bench::{BenchArgs, prepare};
use crate::exit::Status;

/// A map that loses every `lossy`-th write, or draws the same timestamp again and again.
#[derive(Default)]
pub(crate) struct Memory {
    pairs: Mutex<BTreeMap<Bytes, Bytes>>,
    writes: AtomicU64,
    lossy: u64,
    clock: AtomicU64,
    stands_still: bool,
}

impl Memory {
    pub(crate) fn get(&self, key: &Bytes) -> Option<Bytes> {
        self.pairs.lock().unwrap().get(key).cloned()
    }

    pub(crate) fn put(&self, key: Bytes, value: Bytes) {
        let count = self.writes.fetch_add(1, Ordering::Relaxed) + 1;
        if self.lossy == 0 || !count.is_multiple_of(self.lossy) {
            self.pairs.lock().unwrap().insert(key, value);
        }
    }

    pub(crate) fn scan(&self, range: &KeyRange, limit: usize) -> Vec<KvPair> {
        let pairs = self.pairs.lock().unwrap();
        let pairs = pairs.iter().filter(|(key, _)| range.contains(key));
        let pair =
            |(key, value): (&Bytes, &Bytes)| KvPair { key: Key(key.clone()), value: value.clone() };
        pairs.take(limit).map(pair).collect()
    }

    pub(crate) fn timestamp(&self) -> Timestamp {
        let step = u64::from(!self.stands_still);
        Timestamp(self.clock.fetch_add(step, Ordering::Relaxed) + 1)
    }
}

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    bench: BenchArgs,
}

fn plan(flags: &str) -> Result<Plan, Failure> {
    let flags = Flags::try_parse_from(["bench"].into_iter().chain(flags.split_whitespace()));
    Plan::new(flags.map_err(Failure::usage)?.bench)
}

/// Some operations of every client of a plan, and the verdict on them.
async fn verdict(flags: &str, memory: Memory) -> Verified {
    let plan = plan(flags).expect("the flags make sense");
    let target = Target::Memory(Arc::new(memory));
    if !plan.workload.writes() {
        prepare::load(&plan, &target, 0..plan.keys).await.expect("memory answers");
    }
    let shared = Shared { newest: AtomicU64::new(0), first_sequence: 1_000 };
    let mut measured = Measured::new();
    for client in 0..plan.clients {
        let mut worker = Worker::new(&plan, client, &shared);
        for _ in 0..200 {
            worker.step(&target, &shared).await.expect("memory answers");
        }
        measured.absorb(worker.finish(), None);
    }
    let mut verified = Verified {
        checked: measured.compared,
        mismatches: measured.wrong,
        first: measured.first_wrong,
    };
    let family = match plan.workload {
        WorkloadName::TxnCommit => Family::Txn,
        _ => Family::Raw,
    };
    let left = compare(&plan, family, &target, &measured.writes).await;
    verified.add(left.expect("memory answers"));
    verified.add(unique(&measured.timestamps));
    verified
}

const WORKLOADS: [&str; 5] = [
    "--workload raw-put --clients 4 --keys 100",
    "--workload raw-get --clients 4 --keys 100",
    "--workload txn-commit --clients 4 --keys 100 --txn-size 5",
    "--workload scan --clients 4 --keys 100 --scan-limit 30",
    "--workload tso --clients 4",
];

#[tokio::test]
async fn a_store_that_keeps_its_promises_passes() {
    for flags in WORKLOADS {
        let verified = verdict(flags, Memory::default()).await;
        assert!(verified.checked >= 90, "{flags}: {verified:?}");
        assert_eq!((verified.mismatches, verified.first), (0, None), "{flags}");
    }
}

#[tokio::test]
async fn a_store_that_loses_writes_is_found_out() {
    for flags in WORKLOADS {
        let memory = Memory { lossy: 7, stands_still: true, ..Memory::default() };
        let verified = verdict(flags, memory).await;
        assert!(verified.mismatches > 0, "{flags}: {verified:?}");
        assert!(verified.first.is_some(), "{flags}");
    }
}

#[test]
fn a_timestamp_drawn_twice_is_found() {
    assert_eq!(unique(&[3, 1, 2]).mismatches, 0);
    let verified = unique(&[3, 1, 2, 1]);
    assert_eq!(verified.mismatches, 1);
    assert_eq!(verified.first.as_deref(), Some("timestamp 1 was drawn twice"));
}

#[test]
fn flags_that_make_no_sense_are_usage() {
    let wrong = [
        "--clients 0",
        "--seconds 0",
        "--keys 0",
        "--value-size 15",
        "--txn-size 0",
        "--threads 5 --connections 4",
        "--connections 5 --clients 4",
        "--workload raw-put --clients 10 --keys 9",
        "--workload txn-commit --clients 10 --keys 99 --txn-size 10",
        "--target etcd",
        "--endpoints 127.0.0.1:1",
        "--target etcd --endpoints 127.0.0.1:1 --workload scan",
        "--target etcd --endpoints 127.0.0.1:1 --wire batch",
        "--target echo --endpoints 127.0.0.1:1 --workload raw-put",
        "--workload nonsense",
    ];
    for flags in wrong {
        let failure = plan(flags).expect_err(flags);
        assert_eq!(failure.status, Status::Usage, "{flags}");
    }
    assert!(plan("--target echo --endpoints 127.0.0.1:1 --workload raw-get").is_ok());
}

#[test]
fn clients_and_connections_are_dealt_to_all_threads() {
    let plan = plan("--clients 10 --threads 3 --connections 5").expect("the flags make sense");
    let mut clients: Vec<_> = (0..3).flat_map(|thread| plan.clients_of(thread)).collect();
    clients.sort_unstable();
    assert_eq!(clients, (0..10).collect::<Vec<_>>());
    let connections: Vec<_> = (0..3).map(|thread| plan.connections_of(thread)).collect();
    assert_eq!(connections, [2, 2, 1]);
}
