//! What each refusal teaches, and how timestamps are shared.

use std::time::Duration;

use futures_util::future::join_all;
use kiva_base::{PeerId, RegionError, RegionId, StoreId, Timestamp};
use kiva_client::{Obstacle, SchedulerError};

use crate::world::{Fault, World, peer};

fn region() -> RegionId {
    RegionId::new(1).unwrap()
}

#[test]
fn a_hint_is_followed_at_once_and_remembered() {
    let world = World::raw(&["m"]);
    let raw = world.client().raw();
    world.run(raw.put("a", "1")).unwrap();
    world.state().lead(1, 2);
    world.trace();
    assert_eq!(world.run(raw.get("a")), Ok(Some("1".into())));
    assert_eq!(world.run(raw.get("a")), Ok(Some("1".into())));
    assert_eq!(world.trace(), ["s1 RawGet r1 a: not leader", "s2 RawGet r1 a", "s2 RawGet r1 a"]);
    assert_eq!(world.elapsed(), Duration::ZERO);
}

#[test]
fn without_a_hint_the_scheduler_is_asked_after_a_pause() {
    let world = World::raw(&[]);
    let raw = world.client().raw();
    world.run(raw.get("a")).unwrap();
    world.trace();
    let error = RegionError::NotLeader { region: region(), leader: None };
    world.fault("RawGet", Fault::Refuse(error));
    world.run(raw.get("a")).unwrap();
    assert_eq!(world.trace(), ["s1 RawGet r1 a: refused", "region?", "s1 RawGet r1 a"]);
    assert!(world.elapsed() > Duration::ZERO);
}

#[test]
fn a_split_is_learned_from_the_refusal_alone() {
    let world = World::raw(&[]);
    let raw = world.client().raw();
    world.run(raw.get("a")).unwrap();
    world.state().split(1, 7, "m");
    world.trace();
    world.run(raw.get("z")).unwrap();
    world.run(raw.get("a")).unwrap();
    assert_eq!(world.trace(), ["s1 RawGet r1 z: epoch", "s1 RawGet r7 z", "s1 RawGet r1 a"]);
}

#[test]
fn a_scheduler_that_is_behind_does_not_unteach_what_stores_said() {
    let world = World::raw(&[]);
    let raw = world.client().raw();
    world.run(raw.get("a")).unwrap();
    let stale = world.state().regions.clone();
    world.state().scheduler_regions = Some(stale);
    world.state().split(1, 7, "m");
    world.state().split(7, 8, "t");
    // The answer names both new regions; the one for `z` is then lost again.
    world.run(raw.get("n")).unwrap();
    world.fault("RawGet", Fault::Refuse(RegionError::RegionNotFound { region: 8 }));
    world.run(raw.get("z")).unwrap();
    world.trace();
    world.run(raw.get("n")).unwrap();
    world.run(raw.get("z")).unwrap();
    assert_eq!(world.trace(), ["s1 RawGet r7 n", "s1 RawGet r8 z"]);
}

#[test]
fn every_other_refusal_ends_in_a_fresh_route() {
    let other = StoreId::new(9).unwrap();
    let refusals = [
        RegionError::RegionNotFound { region: 1 },
        RegionError::KeyNotInRegion {
            key: "a".into(),
            region: region(),
            start: "b".into(),
            end: "c".into(),
        },
        RegionError::EpochNotMatch { current: vec![] },
        RegionError::StaleCommand,
        RegionError::StoreNotMatch { requested: 1, actual: other },
        RegionError::MismatchPeerId { requested: 1, actual: PeerId::new(2).unwrap() },
        RegionError::Other("the store is shutting down".into()),
        RegionError::NotLeader { region: region(), leader: Some(peer(77, 9)) },
    ];
    for refusal in refusals {
        let world = World::raw(&[]);
        let raw = world.client().raw();
        world.run(raw.get("a")).unwrap();
        world.trace();
        world.fault("RawGet", Fault::Refuse(refusal.clone()));
        world.run(raw.get("a")).unwrap();
        assert_eq!(
            world.trace(),
            ["s1 RawGet r1 a: refused", "region?", "s1 RawGet r1 a"],
            "{refusal}"
        );
    }
}

#[test]
fn a_busy_store_is_left_alone_for_a_while_and_stays_where_it_is() {
    for refusal in [
        RegionError::ServerIsBusy { reason: "no room".into() },
        RegionError::DiskFull { store: StoreId::new(1).unwrap(), reason: "full".into() },
    ] {
        let world = World::raw(&[]);
        let raw = world.client().raw();
        world.run(raw.get("a")).unwrap();
        world.trace();
        world.fault("RawGet", Fault::Refuse(refusal));
        world.run(raw.get("a")).unwrap();
        assert_eq!(world.trace(), ["s1 RawGet r1 a: refused", "s1 RawGet r1 a"]);
        assert!(world.elapsed() >= Duration::from_millis(50));
    }
}

/// Two peers that name each other must not burn the budget in no time.
#[test]
fn hints_that_go_round_in_a_circle_are_slowed_down() {
    let world = World::raw(&["m"]);
    let raw = world.client().raw().with_timeout(Duration::from_secs(1));
    for i in 0..200 {
        let info = world.state().regions[0].clone();
        let leader = info.region.peers[(i + 1) % 2];
        let error = RegionError::NotLeader { region: region(), leader: Some(leader) };
        world.fault("RawGet", Fault::Refuse(error));
    }
    assert!(world.run(raw.get("a")).unwrap_err().is_retryable());
    let calls = world.trace().iter().filter(|line| line.contains("RawGet")).count();
    assert!(calls < 80, "{calls} calls in a second");
}

