//! Cleanup: the older way to ask what became of a lock, and to roll it back.

use kiva_base::{EncodedKey, Key, Timestamp};
use kiva_engine::Snapshot;

use crate::outcome::{Answer, Outcome, TxnError};

/// Asks to clean one key of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleanup {
    /// Which key.
    pub key: Key,
    /// The transaction.
    pub start_ts: Timestamp,
    /// Now, as the client knows it; zero rolls back whatever the lock's age.
    pub current_ts: Timestamp,
}

impl Cleanup {
    /// The keys to latch, in stored form.
    pub fn keys(&self) -> Vec<EncodedKey> {
        vec![self.key.encode()]
    }

    /// What max-ts must be raised to before the snapshot is taken.
    pub fn max_ts(&self) -> Option<Timestamp> {
        crate::raises_max_ts(self.start_ts)
    }
}

/// The commit timestamp of a transaction that is committed on this key, `None` once it is rolled
/// back. Refused while its lock is alive.
pub fn cleanup(
    view: &dyn Snapshot,
    request: &Cleanup,
) -> Result<Outcome<Answer<Option<Timestamp>>>, TxnError> {
    let _ = (view, request);
    unimplemented!("the rules follow the formats")
}
