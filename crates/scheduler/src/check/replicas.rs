//! As many peers as there should be, on stores that can be relied on.
//!
//! In the order of the rules:
//!
//! | what is there | plan |
//! |---|---|
//! | a learner that is lost | remove it |
//! | a learner, and too few voters | promote it when it has caught up |
//! | a learner, and a voter to be replaced | exchange them |
//! | a learner otherwise | remove it: what it was for is over |
//! | too many voters | remove the one that is worth least |
//! | too few voters, and a store with room | add one there |
//! | a voter that is lost, forgetful or leaving, and a store with room | replace it |
//! | a forgetful voter, and no other store | remove it, to begin anew on its own store |
//!
//! Learners come first because they are what an operator leaves behind that did not finish, such as
//! at a restart of the scheduler: the rules go on from there.
//!
//! A voter that is lost stays while there is no place for another: a group of three with one away
//! and a group of two tolerate the same, and the one that is away may come back.

use kiva_base::{Peer, PeerRole};

use crate::cluster::{Cluster, Fate, Health};
use crate::operator::{Plan, keeps_majority};
use crate::regions::RegionReport;
use crate::store::StoreState;

/// What should be done about the peers of a region. `None` when nothing should, or nothing can.
pub fn replicas(report: &RegionReport, cluster: &Cluster) -> Option<Plan> {
    let leader = report.leader?;
    let condition = cluster.stores.get(&leader.store)?;
    // A store that is lost is not asked whether it lives, and may lead all the same.
    let is_heard = condition.health == Health::Up || condition.state == StoreState::Lost;
    if !report.is_reported() || report.is_joint || !is_heard {
        return None;
    }
    let region = &report.region;
    let (voters, learners): (Vec<Peer>, Vec<Peer>) =
        region.peers.iter().partition(|peer| peer.role == PeerRole::Voter);
    let fate = |peer: &Peer| cluster.fate(report, peer);

    if let Some(lost) = learners.iter().find(|peer| fate(peer) != Fate::Sound) {
        return Some(Plan::Remove(*lost));
    }
    let worst =
        voters.iter().filter(|peer| fate(peer) != Fate::Sound).min_by_key(|p| rank(fate(p)));
    if let Some(&learner) = learners.first() {
        let has_caught_up = !report.is_pending(learner.id);
        return match worst {
            _ if voters.len() < cluster.replicas => has_caught_up.then_some(Plan::Promote(learner)),
            Some(&old) => has_caught_up.then_some(Plan::Exchange { new: learner, old }),
            None => Some(Plan::Remove(learner)),
        };
    }
    if voters.len() > cluster.replicas {
        let extra = voters
            .iter()
            .filter(|peer| keeps_majority(report, cluster, peer, None))
            .min_by_key(|peer| worth(report, cluster, peer))?;
        return Some(Plan::Remove(*extra));
    }
    let target = cluster.target(region);
    if voters.len() < cluster.replicas
        && let Some(store) = target
    {
        return Some(Plan::Add(store));
    }
    let old = *worst?;
    if let Some(store) = target {
        return Some(Plan::Replace { old, store });
    }
    let can_return = cluster.stores.get(&old.store).is_some_and(|store| store.has_room());
    let is_in_the_way = fate(&old) == Fate::Forgetful && can_return;
    (is_in_the_way && keeps_majority(report, cluster, &old, None)).then_some(Plan::Remove(old))
}

/// What is replaced first comes first.
fn rank(fate: Fate) -> u8 {
    match fate {
        Fate::Forgetful => 0,
        Fate::Lost => 1,
        Fate::Leaving => 2,
        Fate::Sound => 3,
    }
}

/// Of several that could go, the smallest goes: who has no future, then who cannot be relied on
/// now, then who does not lead, then who is on the store with the most peers.
fn worth(report: &RegionReport, cluster: &Cluster, peer: &Peer) -> impl Ord + use<> {
    let leads = report.leader.is_some_and(|leader| leader.id == peer.id);
    let crowd = cluster.stores.get(&peer.store).map_or(0, |store| store.peers);
    let rank = rank(cluster.fate(report, peer));
    (rank, cluster.is_reliable(report, peer), leads, std::cmp::Reverse(crowd), peer.id)
}

#[cfg(test)]
mod tests;
