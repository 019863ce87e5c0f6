//! One region at a time, against stores in every condition.

use std::collections::BTreeMap;
use std::time::Duration;

use kiva_base::{Epoch, KeyRange, PeerId, Region, RegionId, StoreId, Term};

use super::*;
use crate::cluster::{Policy, StoreCondition};
use crate::operator::Step;
use crate::regions::DownPeer;
use crate::store::StoreStats;

fn store(id: u64) -> StoreId {
    StoreId::new(id).unwrap()
}

fn peer(id: u64, on: u64, role: PeerRole) -> Peer {
    Peer { id: PeerId::new(id).unwrap(), store: store(on), role }
}

/// Peer 10 + n on store n, for each of these stores. The first leads.
fn region(stores: &[u64]) -> RegionReport {
    let peers: Vec<_> = stores.iter().map(|&n| peer(10 + n, n, PeerRole::Voter)).collect();
    RegionReport {
        leader: Some(peers[0]),
        term: Term(6),
        size_bytes: 10,
        ..RegionReport::new(Region {
            id: RegionId::new(1).unwrap(),
            range: KeyRange::ALL,
            epoch: Epoch::FIRST,
            peers,
        })
    }
}

/// Stores 1 to `count`, all of them well.
fn cluster(count: u64, replicas: usize) -> Cluster {
    let well = StoreCondition {
        state: StoreState::Up,
        health: Health::Up,
        lost_below: 0,
        peers: 4,
        size_bytes: 100,
        arriving: 0,
        stats: StoreStats::default(),
    };
    let stores: BTreeMap<_, _> = (1..=count).map(|id| (store(id), well)).collect();
    Cluster { replicas, policy: Policy::default(), stores }
}

fn set(cluster: &mut Cluster, id: u64, change: impl FnOnce(&mut StoreCondition)) {
    change(cluster.stores.get_mut(&store(id)).unwrap());
}

fn steps(report: &RegionReport, cluster: &Cluster) -> Vec<String> {
    let plan = replicas(report, cluster).expect("there is something to do");
    let steps = plan.steps(report, cluster, PeerId::new(99)).expect("it can be done");
    steps.iter().map(Step::to_string).collect()
}

#[test]
fn what_is_well_is_left_alone() {
    assert_eq!(replicas(&region(&[1, 2, 3]), &cluster(4, 3)), None);
    assert_eq!(replicas(&region(&[1]), &cluster(1, 3)), None, "there is no other store");
}

#[test]
fn nothing_is_decided_on_what_is_not_known_to_be_so() {
    let cluster = cluster(4, 3);
    let poor = region(&[1, 2]);
    assert!(replicas(&poor, &cluster).is_some());
    let unreported = RegionReport { term: Term(0), ..poor.clone() };
    let joint = RegionReport { is_joint: true, ..poor.clone() };
    let without = RegionReport { leader: None, ..poor.clone() };
    for report in [unreported, joint, without] {
        assert_eq!(replicas(&report, &cluster), None);
    }
    for health in [Health::Disconnected, Health::Down] {
        let mut cluster = cluster.clone();
        set(&mut cluster, 1, |store| store.health = health);
        assert_eq!(replicas(&poor, &cluster), None, "nobody would hear of it");
    }
}

/// Covers 3C-replica-checker: an offline store with a pending peer is emptied, the leader's too.
#[test]
fn a_store_that_is_emptied_keeps_its_peers_until_others_have_caught_up() {
    let mut cluster = cluster(4, 3);
    set(&mut cluster, 3, |store| store.state = StoreState::Offline);
    let mut report = region(&[1, 2, 3]);
    report.pending = vec![report.region.peers[2]];
    let replace = ["add learner 99@4", "unless another than 13@3 leads, transfer leader to 11@1"];
    let rest = ["promote 99@4 and demote 13@3", "remove 13@3"];
    assert_eq!(steps(&report, &cluster), [replace, rest].concat());

    report.leader = Some(report.region.peers[2]);
    report.pending.clear();
    let steps = steps(&report, &cluster);
    assert!(steps[1].starts_with("unless another than 13@3 leads"), "{steps:?}");

    set(&mut cluster, 4, |store| store.state = StoreState::Offline);
    assert_eq!(replicas(&report, &cluster), None, "there is no place for it");
}

