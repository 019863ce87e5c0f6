//! Which locks and records a read must stop at.
//!
//! A read at `version` sees what is committed at or below it. A lock may become a commit below it
//! unless something says otherwise; then the answer is not known yet, and the client is told whose
//! lock to resolve. What says otherwise:
//!
//! | the lock | why it does not matter |
//! |---|---|
//! | began after `version` | commits after it |
//! | is of kind Lock or Pessimistic | changes no value |
//! | has `min_commit_ts > version` | was promised to commit later |
//! | is in `resolved_locks` | the client asked: rolled back, or will commit later |
//! | is its own primary, read at `MAX` | nothing is committed before the primary is |
//! | is any, under read committed | what is committed is committed |
//!
//! The last but one holds for ordinary commits only: an async commit may be committed while all its
//! locks are there.
//!
//! A blocking lock in `committed_locks` is read through: it is as good as its write record.

use std::collections::BTreeSet;

use bytes::Bytes;
use kiva_base::fault::{ConflictReason, KeyError, LockKind};
use kiva_base::{EncodedKey, Key, Timestamp};

use crate::lock::Lock;
use crate::outcome::{Answer, TxnError};
use crate::reader::MvccReader;

/// How a read treats the locks and records it meets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadRules {
    /// How isolated it is from others.
    pub isolation: Isolation,
    /// Transactions whose locks it ignores: known to be rolled back, or to commit later.
    pub resolved_locks: BTreeSet<Timestamp>,
    /// Transactions whose locks it reads through: known to be committed.
    pub committed_locks: BTreeSet<Timestamp>,
}

/// How isolated a read is from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Isolation {
    /// Snapshot isolation: stops at locks that may commit below its timestamp.
    #[default]
    Snapshot,
    /// Read committed: ignores locks.
    ReadCommitted,
    /// Read committed, and refused where anything is or may be newer than its timestamp.
    ReadCommittedCheckTs,
}

/// What a lock means to a read that meets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meeting {
    /// Nothing: the records decide.
    Pass,
    /// The value that it will write is committed.
    ReadThrough,
    /// The read stops.
    Blocked(KeyError),
}

impl ReadRules {
    pub(crate) fn meet(&self, key: &Key, lock: &Lock, version: Timestamp) -> Meeting {
        let changes_a_value = matches!(lock.kind, LockKind::Put | LockKind::Delete);
        if !changes_a_value || self.resolved_locks.contains(&lock.start_ts) {
            return Meeting::Pass;
        }
        match self.isolation {
            Isolation::ReadCommitted => return Meeting::Pass,
            Isolation::ReadCommittedCheckTs => {
                return Meeting::Blocked(newer(version, key, lock.start_ts, Timestamp::ZERO));
            }
            Isolation::Snapshot => {}
        }
        let commits_later = lock.start_ts > version || lock.min_commit_ts > version;
        let decides_itself =
            version == Timestamp::MAX && lock.primary == *key && lock.async_commit.is_none();
        if commits_later || decides_itself {
            Meeting::Pass
        } else if self.committed_locks.contains(&lock.start_ts) {
            Meeting::ReadThrough
        } else {
            Meeting::Blocked(KeyError::Locked(Box::new(lock.info(key))))
        }
    }

    /// Refuses a key with a record newer than `version`, where the isolation asks for that.
    pub(crate) fn check_records(
        &self,
        reader: &MvccReader<'_>,
        key: &Key,
        encoded: &EncodedKey,
        version: Timestamp,
    ) -> Result<Answer<()>, TxnError> {
        if self.isolation != Isolation::ReadCommittedCheckTs {
            return Ok(Ok(()));
        }
        Ok(match reader.newest_record(encoded)? {
            Some((commit_ts, write)) if commit_ts > version => {
                Err(newer(version, key, write.start_ts, commit_ts))
            }
            _ => Ok(()),
        })
    }

    /// The value of one key at `version`.
    pub(crate) fn read(
        &self,
        reader: &MvccReader<'_>,
        key: &Key,
        encoded: &EncodedKey,
        version: Timestamp,
    ) -> Result<Answer<Option<Bytes>>, TxnError> {
        if let Some(lock) = reader.lock(encoded)? {
            match self.meet(key, &lock, version) {
                Meeting::Pass => {}
                Meeting::ReadThrough => return Ok(Ok(reader.value_of_lock(encoded, &lock)?)),
                Meeting::Blocked(error) => return Ok(Err(error)),
            }
        }
        if let Err(error) = self.check_records(reader, key, encoded, version)? {
            return Ok(Err(error));
        }
        Ok(Ok(match reader.newest_data(encoded, version)? {
            Some((_, write)) => reader.value_of_write(encoded, &write)?,
            None => None,
        }))
    }
}

fn newer(
    version: Timestamp,
    key: &Key,
    conflict_start_ts: Timestamp,
    conflict_commit_ts: Timestamp,
) -> KeyError {
    KeyError::Conflict {
        start_ts: version,
        conflict_start_ts,
        conflict_commit_ts,
        key: key.clone(),
        primary: Key::default(),
        reason: ConflictReason::RcCheckTs,
    }
}
