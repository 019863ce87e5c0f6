//! Placement under everything that may happen to stores, leaders and messages, from random events.
//!
//! The regions are what their leaders make of the instructions that reach them. After every step no
//! region has lost a majority by the scheduler's doing; when things calm down every region has as
//! many peers as it should, all on stores that live.
#![expect(clippy::unwrap_used, reason = "what fails in a test fails the test")]

#[path = "support/model.rs"]
mod model;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kiva_base::clock::BoxFuture;
use kiva_base::{
    Clock, ClusterId, Epoch, KeyRange, Moment, Peer, PeerId, PeerRole, Region, RegionId, StoreId,
    Term,
};
use kiva_engine::memory::MemoryEngine;
use kiva_scheduler::operator::{Wanted, WantedKind};
use kiva_scheduler::regions::DownPeer;
use kiva_scheduler::{
    Instruction, Options, RegionReport, Scheduler, Store, StoreState, StoreStats, WantedSettings,
};
use proptest::prelude::*;

const STORES: u64 = 5;
const REGIONS: u64 = 3;

#[derive(Default)]
struct HandClock(AtomicU64);

impl Clock for HandClock {
    fn now(&self) -> Moment {
        Moment::after_start(Duration::from_secs(self.0.load(Ordering::Relaxed)))
    }