#[test]
fn the_only_peer_is_not_taken_away_before_another_leads() {
    let mut cluster = cluster(2, 1);
    set(&mut cluster, 1, |store| store.state = StoreState::Offline);
    let expected = [
        "add learner 99@2",
        "promote 99@2",
        "unless another than 11@1 leads, transfer leader to 99@2",
        "remove 11@1",
    ];
    assert_eq!(steps(&region(&[1]), &cluster), expected);
}

/// Covers 3C-replica-checker: a lost store is replaced, a dead learner removed directly.
#[test]
fn what_is_lost_goes_without_being_asked() {
    let mut cluster = cluster(4, 3);
    set(&mut cluster, 3, |store| store.health = Health::Down);
    let expected = ["add learner 99@4", "promote 99@4 and demote 13@3", "remove 13@3"];
    assert_eq!(steps(&region(&[1, 2, 3]), &cluster), expected);

    let mut report = region(&[1, 2, 4]);
    report.region.peers.push(peer(13, 3, PeerRole::Learner));
    report.pending = vec![peer(13, 3, PeerRole::Learner)];
    assert_eq!(steps(&report, &cluster), ["remove 13@3"]);

    // A store that was never heard of is lost, and so is a tombstone.
    cluster.stores.remove(&store(3));
    assert_eq!(steps(&region(&[1, 2, 3]), &cluster), expected);
}

#[test]
fn a_learner_that_is_behind_is_waited_for() {
    let cluster = cluster(4, 3);
    let mut report = region(&[1, 2]);
    let learner = peer(14, 4, PeerRole::Learner);
    report.region.peers.push(learner);
    report.pending = vec![learner];
    assert_eq!(replicas(&report, &cluster), None);
    report.pending.clear();
    assert_eq!(steps(&report, &cluster), ["promote 14@4"]);
}

#[test]
fn a_peer_that_its_leader_has_not_heard_of_is_lost_though_its_store_lives() {
    let cluster = cluster(4, 3);
    let mut report = region(&[1, 2, 3]);
    let mut down = |seconds| {
        report.down = vec![DownPeer { peer: report.region.peers[2], seconds }];
        replicas(&report, &cluster)
    };
    let patience = Policy::default().store_down.as_secs();
    assert_eq!(down(patience - 1), None);
    let old = peer(13, 3, PeerRole::Voter);
    assert_eq!(down(patience), Some(Plan::Replace { old, store: store(4) }));
}

#[test]
fn a_forgetful_peer_goes_first_only_where_the_rest_can_do_without() {
    let mut cluster = cluster(3, 3);
    set(&mut cluster, 3, |store| store.lost_below = 14);
    let report = region(&[1, 2, 3]);
    assert_eq!(steps(&report, &cluster), ["remove 13@3"]);
    // Of two that would be left one is away: the group must not shrink now.
    set(&mut cluster, 2, |store| store.health = Health::Disconnected);
    assert_eq!(replicas(&report, &cluster), None);
    // A peer that came later is none of those that have forgotten.
    set(&mut cluster, 2, |store| store.health = Health::Up);
    set(&mut cluster, 3, |store| store.lost_below = 13);
    assert_eq!(replicas(&report, &cluster), None);
}

#[test]
fn a_full_or_busy_store_gets_nothing() {
    let report = region(&[1, 2]);
    let with = |stats| {
        let mut cluster = cluster(3, 3);
        set(&mut cluster, 3, |store| store.stats = stats);
        replicas(&report, &cluster)
    };
    let stats = StoreStats { capacity: 1_000, available: 50, ..StoreStats::default() };
    assert_eq!(with(stats), Some(Plan::Add(store(3))));
    assert_eq!(with(StoreStats { available: 49, ..stats }), None);
    assert_eq!(with(StoreStats { is_busy: true, ..stats }), None);
}

#[test]
fn health_is_a_matter_of_silence() {
    let policy = Policy { store_down: Duration::from_secs(60) };
    let health = |seconds| Health::after(Duration::from_secs(seconds), policy);
    assert_eq!([health(0), health(19)], [Health::Up; 2]);
    assert_eq!([health(20), health(59)], [Health::Disconnected; 2]);
    assert_eq!(health(60), Health::Down);
    let impatient = Policy { store_down: Duration::from_secs(2) };
    assert_eq!(Health::after(Duration::from_secs(2), impatient), Health::Down);
}
