//! Check status: what became of a transaction, asked of its primary key.

use kiva_base::{EncodedKey, Key, LockInfo, Timestamp};
use kiva_engine::Snapshot;

use crate::outcome::{Answer, Outcome, TxnError};

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
    let _ = (view, request);
    unimplemented!("the rules follow the formats")
}
