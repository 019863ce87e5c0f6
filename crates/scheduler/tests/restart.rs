//! A scheduler that is killed at any moment, under a clock that jumps as it likes.
#![expect(clippy::unwrap_used, reason = "what fails in a test fails the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kiva_base::clock::BoxFuture;
use kiva_base::{
    Clock, ClusterId, Epoch, KeyRange, Moment, Peer, PeerId, PeerRole, Region, RegionId, StoreId,
    Term, Timestamp,
};
use kiva_engine::memory::{FailedWrite, MemoryEngine};
use kiva_scheduler::error::Refusal;
use kiva_scheduler::limits::TIMESTAMPS_MAX;
use kiva_scheduler::{
    ApiVersion, Error, Options, RegionReport, Scheduler, Store, StoreState, StoreStats,
    WantedSettings,
};
use proptest::prelude::*;

/// A clock that the test moves.
#[derive(Default)]
struct HandClock {
    elapsed_ms: AtomicU64,
    wall_ms: AtomicU64,
}

impl Clock for HandClock {
    fn now(&self) -> Moment {
        Moment::after_start(Duration::from_millis(self.elapsed_ms.load(Ordering::Relaxed)))
    }

    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::Relaxed)
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// One scheduler after the other on one disk.
struct World {
    engine: MemoryEngine,
    clock: Arc<HandClock>,
    scheduler: Scheduler,
}

impl World {
    fn new() -> Self {
        let engine = MemoryEngine::new();
        let clock = Arc::new(HandClock::default());
        clock.wall_ms.store(1_000_000, Ordering::Relaxed);
        let scheduler = open(&engine, &clock);
        Self { engine, clock, scheduler }
    }

    /// Kills the scheduler; `survivors` of 256 parts of what was not synced is found again.
    fn crash(&mut self, survivors: u8) {
        let unsynced = self.engine.unsynced();
        self.engine = self.engine.crash(unsynced * usize::from(survivors) / 255);
        self.scheduler = open(&self.engine, &self.clock);
    }

    /// A first store with the region of all keys.
    fn bootstrap(&self) -> (Store, RegionReport) {
        let last = self.scheduler.ids(3).unwrap();
        let (store, region) = (store(last - 2), region(last - 1, last - 2, last, "", "", 1));
        self.scheduler.bootstrap(store.clone(), region.clone()).unwrap();
        (store, region)
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
        address: format!("127.0.0.1:{id}"),
        peer_address: String::new(),
        status_address: String::new(),
        state: StoreState::Up,
        labels: Vec::new(),
        version: "8.5.0".to_owned(),
        start_timestamp: 0,
    }
}

fn region(
    id: u64,
    store: u64,
    peer: u64,
    start: &'static str,
    end: &'static str,
    version: u64,
) -> RegionReport {
    RegionReport::new(Region {
        id: RegionId::new(id).unwrap(),
        range: KeyRange::new(start, end).unwrap(),
        epoch: Epoch { conf_ver: 1, version },
        peers: vec![Peer {
            id: PeerId::new(peer).unwrap(),
            store: StoreId::new(store).unwrap(),
            role: PeerRole::Voter,
        }],
    })
}

#[derive(Debug, Clone)]
enum Event {
    Take(u32),
    TakeAtOnce(u32),
    TakeIds(u32),
    Pass(u64),
    SetClock(u64),
    Maintain,
    Crash(u8),
    FailWrite(bool),
    FailFlush,
}

