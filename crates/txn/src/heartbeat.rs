//! Heartbeat: a transaction that lives on makes its primary lock last longer.

use kiva_base::fault::KeyError;
use kiva_base::{EncodedKey, Key, Timestamp};
use kiva_engine::Snapshot;

use crate::limits::encode_key;
use crate::outcome::{Answer, Outcome, TxnError};
use crate::reader::MvccReader;
use crate::writer::MvccWriter;

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
    let encoded = match encode_key(&request.primary) {
        Ok(encoded) => encoded,
        Err(refusal) => return Ok(Outcome::refused(refusal)),
    };
    let reader = MvccReader::new(view);
    let Some(mut lock) = reader.own_lock(&encoded, request.start_ts)? else {
        return Ok(Outcome::refused(KeyError::TxnNotFound {
            start_ts: request.start_ts,
            primary: request.primary.clone(),
        }));
    };
    let mut writer = MvccWriter::new();
    if lock.ttl_ms < request.advise_ttl_ms {
        lock.ttl_ms = request.advise_ttl_ms;
        writer.put_lock(&encoded, &lock);
    }
    Ok(Outcome { batch: writer.into_batch(), reply: Ok(lock.ttl_ms) })
}
