//! Check status: what became of a transaction, asked of its primary key.
//!
//! Whoever meets a lock asks its primary. The answer is final when it is "committed" or "rolled
//! back", and this command makes it final where it can: a lock beyond its TTL is rolled back, and a
//! key without any trace gets a record that keeps a late prewrite out.
//!
//! A lock that is alive may be *pushed*: if its `min_commit_ts` is used at all, it is raised above
//! the caller's timestamp, and the caller may read below the lock without waiting for its end.

use kiva_base::fault::{KeyError, LockKind};
use kiva_base::{EncodedKey, Key, LockInfo, Timestamp};
use kiva_engine::Snapshot;

use crate::limits::encode_key;
use crate::lock::Lock;
use crate::outcome::{Answer, Outcome, TxnError};
use crate::reader::{MvccReader, OwnRecord};
use crate::rollback::{Protection, roll_back_lock, roll_back_missing};
use crate::writer::MvccWriter;

/// Asks what became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckStatus {
    /// The key that decides it.
    pub primary: Key,
    /// The transaction.
    pub lock_ts: Timestamp,
    /// Who asks: the start of the transaction in whose way the lock stands. Zero: nobody; `MAX`:
    /// somebody who reads the newest.
    pub caller_start_ts: Timestamp,
    /// Now, as the client knows it.
    pub current_ts: Timestamp,
    /// Leave a rollback record when neither lock nor record is found.
    pub rollback_if_not_exist: bool,
    /// Treat an async commit as an ordinary one.
    pub force_sync_commit: bool,
    /// The lock that was met is a pessimistic one.
    pub resolving_pessimistic_lock: bool,
    /// Refuse when the lock found names another primary.
    pub verify_is_primary: bool,
}

impl CheckStatus {
    /// The keys to latch, in stored form.
    pub fn keys(&self) -> Vec<EncodedKey> {
        vec![self.primary.encode()]
    }

    /// What max-ts must be raised to before the snapshot is taken: the largest timestamp named,
    /// `MAX` not counted.
    pub fn max_ts(&self) -> Option<Timestamp> {
        [self.lock_ts, self.caller_start_ts, self.current_ts]
            .into_iter()
            .filter_map(crate::raises_max_ts)
            .max()
    }
}

/// What became of a transaction. Exactly one of three.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnStatus {
    /// It will never commit; or, after the two actions about pessimistic locks, holds nothing here.
    RolledBack {
        /// What was done about it.
        action: StatusAction,
    },
    /// It is committed.
    Committed {
        /// When its writes appear.
        commit_ts: Timestamp,
    },
    /// It may still commit: its lock is there.
    Alive {
        /// The lock. Its TTL is never zero.
        lock: Box<LockInfo>,
        /// What was done about it.
        action: StatusAction,
    },
}

/// What a status check did besides looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatusAction {
    /// Nothing.
    None,
    /// The lock was older than its TTL: rolled back.
    TtlExpireRollback,
    /// There was nothing: a rollback record keeps it so.
    LockNotExistRollback,
    /// It will commit above the caller's timestamp, who may read on.
    MinCommitTsPushed,
    /// A pessimistic lock was older than its TTL: dropped.
    TtlExpirePessimisticRollback,
    /// There was nothing, and nothing was done.
    LockNotExistDoNothing,
}

