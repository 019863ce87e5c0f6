//! The handle to the replicas of a store, for whoever executes commands.
//!
//! Three methods: [`Router::replica`] finds a region and checks what a client believes about it,
//! [`Replica::read_view`] gives a snapshot to read from or to decide on, [`Replica::propose`]
//! returns when a write is applied.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use futures_channel::oneshot;
use kiva_base::{Clock, Epoch, KeyRange, Region, RegionError, RegionId, StoreId, Term};
use kiva_engine::{Engine, Snapshot, WriteBatch};

use crate::peer::PeerStatus;
use crate::proposal::{Guard, ProposeError, Write};
use crate::read::{Slot, Standing};
use crate::store::{Admin, AdminCommand, Mailbox, Read, StoreMsg, loop_of};

/// The regions of a store as everybody sees them. Clones share it.
#[derive(Clone, Default)]
pub struct Regions {
    /// Changes when a peer comes or goes; read by every request.
    slots: Arc<RwLock<BTreeMap<RegionId, Arc<Slot>>>>,
}

impl Regions {
    /// The region's slot; `None` when no peer of it lives here.
    pub fn get(&self, region: RegionId) -> Option<Arc<Slot>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).get(&region).cloned()
    }

    /// All of them, by id.
    pub fn all(&self) -> Vec<Arc<Standing>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.values().map(|slot| slot.standing()).collect()
    }

    pub(crate) fn insert(&self, region: RegionId, slot: Arc<Slot>) {
        self.slots.write().unwrap_or_else(PoisonError::into_inner).insert(region, slot);
    }

    pub(crate) fn remove(&self, region: RegionId) {
        self.slots.write().unwrap_or_else(PoisonError::into_inner).remove(&region);
    }

    /// Another region with data here that has keys of `range`.
    pub(crate) fn overlapping(&self, region: RegionId, range: &KeyRange) -> Option<RegionId> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let other = slots.iter().filter(|(id, _)| **id != region).find(|(_, slot)| {
            let standing = slot.standing();
            !standing.region.peers.is_empty() && standing.region.range.overlaps(range)
        });
        other.map(|(id, _)| *id)
    }
}

/// What a client believes about the region it asks. Numbers as they were sent: a zero names
/// nothing.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Whom it wants to reach.
    pub store: u64,
    /// Which region.
    pub region: u64,
    /// Which replica of it.
    pub peer: u64,
    /// The term it knows; zero for none.
    pub term: u64,
    /// The epoch it knows.
    pub epoch: Option<Epoch>,
    /// Whether a follower may serve it once the leader has confirmed.
    pub by_any_replica: bool,
}

/// The replicas of this store. Clones share them.
#[derive(Clone)]
pub struct Router {
    shared: Arc<Shared>,
}

struct Shared {
    store: StoreId,
    engine: Arc<dyn Engine>,
    regions: Regions,
    loops: Arc<[Mailbox]>,
    clock: Arc<dyn Clock>,
}

/// One region's replica here.
pub struct Replica {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    standing: Arc<Standing>,
    by_any_replica: bool,
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
    /// In front of these loops.
    pub fn new(
        store: StoreId,
        engine: Arc<dyn Engine>,
        regions: Regions,
        loops: Arc<[Mailbox]>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { shared: Arc::new(Shared { store, engine, regions, loops, clock }) }
    }

    /// This store.
    pub fn store(&self) -> StoreId {
        self.shared.store
    }

