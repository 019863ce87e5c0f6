//! Reads at a timestamp.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kiva_base::{Key, KeyRange, Timestamp};

use crate::core::Core;
use crate::error::ReadError;
use crate::raw::KvPair;

/// The data as of one timestamp. Cheap to clone.
///
/// Locks of other transactions that may turn out to lie in its past are settled, or waited for,
/// before anything is answered; see [`crate::resolver`].
#[derive(Clone)]
pub struct Snapshot {
    core: Arc<Core>,
    version: Timestamp,
    timeout: Duration,
}

impl Snapshot {
    /// The timestamp.
    pub fn version(&self) -> Timestamp {
        self.version
    }

    /// The same, with another time for one operation and all its repetitions.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The value of `key`, if it had one.
    pub async fn get(&self, key: impl Into<Key>) -> Result<Option<Bytes>, ReadError> {
        todo!()
    }

    /// The pairs that existed among `keys`, in the order asked for.
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

    /// The first `limit` keys of `range`, lowest first.
    pub async fn scan_keys(&self, range: KeyRange, limit: usize) -> Result<Vec<Key>, ReadError> {
        todo!()
    }
}
