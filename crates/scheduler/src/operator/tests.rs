//! Steps and operators against what leaders may report.

use std::time::Duration;

use kiva_base::{Epoch, KeyRange, Peer, PeerId, PeerRole, Region, StoreId, Term};

use super::*;
use crate::limits::{CHANGE_TIMEOUT, TRANSFER_TIMEOUT};

fn peer(id: u64, role: PeerRole) -> Peer {
    Peer { id: PeerId::new(id).unwrap(), store: StoreId::new(id).unwrap(), role }
}

fn voter(id: u64) -> Peer {
    peer(id, PeerRole::Voter)
}

fn learner(id: u64) -> Peer {
    peer(id, PeerRole::Learner)
}

/// The first peer leads.
fn region(conf_ver: u64, peers: &[Peer]) -> RegionReport {
    RegionReport {
        leader: peers.first().copied(),
        term: Term(6),
        ..RegionReport::new(Region {
            id: RegionId::new(1).unwrap(),
            range: KeyRange::ALL,
            epoch: Epoch { conf_ver, version: 1 },
            peers: peers.to_vec(),
        })
    }
}

fn at(seconds: u64) -> Moment {
    Moment::after_start(Duration::from_secs(seconds))
}

/// Covers 3C-operator-basics and 3C-peer-state: completion is judged from the region.
#[test]
fn a_step_is_done_when_a_report_shows_its_effect() {
    let three = region(5, &[voter(1), voter(2), voter(3)]);
    let with = |peer| region(6, &[voter(1), voter(2), peer]);
    let add = Step::AddLearner(learner(3));
    assert!(!add.is_done(&region(5, &[voter(1), voter(2)])));
    assert!(add.is_done(&with(learner(3))));
    let behind = RegionReport { pending: vec![learner(3)], ..with(learner(3)) };
    assert!(!add.is_done(&behind), "it has not caught up");
    assert_eq!(add.action(&behind), None, "there is nothing more to say");

    let promote = Step::Promote(voter(3));
    assert!(!promote.is_done(&with(learner(3))) && promote.is_done(&three));

    let swap = Step::Swap { promoted: voter(4), demoted: learner(3) };
    let joint = region(7, &[voter(1), voter(2), voter(3), voter(4)]);
    let left = region(8, &[voter(1), voter(2), learner(3), voter(4)]);
    assert!(!swap.is_done(&joint), "voters of either half count");
    assert_eq!(swap.action(&joint), None);
    assert!(swap.is_done(&left));
    assert!(!swap.is_done(&RegionReport { is_joint: true, ..left.clone() }));

    let remove = Step::Remove(learner(3));
    assert!(!remove.is_done(&left) && remove.is_done(&region(9, &[voter(1), voter(2), voter(4)])));

    let evict = Step::Evict { from: voter(2), to: voter(3) };
    assert!(Step::Transfer(voter(1)).is_done(&three) && !Step::Transfer(voter(2)).is_done(&three));
    assert!(evict.is_done(&three));
    let none = RegionReport { leader: None, ..three };
    assert!(!evict.is_done(&none), "nobody is known to lead, so it may");
}

#[test]
fn a_step_that_has_become_impossible_is_seen() {
    let two = region(5, &[voter(1), voter(2)]);
    let other = Peer { id: PeerId::new(9).unwrap(), ..learner(2) };
    assert!(!Step::AddLearner(other).is_possible(&two), "somebody else is on the store");
    assert!(!Step::Promote(voter(3)).is_possible(&two));
    assert!(!Step::Transfer(voter(3)).is_possible(&two));
    let only = region(5, &[voter(1), learner(2)]);
    assert!(!Step::Remove(voter(1)).is_possible(&only), "nobody would count");
    assert!(!Step::Transfer(voter(2)).is_possible(&only), "it does not count");
    assert!(Step::Remove(learner(2)).is_possible(&only));
}

/// Covers 3C-operator-outdated.
#[test]
fn an_operator_explains_as_many_changes_as_its_steps_make() {
    let start = region(5, &[voter(1), voter(2), voter(3)]);
    let steps = vec![Step::AddLearner(learner(4)), Step::Promote(voter(4))];
    let operator = Operator::new(&start, "add-peer", Origin::Check, steps, at(0));
    let advance = |reports: &[RegionReport]| {
        let mut operator = operator.clone();
        let step = |report| operator.advance(Some(report), at(1));
        reports.iter().map(step).collect::<Vec<_>>()
    };
    let added = region(6, &[voter(1), voter(2), voter(3), learner(4)]);
    let done = region(7, &[voter(1), voter(2), voter(3), voter(4)]);
    assert_eq!(advance(&[start.clone(), added.clone()]), [Status::Running; 2]);
    assert_eq!(advance(&[added, done.clone()]).last(), Some(&Status::Success));
    assert_eq!(advance(&[done]), [Status::Success], "what was not seen may be done");
    let mut strange = start;
    strange.region.epoch.conf_ver = 7;
    assert_eq!(advance(&[strange]), [Status::Cancelled]);
    assert_eq!(operator.clone().advance(None, at(1)), Status::Cancelled, "the region is gone");
}

/// Covers 3C-operator-basics: timeouts by kind.
#[test]
fn each_step_has_its_own_time() {
    let start = region(5, &[voter(1), voter(2), voter(3)]);
    let steps = vec![Step::Transfer(voter(2)), Step::Remove(voter(1))];
    let mut operator = Operator::new(&start, "test", Origin::Hand, steps, at(0));
    let late = at(0) + TRANSFER_TIMEOUT;
    assert_eq!(operator.clone().advance(Some(&start), late), Status::Timeout);
    let moved = RegionReport { leader: Some(voter(2)), ..start };
    let seconds = TRANSFER_TIMEOUT.as_secs() - 1;
    assert_eq!(operator.advance(Some(&moved), at(seconds)), Status::Running);
    assert_eq!(operator.done(), 1);
    let last = at(seconds) + CHANGE_TIMEOUT;
    let nearly = at(seconds) + CHANGE_TIMEOUT.saturating_sub(Duration::from_secs(1));
    assert_eq!(operator.clone().advance(Some(&moved), nearly), Status::Running);
    assert_eq!(operator.advance(Some(&moved), last), Status::Timeout);
}
