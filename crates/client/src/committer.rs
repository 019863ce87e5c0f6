//! The order of prewrite, timestamp and commit across regions.
//!
//! ```text
//!  prewrite the primary's batch ─▶ prewrite the others, several at once
//!                                        │
//!                               draw the commit timestamp
//!                                        │
//!                        commit the primary  ◀── the transaction is committed here, or not
//!                                        │
//!                                answer the caller ─▶ commit the others
//! ```
//!
//! - The primary's lock is there before any other, so that whoever meets a lock finds its primary.
//! - The commit timestamp is drawn when all locks are there: a reader at a later timestamp meets
//!   them, and one at an earlier timestamp is not concerned.
//! - One request decides, in one region: the commit of the primary. Keys that share its batch and
//!   its region are committed by the same request.
//! - Every request may be repeated, because stores know a transaction by its start timestamp. A
//!   commit whose answer was lost is repeated too: it says "committed" if it was, and "not found"
//!   if somebody rolled the transaction back, and then no straggler can commit it any more. Only
//!   when the time runs out with an answer still lost does nobody know.
//! - While a transaction of several batches is on its way its primary's lock is renewed.
//!
//! The source is "Percolator" (Peng and Dabek, OSDI 2010), section 2.2. Not here: pessimistic
//! locks, async commit, and the commit of a single region in one phase.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, select_biased};
use kiva_base::clock::BoxFuture;
use kiva_base::fault::{ConflictReason, LockInfo};
use kiva_base::{KeyError, Moment, Timestamp};

use crate::backoff::Pace;
use crate::core::{Core, Failure, Place, Repeat, Trial};
use crate::error::{CommitError, Obstacle};
use crate::keyspace::Codec;
use crate::limits::{HEARTBEAT_INTERVAL, LOCK_TTL};
use crate::resolver::wrong_reply;
use crate::rpc::{CallError, Change, Command, Mutation, Prewrite, Reply};
use crate::scatter::{Batch, Ragged, Refused, Scatter, group, scatter, send};

/// A committed transaction.
#[must_use = "give `secondaries` to whoever runs tasks"]
pub struct Committed {
    /// When its writes appear.
    pub commit_ts: Timestamp,
    /// Commits its other keys, if there are any. Without it they stay locked until somebody meets
    /// them and asks the primary; nothing else depends on it.
    pub secondaries: Option<BoxFuture<'static, ()>>,
}

/// One transaction on its way to being committed.
pub(crate) struct Committer {
    pub(crate) core: Arc<Core>,
    pub(crate) start_ts: Timestamp,
    pub(crate) began: Moment,
    pub(crate) timeout: Duration,
}

/// What the first phase leaves to the second.
struct Plan {
    primary: Bytes,
    /// The other keys of the primary's batch.
    beside: Vec<Bytes>,
    /// All other keys.
    others: Vec<Bytes>,
}

/// A first phase that failed, and whether it may have left locks.
struct Unprewritten {
    error: CommitError,
    has_locks: bool,
}

impl Committer {
    /// Commits mutations of different keys, at least one. `None` when all were only checks.
    pub(crate) async fn commit(
        self,
        mut mutations: Vec<Mutation>,
    ) -> Result<Option<Committed>, CommitError> {
        // A check leaves no lock, so it cannot be the primary.
        let is_write = |mutation: &Mutation| mutation.change != Change::CheckNotExists;
        let position = mutations.iter().position(is_write);
        let is_check_only = position.is_none();
        mutations.swap(0, position.unwrap_or(0));
        let Some(primary) = mutations.first().map(|mutation| mutation.key.clone()) else {
            return Ok(None);
        };
        let all: Vec<Bytes> = mutations
            .iter()
            .filter(|mutation| is_write(mutation))
            .map(|mutation| mutation.key.clone())
            .collect();

        let mut trial = self.core.trial(self.timeout);
        let outcome = self.two_phases(&primary, mutations, is_check_only, &mut trial);
        let (error, has_locks) = match outcome.await {
            Ok(committed) => return Ok(committed),
            Err(failed) => (failed.error, failed.has_locks),
        };
        // Locks of a transaction that may be committed must stay: its primary decides about them.
        if has_locks && !error.is_unknown() {
            self.core.spawn.spawn(self.roll_back(all));
        }
        Err(error)
    }

