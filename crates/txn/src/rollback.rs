//! Rollback: removes the locks of a transaction and leaves records that keep it dead.

use kiva_base::{EncodedKey, Key, Timestamp};
use kiva_engine::Snapshot;

use crate::outcome::{Answer, Outcome, TxnError};

/// Asks to roll keys of a transaction back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollback {
    /// Which keys; one that comes twice is rolled back once.
    pub keys: Vec<Key>,
    /// The transaction.
    pub start_ts: Timestamp,
}

impl Rollback {
    /// The keys to latch, in stored form.
    pub fn keys(&self) -> Vec<EncodedKey> {
        self.keys.iter().map(Key::encode).collect()
    }

    /// Rollbacks raise nothing.
    pub fn max_ts(&self) -> Option<Timestamp> {
        None
    }
}

/// Rolls every key back, or none. Refused when one of them is committed.
pub fn rollback(view: &dyn Snapshot, request: &Rollback) -> Result<Outcome<Answer<()>>, TxnError> {
    let _ = (view, request);
    unimplemented!("the rules follow the formats")
}
