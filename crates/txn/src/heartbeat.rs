//! Heartbeat: a transaction that lives on makes its primary lock last longer.

use kiva_base::{EncodedKey, Key, Timestamp};
use kiva_engine::Snapshot;

use crate::outcome::{Answer, Outcome, TxnError};

/// Asks to prolong a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The key that decides the transaction.
    pub primary: Key,
    /// The transaction.
    pub start_ts: Timestamp,
    /// The TTL it would like, counted from the physical part of `start_ts`.
    pub advise_ttl_ms: u64,
}

impl Heartbeat {
    /// The keys to latch, in stored form.
    pub fn keys(&self) -> Vec<EncodedKey> {
        vec![self.primary.encode()]
    }

    /// Heartbeats raise nothing.
    pub fn max_ts(&self) -> Option<Timestamp> {
        None
    }
}

/// The TTL from now on, in milliseconds: never shorter than before.
pub fn heartbeat(
    view: &dyn Snapshot,
    request: &Heartbeat,
) -> Result<Outcome<Answer<u64>>, TxnError> {
    let _ = (view, request);
    unimplemented!("the rules follow the formats")
}
