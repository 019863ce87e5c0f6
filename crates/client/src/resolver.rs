//! What to do about somebody else's lock.
//!
//! A lock says that its transaction may commit in the past of whoever meets it, so it cannot be
//! ignored; and its client may be dead, so it cannot be waited for either. Its primary decides:
//!
//! ```text
//!  KeyIsLocked ──▶ check the primary ─┬─ committed ───▶ commit the lock
//!                                     ├─ rolled back ─▶ remove the lock
//!                                     └─ alive ───────▶ reader: read past it, if it can be pushed
//!                                                       else: wait and look again
//! ```
//!
//! The check rolls a transaction back whose time is over, and from then on its client cannot
//! commit any more; see "Percolator" (Peng and Dabek, OSDI 2010), section 2.2. A transaction with
//! fewer than [`RESOLVE_LITE_MAX`] keys has its locks settled one by one, a larger one all locks of
//! the region with one request.
//!
//! Not here: async commit, whose primary alone does not decide. Such locks are waited for until
//! their own client has finished.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use kiva_base::clock::BoxFuture;
use kiva_base::fault::LockInfo;
use kiva_base::{KeyError, Timestamp};

use crate::backoff::Pace;
use crate::core::{Core, Failure, Repeat, Trial};
use crate::error::Obstacle;
use crate::keyspace::Codec;
use crate::limits::{RESOLVE_LITE_MAX, SETTLED_MAX};
use crate::rpc::{CallError, Command, Reply, TxnStatus};
use crate::scatter::{Refused, Scatter, scatter};

/// How transactions ended that somebody here has asked about.
///
/// An end is final, so it never goes stale; the oldest are forgotten first. A plain lock, held for
/// one look.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    ends: Mutex<BTreeMap<Timestamp, End>>,
}

/// How a transaction ended: when it committed, or `None` when it was rolled back.
type End = Option<Timestamp>;

impl Settled {
    fn ends(&self) -> MutexGuard<'_, BTreeMap<Timestamp, End>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, start_ts: Timestamp) -> Option<End> {
        self.ends().get(&start_ts).copied()
    }

    fn insert(&self, start_ts: Timestamp, end: End) {
        let mut ends = self.ends();
        ends.insert(start_ts, end);
        if ends.len() > SETTLED_MAX {
            ends.pop_first();
        }
    }
}

/// What a look at the primary says about a lock.
enum Fate {
    Ended(End),
    /// The reader may pass by it.
    Passed,
    /// It has to be waited for.
    Alive,
}

/// Settles locks that were met, or waits until looking again makes sense.
///
/// `reads_at` is the timestamp of the reader that met them, zero for a writer. When this returns
/// the caller sends its request again; [`Trial::passed`] then names the transactions that it may
/// pass by.
pub(crate) fn settle<'a>(
    core: &'a Arc<Core>,
    locks: Vec<LockInfo>,
    reads_at: Timestamp,
    trial: &'a mut Trial,
) -> BoxFuture<'a, Result<(), Failure>> {
    // Boxed because settling is itself a command for many keys, which may meet locks.
    Box::pin(async move {
        let mut by_txn: BTreeMap<Timestamp, Vec<LockInfo>> = BTreeMap::new();
        for lock in locks {
            by_txn.entry(lock.start_ts).or_default().push(lock);
        }
        let mut alive = None;
        let mut last = None;
        for (start_ts, locks) in by_txn {
            let Some(lock) = locks.first().cloned() else {
                continue;
            };
            match fate(core, &lock, reads_at, trial).await? {
                Fate::Ended(end) => finish(core, start_ts, end, locks, trial).await?,
                Fate::Passed => trial.passed.push(start_ts),
                Fate::Alive => alive = Some(lock.clone()),
            }
            last = Some(lock);
        }
        match (alive, last) {
            (Some(lock), _) => {
                let obstacle = Obstacle::Locked(Box::new(lock));
                core.pause(Pace::Soon, obstacle, trial).await
            }
            (None, Some(lock)) => {
                let obstacle = Obstacle::Locked(Box::new(lock));
                core.pause(Pace::Progress, obstacle, trial).await
            }
            (None, None) => Ok(()),
        }
    })
}

