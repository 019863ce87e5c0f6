//! Reports in, instructions out.
//!
//! The coordinator keeps the operators that run, at most one per region, and decides what the
//! leader of a region is told. It is one `handle` for everything that can happen to it:
//!
//! ```text
//!   a leader reports ──▶ is the step done? is another operator needed? ──▶ answer: the next step
//!   the patrol comes ──▶ the same for a page of regions that are silent ─▶ push: steps that are
//!                        and for every operator                            new, or were lost
//!   somebody wants ────▶ an operator ────────────────────────────────────▶ push: its first step
//! ```
//!
//! It sees the regions and stores as they are in a [`Scene`], is told the time, and remembers
//! nothing that matters: a restart loses the operators, and the checks make those again that are
//! still needed.
//!
//! Checks rest until most regions have been reported after a restart. What the disk remembers may
//! be from before changes that the leaders know of, and counts of peers would be wrong.

use std::collections::{BTreeMap, VecDeque};

use kiva_base::{Moment, PeerId, RegionId, StoreId};

use crate::check;
use crate::cluster::{Cluster, Fate};
use crate::limits::{
    ARRIVING_MAX, CHECK_OPERATORS_MAX, FINISHED_KEPT, FINISHED_MAX, PATROL_REGIONS_MAX,
    REPORTED_PERCENT, REPORTED_WAIT,
};
use crate::operator::{Instruction, Operator, Origin, Plan, Status, Step, Unfit, Wanted};
use crate::regions::{RegionReport, Regions};

/// Everything that can happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The leader of this region has reported, and the report was taken in.
    Reported(RegionId),
    /// Time has passed.
    Patrol,
}

/// What there is to see, for one round.
pub struct Scene<'a> {
    /// The regions.
    pub regions: &'a Regions,
    /// The stores. Peers that arrive by operators are not counted yet.
    pub cluster: Cluster,
    /// Now.
    pub now: Moment,
    /// When the scheduler began.
    pub opened: Moment,
    /// Ids for new peers, as long as they last.
    pub ids: &'a mut dyn FnMut() -> Option<PeerId>,
}

/// An operator, running or at its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OperatorView {
    /// The operator.
    pub operator: Operator,
    /// How far it is, or how it ended.
    pub status: Status,
}

/// The operators.
///
/// Invariants: one per region; `arriving` counts the peers that running operators bring to each
/// store; `checks` counts those that checks began.
#[derive(Debug, Default)]
pub struct Coordinator {
    running: BTreeMap<RegionId, Running>,
    arriving: BTreeMap<StoreId, usize>,
    checks: usize,
    /// Ended lately, the oldest first.
    finished: VecDeque<(Moment, OperatorView)>,
    /// Where the patrol goes on.
    next: Option<RegionId>,
    /// Whether checks have begun.
    is_awake: bool,
}

#[derive(Debug)]
struct Running {
    operator: Operator,
    /// When its step is to be repeated unless a report comes.
    resend: Moment,
}

impl Coordinator {
    /// Takes an event in, and says what leaders should be told.
    pub fn handle(&mut self, event: Event, mut scene: Scene<'_>) -> Vec<Instruction> {
        for (store, count) in &self.arriving {
            if let Some(condition) = scene.cluster.stores.get_mut(store) {
                condition.arriving = *count;
                condition.peers += count;
            }
        }
        let mut out = Vec::new();
        match event {
            Event::Reported(region) => {
                self.advance(region, &scene);
                self.maybe_check(region, &mut scene);
                self.instruct(region, &scene, &mut out);
            }
            Event::Patrol => self.patrol(&mut scene, &mut out),
        }
        out
    }

