//! Until replication comes: one local replica behind the interface that it will have.
//!
//! [`Router::replica`] finds a region and checks what a client believes about it,
//! [`Replica::read_view`] gives a snapshot to read from or to decide on, [`Replica::propose`]
//! returns when a write is durable. Proposals gather while one group is on its way to the disk; the
//! next group is everything that gathered meanwhile, with one flush for all of it.
//!
//! **A view never shows what a crash could take back.** The engine shows a batch as soon as it is
//! written, before it is durable. So the writer, which is alone in writing, publishes a snapshot
//! after each flush, and every view is the newest published one.
//!
//! What is always true:
//!
//! - A proposal is answered exactly once: durable, refused, or unknown. Unknown only when the
//!   engine failed, and then nothing is accepted any more.
//! - A latch that a proposal holds is released after its effect is published, so the next one on
//!   the same key sees it.

mod meta;
mod runtime;
mod writer;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use futures_channel::oneshot;
use kiva_base::{Epoch, Region, RegionError, RegionId, StoreId, Term};
use kiva_engine::{Engine, EngineError, Snapshot, WriteBatch};

use crate::command::Target;
use crate::error::Error;
use crate::latch::Held;

pub use meta::{
    MetaError, StoreIdent, load_ident, load_regions, remove_region, save_ident, save_region,
};
pub use runtime::Writer;
use writer::{Proposal, Queue};

/// The term of a region that has no elections. One above zero, the "no opinion" of requests.
const TERM: Term = Term(1);

/// The replicas of this store. Clones share them.
#[derive(Clone)]
pub struct Router {
    shared: Arc<Shared>,
}

struct Shared {
    store: StoreId,
    engine: Arc<dyn Engine>,
    /// Changes only when the store learns of its regions; read by every request.
    regions: RwLock<BTreeMap<RegionId, Arc<Region>>>,
    queue: Queue,
}

/// One region's replica here.
pub struct Replica {
    shared: Arc<Shared>,
    region: Arc<Region>,
}

/// A snapshot with the region and the term it was taken under.
pub struct ReadView {
    /// The data.
    pub snapshot: Arc<dyn Snapshot>,
    /// The region as it was then.
    pub region: Arc<Region>,
    /// The term it was taken in: a proposal decided on it is refused in a later one.
    pub term: Term,
}

impl Router {
    /// The regions that `engine` has metadata of, on store `store`. Nothing is written until
    /// [`Writer::start`] serves the queue.
    pub fn open(store: StoreId, engine: Arc<dyn Engine>) -> Result<Self, MetaError> {
        let regions = load_regions(&*engine.snapshot())?;
        let shared = Shared {
            store,
            queue: Queue::new(engine.snapshot()),
            engine,
            regions: RwLock::new(
                regions.into_iter().map(|region| (region.id, Arc::new(region))).collect(),
            ),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Adds a region whose metadata the caller has made durable.
    pub fn add_region(&self, region: Region) {
        let mut regions = self.shared.regions.write().unwrap_or_else(PoisonError::into_inner);
        regions.insert(region.id, Arc::new(region));
    }

    /// All regions here, by id.
    pub fn regions(&self) -> Vec<Arc<Region>> {
        let regions = self.shared.regions.read().unwrap_or_else(PoisonError::into_inner);
        regions.values().cloned().collect()
    }

    /// This store.
    pub fn store(&self) -> StoreId {
        self.shared.store
    }

    /// The engine below, for what concerns the whole store.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.shared.engine
    }

    /// The replica that a client means, if what it believes about it is true. The order of the
    /// checks is that of the protocol: a wrong store is said before a wrong region.
    pub fn replica(&self, target: &Target) -> Result<Replica, RegionError> {
        if target.store != self.shared.store.get() {
            return Err(RegionError::StoreNotMatch {
                requested: target.store,
                actual: self.shared.store,
            });
        }
        let region = RegionId::new(target.region)
            .and_then(|id| {
                let regions = self.shared.regions.read().unwrap_or_else(PoisonError::into_inner);
                regions.get(&id).cloned()
            })
            .ok_or(RegionError::RegionNotFound { region: target.region })?;
        let peer = region
            .peer_on(self.shared.store)
            .ok_or(RegionError::RegionNotFound { region: target.region })?;
        if target.peer != peer.id.get() {
            return Err(RegionError::MismatchPeerId { requested: target.peer, actual: peer.id });
        }
        if target.term != 0 && TERM.0 > target.term.saturating_add(1) {
            return Err(RegionError::StaleCommand);
        }
        match target.epoch {
            // By inequality: a client that is ahead of us has seen a change we have not.
            Some(Epoch { version, .. }) if version == region.epoch.version => {}
            Some(_) => {
                return Err(RegionError::EpochNotMatch { current: vec![Region::clone(&region)] });
            }
            None => {
                return Err(RegionError::Other("the request has no region epoch".into()));
            }
        }
        Ok(Replica { shared: self.shared.clone(), region })
    }

    /// The newest state that readers may see.
    pub(crate) fn published(&self) -> Arc<dyn Snapshot> {
        self.shared.queue.published()
    }

    /// Takes data away that nobody may read any more, on this store only and without a proposal.
    /// Returns when that is durable.
    pub async fn clean_up(&self, batch: WriteBatch, held: Held) -> Result<(), Error> {
        self.shared.write_durably(batch, held).await
    }

    /// Refuses proposals from now on and answers those that wait once they are durable. The
    /// writer ends after them.
    pub fn close(&self) {
        self.shared.queue.close();
    }
}

impl Replica {
    /// The region.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// What is applied and durable now. Linearizable: it holds every write that was answered
    /// before the call.
    pub async fn read_view(&self) -> Result<ReadView, RegionError> {
        Ok(ReadView {
            snapshot: self.shared.queue.published(),
            region: self.region.clone(),
            term: TERM,
        })
    }

    /// Returns when `batch` is applied and durable. It was decided on a view of `term` and happens
    /// only in that term. `held` is released when its effect can be read, or when it is refused.
    ///
    /// Dropping the future takes nothing back.
    pub async fn propose(&self, term: Term, batch: WriteBatch, held: Held) -> Result<(), Error> {
        if term != TERM {
            return Err(RegionError::StaleCommand)?;
        }
        self.shared.write_durably(batch, held).await
    }
}

impl Shared {
    async fn write_durably(&self, batch: WriteBatch, held: Held) -> Result<(), Error> {
        let (waiter, answer) = oneshot::channel();
        self.queue.push(Proposal { batch, held, waiter })?;
        // A dropped waiter is a writer that died with the proposal in its hands.
        answer.await.unwrap_or(Err(())).map_err(|()| Error::Unknown)
    }

    fn write(&self, batch: &WriteBatch) -> Result<Arc<dyn Snapshot>, EngineError> {
        self.engine.write(batch)?;
        self.engine.flush()?;
        Ok(self.engine.snapshot())
    }
}