    async fn two_phases(
        &self,
        primary: &Bytes,
        mutations: Vec<Mutation>,
        is_check_only: bool,
        trial: &mut Trial,
    ) -> Result<Option<Committed>, Unprewritten> {
        let size = mutations.len() as u64;
        let mut batches = group(&self.core, &self.core.txn, mutations, trial)
            .await
            .map_err(|failure| Unprewritten { error: failure.into(), has_locks: false })?;
        let phase = FirstPhase {
            core: &self.core,
            primary: primary.clone(),
            start_ts: self.start_ts,
            began: self.began,
            txn_size: size,
        };
        // The primary is the first mutation, so its batch is the first.
        let rest = batches.split_off(1);
        let keys = |batches: &[Batch<Mutation>]| -> Vec<Bytes> {
            let items = batches.iter().flat_map(|batch| &batch.items);
            items
                .filter(|item| item.change != Change::CheckNotExists && item.key != *primary)
                .map(|item| item.key.clone())
                .collect()
        };
        let plan = Plan { primary: primary.clone(), beside: keys(&batches), others: keys(&rest) };
        self.prewrite(&phase, batches).await?;
        let finish = async {
            if !rest.is_empty() {
                self.prewrite(&phase, rest).await.map_err(|failed| {
                    // The primary's batch is locked in any case.
                    Unprewritten { has_locks: true, ..failed }
                })?;
            }
            if is_check_only {
                return Ok(None);
            }
            self.second_phase(plan, trial)
                .await
                .map(Some)
                .map_err(|error| Unprewritten { error, has_locks: true })
        };
        if phase.txn_size == 1 {
            return finish.await;
        }
        let mut finish = pin!(finish.fuse());
        let mut renew = pin!(self.renew(&phase).fuse());
        select_biased! {
            outcome = finish => outcome,
            never = renew => match never {},
        }
    }

    async fn prewrite(
        &self,
        phase: &FirstPhase<'_>,
        batches: Vec<Batch<Mutation>>,
    ) -> Result<(), Unprewritten> {
        match send(&self.core, phase, batches).await {
            Ok(_) => Ok(()),
            Err(Ragged { done, is_lost, error }) => Err(Unprewritten {
                error,
                // A batch that is refused locks nothing.
                has_locks: done > 0 || is_lost,
            }),
        }
    }

