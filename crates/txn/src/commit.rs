//! Commit: turns the locks of a transaction into write records.

use kiva_base::{EncodedKey, Key, Timestamp};
use kiva_engine::Snapshot;

use crate::outcome::{Answer, Outcome, TxnError};

/// Asks to commit keys of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Which keys; one that comes twice is committed once.
    pub keys: Vec<Key>,
    /// The transaction.
    pub start_ts: Timestamp,
    /// When its writes appear.
    pub commit_ts: Timestamp,
}

impl Commit {
    /// The keys to latch, in stored form.
    pub fn keys(&self) -> Vec<EncodedKey> {
        self.keys.iter().map(Key::encode).collect()
    }

    /// Commits raise nothing.
    pub fn max_ts(&self) -> Option<Timestamp> {
        None
    }
}

/// Commits every key, or none. The reply is the commit timestamp.
pub fn commit(
    view: &dyn Snapshot,
    request: &Commit,
) -> Result<Outcome<Answer<Timestamp>>, TxnError> {
    let _ = (view, request);
    unimplemented!("the rules follow the formats")
}
