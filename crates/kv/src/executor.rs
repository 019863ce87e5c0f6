//! The whole request path on one screen.
//!
//! A read: check, raise max-ts, take a view, look. A write: check, claim the keys, take a view,
//! decide, propose. Everything a command knows about itself is in its file; everything about
//! replication is behind [`Router`]. This file is the order in which they meet.

use std::sync::Arc;

use futures_channel::oneshot;
use kiva_base::api::ApiVersion;
use kiva_base::{Clock, RegionError, fault};
use kiva_engine::WriteBatch;
use kiva_raftstore::router::{ReadView, Replica, Router};
use kiva_txn::Outcome;

use crate::command::{Command, Read, Target, Touched, View, Write};
use crate::concurrency::MaxTs;
use crate::error::{Error, Failure};
use crate::gate::Gate;
use crate::latch::{Claim, Held, Latches};
use crate::limits::ENTRY_SIZE_MAX;
use crate::raw::DeleteRange;

/// Runs what would hold up others on the thread it came in on.
pub trait Pool: Send + Sync {
    /// Runs `job` soon, once. A pool that is shutting down may drop it instead.
    fn run(&self, job: Box<dyn FnOnce() + Send>);
}

/// Executes commands on the replicas of one store. Clones share everything.
#[derive(Clone)]
pub struct Executor {
    shared: Arc<Shared>,
}

struct Shared {
    api: ApiVersion,
    router: Router,
    latches: Latches,
    max_ts: MaxTs,
    clock: Arc<dyn Clock>,
    pool: Arc<dyn Pool>,
}

impl Executor {
    /// An executor over the replicas behind `router`. `seed` spreads latches.
    pub fn new(
        api: ApiVersion,
        router: Router,
        clock: Arc<dyn Clock>,
        pool: Arc<dyn Pool>,
        seed: u64,
    ) -> Self {
        let shared = Shared {
            api,
            router,
            latches: Latches::new(seed),
            max_ts: MaxTs::default(),
            clock,
            pool,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The mode of the cluster.
    pub fn api(&self) -> ApiVersion {
        self.shared.api
    }

    /// The time, for deadlines and TTL.
    pub fn clock(&self) -> &dyn Clock {
        &*self.shared.clock
    }

    /// The replicas.
    pub fn router(&self) -> &Router {
        &self.shared.router
    }

    pub(crate) fn run_elsewhere(&self, job: Box<dyn FnOnce() + Send>) {
        self.shared.pool.run(job);
    }

    pub(crate) fn latches(&self) -> &Latches {
        &self.shared.latches
    }

    /// Executes a command that only looks.
    pub async fn read<C: Read>(&self, target: &Target, command: C) -> Result<C::Reply, Error> {
        let replica = self.shared.admit(target, target.replica_read, &command)?;
        // Max-ts first, the snapshot after it: a commit that is calculated in between goes above.
        if let Some(ts) = command.max_ts() {
            self.shared.max_ts.raise(ts);
        }
        let view = replica.read_view().await?;
        self.shared.check_deadline(target)?;
        if !command.is_long() {
            return self.shared.look(&view, &command);
        }
        let (sender, answer) = oneshot::channel();
        let shared = self.shared.clone();
        self.shared.pool.run(Box::new(move || {
            // Who hung up meanwhile is not answered; a read has nothing to undo.
            let _ = sender.send(shared.look(&view, &command));
        }));
        answer.await.unwrap_or_else(|_| Err(RegionError::Other("store is shutting down".into()))?)
    }

    /// Executes a command that decides what to write. The reply is given when the write is applied
    /// and durable. Dropping the future takes back nothing that was proposed.
    pub async fn write<C: Write>(&self, target: &Target, command: C) -> Result<C::Reply, Error> {
        let replica = self.shared.admit(target, false, &command)?;
        let keys = command.latches(self.shared.api);
        let held = self.shared.latches.hold(Claim::Keys(&keys)).await;
        if let Some(ts) = command.max_ts() {
            self.shared.max_ts.raise(ts);
        }
        let view = replica.read_view().await?;
        self.shared.check_deadline(target)?;
        let Outcome { batch, reply } = command.decide(&self.shared.view(&view))?;
        self.shared.propose(&replica, &view, batch, held).await?;
        Ok(reply)
    }

    /// Deletes a range in pieces, each alone on the store and each in an entry of its own. What was
    /// applied before a failure stays.
    pub async fn delete_range(&self, target: &Target, command: DeleteRange) -> Result<(), Error> {
        let mut pieces = command.pieces();
        let replica = self.shared.admit(target, false, &command)?;
        loop {
            let held = self.shared.latches.hold(Claim::All).await;
            let view = replica.read_view().await?;
            self.shared.check_deadline(target)?;
            let batch = pieces(&command, &self.shared.view(&view))?;
            if batch.is_empty() {
                return Ok(());
            }
            self.shared.propose(&replica, &view, batch, held).await?;
        }
    }
}

impl Shared {
    /// Everything that can be refused without looking at data.
    fn admit<C: Command>(
        &self,
        target: &Target,
        by_any_replica: bool,
        command: &C,
    ) -> Result<Replica, Error> {
        let replica = self.router.replica(&target.header(by_any_replica))?;
        self.check_deadline(target)?;
        let gate = Gate { cluster: self.api, requested: target.api, mode: C::MODE };
        gate.check_request()?;
        command.check(self.api)?;
        let region = replica.region();
        command.touches(&mut |touched| {
            let keys = match touched {
                Touched::Region => return Ok(()),
                Touched::Range(start, end) => {
                    let (start, end) = (start.as_bytes(), end.as_bytes());
                    return Ok(gate.check_range(start, end)?);
                }
                Touched::Stored(range) => {
                    return Ok(gate.check_stored_range(range)?);
                }
                Touched::Key(key) => std::slice::from_ref(key),
                Touched::Keys(keys) => keys,
            };
            for key in keys {
                gate.check_key(key.as_bytes())?;
                let stored = self.api.stored(C::MODE, key);
                if !region.contains(stored.as_bytes()) {
                    return Err(RegionError::KeyNotInRegion {
                        key: stored.0,
                        region: region.id,
                        start: region.range.start().clone(),
                        end: region.range.end().clone(),
                    })?;
                }
            }
            Ok(())
        })?;
        Ok(replica)
    }

    fn check_deadline(&self, target: &Target) -> Result<(), RegionError> {
        match target.deadline {
            Some(deadline) if self.clock.now() > deadline => {
                Err(RegionError::ServerIsBusy { reason: fault::DEADLINE_EXCEEDED.into() })
            }
            _ => Ok(()),
        }
    }

    fn view<'a>(&self, view: &'a ReadView) -> View<'a> {
        View {
            snapshot: &*view.snapshot,
            range: &view.region.range,
            api: self.api,
            now_s: self.clock.wall_ms() / 1_000,
        }
    }

    fn look<C: Read>(&self, view: &ReadView, command: &C) -> Result<C::Reply, Error> {
        command.read(&self.view(view))
    }

    async fn propose(
        &self,
        replica: &Replica,
        view: &ReadView,
        batch: WriteBatch,
        held: Held,
    ) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        if batch.size() > ENTRY_SIZE_MAX {
            return Err(RegionError::EntryTooLarge {
                region: view.region.id,
                size: batch.size() as u64,
                limit: ENTRY_SIZE_MAX as u64,
            })?;
        }
        batch.check().map_err(Failure::from)?;
        Ok(replica.propose(view.term, batch, Box::new(held)).await?)
    }
}
