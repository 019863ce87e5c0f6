//! begin, get, put, commit: what a user holds.
//!
//! A transaction reads the data as of its start, together with its own writes, which stay in this
//! process until [`Transaction::commit`]. The commit succeeds if nobody committed a write to one of
//! its keys meanwhile (snapshot isolation): of two transactions that write the same key, one gets
//! [`CommitError::Conflict`]. Keys that are only read are not checked; [`Transaction::lock`] adds
//! one to those that are.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use kiva_base::{Key, KeyRange, Moment, Timestamp};

use crate::committer::{Committed, Committer};
use crate::error::{AlreadyWritten, CommitError, ReadError};
use crate::raw::KvPair;
use crate::rpc::{Change, Direction, Mutation};
use crate::snapshot::Snapshot;

/// A transaction in progress. Dropping it forgets its writes; nothing needs to be undone.
///
/// Invariant: `writes` says for each key what the commit will do, and with it what reads see.
#[must_use = "a transaction does nothing until it is committed"]
pub struct Transaction {
    snapshot: Snapshot,
    began: Moment,
    writes: BTreeMap<Key, Change>,
}

impl Transaction {
    pub(crate) fn new(snapshot: Snapshot) -> Self {
        let began = snapshot.core().clock.now();
        Self { snapshot, began, writes: BTreeMap::new() }
    }