    /// Draws the commit timestamp, commits the primary, and prepares the rest.
    async fn second_phase(&self, plan: Plan, trial: &mut Trial) -> Result<Committed, CommitError> {
        let core = &self.core;
        // What happened to prewrites says nothing about the commit.
        trial.is_lost = false;
        trial.backoff.part_done();
        let boundary = core.txn.boundary(&plan.primary);
        let mut commit_ts = core.timestamp(trial).await?;
        loop {
            let undetermined = |trial: &Trial, error: CommitError, last: Obstacle| {
                if !trial.is_lost {
                    return error;
                }
                CommitError::Undetermined { start_ts: self.start_ts, last }
            };
            let stopped = |trial: &Trial, failure: Failure| {
                let last = obstacle(&failure);
                undetermined(trial, failure.into(), last)
            };
            let route = match core.route(Place::Key(&boundary), trial).await {
                Ok(route) => route,
                Err(failure) => return Err(stopped(trial, failure)),
            };
            // The region may have shrunk since the prewrite.
            let (beside, left): (Vec<Bytes>, Vec<Bytes>) = plan
                .beside
                .iter()
                .cloned()
                .partition(|key| route.region.contains(&core.txn.boundary(key)));
            let keys = std::iter::once(plan.primary.clone()).chain(beside).collect();
            let command = Command::Commit { start_ts: self.start_ts, keys, commit_ts };
            let refused = match core.call(&route, &core.txn, &command, trial).await {
                Ok(Reply::Commit(Ok(()))) => {
                    let others = plan.others.into_iter().chain(left).collect();
                    return Ok(Committed {
                        commit_ts,
                        secondaries: self.secondaries(commit_ts, others),
                    });
                }
                Ok(Reply::Commit(Err(error))) => error,
                Ok(_) => {
                    trial.is_lost = true;
                    return Err(stopped(trial, wrong_reply()));
                }
                Err(error) => {
                    let recovered = core.recover(&route, error, Repeat::Always, trial).await;
                    if let Err(failure) = recovered {
                        return Err(stopped(trial, failure));
                    }
                    continue;
                }
            };
            match refused {
                // A reader was promised that this commits later. The promise only grows, so no
                // earlier attempt with this timestamp can succeed any more.
                KeyError::CommitTsExpired { .. } => {
                    let next = core.pause(Pace::Progress, Obstacle::CommitTsPushed, trial);
                    if let Err(failure) = next.await {
                        return Err(stopped(trial, failure));
                    }
                    commit_ts = match core.timestamp(trial).await {
                        Ok(commit_ts) => commit_ts,
                        Err(failure) => return Err(stopped(trial, failure)),
                    };
                }
                // Final, even after a lost answer: a commit that had happened would be found.
                KeyError::TxnLockNotFound { .. } => return Err(CommitError::RolledBack(refused)),
                refused => {
                    let last = Obstacle::Refused(Box::new(refused.clone()));
                    return Err(undetermined(trial, CommitError::Refused(refused), last));
                }
            }
        }
    }

    /// Commits keys of a transaction whose primary is committed.
    fn secondaries(
        &self,
        commit_ts: Timestamp,
        keys: Vec<Bytes>,
    ) -> Option<BoxFuture<'static, ()>> {
        if keys.is_empty() {
            return None;
        }
        let core = self.core.clone();
        let command = CommitOthers { start_ts: self.start_ts, commit_ts };
        Some(Box::pin(async move {
            let trial = core.trial(core.timeout);
            if let Err(ragged) = scatter(&core, &command, keys, trial).await {
                let start_ts = command.start_ts;
                let error = ragged.error;
                tracing::debug!(%start_ts, %error, "left locks for whoever meets them");
            }
        }))
    }

    /// Takes the locks of a transaction back that is not committed.
    fn roll_back(&self, keys: Vec<Bytes>) -> BoxFuture<'static, ()> {
        let core = self.core.clone();
        let command = RollBack { start_ts: self.start_ts };
        Box::pin(async move {
            let trial = core.trial(core.timeout);
            if let Err(ragged) = scatter(&core, &command, keys, trial).await {
                let start_ts = command.start_ts;
                let error = ragged.error;
                tracing::debug!(%start_ts, %error, "left locks for whoever meets them");
            }
        })
    }

    /// Keeps the primary's lock alive for as long as this is polled.
    async fn renew(&self, phase: &FirstPhase<'_>) -> Infallible {
        let core = &self.core;
        loop {
            core.clock.sleep(HEARTBEAT_INTERVAL).await;
            let command = Command::Heartbeat {
                primary: phase.primary.clone(),
                start_ts: self.start_ts,
                ttl_ms: phase.lock_ttl_ms(),
            };
            let mut trial = core.trial(HEARTBEAT_INTERVAL);
            // A heartbeat that fails costs nothing yet: the commit finds out whether it mattered.
            let _ =
                core.at_key(&core.txn, &phase.primary, &command, Repeat::Always, &mut trial).await;
        }
    }
}

