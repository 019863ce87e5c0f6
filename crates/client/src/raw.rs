//! Keys and values without transactions.
//!
//! Each call is atomic for one key and linearizable. A call that names several keys goes to every
//! region concerned and is not atomic over them.
//!
//! **Lost answers.** Reads are repeated. A write is repeated only while it is certain that no
//! attempt was executed; once an answer is lost the caller gets [`RawError::Unknown`]. Writing a
//! value twice looks harmless, and is not:
//!
//! ```text
//!  we        put k=1 ──▶ slow link … … … … … … … … … … … … … … ──▶ k=1
//!  we        put k=1 again ──▶ k=1, answered
//!  another                              put k=2 ──▶ k=2, answered
//! ```
//!
//! The straggler overwrites a newer value that somebody was told is there. Whoever knows to be the
//! only writer of a key may repeat a put or a delete themselves; nobody may repeat a
//! [`Raw::compare_and_swap`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kiva_base::{Key, KeyRange};

use crate::core::Core;
use crate::error::RawError;
pub use crate::rpc::Checksum;

/// Reads and writes single keys. Cheap to clone.
#[derive(Clone)]
pub struct Raw {
    core: Arc<Core>,
    cf: Arc<str>,
    timeout: Duration,
    for_cas: bool,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvPair {
    /// The key, as the user writes it.
    pub key: Key,
    /// The value; empty is a value.
    pub value: Bytes,
}

/// How long a key will live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// For ever.
    Never,
    /// For this long, in whole seconds.
    Left(Duration),
}

/// What came of a compare-and-swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swap {
    /// Whether the new value is in place.
    pub swapped: bool,
    /// What was there before; `None` is absence.
    pub previous: Option<Bytes>,
}

impl Raw {
    /// The same, in another column family: `default`, `lock` or `write`.
    #[must_use]
    pub fn with_cf(mut self, cf: impl Into<Arc<str>>) -> Self {
        self.cf = cf.into();
        self
    }

    /// The same, with another time for one operation and all its repetitions.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same, with writes that serialise with [`Raw::compare_and_swap`] on the same keys, and
    /// batches that are atomic within a region. Costs the store a latch per key.
    #[must_use]
    pub fn atomic(mut self) -> Self {
        self.for_cas = true;
        self
    }

    /// The value of `key`, if there is one.
    pub async fn get(&self, key: impl Into<Key>) -> Result<Option<Bytes>, RawError> {
        todo!()
    }

    /// The pairs that exist among `keys`, in the order asked for. A key named twice comes twice.
    pub async fn batch_get(&self, keys: Vec<Key>) -> Result<Vec<KvPair>, RawError> {
        todo!()
    }

    /// How long `key` will live; `None` when it is absent.
    pub async fn get_ttl(&self, key: impl Into<Key>) -> Result<Option<Ttl>, RawError> {
        todo!()
    }

    /// Gives `key` a value, for ever.
    pub async fn put(&self, key: impl Into<Key>, value: impl Into<Bytes>) -> Result<(), RawError> {
        todo!()
    }

    /// Gives `key` a value for `ttl`, rounded up to whole seconds; zero is for ever.
    pub async fn put_with_ttl(
        &self,
        key: impl Into<Key>,
        value: impl Into<Bytes>,
        ttl: Duration,
    ) -> Result<(), RawError> {
        todo!()
    }

    /// Gives keys values for `ttl`; zero is for ever. Atomic for each key, not for all.
    pub async fn batch_put(&self, pairs: Vec<KvPair>, ttl: Duration) -> Result<(), RawError> {
        todo!()
    }

    /// Removes `key`; absence is success.
    pub async fn delete(&self, key: impl Into<Key>) -> Result<(), RawError> {
        todo!()
    }

    /// Removes keys. Atomic for each key, not for all.
    pub async fn batch_delete(&self, keys: Vec<Key>) -> Result<(), RawError> {
        todo!()
    }

    /// Removes all keys of `range`, region by region.
    pub async fn delete_range(&self, range: KeyRange) -> Result<(), RawError> {
        todo!()
    }

    /// The first `limit` pairs of `range`, lowest key first. The pages of a scan are read one
    /// after another, so they show different moments.
    pub async fn scan(&self, range: KeyRange, limit: usize) -> Result<Vec<KvPair>, RawError> {
        todo!()
    }

    /// The last `limit` pairs of `range`, highest key first.
    pub async fn scan_reverse(
        &self,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<KvPair>, RawError> {
        todo!()
    }

    /// The first `limit` keys of `range`.
    pub async fn scan_keys(&self, range: KeyRange, limit: usize) -> Result<Vec<Key>, RawError> {
        todo!()
    }

    /// The last `limit` keys of `range`, highest first.
    pub async fn scan_keys_reverse(
        &self,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<Key>, RawError> {
        todo!()
    }

    /// The first `each_limit` pairs of each range, in the order of the ranges.
    pub async fn batch_scan(
        &self,
        ranges: Vec<KeyRange>,
        each_limit: usize,
    ) -> Result<Vec<Vec<KvPair>>, RawError> {
        todo!()
    }

    /// Gives `key` the value `value` if it has `previous`, where `None` is absence. `ttl` of zero
    /// is for ever.
    ///
    /// Never repeated after an answer may have been lost, [`RawError::Unknown`] then: a second
    /// attempt would find the first one's value and say "not swapped" about a swap that happened.
    pub async fn compare_and_swap(
        &self,
        key: impl Into<Key>,
        previous: Option<Bytes>,
        value: impl Into<Bytes>,
        ttl: Duration,
    ) -> Result<Swap, RawError> {
        todo!()
    }

    /// A digest of all pairs of `range` in the default column family.
    pub async fn checksum(&self, range: KeyRange) -> Result<Checksum, RawError> {
        todo!()
    }
}
