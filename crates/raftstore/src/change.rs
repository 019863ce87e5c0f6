//! A change of members as a rule from one record to the next, the same on every replica.

use kiva_base::{Peer, PeerRole, Region, RegionError};
use kiva_raft::{Membership, MembershipChange};

use crate::command::{ChangePeers, PeerChange};
use crate::meta::{RegionRecord, node_id, peer_id};

/// The record after `change`, or why the change has no effect.
///
/// `conf_ver` rises by as many as peers change their role, on entering a joint configuration and
/// on leaving it.
pub(crate) fn changed(
    record: &RegionRecord,
    change: &MembershipChange,
) -> Result<RegionRecord, RegionError> {
    let region = &record.region;
    let (added, steps) = match change {
        MembershipChange::Leave { .. } => (Vec::new(), None),
        MembershipChange::Simple { context, .. } | MembershipChange::Joint { context, .. } => {
            let asked = ChangePeers::decode(context)
                .map_err(|error| RegionError::Other(format!("a change of peers: {error}")))?;
            if asked.conf_ver != region.epoch.conf_ver {
                return Err(RegionError::EpochNotMatch { current: vec![Region::clone(region)] });
            }
            asked.changes.iter().try_for_each(|step| check(region, step))?;
            let added = asked.changes.iter().filter_map(|step| match step {
                PeerChange::Add(peer) => Some(*peer),
                PeerChange::Remove(_) => None,
            });
            (added.collect(), Some(asked.changes.len() as u64))
        }
    };
    let membership = record
        .membership
        .changed(change)
        .map_err(|error| RegionError::Other(format!("a change of peers: {error}")))?;
    let peers = peers(region, &added, &membership);
    let left = || roles_changed(region, &peers).max(1);
    let mut epoch = region.epoch;
    epoch.conf_ver += steps.unwrap_or_else(left);
    let region = Region { id: region.id, range: region.range.clone(), epoch, peers };
    Ok(RegionRecord { region, membership })
}

fn check(region: &Region, step: &PeerChange) -> Result<(), RegionError> {
    let refuse = |reason: String| Err(RegionError::Other(reason));
    match step {
        PeerChange::Add(peer) => {
            let same_id = region.peers.iter().find(|known| known.id == peer.id);
            match (same_id, region.peer_on(peer.store)) {
                (Some(known), _) if known.store != peer.store => refuse(format!(
                    "peer {} of region {} is on store {}, not on {}",
                    peer.id, region.id, known.store, peer.store
                )),
                (Some(known), _) if known.role == peer.role => {
                    refuse(format!("peer {} of region {} is there already", peer.id, region.id))
                }
                (None, Some(known)) => refuse(format!(
                    "store {} has peer {} of region {} already",
                    peer.store, known.id, region.id
                )),
                _ => Ok(()),
            }
        }
        PeerChange::Remove(peer) => {
            if region.peers.iter().any(|known| known.id == peer.id) {
                Ok(())
            } else {
                refuse(format!("region {} has no peer {}", region.id, peer.id))
            }
        }
    }
}

/// Everybody who is a member, in the order in which they came. A voter of either half of a joint
/// configuration is a voter here.
fn peers(region: &Region, added: &[Peer], membership: &Membership) -> Vec<Peer> {
    let new = added.iter().filter(|peer| region.peers.iter().all(|known| known.id != peer.id));
    let all = region.peers.iter().chain(new);
    let members = all.filter(|peer| membership.is_member(node_id(peer.id)));
    let peers: Vec<_> = members
        .map(|peer| {
            let is_learner = membership.learners().contains(&node_id(peer.id));
            let role = if is_learner { PeerRole::Learner } else { PeerRole::Voter };
            Peer { role, ..*peer }
        })
        .collect();
    let listed = membership.members();
    assert!(
        listed.iter().all(|node| peers.iter().any(|peer| peer.id == peer_id(*node))),
        "region {} has members {listed:?} and peers {peers:?}",
        region.id
    );
    peers
}

fn roles_changed(before: &Region, after: &[Peer]) -> u64 {
    before.peers.iter().filter(|peer| !after.contains(peer)).count() as u64
}
