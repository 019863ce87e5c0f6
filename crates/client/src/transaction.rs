//! begin, get, put, commit: what a user holds.
//!
//! A transaction reads the data as of its start, together with its own writes, which stay in this
//! process until [`Transaction::commit`]. The commit succeeds if nobody committed a write to one of
//! its keys meanwhile (snapshot isolation): of two transactions that write the same key, one gets
//! [`CommitError::Conflict`]. Keys that are only read are not checked; [`Transaction::lock`] adds
//! one to those that are.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kiva_base::{Key, KeyRange, Timestamp};

use crate::committer::Committed;
use crate::error::{AlreadyWritten, CommitError, ReadError};
use crate::raw::KvPair;
use crate::snapshot::Snapshot;

/// A transaction in progress. Dropping it forgets its writes; nothing needs to be undone.
pub struct Transaction {
    snapshot: Snapshot,
}

impl Transaction {
    /// When it began: what it reads, and its name.
    pub fn start_ts(&self) -> Timestamp {
        self.snapshot.version()
    }

    /// The value of `key` as this transaction sees it.
    pub async fn get(&self, key: impl Into<Key>) -> Result<Option<Bytes>, ReadError> {
        todo!()
    }

    /// The pairs that exist among `keys`, in the order asked for.
    pub async fn batch_get(&self, keys: Vec<Key>) -> Result<Vec<KvPair>, ReadError> {
        todo!()
    }

    /// The first `limit` pairs of `range`, lowest key first.
    pub async fn scan(&self, range: KeyRange, limit: usize) -> Result<Vec<KvPair>, ReadError> {
        todo!()
    }

    /// The last `limit` pairs of `range`, highest key first.
    pub async fn scan_reverse(
        &self,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<KvPair>, ReadError> {
        todo!()
    }

    /// Gives `key` a value.
    pub fn put(&mut self, key: impl Into<Key>, value: impl Into<Bytes>) {
        todo!()
    }

    /// Gives `key` a value if it has none, which the commit checks.
    pub fn insert(
        &mut self,
        key: impl Into<Key>,
        value: impl Into<Bytes>,
    ) -> Result<(), AlreadyWritten> {
        todo!()
    }

    /// Removes `key`; absence is success.
    pub fn delete(&mut self, key: impl Into<Key>) {
        todo!()
    }

    /// Leaves `key` as it is and lets the commit fail if somebody else writes it meanwhile.
    pub fn lock(&mut self, key: impl Into<Key>) {
        todo!()
    }

    /// Commits. Returns when its writes appeared, or `None` when it wrote nothing.
    ///
    /// On success it is durable and every later transaction sees it, though the locks of its
    /// other keys are being removed in the background. [`CommitError::is_unknown`] tells whether
    /// an error leaves that open.
    pub async fn commit(self) -> Result<Option<Timestamp>, CommitError> {
        todo!()
    }

    /// Like [`Transaction::commit`], but hands the background work to the caller.
    pub async fn commit_primary(self) -> Result<Option<Committed>, CommitError> {
        todo!()
    }

    /// Forgets everything it wrote. The same as dropping it, in words.
    pub fn rollback(self) {}
}
