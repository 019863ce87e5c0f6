//! The scheduler as others hold it.
//!
//! What concerns placement is in `placement`: reports, operators, logs of stores.

mod placement;

use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use kiva_base::{Clock, ClusterId, KeyRange, Moment, RegionId, StoreId, Timestamp};
use kiva_engine::{Engine, EngineError};

use crate::cluster::Health;
use crate::coordinator::Coordinator;
use crate::error::{Error, OpenError, Refusal};
use crate::gc::{GC_WORKER, Hold, HoldChange};
use crate::id::Ids;
use crate::limits::{IDS_LOW, IDS_MAX, REGIONS_SAVED_MAX, SERVICE_NAME_MAX, TIMESTAMPS_MAX};
use crate::regions::RegionReport;
use crate::settings::{Settings, WantedSettings};
use crate::state::{self, Birth, Command, State};
use crate::store::{Store, StoreState, StoreView};
use crate::tso::Oracle;

pub use placement::StoreDescription;

/// How a scheduler is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The id of the cluster if it is born now: drawn at random, so that no two clusters share it.
    pub cluster_id_if_new: ClusterId,
    /// What the cluster must be like.
    pub settings: WantedSettings,
}

/// A scheduler. A clone is another handle to it, and costs a counter.
///
/// Methods that say they save return when the change is durable, and so may wait for the disk for
/// milliseconds. All others answer from memory.
#[derive(Clone)]
pub struct Scheduler {
    shared: Arc<Shared>,
}

/// What handles share.
///
/// Locks are taken in this order: writer, state, coordinator, then one of the others at a time.
/// Only the writer is held while the disk works.
struct Shared {
    birth: Birth,
    clock: Arc<dyn Clock>,
    /// One change at a time: it is decided, saved and applied before the next one is looked at.
    writer: Mutex<Writer>,
    /// Read by every lookup, written for moments by heartbeats and by saved changes.
    state: RwLock<State>,
    /// Held for some dozen instructions per request for timestamps.
    oracle: Mutex<Oracle>,
    ids: Mutex<Ids>,
    /// Held for one report or one round of the patrol.
    coordinator: Mutex<Coordinator>,
    /// When this handle was opened.
    opened: Moment,
}

/// Who holds it may save.
struct Writer {
    engine: Arc<dyn Engine>,
}

