//! Commit: turns the locks of a transaction into write records.
//!
//! A lock that is gone is no news by itself: the answer to an earlier commit may have been lost, or
//! somebody else has finished the job. The record of the transaction tells. Without one, confirming
//! would lose what the transaction wrote, so the commit is refused.

use std::collections::BTreeSet;

use kiva_base::fault::KeyError;
use kiva_base::{EncodedKey, Key, Timestamp};
use kiva_engine::Snapshot;

use crate::limits::encode_key;
use crate::outcome::{Answer, Outcome, TxnError};
use crate::reader::{MvccReader, OwnRecord};
use crate::write::Write;
use crate::writer::MvccWriter;

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
    let reader = MvccReader::new(view);
    let mut writer = MvccWriter::new();
    for key in request.keys.iter().collect::<BTreeSet<_>>() {
        let committed = commit_key(&reader, &mut writer, key, request.start_ts, request.commit_ts)?;
        if let Err(refusal) = committed {
            return Ok(Outcome::refused(refusal));
        }
    }
    Ok(Outcome { batch: writer.into_batch(), reply: Ok(request.commit_ts) })
}

/// Refuses a commit that would appear before its own snapshot.
pub(crate) fn check_order(start_ts: Timestamp, commit_ts: Timestamp) -> Answer<()> {
    if commit_ts <= start_ts {
        return Err(KeyError::Abort(format!(
            "the commit timestamp {commit_ts} is not above the start {start_ts}"
        )));
    }
    Ok(())
}

/// Commits one key, which must not come twice in a batch.
pub(crate) fn commit_key(
    reader: &MvccReader<'_>,
    writer: &mut MvccWriter,
    key: &Key,
    start_ts: Timestamp,
    commit_ts: Timestamp,
) -> Result<Answer<()>, TxnError> {
    let encoded = match check_order(start_ts, commit_ts).and_then(|()| encode_key(key)) {
        Ok(encoded) => encoded,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let Some(lock) = reader.own_lock(&encoded, start_ts)? else {
        return Ok(match reader.own_record(&encoded, start_ts)? {
            OwnRecord::Committed { .. } => Ok(()),
            OwnRecord::RolledBack | OwnRecord::Nothing => {
                Err(KeyError::TxnLockNotFound { key: key.clone() })
            }
        });
    };
    if commit_ts < lock.min_commit_ts {
        return Ok(Err(KeyError::CommitTsExpired {
            start_ts,
            attempted_commit_ts: commit_ts,
            key: key.clone(),
            min_commit_ts: lock.min_commit_ts,
        }));
    }
    // A pessimistic lock wrote nothing, so dropping it is all there is to commit.
    if let Some(mut write) = Write::of_lock(&lock) {
        // Somebody who began at just this timestamp may be rolled back on this key. The oracle
        // hands out no timestamp twice, but a commit timestamp may also be calculated, or be
        // invented by a client. The record in the way would be overwritten, and forgotten.
        write.is_rolled_back_too =
            lock.rollbacks.contains(&commit_ts) || reader.record_at(&encoded, commit_ts)?.is_some();
        writer.put_write(&encoded, commit_ts, &write);
    }
    writer.delete_lock(&encoded);
    Ok(Ok(()))
}