/// Asks the primary what became of a lock's transaction.
async fn fate(
    core: &Arc<Core>,
    lock: &LockInfo,
    reads_at: Timestamp,
    trial: &mut Trial,
) -> Result<Fate, Failure> {
    if let Some(end) = core.settled.get(lock.start_ts) {
        return Ok(Fate::Ended(end));
    }
    let current_ts = core.timestamp(trial).await?;
    let command = Command::CheckStatus {
        primary: lock.primary.0.clone(),
        lock_ts: lock.start_ts,
        caller_start_ts: reads_at,
        current_ts,
        // A secondary may be there before its primary. Until its time is over the primary may yet
        // come; after that, asking makes sure that it never does.
        rollback_if_not_exist: has_expired(lock, current_ts),
    };
    let key = &lock.primary.0;
    let reply = core.at_key(&core.txn, key, &command, Repeat::Always, trial).await?;
    let Reply::CheckStatus(status) = reply else {
        return Err(wrong_reply());
    };
    let end = match status {
        Ok(TxnStatus::Committed(commit_ts)) => Some(commit_ts),
        Ok(TxnStatus::RolledBack) => None,
        Ok(TxnStatus::Alive { min_commit_ts_pushed, .. }) => {
            let may_pass = min_commit_ts_pushed && !reads_at.is_zero();
            return Ok(if may_pass { Fate::Passed } else { Fate::Alive });
        }
        // Too early to say, or the lock that was met is not there any more: look again.
        Err(KeyError::TxnNotFound { .. } | KeyError::PrimaryMismatch(_)) => {
            return Ok(Fate::Alive);
        }
        Err(error) => return Err(Failure::Key(error)),
    };
    core.settled.insert(lock.start_ts, end);
    Ok(Fate::Ended(end))
}

/// Whether nobody needs to be asked before the lock's transaction is rolled back.
fn has_expired(lock: &LockInfo, now: Timestamp) -> bool {
    lock.ttl_ms == 0 || lock.start_ts.physical_ms().saturating_add(lock.ttl_ms) < now.physical_ms()
}

/// Does to the locks what happened to their primary.
async fn finish(
    core: &Arc<Core>,
    start_ts: Timestamp,
    end: End,
    locks: Vec<LockInfo>,
    trial: &mut Trial,
) -> Result<(), Failure> {
    let is_lite = locks.iter().all(|lock| lock.txn_size < RESOLVE_LITE_MAX);
    let command = Finish { start_ts, commit_ts: end, is_lite };
    let keys = locks.into_iter().map(|lock| lock.key.0).collect();
    match scatter(core, &command, keys, trial.clone()).await {
        Ok(_) => Ok(()),
        Err(ragged) => Err(ragged.error),
    }
}

/// Settles locks of one transaction, by the keys that were met.
struct Finish {
    start_ts: Timestamp,
    commit_ts: End,
    is_lite: bool,
}

impl Scatter for Finish {
    type Item = Bytes;
    type Answer = ();
    type Error = Failure;

    fn codec<'a>(&self, core: &'a Core) -> &'a Codec {
        &core.txn
    }

    fn repeat(&self) -> Repeat {
        Repeat::Always
    }

    fn command(&self, keys: &[Bytes]) -> Command {
        Command::Resolve {
            start_ts: self.start_ts,
            commit_ts: self.commit_ts,
            keys: match self.is_lite {
                true => keys.to_vec(),
                false => Vec::new(),
            },
        }
    }

    fn accept(&self, reply: Reply) -> Result<(), Refused<Failure>> {
        match reply {
            Reply::Resolve(Ok(())) => Ok(()),
            // Somebody else has settled it meanwhile, and its traces may be gone already. Whoever
            // met the lock looks again, and will see.
            Reply::Resolve(Err(KeyError::TxnLockNotFound { .. })) => Ok(()),
            Reply::Resolve(Err(error)) => Err(Refused::Failed(Failure::Key(error))),
            _ => Err(Refused::Failed(wrong_reply())),
        }
    }
}

/// A port answered one command with the reply of another.
pub(crate) fn wrong_reply() -> Failure {
    Failure::Malformed(kiva_base::codec::DecodeError::Malformed("the kind of a reply"))
}

/// The same, of a write, which may have been executed.
pub(crate) fn wrong_reply_to_write() -> Failure {
    Failure::Unknown(CallError::Malformed(kiva_base::codec::DecodeError::Malformed(
        "the kind of a reply",
    )))
}
