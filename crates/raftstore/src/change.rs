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

#[cfg(test)]
mod tests {
    use kiva_base::{Epoch, KeyRange, PeerId, RegionId, StoreId};
    use kiva_raft::MembershipChange;

    use super::*;

    fn peer(id: u64, store: u64, role: PeerRole) -> Peer {
        Peer { id: PeerId::new(id).unwrap(), store: StoreId::new(store).unwrap(), role }
    }

    fn voter(id: u64) -> Peer {
        peer(id, id, PeerRole::Voter)
    }

    fn record(peers: Vec<Peer>) -> RegionRecord {
        RegionRecord::settled(Region {
            id: RegionId::new(9).unwrap(),
            range: KeyRange::ALL,
            epoch: Epoch { conf_ver: 5, version: 2 },
            peers,
        })
    }

    fn entry(conf_ver: u64, changes: Vec<PeerChange>) -> MembershipChange {
        let asked = ChangePeers { conf_ver, changes };
        MembershipChange::new(asked.to_raft(), asked.encode())
    }

    /// Covers 3B-conf-change-duplicate: the second copy has no effect.
    #[test]
    fn a_change_decided_under_another_conf_ver_is_refused() {
        let before = record(vec![voter(1), voter(2)]);
        let change = entry(5, vec![PeerChange::Add(voter(3))]);
        let after = changed(&before, &change).unwrap();
        assert_eq!(after.region.epoch, Epoch { conf_ver: 6, version: 2 });
        assert_eq!(after.region.peers, [voter(1), voter(2), voter(3)]);
        let again = changed(&after, &change).unwrap_err();
        assert!(matches!(again, RegionError::EpochNotMatch { .. }), "{again}");
    }

    /// Covers 3B-conf-change-duplicate-id.
    #[test]
    fn a_peer_is_added_once_and_once_per_store_and_only_what_is_there_is_removed() {
        let before = record(vec![voter(1), peer(2, 2, PeerRole::Learner)]);
        let refused = [
            (PeerChange::Add(peer(1, 7, PeerRole::Voter)), "peer 1 of region 9 is on store 1"),
            (PeerChange::Add(voter(1)), "peer 1 of region 9 is there already"),
            (PeerChange::Add(peer(8, 2, PeerRole::Voter)), "store 2 has peer 2 of region 9"),
            (PeerChange::Remove(voter(7)), "region 9 has no peer 7"),
        ];
        for (step, reason) in refused {
            let error = changed(&before, &entry(5, vec![step])).unwrap_err().to_string();
            assert!(error.starts_with(reason), "{error}");
        }
        let promoted = changed(&before, &entry(5, vec![PeerChange::Add(voter(2))])).unwrap();
        assert_eq!(promoted.region.peers, [voter(1), voter(2)]);
    }

    #[test]
    fn a_joint_change_counts_every_peer_on_the_way_in_and_on_the_way_out() {
        let before = record(vec![voter(1), voter(2), voter(3)]);
        let swap = vec![PeerChange::Add(voter(4)), PeerChange::Remove(voter(3))];
        let joint = changed(&before, &entry(5, swap)).unwrap();
        assert_eq!(joint.region.epoch.conf_ver, 7);
        assert!(joint.membership.is_joint());
        assert_eq!(joint.region.peers, [voter(1), voter(2), voter(3), voter(4)]);
        let leave = MembershipChange::Leave { context: Default::default() };
        let after = changed(&joint, &leave).unwrap();
        assert_eq!(after.region.epoch.conf_ver, 8);
        assert_eq!(after.region.peers, [voter(1), voter(2), voter(4)]);
        assert!(!after.membership.is_joint());
    }

    #[test]
    fn the_last_voter_stays() {
        let before = record(vec![voter(1)]);
        let error = changed(&before, &entry(5, vec![PeerChange::Remove(voter(1))])).unwrap_err();
        assert!(error.to_string().contains("no voter"), "{error}");
    }
}