/// The scheduler may not have heard yet who leads now; the other replicas have.
#[test]
fn when_a_store_is_silent_another_replica_is_asked_who_leads() {
    let world = World::raw(&["m", "t"]);
    let raw = world.client().raw();
    world.run(raw.get("a")).unwrap();
    let stale = world.state().regions.clone();
    world.state().scheduler_regions = Some(stale);
    world.state().lead(1, 2);
    world.fault("RawGet", Fault::LoseBefore);
    world.trace();
    world.run(raw.get("a")).unwrap();
    world.run(raw.get("a")).unwrap();
    let trace = world.trace();
    let (first, others) = trace.split_first().expect("it was asked something");
    assert_eq!(first, "s1 RawGet r1 a: lost");
    assert!(!others.iter().any(|line| line.starts_with("s1 ")), "{trace:?}");
    assert_eq!(trace.last().map(String::as_str), Some("s2 RawGet r1 a"));
    assert!(world.elapsed() < Duration::from_millis(50));
}

/// Until a lost leader is missed its followers still name it: nobody waits for it again meanwhile,
/// and it is tried when it should have been replaced.
#[test]
fn a_hint_at_a_silent_store_is_not_followed_for_a_while() {
    let world = World::raw(&["m", "t"]);
    let raw = world.client().raw();
    world.run(raw.get("a")).unwrap();
    world.trace();
    world.fault("RawGet", Fault::LoseBefore);
    world.run(raw.get("a")).unwrap();
    let trace = world.trace();
    let asked: Vec<_> = trace.iter().filter(|line| line.starts_with("s1 ")).collect();
    assert_eq!(asked, ["s1 RawGet r1 a: lost", "s1 RawGet r1 a"], "{trace:?}");
    let elapsed = world.elapsed();
    let (least, most) = (Duration::from_secs(1), Duration::from_millis(1_300));
    assert!(elapsed >= least && elapsed < most, "{elapsed:?}");
}

#[test]
fn a_region_without_a_leader_is_waited_for() {
    let world = World::raw(&[]);
    let raw = world.client().raw().with_timeout(Duration::from_secs(1));
    let leader = world.state().region(1).leader.take();
    let error = world.run(raw.get("a")).unwrap_err();
    assert!(error.to_string().contains("region 1 has no leader"), "{error}");
    world.state().region(1).leader = leader;
    assert_eq!(world.run(raw.get("a")), Ok(None));
}

#[test]
fn waiters_share_one_call_for_timestamps() {
    let world = World::raw(&[]);
    let client = world.client();
    let drawn = world.run(join_all((0..100).map(|_| client.timestamp())));
    let drawn: Vec<Timestamp> = drawn.into_iter().collect::<Result<_, _>>().unwrap();
    assert!(drawn.is_sorted_by(|a, b| a < b), "each gets its own, in the order they asked");
    // All asked before the round began, because the round is a task of its own.
    assert_eq!(world.trace(), ["tso 100"]);
}

#[test]
fn whoever_asks_during_a_call_waits_for_the_next() {
    let world = World::raw(&[]);
    let client = world.client();
    let (one, two) = world.run(async {
        let late = async {
            kiva_base::Clock::sleep(&world, Duration::from_micros(500)).await;
            client.timestamp().await
        };
        futures_util::join!(client.timestamp(), late)
    });
    assert!(one.unwrap() < two.unwrap());
    assert_eq!(world.trace(), ["tso 1", "tso 1"]);
}

#[test]
fn a_waiter_that_goes_away_takes_nobody_along() {
    let world = World::raw(&[]);
    let client = world.client();
    let ts = world.run(async {
        let mut gone = Box::pin(client.timestamp());
        assert!(futures_util::poll!(&mut gone).is_pending());
        drop(gone);
        client.timestamp().await
    });
    assert!(ts.is_ok());
}

#[test]
fn a_timestamp_that_goes_back_is_refused() {
    let world = World::raw(&[]);
    let client = world.client();
    let last = world.run(client.timestamp()).unwrap();
    world.state().next_ts = Some(last.0);
    let error = world.run(client.timestamp()).unwrap_err();
    assert_eq!(error, SchedulerError::WentBack { last, got: last });
}

#[test]
fn a_scheduler_that_is_gone_is_told_so_in_time() {
    let world = World::raw(&[]);
    let client = world.client();
    world.state().scheduler_down = true;
    let error = world.run(client.timestamp()).unwrap_err();
    let SchedulerError::GaveUp(gave_up) = error else {
        panic!("{error}");
    };
    assert!(matches!(gave_up.last, Obstacle::Scheduler(_)));
    assert!(world.elapsed() <= Duration::from_secs(10));
}

#[test]
fn regions_are_listed_in_order_and_up_to_a_limit() {
    let world = World::raw(&["g", "p"]);
    let scheduler = world.client().scheduler();
    let ids = |limit| {
        let found = world.run(scheduler.regions(kiva_base::KeyRange::ALL, limit)).unwrap();
        found.iter().map(|info| info.region.id.get()).collect::<Vec<_>>()
    };
    assert_eq!(ids(9), [1, 2, 3]);
    assert_eq!(ids(2), [1, 2]);
    assert_eq!(ids(0), [0; 0]);
}
