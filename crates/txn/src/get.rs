//! Get: the value of one key at a timestamp.

use bytes::Bytes;
use kiva_base::{Key, Timestamp};
use kiva_engine::Snapshot;

use crate::limits::encode_key;
use crate::outcome::{Answer, TxnError};
use crate::read_rules::ReadRules;
use crate::reader::MvccReader;

/// Asks for the value of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Get {
    /// Which key.
    pub key: Key,
    /// The newest version committed at or below this is read; `MAX` reads the newest.
    pub version: Timestamp,
    /// How locks are treated.
    pub rules: ReadRules,
}

impl Get {
    /// What max-ts must be raised to before the snapshot is taken.
    pub fn max_ts(&self) -> Option<Timestamp> {
        crate::raises_max_ts(self.version)
    }
}

/// The value, `None` when there is none; an empty value is a value.
pub fn get(view: &dyn Snapshot, request: &Get) -> Result<Answer<Option<Bytes>>, TxnError> {
    let encoded = match encode_key(&request.key) {
        Ok(encoded) => encoded,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let reader = MvccReader::new(view);
    request.rules.read(&reader, &request.key, &encoded, request.version)
}
