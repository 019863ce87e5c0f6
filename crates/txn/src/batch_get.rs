//! Batch get: the values of several keys at one timestamp.

use bytes::Bytes;
use kiva_base::fault::KeyError;
use kiva_base::{Key, LockInfo, Timestamp};
use kiva_engine::Snapshot;

use crate::limits::encode_key;
use crate::outcome::{Answer, TxnError};
use crate::read_rules::ReadRules;
use crate::reader::MvccReader;

/// Asks for the values of several keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchGet {
    /// Which keys.
    pub keys: Vec<Key>,
    /// The newest versions committed at or below this are read; `MAX` reads the newest.
    pub version: Timestamp,
    /// How locks are treated.
    pub rules: ReadRules,
}

impl BatchGet {
    /// What max-ts must be raised to before the snapshot is taken.
    pub fn max_ts(&self) -> Option<Timestamp> {
        crate::raises_max_ts(self.version)
    }
}

/// What a batch get or a scan found for one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pair {
    /// Its value.
    Value {
        /// Which key.
        key: Key,
        /// Empty where only keys were asked for.
        value: Bytes,
    },
    /// A lock that must be resolved first. The other pairs are good.
    Locked(Box<LockInfo>),
}

/// One pair for each key that has a value or a lock in the way, in the order asked for. A refusal
/// of another kind than a lock refuses the whole request.
pub fn batch_get(view: &dyn Snapshot, request: &BatchGet) -> Result<Answer<Vec<Pair>>, TxnError> {
    let reader = MvccReader::new(view);
    let mut pairs = Vec::new();
    for key in &request.keys {
        let encoded = match encode_key(key) {
            Ok(encoded) => encoded,
            Err(refusal) => return Ok(Err(refusal)),
        };
        match request.rules.read(&reader, key, &encoded, request.version)? {
            Ok(None) => {}
            Ok(Some(value)) => pairs.push(Pair::Value { key: key.clone(), value }),
            Err(KeyError::Locked(lock)) => pairs.push(Pair::Locked(lock)),
            Err(refusal) => return Ok(Err(refusal)),
        }
    }
    Ok(Ok(pairs))
}