    /// Begins an operator that somebody wants, in place of one that a check began. The instruction
    /// is the first step. An operator of which nothing is left to do ends at once.
    pub fn add(
        &mut self,
        wanted: Wanted,
        mut scene: Scene<'_>,
    ) -> Result<(OperatorView, Option<Instruction>), Unfit> {
        let unknown = Unfit::RegionUnknown(wanted.region);
        let region = RegionId::new(wanted.region).ok_or(unknown)?;
        let report = scene.regions.by_id(region).filter(|report| report.is_reported());
        let report = report.ok_or(unknown)?;
        self.advance(region, &scene);
        let running = self.running.get(&region).map(|running| running.operator.origin);
        if running == Some(Origin::Hand) {
            return Err(Unfit::Running(wanted.region));
        }
        let plan = Plan::by_hand(wanted, report, &scene.cluster)?;
        let nobody = Unfit::CannotLead { region: wanted.region, store: wanted.store };
        let operator = begin(plan, report, &mut scene, Origin::Hand).ok_or(nobody)?;
        self.end(region, Status::Replaced, scene.now);
        self.insert(operator, scene.now);
        self.advance(region, &scene);
        let mut out = Vec::new();
        self.instruct(region, &scene, &mut out);
        let view = self.of(region).expect("it was begun above, and has ended since at most");
        Ok((view, out.pop()))
    }

    /// The operator of a region: the one that runs, or the last that ended.
    pub fn of(&self, region: RegionId) -> Option<OperatorView> {
        let running = self.running.get(&region).map(|running| OperatorView {
            operator: running.operator.clone(),
            status: Status::Running,
        });
        let ended = self.finished.iter().rev().map(|(_, view)| view);
        running.or_else(|| ended.into_iter().find(|view| view.operator.region == region).cloned())
    }

    /// All that run, by region, and then those that ended lately, the last first.
    pub fn all(&self) -> impl Iterator<Item = OperatorView> {
        let running = self.running.values().map(|running| OperatorView {
            operator: running.operator.clone(),
            status: Status::Running,
        });
        running.chain(self.finished.iter().rev().map(|(_, view)| view.clone()))
    }

    /// How many were begun by checks and run.
    pub fn checks(&self) -> usize {
        self.checks
    }

    fn patrol(&mut self, scene: &mut Scene<'_>, out: &mut Vec<Instruction>) {
        self.is_awake = self.is_awake || is_known(scene);
        while let Some((ended, _)) = self.finished.front()
            && scene.now.since(*ended) >= FINISHED_KEPT
        {
            self.finished.pop_front();
        }
        let running: Vec<_> = self.running.keys().copied().collect();
        for region in running {
            self.advance(region, scene);
            let is_due = self.running.get(&region).is_some_and(|r| scene.now >= r.resend);
            if is_due {
                self.instruct(region, scene, out);
            }
        }
        if !self.is_awake {
            return;
        }
        let first = self.next.or(RegionId::new(1)).expect("one is not zero");
        let page: Vec<_> =
            scene.regions.page(first, PATROL_REGIONS_MAX).map(|report| report.region.id).collect();
        let is_last = page.len() < PATROL_REGIONS_MAX;
        self.next =
            if is_last { None } else { page.last().and_then(|id| RegionId::new(id.get() + 1)) };
        for region in page {
            if self.maybe_check(region, scene) {
                self.instruct(region, scene, out);
            }
        }
    }

    /// Lets the operator of a region take note of how the region is now.
    fn advance(&mut self, region: RegionId, scene: &Scene<'_>) {
        let Some(running) = self.running.get_mut(&region) else {
            return;
        };
        let report = scene.regions.by_id(region).map(|report| &**report);
        let arriving = running.operator.arriving();
        let status = running.operator.advance(report, scene.now);
        let is_over = arriving != running.operator.arriving();
        // A store that has come to nothing meanwhile, or has forgotten, gets no vote.
        let newcomer = running.operator.step().and_then(Step::newcomer);
        let is_hopeless = report
            .zip(newcomer)
            .is_some_and(|(report, newcomer)| scene.cluster.fate(report, newcomer) != Fate::Sound);
        if is_over {
            self.arrived(arriving);
        }
        match status {
            Status::Running if is_hopeless => self.end(region, Status::Cancelled, scene.now),
            Status::Running => {}
            _ => self.end(region, status, scene.now),
        }
    }

