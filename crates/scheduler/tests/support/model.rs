//! Regions as their leaders have them: a leader that does what it is told.

use kiva_base::{Peer, PeerRole};
use kiva_scheduler::operator::{Action, PeerChange};
use kiva_scheduler::{Instruction, RegionReport};

/// The reports that a leader makes when it does as it is told; `None` when it passes the
/// instruction over. New peers are behind when `is_pending`.
pub(crate) fn obey(
    report: &RegionReport,
    instruction: &Instruction,
    is_pending: bool,
) -> Option<Vec<RegionReport>> {
    let is_meant = report.leader.is_some_and(|leader| leader.id == instruction.leader.id);
    if !is_meant || instruction.epoch.conf_ver != report.region.epoch.conf_ver {
        return None;
    }
    let mut next = report.clone();
    match &instruction.action {
        Action::TransferLeader(to) => {
            next.leader = Some(*to);
            next.term.0 += 1;
            Some(vec![next])
        }
        Action::ChangePeers(changes) => {
            for change in changes {
                apply(&mut next, change, is_pending);
            }
            next.region.epoch.conf_ver += changes.len() as u64;
            if changes.len() == 1 {
                return Some(vec![next]);
            }
            // Between entering a joint configuration and leaving it, voters of either half count.
            let mut joint = next.clone();
            let mut left = 0;
            for peer in &mut joint.region.peers {
                let before = report.region.peers.iter().find(|other| other.id == peer.id);
                if before.is_some_and(|before| before.role == PeerRole::Voter) {
                    left += u64::from(peer.role != PeerRole::Voter);
                    peer.role = PeerRole::Voter;
                }
            }
            next.region.epoch.conf_ver += left.max(1);
            Some(vec![joint, next])
        }
    }
}

fn apply(report: &mut RegionReport, change: &PeerChange, is_pending: bool) {
    let peers = &mut report.region.peers;
    match change {
        PeerChange::Put(peer) => match peers.iter_mut().find(|other| other.id == peer.id) {
            Some(known) => known.role = peer.role,
            None => {
                peers.push(*peer);
                if is_pending {
                    report.pending.push(*peer);
                }
            }
        },
        PeerChange::Remove(peer) => {
            let gone = |other: &Peer| other.id == peer.id;
            peers.retain(|other| !gone(other));
            report.pending.retain(|other| !gone(other));
            report.down.retain(|down| !gone(&down.peer));
        }
    }
}
