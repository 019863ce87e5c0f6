//! What one client does, operation by operation, and what it finds wrong on the way.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::expect::Expectations;
use super::target::Target;
use super::value::{self, Family, Random};
use super::{Plan, TargetName, WorkloadName};
use crate::exit::{Failure, Status};

/// Timestamps that a run keeps, over all clients, to look for one that was drawn twice: 128 MiB.
/// Those behind are checked for order only.
const TIMESTAMPS_KEPT_MAX: usize = 16 * 1024 * 1024;

/// One client.
pub(super) struct Worker<'a> {
    plan: &'a Plan,
    /// Its number, from 0.
    client: u64,
    random: Random,
    /// Number of its last write.
    sequence: u64,
    findings: Findings,
}

/// What a client knows in the end.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What its keys must hold.
    pub(super) writes: Expectations,
    /// Timestamps it drew.
    pub(super) timestamps: Vec<u64>,
    /// Answers it compared.
    pub(super) compared: u64,
    /// Answers that were wrong.
    pub(super) wrong: u64,
    /// The first of them.
    pub(super) first_wrong: Option<String>,
}

/// What the clients of a run share.
pub(super) struct Shared {
    /// Largest timestamp that anybody was given.
    pub(super) newest: AtomicU64,
    /// Where the numbers of writes begin. Above those of earlier runs, so that what an earlier run
    /// left never passes for a write of this one.
    pub(super) first_sequence: u64,
}

impl<'a> Worker<'a> {
    /// A client that has done nothing.
    pub(super) fn new(plan: &'a Plan, client: usize, shared: &Shared) -> Self {
        Self {
            plan,
            client: client as u64,
            random: Random::new(plan.seed, client as u64),
            sequence: shared.first_sequence,
            findings: Findings::default(),
        }
    }

    /// What it knows.
    pub(super) fn finish(self) -> Findings {
        self.findings
    }

    /// One operation, from the choice of a key to the comparison of the answer.
    pub(super) async fn step(&mut self, target: &Target, shared: &Shared) -> Result<(), Failure> {
        match self.plan.workload {
            WorkloadName::RawPut => self.put(target).await,
            WorkloadName::RawGet => self.get(target).await,
            WorkloadName::TxnCommit => self.commit(target).await,
            WorkloadName::Scan => self.scan(target).await,
            WorkloadName::Tso => self.draw(target, shared).await,
        }
    }

    async fn put(&mut self, target: &Target) -> Result<(), Failure> {
        let index = self.own_index();
        let (key, value, sequence) = self.next_write(Family::Raw, index);
        let outcome = target.put(key, value).await;
        self.note(&[index], sequence, &outcome);
        outcome
    }

    async fn commit(&mut self, target: &Target) -> Result<(), Failure> {
        let mut indexes = Vec::with_capacity(self.plan.txn_size);
        while indexes.len() < self.plan.txn_size {
            let index = self.own_index();
            if !indexes.contains(&index) {
                indexes.push(index);
            }
        }
        self.sequence += 1;
        let (seed, size, sequence) = (self.plan.seed, self.plan.value_size, self.sequence);
        let pair = |&index: &u64| {
            let key = value::key(Family::Txn, seed, index);
            (key, value::value(seed, index, sequence, size))
        };
        let outcome = target.commit(indexes.iter().map(pair).collect()).await;
        self.note(&indexes, sequence, &outcome);
        outcome
    }

    async fn get(&mut self, target: &Target) -> Result<(), Failure> {
        let index = self.random.below(self.plan.keys);
        let found = target.get(value::key(Family::Raw, self.plan.seed, index)).await?;
        let is_right = found.is_some_and(|found| match self.plan.target {
            // It does not know what it is asked.
            TargetName::Echo => found.len() == self.plan.value_size,
            TargetName::Kiva | TargetName::Etcd => {
                value::sequence_of(self.plan.seed, index, &found).is_some()
            }
        });
        self.findings.compare(is_right, || {
            let key = value::key(Family::Raw, self.plan.seed, index);
            format!("key {} does not hold a value of its own", key.escape_ascii())
        });
        Ok(())
    }

    async fn scan(&mut self, target: &Target) -> Result<(), Failure> {
        let seed = self.plan.seed;
        let first = self.random.below(self.plan.keys);
        let limit = self.plan.scan_limit;
        let range = value::range_from(Family::Raw, seed, first);
        let pairs = target.scan(range, limit).await?;
        // More keys than in this plan may be there, left by a run with more of them.
        let least = limit.min(usize::try_from(self.plan.keys - first).unwrap_or(limit));
        let is_right = pairs.len() >= least
            && pairs.len() <= limit
            && pairs.iter().zip(first..).all(|(pair, index)| {
                pair.key.0 == value::key(Family::Raw, seed, index)
                    && value::sequence_of(seed, index, &pair.value).is_some()
            });
        self.findings.compare(is_right, || {
            let key = value::key(Family::Raw, seed, first);
            let (key, found) = (key.escape_ascii(), pairs.len());
            format!("the scan of {limit} from key {key} gave {found} pairs, not the ones in order")
        });
        Ok(())
    }

    async fn draw(&mut self, target: &Target, shared: &Shared) -> Result<(), Failure> {
        // What anybody had been given when this call began lies below its answer.
        let floor = shared.newest.load(Ordering::SeqCst);
        let ts = target.timestamp().await?.0;
        shared.newest.fetch_max(ts, Ordering::SeqCst);
        self.findings.compare(ts > floor, || {
            format!("timestamp {ts} was drawn after {floor} had been given")
        });
        if self.findings.timestamps.len() < TIMESTAMPS_KEPT_MAX / self.plan.clients {
            self.findings.timestamps.push(ts);
        }
        Ok(())
    }

    /// A key that only this client writes.
    fn own_index(&mut self) -> u64 {
        let clients = self.plan.clients as u64;
        let count = (self.plan.keys - self.client).div_ceil(clients);
        self.client + clients * self.random.below(count)
    }

    fn next_write(&mut self, family: Family, index: u64) -> (Bytes, Bytes, u64) {
        self.sequence += 1;
        let (seed, size) = (self.plan.seed, self.plan.value_size);
        let value = value::value(seed, index, self.sequence, size);
        (value::key(family, seed, index), value, self.sequence)
    }

    fn note(&mut self, indexes: &[u64], sequence: u64, outcome: &Result<(), Failure>) {
        for &index in indexes {
            match outcome {
                Ok(()) => self.findings.writes.acknowledge(index, sequence),
                Err(failure) if failure.status == Status::Unknown => {
                    self.findings.writes.doubt(index, sequence);
                }
                // It did not happen.
                Err(_) => {}
            }
        }
    }
}

impl Findings {
    /// Counts a comparison; `what` is said of the first that went wrong.
    pub(super) fn compare(&mut self, is_right: bool, what: impl FnOnce() -> String) {
        self.compared += 1;
        if !is_right {
            self.wrong += 1;
            self.first_wrong.get_or_insert_with(what);
        }
    }
}
