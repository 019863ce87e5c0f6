//! Many operators at once: limits, pages, ends.

use std::time::Duration;

use kiva_base::{Epoch, KeyRange, Peer, PeerRole, Region, Term};

use super::*;
use crate::cluster::{Health, Policy, StoreCondition};
use crate::operator::WantedKind;
use crate::store::{StoreState, StoreStats};

/// Regions 1, 2, … each with one peer on store 1, and stores 1 to 3.
struct World {
    coordinator: Coordinator,
    regions: Regions,
    now: Moment,
    next_id: u64,
}

impl World {
    fn new(count: u64) -> Self {
        let mut regions = Regions::default();
        for number in 1..=count {
            let key = |number: u64| number.to_be_bytes().to_vec();
            let peer = Peer {
                id: PeerId::new(10_000 + number).unwrap(),
                store: StoreId::new(1).unwrap(),
                role: PeerRole::Voter,
            };
            let region = Region {
                id: RegionId::new(number).unwrap(),
                range: KeyRange::new(key(number), key(number + 1)).unwrap(),
                epoch: Epoch::FIRST,
                peers: vec![peer],
            };
            let report = RegionReport { term: Term(6), ..RegionReport::new(region) };
            regions.observe(report).unwrap();
        }
        let now = Moment::default();
        Self { coordinator: Coordinator::default(), regions, now, next_id: 100_000 }
    }

    fn with<T>(&mut self, look: impl FnOnce(&mut Coordinator, Scene<'_>) -> T) -> T {
        let condition = |store: u64| StoreCondition {
            state: StoreState::Up,
            health: Health::Up,
            lost_below: 0,
            peers: if store == 1 { self.regions.len() } else { 0 },
            size_bytes: 0,
            arriving: 0,
            stats: StoreStats::default(),
        };
        let stores = (1..=3).map(|id| (StoreId::new(id).unwrap(), condition(id))).collect();
        let next_id = &mut self.next_id;
        let mut ids = || {
            *next_id += 1;
            PeerId::new(*next_id - 1)
        };
        let scene = Scene {
            regions: &self.regions,
            cluster: Cluster { replicas: 3, policy: Policy::default(), stores },
            now: self.now,
            opened: Moment::default(),
            ids: &mut ids,
        };
        look(&mut self.coordinator, scene)
    }

    fn patrol(&mut self) -> Vec<Instruction> {
        self.with(|coordinator, scene| coordinator.handle(Event::Patrol, scene))
    }

    fn add(&mut self, region: u64) -> Result<OperatorView, Unfit> {
        let wanted = Wanted { kind: WantedKind::AddPeer, region, store: 3 };
        self.with(|coordinator, scene| coordinator.add(wanted, scene)).map(|(view, _)| view)
    }
}

/// Covers 3C-operator-count: counts follow, limits are kept.
#[test]
fn checks_have_a_limited_number_of_operators_per_store_and_in_all() {
    let mut world = World::new(200);
    assert_eq!(world.patrol().len(), 2 * ARRIVING_MAX);
    assert_eq!(world.coordinator.checks(), 2 * ARRIVING_MAX);
    let per_store: Vec<_> = world.coordinator.arriving.values().copied().collect();
    assert_eq!(per_store, [ARRIVING_MAX; 2], "they are spread, and no store gets more");
    assert_eq!(world.patrol(), [], "nothing is repeated before its time");
    world.now = world.now + Duration::from_secs(5);
    assert_eq!(world.patrol().len(), 2 * ARRIVING_MAX);

    // By hand is beside the limits, and what it replaces does not count any more.
    world.add(1).unwrap();
    world.add(150).unwrap();
    assert_eq!(world.coordinator.checks(), 2 * ARRIVING_MAX - 1);
    assert_eq!(world.add(150).unwrap_err(), Unfit::Running(150));

    // Ten minutes later all of them are given up, and others take their place a round later.
    world.now = world.now + Duration::from_secs(600);
    world.patrol();
    world.patrol();
    assert_eq!(world.coordinator.checks(), 2 * ARRIVING_MAX);
    let ends = world.coordinator.finished.iter().map(|(_, view)| view.status);
    let ends: Vec<_> = ends.filter(|status| *status == Status::Timeout).collect();
    assert_eq!(ends.len(), 2 * ARRIVING_MAX + 1);
}

#[test]
fn a_region_that_is_gone_takes_its_operator_along() {
    let mut world = World::new(2);
    assert_eq!(world.patrol().len(), 2);
    let all = RegionReport::new(Region {
        id: RegionId::new(3).unwrap(),
        range: KeyRange::ALL,
        epoch: Epoch { conf_ver: 1, version: 9 },
        peers: world.regions.by_id(RegionId::new(1).unwrap()).unwrap().region.peers.clone(),
    });
    world.regions.observe(RegionReport { term: Term(6), ..all }).unwrap();
    assert_eq!(world.patrol().len(), 1);
    assert_eq!(world.coordinator.running.len(), 1);
    assert_eq!(world.coordinator.arriving.values().sum::<usize>(), 1);
}

#[test]
fn without_an_id_for_a_peer_nothing_is_begun_and_the_next_round_tries_again() {
    let mut world = World::new(1);
    let told = world.with(|coordinator, scene| {
        let mut none = || None;
        coordinator.handle(Event::Patrol, Scene { ids: &mut none, ..scene })
    });
    assert_eq!(told, []);
    assert_eq!(world.coordinator.checks(), 0);
    assert_eq!(world.patrol().len(), 1);
}

#[test]
fn a_patrol_goes_round_all_regions_a_page_at_a_time() {
    let mut world = World::new(PATROL_REGIONS_MAX as u64 + 5);
    world.patrol();
    assert_eq!(world.coordinator.next, RegionId::new(PATROL_REGIONS_MAX as u64 + 1));
    world.patrol();
    assert_eq!(world.coordinator.next, None);
}
