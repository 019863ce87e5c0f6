//! What stores and leaders report, and what they are told.

use std::time::Duration;

use kiva_base::{Moment, PeerId, RegionId, StoreId};
use kiva_engine::EngineError;
use tracing::{error, info, warn};

use super::{Scheduler, Writer};
use crate::amnesia::{LogReport, StoreLog};
use crate::cluster::{Health, Policy};
use crate::coordinator::{Coordinator, Event, OperatorView, Scene};
use crate::error::{Error, Refusal};
use crate::operator::{Instruction, Wanted};
use crate::regions::{RegionReport, StoreTally};
use crate::state::Command;
use crate::store::{Store, StoreState, StoreStats, StoreView};

/// A store and all that is known of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreDescription {
    /// The store, and what it reports.
    pub view: StoreView,
    /// Whether it is heard of.
    pub health: Health,
    /// What it has of the regions.
    pub tally: StoreTally,
    /// How far its log is.
    pub log: StoreLog,
}

impl Scheduler {
    // What is reported.

    /// A store reports that it lives.
    pub fn on_store_heartbeat(&self, id: u64, stats: StoreStats) -> Result<(), Refusal> {
        let id = self.living_store(id)?;
        let (now, wall_ms) = (self.shared.clock.now(), self.shared.clock.wall_ms());
        self.shared.state_mut().on_store_heartbeat(id, stats, wall_ms, now);
        Ok(())
    }

    /// A leader reports its region. Seen by the next lookup, saved within a second or so. The
    /// instruction is for this leader.
    pub fn on_region_heartbeat(
        &self,
        report: RegionReport,
    ) -> Result<Option<Instruction>, Refusal> {
        self.check_bootstrapped()?;
        let region = report.region.id;
        let contradiction = self.shared.state_mut().regions_mut().observe(report)?;
        if let Some(contradiction) = contradiction {
            error!(region_id = region.get(), %contradiction, "a store reports what cannot be");
        }
        let instruction = self.with_scene(|coordinator, scene| {
            coordinator.handle(Event::Reported(region), scene).pop()
        });
        Ok(instruction)
    }

    /// A store says how far its log is. Saves when that is new. What it gets back says which of its
    /// peers have forgotten what they promised.
    ///
    /// A store that begins and is not known yet is answered as well: it has a peer nowhere.
    pub fn report_log(&self, store: u64, position: u64, is_start: bool) -> Result<StoreLog, Error> {
        let store = match self.living_store(store) {
            Ok(store) => store,
            Err(Refusal::NotBootstrapped | Refusal::StoreNotFound(_)) if is_start => {
                return Ok(StoreLog { position, lost_below: 0 });
            }
            Err(refusal) => return Err(refusal.into()),
        };
        let report = LogReport { store, position, is_start };
        let writer = self.shared.writer();
        let known = self.shared.state().log(store);
        let fresh = if known.is_lost_by(report) { self.ids_as(&writer, 1)? } else { 0 };
        let log = known.after(report, fresh);
        if log.lost_below != known.lost_below {
            warn!(
                store_id = store.get(),
                found = position,
                known = known.position,
                "a store has lost some of its log: its peers are replaced"
            );
        }
        if log != known {
            self.save(&writer, Command::PutLog(store, log))?;
        }
        Ok(log)
    }

    // What is done.

    /// Looks at operators and at regions that are silent: what leaders should be told without
    /// having asked. Called again and again by the keeper.
    pub fn patrol(&self) -> Vec<Instruction> {
        self.with_scene(|coordinator, scene| coordinator.handle(Event::Patrol, scene))
    }

    /// Begins an operator by hand, in place of one that a check began. The instruction is its first
    /// step.
    pub fn add_operator(
        &self,
        wanted: Wanted,
    ) -> Result<(OperatorView, Option<Instruction>), Refusal> {
        self.check_bootstrapped()?;
        Ok(self.with_scene(|coordinator, scene| coordinator.add(wanted, scene))?)
    }

    /// The operators that run, by region, and then those that ended lately, the last first.
    pub fn operators(&self) -> Vec<OperatorView> {
        self.shared.coordinator().all().collect()
    }

    /// The operator of a region: the one that runs, or the last that ended lately.
    pub fn operator_of(&self, region: u64) -> Option<OperatorView> {
        self.shared.coordinator().of(RegionId::new(region)?)
    }

    // What is known.

    /// How many regions a store leads.
    pub fn leaders_on(&self, store: StoreId) -> usize {
        self.shared.state().regions().tally(store).leaders
    }

    /// Whether a store is heard of.
    pub fn health(&self, view: &StoreView) -> Health {
        let now = self.shared.clock.now();
        view.health(self.shared.opened, now, self.policy())
    }

    /// All that is known of a store.
    pub fn describe_store(&self, id: u64) -> Result<StoreDescription, Refusal> {
        let view = self.store(id)?;
        let health = self.health(&view);
        let state = self.shared.state();
        let (tally, log) = (state.regions().tally(view.store.id), state.log(view.store.id));
        Ok(StoreDescription { view, health, tally, log })
    }

    /// The time since an operator began.
    pub fn age(&self, operator: &OperatorView) -> Duration {
        self.shared.clock.now().since(operator.operator.created())
    }

    /// What of the scheduler's ways can be changed.
    pub fn policy(&self) -> Policy {
        self.shared.state().policy()
    }

    /// Changes the scheduler's ways. Saves unless they are so already.
    pub fn set_policy(&self, policy: Policy) -> Result<(), EngineError> {
        let writer = self.shared.writer();
        if policy != self.policy() {
            self.save(&writer, Command::PutPolicy(policy))?;
        }
        Ok(())
    }

    /// Stores that are lost and have no peer any more are tombstones.
    pub(super) fn bury_lost_stores(&self, writer: &Writer) -> Result<(), Error> {
        let lost: Vec<Store> = {
            let state = self.shared.state();
            let is_over = |view: &&StoreView| {
                let peers = state.regions().tally(view.store.id).peers;
                view.store.state == StoreState::Lost && peers == 0
            };
            state.stores().values().filter(is_over).map(|view| view.store.clone()).collect()
        };
        for store in lost {
            info!(store_id = store.id.get(), "a lost store has been replaced");
            let state = StoreState::Tombstone;
            self.save(writer, Command::PutStore(Store { state, ..store }))?;
        }
        Ok(())
    }

    pub(super) fn health_of(&self, view: &StoreView, policy: Policy, now: Moment) -> Health {
        view.health(self.shared.opened, now, policy)
    }

    /// The id of a store that may still say something.
    fn living_store(&self, id: u64) -> Result<StoreId, Refusal> {
        let store = self.store(id)?.store;
        match store.state {
            StoreState::Up | StoreState::Offline => Ok(store.id),
            StoreState::Lost | StoreState::Tombstone => Err(Refusal::StoreTombstone(store.id)),
        }
    }

    fn with_scene<T>(&self, look: impl FnOnce(&mut Coordinator, Scene<'_>) -> T) -> T {
        let now = self.shared.clock.now();
        let state = self.shared.state();
        let mut coordinator = self.shared.coordinator();
        // Without saving: when they are used up the patrol comes again, after somebody has asked
        // for ids or the keeper has.
        let mut ids = || self.shared.ids().allocate(1).and_then(PeerId::new);
        let scene = Scene {
            regions: state.regions(),
            cluster: state.cluster(self.shared.opened, now),
            now,
            opened: self.shared.opened,
            ids: &mut ids,
        };
        look(&mut coordinator, scene)
    }
}
