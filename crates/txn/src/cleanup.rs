//! Cleanup: the older way to ask what became of a lock, and to roll it back.

use kiva_base::fault::KeyError;
use kiva_base::{EncodedKey, Key, Timestamp};
use kiva_engine::Snapshot;

use crate::limits::encode_key;
use crate::outcome::{Answer, Outcome, TxnError};
use crate::reader::{MvccReader, OwnRecord};
use crate::rollback::{Protection, roll_back_lock, roll_back_missing};
use crate::writer::MvccWriter;

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
    let encoded = match encode_key(&request.key) {
        Ok(encoded) => encoded,
        Err(refusal) => return Ok(Outcome::refused(refusal)),
    };
    let reader = MvccReader::new(view);
    let mut writer = MvccWriter::new();
    let lock = reader.lock(&encoded)?;
    if let Some(lock) = lock.as_ref().filter(|lock| lock.start_ts == request.start_ts) {
        if !request.current_ts.is_zero() && !lock.is_expired(request.current_ts) {
            let info = lock.info(&request.key);
            return Ok(Outcome::refused(KeyError::Locked(Box::new(info))));
        }
        let protection = Protection::of_primary(lock, &request.key);
        roll_back_lock(&reader, &mut writer, &encoded, lock, protection)?;
    } else {
        match reader.own_record(&encoded, request.start_ts)? {
            OwnRecord::Committed { commit_ts } => {
                return Ok(Outcome::unchanged(Ok(Some(commit_ts))));
            }
            OwnRecord::RolledBack => {}
            OwnRecord::Nothing => {
                roll_back_missing(&reader, &mut writer, &encoded, request.start_ts, lock)?;
            }
        }
    }
    Ok(Outcome { batch: writer.into_batch(), reply: Ok(None) })
}