    /// Begins an operator if a check finds that the region needs one.
    fn maybe_check(&mut self, region: RegionId, scene: &mut Scene<'_>) -> bool {
        let is_full = self.checks >= CHECK_OPERATORS_MAX;
        if !self.is_awake || is_full || self.running.contains_key(&region) {
            return false;
        }
        let Some(report) = scene.regions.by_id(region) else {
            return false;
        };
        let Some(plan) = check::replicas(report, &scene.cluster) else {
            return false;
        };
        let arriving = plan.arriving().and_then(|store| scene.cluster.stores.get(&store));
        if arriving.is_some_and(|store| store.arriving >= ARRIVING_MAX) {
            return false;
        }
        let Some(operator) = begin(plan, report, scene, Origin::Check) else {
            return false;
        };
        // What is decided next in this round counts it.
        if let Some(store) = operator.arriving().and_then(|id| scene.cluster.stores.get_mut(&id)) {
            store.arriving += 1;
            store.peers += 1;
        }
        self.insert(operator, scene.now);
        // Its first steps may be done already.
        self.advance(region, scene);
        true
    }

    /// Tells the leader of a region its step if there is one.
    fn instruct(&mut self, region: RegionId, scene: &Scene<'_>, out: &mut Vec<Instruction>) {
        let running = self.running.get_mut(&region);
        let Some((running, report)) = running.zip(scene.regions.by_id(region)) else {
            return;
        };
        if let Some(step) = running.operator.step() {
            running.resend = scene.now + step.resend_after();
        }
        out.extend(running.operator.instruction(report, &scene.cluster));
    }

    fn insert(&mut self, operator: Operator, now: Moment) {
        if let Some(store) = operator.arriving() {
            *self.arriving.entry(store).or_default() += 1;
        }
        self.checks += usize::from(operator.origin == Origin::Check);
        let previous = self.running.insert(operator.region, Running { operator, resend: now });
        assert!(previous.is_none(), "a region has one operator at a time: {previous:?}");
    }

    fn end(&mut self, region: RegionId, status: Status, now: Moment) {
        let Some(Running { operator, .. }) = self.running.remove(&region) else {
            return;
        };
        self.arrived(operator.arriving());
        self.checks -= usize::from(operator.origin == Origin::Check);
        if self.finished.len() >= FINISHED_MAX {
            self.finished.pop_front();
        }
        self.finished.push_back((now, OperatorView { operator, status }));
    }

    fn arrived(&mut self, store: Option<StoreId>) {
        let Some(store) = store else {
            return;
        };
        let count = self.arriving.get_mut(&store).expect("it was counted when it began");
        *count -= 1;
        if *count == 0 {
            self.arriving.remove(&store);
        }
    }
}

/// The operator for a plan, with an id for its peer if it brings one.
fn begin(
    plan: Plan,
    report: &RegionReport,
    scene: &mut Scene<'_>,
    origin: Origin,
) -> Option<Operator> {
    let fresh = plan.arriving().and_then(|_| (scene.ids)());
    plan.into_operator(report, &scene.cluster, fresh, origin, scene.now)
}

/// Whether enough is known to decide on: of the regions of every store most have been reported, or
/// no more reports are to be expected.
fn is_known(scene: &Scene<'_>) -> bool {
    if scene.now.since(scene.opened) >= REPORTED_WAIT {
        return true;
    }
    let mut stores: BTreeMap<StoreId, (usize, usize)> = BTreeMap::new();
    for report in scene.regions.iter() {
        for peer in &report.region.peers {
            let (all, reported) = stores.entry(peer.store).or_default();
            *all += 1;
            *reported += usize::from(report.is_reported());
        }
    }
    stores.values().all(|(all, reported)| reported * 100 >= all * REPORTED_PERCENT)
}

#[cfg(test)]
mod tests;