    fn wall_ms(&self) -> u64 {
        1_000_000 + self.0.load(Ordering::Relaxed) * 1_000
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

#[derive(Debug, Clone, Copy)]
enum Event {
    /// A store is silent from now on, and its peers with it. At most one is at a time.
    Silence(u64),
    /// All stores are there again.
    Return,
    /// A store restarts with less of its log.
    Forget(u64),
    /// Seconds pass, and stores that live report.
    Pass(u64),
    /// A leader reports.
    Report(u64),
    /// A leader does what it was told last.
    Obey(u64),
    /// What a leader was told is lost.
    Lose(u64),
    /// The peer on this store comes to lead the region, if it can.
    Elect(u64, u64),
    Patrol,
    Restart,
    Want(u64, u64, u8),
}

fn event() -> impl Strategy<Value = Event> {
    let (store, region) = (1..=STORES, 1..=REGIONS);
    prop_oneof![
        1 => store.clone().prop_map(Event::Silence),
        2 => Just(Event::Return),
        1 => store.clone().prop_map(Event::Forget),
        3 => prop_oneof![1..30_u64, Just(700), Just(1_900)].prop_map(Event::Pass),
        6 => region.clone().prop_map(Event::Report),
        12 => region.clone().prop_map(Event::Obey),
        2 => region.clone().prop_map(Event::Lose),
        2 => (region.clone(), store.clone()).prop_map(|(r, s)| Event::Elect(r, s)),
        6 => Just(Event::Patrol),
        1 => Just(Event::Restart),
        1 => (region, store, 0..3_u8).prop_map(|(r, s, kind)| Event::Want(r, s, kind)),
    ]
}

struct World {
    engine: MemoryEngine,
    clock: Arc<HandClock>,
    scheduler: Scheduler,
    leaders: BTreeMap<u64, RegionReport>,
    told: BTreeMap<u64, Instruction>,
    silent: Option<u64>,
    /// Below which id the peers of a store have forgotten, as the store was told.
    lost_below: BTreeMap<u64, u64>,
    logs: BTreeMap<u64, u64>,
}

impl World {
    fn new() -> Self {
        let (engine, clock) = (MemoryEngine::new(), Arc::new(HandClock::default()));
        let scheduler = open(&engine, &clock);
        scheduler.ids(99).unwrap();
        let mut leaders = BTreeMap::new();
        for number in 1..=REGIONS {
            let bound = |n: u64| if n.is_multiple_of(REGIONS) { Vec::new() } else { vec![n as u8] };
            let peer = |n: u64| Peer {
                id: PeerId::new(10 * number + n).unwrap(),
                store: StoreId::new(n).unwrap(),
                role: PeerRole::Voter,
            };
            let region = Region {
                id: RegionId::new(number).unwrap(),
                range: KeyRange::new(bound(number - 1), bound(number)).unwrap(),
                epoch: Epoch { conf_ver: 1, version: 2 },
                peers: vec![peer(1), peer(2), peer(3)],
            };
            let leader = Some(peer(1));
            let report = RegionReport { leader, term: Term(6), ..RegionReport::new(region) };
            leaders.insert(number, report);
        }
        let first = &leaders[&1].region;
        let whole = Region { range: KeyRange::ALL, peers: vec![first.peers[0]], ..first.clone() };
        let whole = Region { epoch: Epoch::FIRST, ..whole };
        scheduler.bootstrap(store(1), RegionReport::new(whole)).unwrap();
        (2..=STORES).for_each(|id| scheduler.put_store(store(id)).unwrap());
        let mut world = Self {
            engine,
            clock,
            scheduler,
            leaders,
            told: BTreeMap::new(),
            silent: None,
            lost_below: BTreeMap::new(),
            logs: BTreeMap::new(),
        };
        (1..=REGIONS).for_each(|region| world.report(region));
        world
    }

    /// Whether a peer does its part.
    fn is_live(&self, peer: &Peer) -> bool {
        let lost_below = self.lost_below.get(&peer.store.get()).copied().unwrap_or(0);
        Some(peer.store.get()) != self.silent && peer.id.get() >= lost_below
    }

    /// Whether the voters that live are a majority.
    fn has_majority(&self, report: &RegionReport) -> bool {
        let voters = report.region.peers.iter().filter(|peer| peer.role == PeerRole::Voter);
        let (live, all) = voters
            .fold((0, 0), |(live, all), peer| (live + usize::from(self.is_live(peer)), all + 1));
        live > all / 2
    }

    /// Whoever leads is a voter that lives, if a majority does; nobody leads otherwise.
    fn elect(&mut self, region: u64, wish: Option<u64>) -> bool {
        let report = &self.leaders[&region];
        if !self.has_majority(report) {
            return false;
        }
        let able = |peer: &&Peer| peer.role == PeerRole::Voter && self.is_live(peer);
        let current = report.leader.filter(|leader| {
            report.region.peers.iter().filter(able).any(|peer| peer.id == leader.id)
        });
        let mut able = report.region.peers.iter().filter(able).copied();
        let wished = able.clone().find(|peer| Some(peer.store.get()) == wish);
        let leader = wished.or(current).or_else(|| able.next());
        let report = self.leaders.get_mut(&region).unwrap();
        if leader != report.leader {
            report.leader = leader;
            report.term.0 += 1;
        }
        true
    }

    fn report(&mut self, region: u64) {
        if !self.elect(region, None) {
            return;
        }
        // The leader does not hear of peers on a silent store.
        let report = self.leaders.get_mut(&region).unwrap();
        let peers = report.region.peers.iter().copied();
        let silent = peers.filter(|peer| Some(peer.store.get()) == self.silent);
        report.down = silent.map(|peer| DownPeer { peer, seconds: 1 }).collect();
        let told = self.scheduler.on_region_heartbeat(self.leaders[&region].clone()).unwrap();
        self.told.extend(told.map(|instruction| (region, instruction)));
    }

    fn patrol(&mut self) {
        self.scheduler.maintain().unwrap();
        let told = self.scheduler.patrol();
        self.told.extend(told.into_iter().map(|told| (told.region.get(), told)));
    }

    /// Whether the region has as good a majority as before.
    fn obey(&mut self, region: u64) -> bool {
        if !self.elect(region, None) {
            return true;
        }
        let Some(instruction) = self.told.remove(&region) else {
            return true;
        };
        let before = self.leaders[&region].clone();
        let reports = model::obey(&before, &instruction, false).unwrap_or_default();
        let last = reports.last().cloned();
        for report in reports {
            if report.leader.is_some_and(|leader| !self.is_live(&leader)) {
                // The one that should lead is away; the old leader goes on.
                return true;
            }
            self.leaders.insert(region, report);
            self.report(region);
        }
        // A joint change needs a majority of those before and of those after.
        last.is_none_or(|last| self.has_majority(&last))
    }

    fn pass(&mut self, seconds: u64) {
        self.clock.0.fetch_add(seconds, Ordering::Relaxed);
        for store in (1..=STORES).filter(|&store| Some(store) != self.silent) {
            self.scheduler.on_store_heartbeat(store, StoreStats::default()).unwrap();
            let log = self.logs.entry(store).or_default();
            *log += 10;
            self.scheduler.report_log(store, *log, false).unwrap();
        }
    }

    /// A store forgets, unless a region could not do without it.
    fn forget(&mut self, store: u64) {
        let before = self.lost_below.insert(store, u64::MAX);
        let is_survived =
            self.silent.is_none() && self.leaders.values().all(|report| self.has_majority(report));
        let log = self.logs.get(&store).copied().unwrap_or(0);
        if is_survived && log > 0 {
            let found = self.scheduler.report_log(store, log - 1, true).unwrap();
            assert!(found.lost_below > 0);
            self.logs.insert(store, log - 1);
            self.lost_below.insert(store, found.lost_below);
        } else {
            self.lost_below.insert(store, before.unwrap_or(0));
        }
    }

    fn take(&mut self, event: Event) -> bool {
        if matches!(event, Event::Silence(_) | Event::Forget(_)) {
            // What is on its way cannot know of it.
            self.told.clear();
        }
        match event {
            Event::Silence(store) => {
                let before = self.silent.replace(store);
                if !self.leaders.values().all(|report| self.has_majority(report)) {
                    self.silent = before;
                }
                (1..=REGIONS).for_each(|region| self.report(region));
            }
            Event::Return => {
                self.silent = None;
                self.pass(0);
            }
            Event::Forget(store) => self.forget(store),
            Event::Pass(seconds) => self.pass(seconds),
            Event::Report(region) => self.report(region),
            Event::Obey(region) => return self.obey(region),
            Event::Lose(region) => drop(self.told.remove(&region)),
            Event::Elect(region, store) => drop(self.elect(region, Some(store))),
            Event::Patrol => self.patrol(),
            Event::Restart => {
                self.engine = self.engine.crash(0);
                self.scheduler = open(&self.engine, &self.clock);
                self.pass(0);
            }
            Event::Want(region, store, kind) => {
                let kind = match kind {
                    0 => WantedKind::TransferLeader,
                    1 => WantedKind::AddPeer,
                    _ => WantedKind::RemovePeer,
                };
                if let Ok((_, told)) = self.scheduler.add_operator(Wanted { kind, region, store }) {
                    self.told.extend(told.map(|told| (told.region.get(), told)));
                }
            }
        }
        true
    }

    fn is_well(&self) -> bool {
        self.leaders.values().all(|report| {
            let peers = &report.region.peers;
            let counts = |peer: &Peer| peer.role == PeerRole::Voter && self.is_live(peer);
            peers.len() == 3 && peers.iter().all(counts)
        })
    }
}

fn open(engine: &MemoryEngine, clock: &Arc<HandClock>) -> Scheduler {
    let options = Options {
        cluster_id_if_new: ClusterId::new(7).unwrap(),
        settings: WantedSettings::default(),
    };
    Scheduler::open(Arc::new(engine.clone()), clock.clone(), options).unwrap()
}

fn store(id: u64) -> Store {
    Store {
        id: StoreId::new(id).unwrap(),
        address: format!("store-{id}:1"),
        peer_address: String::new(),
        status_address: String::new(),
        state: StoreState::Up,
        labels: Vec::new(),
        version: "8.5.0".to_owned(),
        start_timestamp: 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_majority_is_lost_and_all_regions_get_well(
        events in proptest::collection::vec(event(), 1..150),
    ) {
        let mut world = World::new();
        for event in events {
            prop_assert!(world.take(event), "{event:?} costs a region its majority");
        }
        // Calm: everybody reports and does as told. A store that is silent stays so for long.
        for _ in 0..60 {
            world.pass(40);
            world.patrol();
            for region in 1..=REGIONS {
                world.report(region);
                while world.told.contains_key(&region) {
                    prop_assert!(world.obey(region), "region {region} loses its majority");
                }
            }
        }
        let operators = world.scheduler.operators();
        prop_assert!(world.is_well(), "{:#?}\n{operators:#?}", world.leaders);
    }
}