fn event() -> impl Strategy<Value = Event> {
    let count = prop_oneof![1..100_u32, Just(TIMESTAMPS_MAX), 1..=TIMESTAMPS_MAX];
    prop_oneof![
        6 => count.clone().prop_map(Event::Take),
        2 => count.prop_map(Event::TakeAtOnce),
        3 => (0..2_500_u32).prop_map(Event::TakeIds),
        4 => (0..4_000_u64).prop_map(Event::Pass),
        2 => (0..3_000_000_u64).prop_map(Event::SetClock),
        2 => Just(Event::Maintain),
        3 => any::<u8>().prop_map(Event::Crash),
        1 => any::<bool>().prop_map(Event::FailWrite),
        1 => Just(Event::FailFlush),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn timestamps_rise_and_ids_are_new_whatever_happens(
        events in proptest::collection::vec(event(), 1..120),
    ) {
        let mut world = World::new();
        let (mut last_ts, mut last_id) = (Timestamp::ZERO, 0);
        for event in events {
            let taken = match event {
                Event::Take(count) => world.scheduler.timestamps(count).ok().map(|ts| (ts, count)),
                Event::TakeAtOnce(count) => {
                    world.scheduler.timestamps_at_once(count).unwrap().map(|ts| (ts, count))
                }
                Event::TakeIds(count) => {
                    if let Ok(last) = world.scheduler.ids(count) {
                        prop_assert!(last - u64::from(count.max(1)) + 1 > last_id);
                        last_id = last;
                    }
                    None
                }
                Event::Pass(ms) => {
                    world.clock.elapsed_ms.fetch_add(ms, Ordering::Relaxed);
                    world.clock.wall_ms.fetch_add(ms, Ordering::Relaxed);
                    None
                }
                Event::SetClock(ms) => {
                    world.clock.wall_ms.store(ms, Ordering::Relaxed);
                    None
                }
                Event::Maintain => {
                    let _ = world.scheduler.maintain();
                    None
                }
                Event::Crash(survivors) => {
                    world.crash(survivors);
                    None
                }
                Event::FailWrite(happens) => {
                    world.engine.fail_next_write(if happens {
                        FailedWrite::Happened
                    } else {
                        FailedWrite::Lost
                    });
                    None
                }
                Event::FailFlush => {
                    world.engine.fail_next_flush();
                    None
                }
            };
            if let Some((last, count)) = taken {
                let first = last.0 - u64::from(count) + 1;
                prop_assert!(first > last_ts.0, "{first} after {last_ts}");
                prop_assert_eq!(Timestamp(first).physical_ms(), last.physical_ms());
                last_ts = last;
            }
        }
    }
}

#[test]
fn a_crash_between_saving_a_window_and_using_it_loses_nothing() {
    let mut world = World::new();
    let before = world.scheduler.timestamps(1).unwrap();
    world.clock.elapsed_ms.store(10_000, Ordering::Relaxed);
    world.clock.wall_ms.store(1_010_000, Ordering::Relaxed);
    world.scheduler.maintain().unwrap();
    // The keeper has saved a window and nobody has used it; now the clock is set back an hour.
    world.clock.wall_ms.store(1, Ordering::Relaxed);
    world.crash(0);
    let after = world.scheduler.timestamps(1).unwrap();
    assert!(after > before);
    assert!(after.physical_ms() >= 1_010_000, "it begins above the window");
}

#[test]
fn a_count_of_none_or_too_many_is_refused() {
    let world = World::new();
    for count in [0, TIMESTAMPS_MAX + 1, u32::MAX] {
        let refused = world.scheduler.timestamps(count).unwrap_err();
        assert!(matches!(refused, Error::Refused(Refusal::TimestampCount { .. })), "{refused}");
    }
    assert!(matches!(world.scheduler.ids(u32::MAX), Err(Error::Refused(Refusal::IdCount { .. }))));
}

#[test]
fn a_failed_disk_fails_every_later_save_and_no_lookup() {
    let world = World::new();
    let (_, region) = world.bootstrap();
    world.engine.fail_next_flush();
    assert!(matches!(world.scheduler.move_safe_point(Timestamp(5)), Err(Error::Failed(_))));
    assert_eq!(world.scheduler.safe_point(), Timestamp::ZERO, "nobody knows, so nobody is told");
    assert!(matches!(world.scheduler.move_safe_point(Timestamp(6)), Err(Error::Failed(_))));
    assert!(world.scheduler.timestamps(1).is_err());
    let found = world.scheduler.region_by_key(b"k").unwrap().unwrap();
    assert_eq!(*found, region);
}

/// Covers 3C-bootstrap, with the next.
#[test]
fn a_cluster_is_bootstrapped_exactly_once() {
    let mut world = World::new();
    let refused = world.scheduler.region_by_key(b"").unwrap_err();
    assert_eq!(refused, Refusal::NotBootstrapped);
    let (store, region) = world.bootstrap();
    for _ in 0..2 {
        let again = world.scheduler.bootstrap(store.clone(), region.clone()).unwrap_err();
        assert!(matches!(again, Error::Refused(Refusal::AlreadyBootstrapped)));
        assert_eq!(world.scheduler.stores().len(), 1);
        world.crash(0);
    }
    assert_eq!(world.scheduler.cluster_id().get(), 7);
    let found = world.scheduler.region_by_key(b"any").unwrap().unwrap();
    assert_eq!(found.leader, region.leader, "routing works right after a restart");
}

#[test]
fn a_first_region_that_is_not_everything_is_refused() {
    let world = World::new();
    let last = world.scheduler.ids(3).unwrap();
    let (id, peer) = (last - 1, last);
    let refuse = |region, reason: &str| {
        let refused = world.scheduler.bootstrap(store(last - 2), region).unwrap_err();
        assert!(refused.to_string().contains(reason), "{refused}");
    };
    refuse(region(id, last - 2, peer, "a", "", 1), "has all keys");
    refuse(region(id, last + 9, peer, "", "", 1), "is on the first store");
    refuse(region(last + 1, last - 2, peer, "", "", 1), "region 4 was never given out");
    let mut crowded = region(id, last - 2, peer, "", "", 1);
    crowded.region.peers.clear();
    refuse(crowded, "has one peer");
    assert!(!world.scheduler.is_bootstrapped());
}

#[test]
fn stores_are_known_by_id_and_address() {
    let mut world = World::new();
    let (first, _) = world.bootstrap();
    let second = store(world.scheduler.ids(1).unwrap());
    world.scheduler.put_store(second.clone()).unwrap();
    let unknown = world.scheduler.store(99).unwrap_err().to_string();
    assert_eq!(unknown, "invalid store ID 99, not found");
    assert!(world.scheduler.store(0).is_err());
    let thief = Store { address: first.address.clone(), ..second.clone() };
    let refused = world.scheduler.put_store(thief).unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::AddressTaken { .. })), "{refused}");
    let invented = world.scheduler.put_store(store(5_000)).unwrap_err();
    assert!(matches!(invented, Error::Refused(Refusal::IdNotAllocated { .. })), "{invented}");
    let moved = Store { address: "127.0.0.1:9999".to_owned(), ..second };
    world.scheduler.put_store(moved.clone()).unwrap();
    world.crash(0);
    let view = world.scheduler.store(moved.id.get()).unwrap();
    assert_eq!((view.store, view.last_heartbeat_ms), (moved.clone(), 0));
    let stats = StoreStats { capacity: 5, ..StoreStats::default() };
    world.scheduler.on_store_heartbeat(moved.id.get(), stats).unwrap();
    let view = world.scheduler.store(moved.id.get()).unwrap();
    assert_eq!((view.stats, view.last_heartbeat_ms), (stats, 1_000_000));
}