impl Scheduler {
    /// Opens the scheduler that lives in `engine`, or begins a cluster there. Saves.
    pub fn open(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Result<Self, OpenError> {
        let state = match state::load(&*engine.snapshot())? {
            Some(state) => {
                options.settings.check(state.birth().settings)?;
                state
            }
            None => {
                let birth = Birth {
                    cluster: options.cluster_id_if_new,
                    settings: options.settings.or_default(),
                    born_ms: clock.wall_ms(),
                };
                engine.write(&Command::Bear(birth).records())?;
                engine.flush()?;
                State::new(birth)
            }
        };
        let oracle = Oracle::new(state.window_end_ms(), clock.now(), clock.wall_ms());
        Ok(Self {
            shared: Arc::new(Shared {
                birth: state.birth(),
                oracle: Mutex::new(oracle),
                ids: Mutex::new(Ids::new(state.ids_end())),
                state: RwLock::new(state),
                writer: Mutex::new(Writer { engine }),
                coordinator: Mutex::new(Coordinator::default()),
                opened: clock.now(),
                clock,
            }),
        })
    }

    /// The cluster, from its first start to its last.
    pub fn cluster_id(&self) -> ClusterId {
        self.shared.birth.cluster
    }

    /// What must agree in the cluster.
    pub fn settings(&self) -> Settings {
        self.shared.birth.settings
    }

    // Timestamps.

    /// The last of `count` consecutive timestamps. `None`: they cannot be had without saving, so
    /// call [`timestamps`](Self::timestamps) where waiting is allowed.
    pub fn timestamps_at_once(&self, count: u32) -> Result<Option<Timestamp>, Refusal> {
        if !(1..=TIMESTAMPS_MAX).contains(&count) {
            return Err(Refusal::TimestampCount { count });
        }
        let clock = &self.shared.clock;
        let (now, wall_ms) = (clock.now(), clock.wall_ms());
        Ok(self.shared.oracle().allocate(count, now, wall_ms))
    }

    /// The last of `count` consecutive timestamps. Saves when the window is used up.
    pub fn timestamps(&self, count: u32) -> Result<Timestamp, Error> {
        if let Some(last) = self.timestamps_at_once(count)? {
            return Ok(last);
        }
        let writer = self.shared.writer();
        loop {
            // Somebody else may have moved the window while we waited for the writer, or may have
            // used up the one we moved.
            if let Some(last) = self.timestamps_at_once(count)? {
                return Ok(last);
            }
            self.move_window(&writer)?;
        }
    }

    fn move_window(&self, writer: &Writer) -> Result<(), Error> {
        let clock = &self.shared.clock;
        let (now, wall_ms) = (clock.now(), clock.wall_ms());
        let next = self.shared.oracle().next_window(now, wall_ms);
        let end_ms = next.ok_or(Refusal::TooFast)?;
        self.save(writer, Command::MoveWindow { end_ms })?;
        self.shared.oracle().on_saved(end_ms);
        Ok(())
    }

    // Ids.

    /// The last of `count` consecutive ids that nobody ever had. Saves when a range is used up.
    pub fn ids(&self, count: u32) -> Result<u64, Error> {
        if count > IDS_MAX {
            return Err(Refusal::IdCount { count }.into());
        }
        self.ids_as(&self.shared.writer(), count)
    }

    /// [`ids`](Self::ids), for who may save already.
    fn ids_as(&self, writer: &Writer, count: u32) -> Result<u64, Error> {
        // Absent means one on the wire.
        let count = count.max(1);
        loop {
            let end = {
                let mut ids = self.shared.ids();
                match ids.allocate(count) {
                    Some(last) => return Ok(last),
                    None => ids.next_end(count),
                }
            };
            self.save(writer, Command::ReserveIds { end })?;
            self.shared.ids().on_saved(end);
        }
    }

    // Birth of the cluster.

    /// Whether a first store has brought the first region.
    pub fn is_bootstrapped(&self) -> bool {
        self.shared.state().is_bootstrapped()
    }

    /// The first store brings the first region: all keys, one peer, with ids from
    /// [`ids`](Self::ids). Saves. Everybody but the first is refused with
    /// [`Refusal::AlreadyBootstrapped`].
    pub fn bootstrap(&self, store: Store, region: RegionReport) -> Result<(), Error> {
        let writer = self.shared.writer();
        if self.is_bootstrapped() {
            return Err(Refusal::AlreadyBootstrapped.into());
        }
        let [peer] = region.region.peers[..] else {
            return Err(Refusal::NotFirstRegion("has one peer").into());
        };
        if region.region.range != KeyRange::ALL {
            return Err(Refusal::NotFirstRegion("has all keys").into());
        }
        if peer.store != store.id {
            return Err(Refusal::NotFirstRegion("is on the first store").into());
        }
        self.check_allocated("store", store.id.get())?;
        self.check_allocated("region", region.region.id.get())?;
        self.check_allocated("peer", peer.id.get())?;
        let (id, region) = (store.id, Box::new(region));
        self.save(&writer, Command::Bootstrap { store, region })?;
        self.shared.state_mut().on_store_heard(id, self.shared.clock.now());
        Ok(())
    }

    fn check_allocated(&self, what: &'static str, id: u64) -> Result<(), Refusal> {
        if self.shared.ids().is_allocated(id) {
            Ok(())
        } else {
            Err(Refusal::IdNotAllocated { what, id })
        }
    }

    fn check_bootstrapped(&self) -> Result<(), Refusal> {
        if self.is_bootstrapped() { Ok(()) } else { Err(Refusal::NotBootstrapped) }
    }

    // Stores.

    /// A store joins, or says something new about itself. Saves. Its state is not its own to
    /// change: a store that is being emptied stays so.
    ///
    /// At the address of another store it is refused while the other may live. When the other has
    /// been silent for as long as makes a store disconnected, it is lost: whoever serves there now
    /// does not have its directory.
    pub fn put_store(&self, store: Store) -> Result<(), Error> {
        self.check_bootstrapped()?;
        let writer = self.shared.writer();
        self.check_allocated("store", store.id.get())?;
        let now = self.shared.clock.now();
        let (state, lost) = {
            let state = self.shared.state();
            let own = match state.stores().get(&store.id).map(|view| view.store.state) {
                Some(StoreState::Tombstone | StoreState::Lost) => {
                    return Err(Refusal::StoreTombstone(store.id).into());
                }
                Some(known) => known,
                None => StoreState::Up,
            };
            let is_present = |view: &&StoreView| {
                let is_gone = matches!(view.store.state, StoreState::Tombstone | StoreState::Lost);
                !is_gone && view.store.id != store.id && view.store.address == store.address
            };
            let other = state.stores().values().find(is_present);
            if let Some(other) = other
                && self.health_of(other, state.policy(), now) == Health::Up
            {
                let (address, other) = (store.address, other.store.id);
                return Err(Refusal::AddressTaken { address, other }.into());
            }
            (own, other.map(|other| other.store.clone()))
        };
        if let Some(lost) = lost {
            self.save(&writer, Command::PutStore(Store { state: StoreState::Lost, ..lost }))?;
        }
        let id = store.id;
        self.save(&writer, Command::PutStore(Store { state, ..store }))?;
        self.shared.state_mut().on_store_heard(id, now);
        Ok(())
    }

    /// The store with this id, tombstones too.
    pub fn store(&self, id: u64) -> Result<StoreView, Refusal> {
        self.check_bootstrapped()?;
        let state = self.shared.state();
        StoreId::new(id)
            .and_then(|id| state.stores().get(&id).cloned())
            .ok_or(Refusal::StoreNotFound(id))
    }

    /// All stores by id, tombstones too.
    pub fn stores(&self) -> Vec<StoreView> {
        self.shared.state().stores().values().cloned().collect()
    }

    // Regions.

    /// The region that holds a stored key.
    pub fn region_by_key(&self, key: &[u8]) -> Result<Option<Arc<RegionReport>>, Refusal> {
        self.check_bootstrapped()?;
        Ok(self.shared.state().regions().by_key(key).cloned())
    }

    /// The region that ends where the one that holds `key` begins.
    pub fn region_before(&self, key: &[u8]) -> Result<Option<Arc<RegionReport>>, Refusal> {
        self.check_bootstrapped()?;
        Ok(self.shared.state().regions().previous(key).cloned())
    }

    /// The region with this id.
    pub fn region_by_id(&self, id: u64) -> Result<Option<Arc<RegionReport>>, Refusal> {
        self.check_bootstrapped()?;
        let Some(id) = RegionId::new(id) else {
            return Ok(None);
        };
        Ok(self.shared.state().regions().by_id(id).cloned())
    }

    /// The regions that hold keys of `range`, in key order, `limit` at most.
    pub fn regions(
        &self,
        range: &KeyRange,
        limit: usize,
    ) -> Result<Vec<Arc<RegionReport>>, Refusal> {
        self.check_bootstrapped()?;
        let state = self.shared.state();
        let found = state.regions().covering(range).take(limit);
        Ok(found.cloned().collect())
    }

    // Garbage.

    /// Up to where old versions may be collected.
    pub fn safe_point(&self) -> Timestamp {
        self.shared.state().safe_points().safe_point()
    }

    /// Moves the safe point forward, and returns where it is then: further when it was already,
    /// for it never goes back. Saves.
    pub fn move_safe_point(&self, safe_point: Timestamp) -> Result<Timestamp, Error> {
        let writer = self.shared.writer();
        if safe_point > self.safe_point() {
            self.save(&writer, Command::MoveSafePoint(safe_point))?;
        }
        Ok(self.safe_point())
    }

    /// A service holds the safe point back for `ttl` seconds, or lets go of it when that is not
    /// positive. Saves. Returns the hold that is furthest back then: when it is above `safe_point`
    /// the request came too late and nothing was held.
    pub fn hold_safe_point(
        &self,
        service: Bytes,
        ttl: i64,
        safe_point: Timestamp,
    ) -> Result<(Hold, i64), Error> {
        let size = service.len();
        if size == 0 || size > SERVICE_NAME_MAX {
            return Err(Refusal::ServiceName { size }.into());
        }
        if service == GC_WORKER && ttl != i64::MAX {
            return Err(Refusal::CollectorStays.into());
        }
        // Kept for long, and a slice of the frame that it came in.
        let service = Bytes::copy_from_slice(&service);
        let writer = self.shared.writer();
        let now = self.shared.clock.wall_ms() / 1_000;
        let change = {
            let state = self.shared.state();
            state.safe_points().decide(service, ttl, safe_point, now)
        };
        match change {
            HoldChange::None => {}
            HoldChange::Put(hold) => self.save(&writer, Command::Hold(hold))?,
            HoldChange::Remove(service) => self.save(&writer, Command::Release(service))?,
        }
        let minimum = self.shared.state().safe_points().minimum(now);
        let ttl = minimum.ttl(now);
        Ok((minimum, ttl))
    }

    // What nobody waits for.

    /// Saves what was put off: the next window of timestamps and ids before somebody has to wait
    /// for them, regions that leaders have reported, the end of stores that are lost. Called again
    /// and again by the keeper.
    pub fn maintain(&self) -> Result<(), Error> {
        let writer = self.shared.writer();
        self.bury_lost_stores(&writer)?;
        let clock = &self.shared.clock;
        let (now, wall_ms) = (clock.now(), clock.wall_ms());
        let is_due = self.shared.oracle().is_window_due(now, wall_ms);
        if is_due {
            match self.move_window(&writer) {
                // Those who ask too fast are told when they ask.
                Ok(()) | Err(Error::Refused(_)) => {}
                Err(failed) => return Err(failed),
            }
        }
        let next_end = {
            let ids = self.shared.ids();
            (ids.left() < IDS_LOW).then(|| ids.next_end(1))
        };
        if let Some(end) = next_end {
            self.save(&writer, Command::ReserveIds { end })?;
            self.shared.ids().on_saved(end);
        }
        let (mut saved, mut gone) = (Vec::new(), Vec::new());
        {
            let mut state = self.shared.state_mut();
            for id in state.regions_mut().take_unsaved(REGIONS_SAVED_MAX) {
                match state.regions().by_id(id) {
                    Some(report) => saved.push(RegionReport::clone(report)),
                    None => gone.push(id),
                }
            }
        }
        if saved.is_empty() && gone.is_empty() {
            return Ok(());
        }
        Ok(self.save(&writer, Command::SaveRegions { saved, gone })?)
    }

    fn save(&self, writer: &Writer, command: Command) -> Result<(), EngineError> {
        writer.save(&command)?;
        self.shared.state_mut().apply(command);
        Ok(())
    }
}

impl Writer {
    /// Durable on return.
    fn save(&self, command: &Command) -> Result<(), EngineError> {
        self.engine.write(&command.records())?;
        self.engine.flush()
    }
}

const POISONED: &str = "nobody panics with this lock held";

impl Shared {
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().expect(POISONED)
    }

    fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().expect(POISONED)
    }

    fn ids(&self) -> MutexGuard<'_, Ids> {
        self.ids.lock().expect(POISONED)
    }

    fn coordinator(&self) -> MutexGuard<'_, Coordinator> {
        self.coordinator.lock().expect(POISONED)
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().expect(POISONED)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().expect(POISONED)
    }
}