/// What stopped a commit, for one that cannot say whether it happened.
fn obstacle(failure: &Failure) -> Obstacle {
    match failure {
        Failure::GaveUp(gave_up) => gave_up.last.clone(),
        Failure::Region(error) => CallError::Region(error.clone()).into(),
        Failure::Key(error) => Obstacle::Refused(Box::new(error.clone())),
        Failure::Scheduler(error) => {
            Obstacle::Scheduler(crate::rpc::SchedulerCallError::Refused(error.to_string()))
        }
        Failure::Unserved(name) => CallError::Unserved(name).into(),
        Failure::Unknown(error) => error.clone().into(),
        Failure::Malformed(error) => CallError::Malformed(*error).into(),
    }
}

/// Locks keys and leaves their new values with the locks.
struct FirstPhase<'c> {
    core: &'c Core,
    primary: Bytes,
    start_ts: Timestamp,
    began: Moment,
    txn_size: u64,
}

impl FirstPhase<'_> {
    /// A lock's life is counted from the start of its transaction, so its age comes on top.
    fn lock_ttl_ms(&self) -> u64 {
        let age = self.core.clock.now().since(self.began);
        (age + LOCK_TTL).as_millis() as u64
    }

    fn error(&self, error: KeyError) -> CommitError {
        match error {
            KeyError::Conflict { reason: ConflictReason::SelfRolledBack, .. } => {
                CommitError::RolledBack(error)
            }
            KeyError::Conflict { .. } => CommitError::Conflict(error),
            KeyError::AlreadyExist { key } => match self.core.txn.user(key.0) {
                Ok(key) => CommitError::AlreadyExists(key),
                Err(error) => CommitError::Malformed(error),
            },
            error => CommitError::Refused(error),
        }
    }
}

impl Scatter for FirstPhase<'_> {
    type Item = Mutation;
    type Answer = ();
    type Error = CommitError;

    fn codec<'a>(&self, core: &'a Core) -> &'a Codec {
        &core.txn
    }

    fn repeat(&self) -> Repeat {
        Repeat::Always
    }

    fn command(&self, mutations: &[Mutation]) -> Command {
        Command::Prewrite(Prewrite {
            mutations: mutations.to_vec(),
            primary: self.primary.clone(),
            start_ts: self.start_ts,
            lock_ttl_ms: self.lock_ttl_ms(),
            txn_size: self.txn_size,
            // Not zero, so that a reader can push it and need not wait.
            min_commit_ts: self.start_ts.next(),
        })
    }

    fn accept(&self, reply: Reply) -> Result<(), Refused<CommitError>> {
        let Reply::Prewrite(errors) = reply else {
            return Err(Refused::Failed(wrong_reply().into()));
        };
        let mut locks: Vec<LockInfo> = Vec::new();
        for error in errors {
            match error {
                KeyError::Locked(lock) => locks.push(*lock),
                error => return Err(Refused::Failed(self.error(error))),
            }
        }
        match locks.is_empty() {
            true => Ok(()),
            false => Err(Refused::Locked(locks)),
        }
    }
}

/// Commits keys whose primary is committed.
struct CommitOthers {
    start_ts: Timestamp,
    commit_ts: Timestamp,
}

impl Scatter for CommitOthers {
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
        Command::Commit { start_ts: self.start_ts, keys: keys.to_vec(), commit_ts: self.commit_ts }
    }

    fn accept(&self, reply: Reply) -> Result<(), Refused<Failure>> {
        match reply {
            Reply::Commit(Ok(())) => Ok(()),
            Reply::Commit(Err(error)) => Err(Refused::Failed(Failure::Key(error))),
            _ => Err(Refused::Failed(wrong_reply())),
        }
    }
}

/// Rolls keys back.
struct RollBack {
    start_ts: Timestamp,
}

impl Scatter for RollBack {
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
        Command::Rollback { start_ts: self.start_ts, keys: keys.to_vec() }
    }

    fn accept(&self, reply: Reply) -> Result<(), Refused<Failure>> {
        match reply {
            Reply::Rollback(Ok(())) => Ok(()),
            Reply::Rollback(Err(error)) => Err(Refused::Failed(Failure::Key(error))),
            _ => Err(Refused::Failed(wrong_reply())),
        }
    }
}