    /// The same, with another time for one operation and all its repetitions; the commit is one.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.snapshot = self.snapshot.with_timeout(timeout);
        self
    }

    /// When it began: what it reads, and its name.
    pub fn start_ts(&self) -> Timestamp {
        self.snapshot.version()
    }

    /// The value of `key` as this transaction sees it.
    pub async fn get(&self, key: impl Into<Key>) -> Result<Option<Bytes>, ReadError> {
        let key = key.into();
        match self.own(&key) {
            Some(value) => Ok(value.cloned()),
            None => self.snapshot.get(key).await,
        }
    }

    /// The pairs that exist among `keys`, in the order asked for.
    pub async fn batch_get(&self, keys: Vec<Key>) -> Result<Vec<KvPair>, ReadError> {
        let foreign = keys.iter().filter(|key| self.own(key).is_none()).cloned().collect();
        let found: BTreeMap<Key, Bytes> = self
            .snapshot
            .batch_get(foreign)
            .await?
            .into_iter()
            .map(|pair| (pair.key, pair.value))
            .collect();
        let pair = |key: Key| {
            let value = match self.own(&key) {
                Some(value) => value?.clone(),
                None => found.get(&key)?.clone(),
            };
            Some(KvPair { key, value })
        };
        Ok(keys.into_iter().filter_map(pair).collect())
    }

    /// The first `limit` pairs of `range`, lowest key first.
    pub async fn scan(&self, range: KeyRange, limit: usize) -> Result<Vec<KvPair>, ReadError> {
        self.merged(range, limit, Direction::Forward).await
    }

    /// The last `limit` pairs of `range`, highest key first.
    pub async fn scan_reverse(
        &self,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<KvPair>, ReadError> {
        self.merged(range, limit, Direction::Backward).await
    }

    /// Gives `key` a value.
    pub fn put(&mut self, key: impl Into<Key>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        let change = match self.writes.get(&key) {
            // Whatever was to be checked about the key still is.
            Some(Change::Insert(_) | Change::CheckNotExists) => Change::Insert(value),
            _ => Change::Put(value),
        };
        self.writes.insert(key, change);
    }

    /// Gives `key` a value if it has none, which the commit checks.
    pub fn insert(
        &mut self,
        key: impl Into<Key>,
        value: impl Into<Bytes>,
    ) -> Result<(), AlreadyWritten> {
        let (key, value) = (key.into(), value.into());
        let change = match self.writes.get(&key) {
            Some(Change::Put(_) | Change::Insert(_)) => return Err(AlreadyWritten),
            // The transaction itself has made room, whatever was there before.
            Some(Change::Delete) => Change::Put(value),
            Some(Change::Lock | Change::CheckNotExists) | None => Change::Insert(value),
        };
        self.writes.insert(key, change);
        Ok(())
    }

    /// Removes `key`; absence is success.
    pub fn delete(&mut self, key: impl Into<Key>) {
        let key = key.into();
        let change = match self.writes.get(&key) {
            // It was claimed to be absent, and will be again.
            Some(Change::Insert(_) | Change::CheckNotExists) => Change::CheckNotExists,
            _ => Change::Delete,
        };
        self.writes.insert(key, change);
    }

    /// Leaves `key` as it is and lets the commit fail if somebody else writes it meanwhile. Of no
    /// effect on a key that the transaction writes.
    pub fn lock(&mut self, key: impl Into<Key>) {
        self.writes.entry(key.into()).or_insert(Change::Lock);
    }

    /// Commits. Returns when its writes appeared, or `None` when it wrote nothing.
    ///
    /// On success it is durable and every later transaction sees it, though the locks of its
    /// other keys are being removed in the background. [`CommitError::is_unknown`] tells whether
    /// an error leaves that open.
    pub async fn commit(self) -> Result<Option<Timestamp>, CommitError> {
        let spawn = self.snapshot.core().spawn.clone();
        let Some(committed) = self.commit_primary().await? else {
            return Ok(None);
        };
        if let Some(secondaries) = committed.secondaries {
            spawn.spawn(secondaries);
        }
        Ok(Some(committed.commit_ts))
    }

    /// Like [`Transaction::commit`], but hands the background work to the caller.
    pub async fn commit_primary(self) -> Result<Option<Committed>, CommitError> {
        if self.writes.is_empty() {
            return Ok(None);
        }
        let core = self.snapshot.core();
        let mutation = |(key, change)| Mutation { key: core.txn.wire(&key), change };
        let mutations = self.writes.into_iter().map(mutation).collect();
        let committer = Committer {
            core: core.clone(),
            start_ts: self.snapshot.version(),
            began: self.began,
            timeout: self.snapshot.timeout(),
        };
        committer.commit(mutations).await
    }

    /// Forgets everything it wrote. The same as dropping it, in words.
    pub fn rollback(self) {}

    /// What the transaction itself says about `key`: nothing, a value, or that there is none.
    fn own(&self, key: &Key) -> Option<Option<&Bytes>> {
        match self.writes.get(key)? {
            Change::Put(value) | Change::Insert(value) => Some(Some(value)),
            Change::Delete | Change::CheckNotExists => Some(None),
            Change::Lock => None,
        }
    }

    /// What the store has, with the transaction's own writes laid over it.
    async fn merged(
        &self,
        range: KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<KvPair>, ReadError> {
        if limit == 0 || range.is_empty() {
            return Ok(Vec::new());
        }
        let lower = Bound::Included(Key(range.start().clone()));
        let upper = match range.end().is_empty() {
            true => Bound::Unbounded,
            false => Bound::Excluded(Key(range.end().clone())),
        };
        let own: Vec<(&Key, Option<&Bytes>)> = self
            .writes
            .range((lower, upper))
            .filter_map(|(key, _)| Some((key, self.own(key)?)))
            .collect();
        // Each deletion may hide one pair of the store.
        let hidden = own.iter().filter(|(_, value)| value.is_none()).count();
        let stored = self.snapshot.pairs(range, limit.saturating_add(hidden), direction).await?;
        let mut merged: BTreeMap<Key, Bytes> =
            stored.into_iter().map(|pair| (pair.key, pair.value)).collect();
        for (key, value) in own {
            match value {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        // An own write beyond what was read of the store comes after `limit` others, so what it
        // might have skipped does not show.
        let pairs = merged.into_iter().map(|(key, value)| KvPair { key, value });
        Ok(match direction {
            Direction::Forward => pairs.take(limit).collect(),
            Direction::Backward => pairs.rev().take(limit).collect(),
        })
    }
}