#[test]
fn reports_are_seen_at_once_and_saved_by_the_keeper() {
    let mut world = World::new();
    let (store, first) = world.bootstrap();
    let (id, store) = (first.region.id.get(), store.id.get());
    let ids = world.scheduler.ids(2).unwrap();
    let left = region(id, store, first.region.peers[0].id.get(), "", "m", 2);
    let right =
        RegionReport { term: Term(3), leader: None, ..region(ids - 1, store, ids, "m", "", 2) };
    for report in [&left, &right] {
        world.scheduler.on_region_heartbeat(report.clone()).unwrap();
    }
    let all = |scheduler: &Scheduler| {
        let found = scheduler.regions(&KeyRange::ALL, usize::MAX).unwrap();
        found.iter().map(|r| (r.region.clone(), r.leader)).collect::<Vec<_>>()
    };
    let expected = [(left.region.clone(), left.leader), (right.region.clone(), None)];
    assert_eq!(all(&world.scheduler), expected);
    assert_eq!(*world.scheduler.region_before(b"m").unwrap().unwrap(), left);
    assert_eq!(*world.scheduler.region_by_id(ids - 1).unwrap().unwrap(), right);
    world.crash(0);
    assert_eq!(all(&world.scheduler), [(first.region.clone(), first.leader)]);
    for report in [&left, &right] {
        world.scheduler.on_region_heartbeat(report.clone()).unwrap();
    }
    world.scheduler.maintain().unwrap();
    assert_eq!(world.engine.unsynced(), 0);
    world.crash(0);
    assert_eq!(all(&world.scheduler), expected);
}

#[test]
fn safe_points_survive() {
    let mut world = World::new();
    assert_eq!(world.scheduler.move_safe_point(Timestamp(8)).unwrap(), Timestamp(8));
    assert_eq!(world.scheduler.move_safe_point(Timestamp(3)).unwrap(), Timestamp(8));
    let hold = |scheduler: &Scheduler, service: &'static str, ttl, ts| {
        scheduler.hold_safe_point(Bytes::from_static(service.as_bytes()), ttl, Timestamp(ts))
    };
    hold(&world.scheduler, "gc_worker", i64::MAX, 20).unwrap();
    hold(&world.scheduler, "backup", 60, 30).unwrap();
    hold(&world.scheduler, "gc_worker", i64::MAX, 40).unwrap();
    world.crash(0);
    assert_eq!(world.scheduler.safe_point(), Timestamp(8));
    let (minimum, ttl) = hold(&world.scheduler, "late", 60, 10).unwrap();
    assert_eq!((&minimum.service[..], minimum.safe_point), (&b"backup"[..], Timestamp(30)));
    assert_eq!(ttl, 60);
    assert!(hold(&world.scheduler, "gc_worker", 0, 0).is_err(), "the collector stays");
    assert!(hold(&world.scheduler, "", 5, 50).is_err());
}

#[test]
fn another_setting_is_refused_at_the_next_start() {
    let world = World::new();
    let open = |settings| {
        let options = Options { cluster_id_if_new: ClusterId::new(8).unwrap(), settings };
        Scheduler::open(Arc::new(world.engine.clone()), world.clock.clone(), options)
    };
    let wanted = |api_version| WantedSettings {
        api_version: Some(api_version),
        ..WantedSettings::default()
    };
    let Err(refused) = open(wanted(ApiVersion::V2)) else {
        panic!("it was born with version 1");
    };
    assert!(refused.to_string().contains("API version 1 "), "{refused}");
    let again = open(wanted(ApiVersion::V1)).unwrap();
    assert_eq!(again.cluster_id().get(), 7, "an id is drawn once");
}