    /// The engine below, for what concerns the whole store.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.shared.engine
    }

    /// All regions here, by id.
    pub fn regions(&self) -> Vec<Arc<Standing>> {
        self.shared.regions.all()
    }

    /// Whether the replica of this region here may answer reads now without asking anybody, for
    /// whoever checks invariants.
    pub fn holds_lease(&self, region: RegionId) -> bool {
        let slot = self.shared.regions.get(region);
        slot.is_some_and(|slot| slot.holds_lease(&slot.standing(), self.shared.clock.now()))
    }

    /// The replica that a client means, if what it believes about it is true. The order of the
    /// checks is that of the protocol: a wrong store is said before a wrong region.
    pub fn replica(&self, header: &Header) -> Result<Replica, RegionError> {
        let shared = &self.shared;
        if header.store != shared.store.get() {
            return Err(RegionError::StoreNotMatch {
                requested: header.store,
                actual: shared.store,
            });
        }
        let slot = RegionId::new(header.region)
            .and_then(|id| shared.regions.get(id))
            .ok_or(RegionError::RegionNotFound { region: header.region })?;
        let standing = slot.standing();
        if standing.region.peers.is_empty() {
            // A peer without data: it knows neither range nor epoch, and must not teach any.
            return Err(RegionError::RegionNotFound { region: header.region });
        }
        if header.peer != standing.peer.id.get() {
            return Err(RegionError::MismatchPeerId {
                requested: header.peer,
                actual: standing.peer.id,
            });
        }
        if !standing.is_leader() && !header.by_any_replica {
            let (region, leader) = (standing.region.id, standing.leader);
            return Err(RegionError::NotLeader { region, leader });
        }
        if header.term != 0 && standing.term.0 > header.term.saturating_add(1) {
            return Err(RegionError::StaleCommand);
        }
        match header.epoch {
            // By inequality: a client that is ahead of us has seen a change we have not.
            Some(Epoch { version, .. }) if version == standing.region.epoch.version => {}
            Some(_) => {
                let current = vec![Region::clone(&standing.region)];
                return Err(RegionError::EpochNotMatch { current });
            }
            None => return Err(RegionError::Other("the request has no region epoch".into())),
        }
        let (shared, by_any_replica) = (shared.clone(), header.by_any_replica);
        Ok(Replica { shared, slot, standing, by_any_replica })
    }

    /// Changes a group that is led here.
    pub async fn admin(
        &self,
        region: RegionId,
        epoch: Epoch,
        command: AdminCommand,
    ) -> Result<(), ProposeError> {
        let (waiter, answer) = oneshot::channel();
        let message = StoreMsg::Admin(region, Admin { epoch, command, waiter });
        self.shared.mailbox(region).request(message)?;
        answer.await.unwrap_or(Err(ProposeError::Unknown))
    }

    /// What a person may ask about a peer here; `None` when there is none.
    pub async fn inspect(&self, region: RegionId) -> Option<PeerStatus> {
        let (asker, answer) = oneshot::channel();
        let asked = self.shared.mailbox(region).request(StoreMsg::Inspect(region, asker));
        asked.ok()?;
        answer.await.ok()
    }

    /// What the scheduler wants done.
    pub fn take(&self, step: crate::placement::Step) {
        self.shared.mailbox(step.region()).tell(StoreMsg::Step(step));
    }

    /// Refuses everything from now on.
    pub fn close(&self) {
        self.shared.loops.iter().for_each(Mailbox::close);
    }
}

impl Shared {
    fn mailbox(&self, region: RegionId) -> &Mailbox {
        &self.loops[loop_of(region, self.loops.len())]
    }
}

impl Replica {
    /// The region.
    pub fn region(&self) -> &Region {
        &self.standing.region
    }

    /// What is applied now. Linearizable: it holds every write that was answered before the call.
    pub async fn read_view(&self) -> Result<ReadView, RegionError> {
        let snapshot = self.shared.engine.snapshot();
        // The lease after the snapshot: one that is valid now was valid then.
        if self.slot.holds_lease(&self.standing, self.shared.clock.now()) {
            return Ok(self.view(snapshot, &self.standing));
        }
        drop(snapshot);
        let (waiter, answer) = oneshot::channel();
        let region = self.standing.region.id;
        let read = Read { by_any_replica: self.by_any_replica, waiter };
        let mailbox = self.shared.mailbox(region);
        mailbox.request(StoreMsg::Read(region, read))?;
        let closed = Err(RegionError::Other("store is shutting down".into()));
        answer.await.unwrap_or(closed)?;
        let standing = self.slot.standing();
        if standing.region.epoch.version != self.standing.region.epoch.version {
            let current = vec![Region::clone(&standing.region)];
            return Err(RegionError::EpochNotMatch { current });
        }
        let snapshot = self.shared.engine.snapshot();
        // The range once more: it may have changed before the snapshot was taken.
        if self.slot.standing().region.epoch.version != standing.region.epoch.version {
            let current = vec![Region::clone(&self.slot.standing().region)];
            return Err(RegionError::EpochNotMatch { current });
        }
        Ok(self.view(snapshot, &standing))
    }

    fn view(&self, snapshot: Arc<dyn Snapshot>, standing: &Standing) -> ReadView {
        ReadView { snapshot, region: standing.region.clone(), term: standing.term }
    }

    /// Returns when `batch` is applied here and agreed on by a majority. It was decided on a view
    /// of `term` and happens only in that term. `guard` is released when its effect can be read,
    /// or when it can never have one.
    ///
    /// Dropping the future takes nothing back.
    pub async fn propose(
        &self,
        term: Term,
        batch: WriteBatch,
        guard: Guard,
    ) -> Result<(), ProposeError> {
        let (waiter, answer) = oneshot::channel();
        let Standing { region, .. } = &*self.standing;
        let write = Write { term, version: region.epoch.version, batch, guard, waiter };
        let mailbox = self.shared.mailbox(region.id);
        mailbox.request(StoreMsg::Propose(region.id, write))?;
        // A dropped waiter is a loop that ended with the proposal in its hands.
        answer.await.unwrap_or(Err(ProposeError::Unknown))
    }
}
