//! [`MvccWriter`]: the batch of one command, in terms of locks, values and records.

use kiva_base::{EncodedKey, Timestamp};
use kiva_engine::{Cf, WriteBatch};

use crate::lock::Lock;
use crate::write::Write;

/// Collects what a command changes. Where each thing goes is decided here and nowhere else.
#[derive(Debug, Default)]
pub struct MvccWriter {
    batch: WriteBatch,
}

impl MvccWriter {
    /// With nothing to change yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Locks the key, or replaces its lock.
    pub fn put_lock(&mut self, key: &EncodedKey, lock: &Lock) {
        self.batch.put(Cf::Lock, key.as_bytes(), &lock.encode());
    }

    /// Unlocks the key.
    pub fn delete_lock(&mut self, key: &EncodedKey) {
        self.batch.delete(Cf::Lock, key.as_bytes());
    }

    /// Leaves a value that is too long for a record.
    pub fn put_value(&mut self, key: &EncodedKey, start_ts: Timestamp, value: &[u8]) {
        self.batch.put(Cf::Default, &key.at(start_ts), value);
    }

    /// Takes such a value away.
    pub fn delete_value(&mut self, key: &EncodedKey, start_ts: Timestamp) {
        self.batch.delete(Cf::Default, &key.at(start_ts));
    }

    /// Leaves a record, or replaces the one at this timestamp.
    pub fn put_write(&mut self, key: &EncodedKey, commit_ts: Timestamp, write: &Write) {
        self.batch.put(Cf::Write, &key.at(commit_ts), &write.encode());
    }

    /// Takes a record away.
    pub fn delete_write(&mut self, key: &EncodedKey, commit_ts: Timestamp) {
        self.batch.delete(Cf::Write, &key.at(commit_ts));
    }

    /// What was collected.
    pub fn into_batch(self) -> WriteBatch {
        self.batch
    }
}