/// Looks at the lock and the records of the primary and finishes what is dead.
pub fn check_status(
    view: &dyn Snapshot,
    request: &CheckStatus,
) -> Result<Outcome<Answer<TxnStatus>>, TxnError> {
    let encoded = match encode_key(&request.primary) {
        Ok(encoded) => encoded,
        Err(refusal) => return Ok(Outcome::refused(refusal)),
    };
    let reader = MvccReader::new(view);
    let mut writer = MvccWriter::new();
    let found = reader.lock(&encoded)?;
    let reply = match found {
        Some(lock) if lock.start_ts == request.lock_ts => {
            let names_another = request.verify_is_primary && lock.primary != request.primary;
            let is_pessimistic = lock.kind == LockKind::Pessimistic;
            if names_another && (!is_pessimistic || request.resolving_pessimistic_lock) {
                let info = lock.info(&request.primary);
                return Ok(Outcome::refused(KeyError::PrimaryMismatch(Box::new(info))));
            }
            if names_another {
                // A late duplicate of a lock request for what was the primary before. It holds
                // nothing and decides nothing.
                writer.delete_lock(&encoded);
                check_missing(&reader, &mut writer, request, &encoded, None)?
            } else {
                Ok(check_lock(&reader, &mut writer, request, &encoded, lock)?)
            }
        }
        foreign => check_missing(&reader, &mut writer, request, &encoded, foreign)?,
    };
    Ok(match reply {
        Ok(status) => Outcome { batch: writer.into_batch(), reply: Ok(status) },
        Err(refusal) => Outcome::refused(refusal),
    })
}

/// The transaction's lock is there.
fn check_lock(
    reader: &MvccReader<'_>,
    writer: &mut MvccWriter,
    request: &CheckStatus,
    key: &EncodedKey,
    mut lock: Lock,
) -> Result<TxnStatus, TxnError> {
    // Its other locks may all be there, and then it is committed: only they can tell.
    if lock.async_commit.is_some() && !request.force_sync_commit {
        return Ok(alive(request, &lock, StatusAction::None));
    }
    if lock.is_expired(request.current_ts) {
        if lock.kind == LockKind::Pessimistic && request.resolving_pessimistic_lock {
            writer.delete_lock(key);
            let action = StatusAction::TtlExpirePessimisticRollback;
            return Ok(TxnStatus::RolledBack { action });
        }
        roll_back_lock(reader, writer, key, &lock, Protection::Protected)?;
        let action = StatusAction::TtlExpireRollback;
        return Ok(TxnStatus::RolledBack { action });
    }
    let caller = request.caller_start_ts;
    if !lock.min_commit_ts.is_zero() && caller != Timestamp::MAX && caller >= lock.min_commit_ts {
        lock.min_commit_ts = caller.next().max(request.current_ts);
        writer.put_lock(key, &lock);
    }
    let is_pushed = !caller.is_zero() && lock.min_commit_ts > caller;
    let action = if is_pushed || caller == Timestamp::MAX {
        StatusAction::MinCommitTsPushed
    } else {
        StatusAction::None
    };
    Ok(alive(request, &lock, action))
}

fn alive(request: &CheckStatus, lock: &Lock, action: StatusAction) -> TxnStatus {
    let mut info = lock.info(&request.primary);
    // Zero would be read as "not alive".
    info.ttl_ms = info.ttl_ms.max(1);
    TxnStatus::Alive { lock: Box::new(info), action }
}

/// The transaction has no lock here. `foreign` is somebody else's.
fn check_missing(
    reader: &MvccReader<'_>,
    writer: &mut MvccWriter,
    request: &CheckStatus,
    key: &EncodedKey,
    foreign: Option<Lock>,
) -> Result<Answer<TxnStatus>, TxnError> {
    let action = match reader.own_record(key, request.lock_ts)? {
        OwnRecord::Committed { commit_ts } => return Ok(Ok(TxnStatus::Committed { commit_ts })),
        OwnRecord::RolledBack => StatusAction::None,
        OwnRecord::Nothing if !request.rollback_if_not_exist => {
            return Ok(Err(KeyError::TxnNotFound {
                start_ts: request.lock_ts,
                primary: request.primary.clone(),
            }));
        }
        OwnRecord::Nothing if request.resolving_pessimistic_lock => {
            StatusAction::LockNotExistDoNothing
        }
        OwnRecord::Nothing => {
            roll_back_missing(reader, writer, key, request.lock_ts, foreign)?;
            StatusAction::LockNotExistRollback
        }
    };
    Ok(Ok(TxnStatus::RolledBack { action }))
}
