//! Steps, operators, and what is known of stores, as our own processes say them to each other.

use std::time::Duration;

use kiva_base::PeerRole;
use kiva_proto::kivapb::{self, OperatorKind};
use kiva_proto::pdpb::{self, ConfChangeType, OperatorStatus};

use super::{
    WireError, epoch_to_wire, peer_to_wire, report_to_wire, stats_to_wire, store_view_to_wire,
    wrong,
};
use crate::amnesia::StoreLog;
use crate::cluster::Health;
use crate::coordinator::OperatorView;
use crate::handle::StoreDescription;
use crate::operator::{Action, Instruction, PeerChange, Status, Wanted, WantedKind};
use crate::regions::RegionReport;

/// An instruction, for sending. Without a header.
pub fn instruction_to_wire(instruction: &Instruction) -> pdpb::RegionHeartbeatResponse {
    let (mut change_peer_v2, mut transfer_leader) = (None, None);
    match &instruction.action {
        Action::ChangePeers(changes) => {
            let changes = changes.iter().map(change_to_wire).collect();
            change_peer_v2 = Some(pdpb::ChangePeerV2 { changes });
        }
        Action::TransferLeader(to) => {
            let peer = Some(peer_to_wire(*to));
            transfer_leader = Some(pdpb::TransferLeader { peer, peers: Vec::new() });
        }
    }
    pdpb::RegionHeartbeatResponse {
        region_id: instruction.region.get(),
        region_epoch: Some(epoch_to_wire(instruction.epoch)),
        target_peer: Some(peer_to_wire(instruction.leader)),
        change_peer_v2,
        transfer_leader,
        ..pdpb::RegionHeartbeatResponse::default()
    }
}

fn change_to_wire(change: &PeerChange) -> pdpb::ChangePeer {
    let (peer, kind) = match change {
        PeerChange::Put(peer) if peer.role == PeerRole::Voter => (peer, ConfChangeType::AddNode),
        PeerChange::Put(peer) => (peer, ConfChangeType::AddLearnerNode),
        PeerChange::Remove(peer) => (peer, ConfChangeType::RemoveNode),
    };
    pdpb::ChangePeer { peer: Some(peer_to_wire(*peer)), change_type: kind as i32 }
}

/// How far an operator is, for sending.
pub fn status_to_wire(status: Status) -> OperatorStatus {
    match status {
        Status::Running => OperatorStatus::Running,
        Status::Success => OperatorStatus::Success,
        Status::Timeout => OperatorStatus::Timeout,
        Status::Cancelled => OperatorStatus::Cancel,
        Status::Replaced => OperatorStatus::Replace,
    }
}

/// An operator and how long ago it began, for sending.
pub fn operator_to_wire(view: &OperatorView, age: Duration) -> kivapb::Operator {
    let OperatorView { operator, status } = view;
    kivapb::Operator {
        region_id: operator.region.get(),
        description: operator.description.to_owned(),
        status: status_to_wire(*status) as i32,
        steps: operator.steps().iter().map(ToString::to_string).collect(),
        done: u32::try_from(operator.done()).unwrap_or(u32::MAX),
        age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
    }
}

/// What somebody wants by hand. Whether the region and the store exist is seen later.
pub fn wanted_from_wire(request: &kivapb::AddOperatorRequest) -> Result<Wanted, WireError> {
    let kind = match request.kind() {
        OperatorKind::TransferLeader => WantedKind::TransferLeader,
        OperatorKind::AddPeer => WantedKind::AddPeer,
        OperatorKind::RemovePeer => WantedKind::RemovePeer,
        OperatorKind::Unknown => {
            return Err(wrong("kind", "is none that this version knows"));
        }
    };
    Ok(Wanted { kind, region: request.region_id, store: request.store_id })
}

/// All that is known of a region, for sending. Without a header.
pub fn describe_region_to_wire(
    report: &RegionReport,
    operator: Option<kivapb::Operator>,
) -> kivapb::DescribeRegionResponse {
    kivapb::DescribeRegionResponse {
        header: None,
        region: Some(report_to_wire(report)),
        approximate_size: report.size_bytes,
        approximate_keys: report.keys,
        term: report.term.0,
        operator,
    }
}

/// All that is known of a store, for sending. Without a header.
pub fn describe_store_to_wire(found: &StoreDescription) -> kivapb::DescribeStoreResponse {
    let StoreDescription { view, health, tally, log } = found;
    let is_known = view.last_heartbeat_ms > 0;
    kivapb::DescribeStoreResponse {
        header: None,
        store: Some(store_view_to_wire(view)),
        stats: is_known.then(|| stats_to_wire(view.store.id, &view.stats)),
        health: match health {
            Health::Up => kivapb::StoreHealth::Up,
            Health::Disconnected => kivapb::StoreHealth::Disconnected,
            Health::Down => kivapb::StoreHealth::Down,
        } as i32,
        peers: tally.peers as u64,
        leaders: tally.leaders as u64,
        pending_peers: tally.pending as u64,
        region_size: tally.size_bytes,
        log: Some(log_to_wire(*log)),
    }
}

/// What is known of a store's log, for sending and saving.
pub fn log_to_wire(log: StoreLog) -> kivapb::StoreLog {
    kivapb::StoreLog { position: log.position, lost_below: log.lost_below }
}

#[cfg(test)]
mod tests {
    use kiva_base::{Epoch, Peer, PeerId, RegionId, StoreId};

    use super::*;

    fn peer(id: u64, role: PeerRole) -> Peer {
        Peer { id: PeerId::new(id).unwrap(), store: StoreId::new(id + 10).unwrap(), role }
    }

    #[test]
    fn an_instruction_has_one_step_and_says_whom_it_is_for() {
        let instruction = |action| Instruction {
            region: RegionId::new(7).unwrap(),
            epoch: Epoch { conf_ver: 3, version: 4 },
            leader: peer(1, PeerRole::Voter),
            action,
        };
        let changes = vec![
            PeerChange::Put(peer(2, PeerRole::Voter)),
            PeerChange::Put(peer(3, PeerRole::Learner)),
            PeerChange::Remove(peer(4, PeerRole::Voter)),
        ];
        let wire = instruction_to_wire(&instruction(Action::ChangePeers(changes)));
        assert_eq!((wire.region_id, wire.target_peer.unwrap().id), (7, 1));
        assert_eq!(wire.region_epoch.unwrap().conf_ver, 3);
        assert_eq!(wire.transfer_leader, None);
        let changes = wire.change_peer_v2.unwrap().changes;
        let kinds: Vec<_> = changes.iter().map(|change| change.change_type()).collect();
        let expected =
            [ConfChangeType::AddNode, ConfChangeType::AddLearnerNode, ConfChangeType::RemoveNode];
        assert_eq!(kinds, expected);
        assert_eq!(changes[1].peer.unwrap().store_id, 13);

        let to = Action::TransferLeader(peer(2, PeerRole::Voter));
        let wire = instruction_to_wire(&instruction(to));
        assert_eq!(
            (wire.change_peer_v2, wire.transfer_leader.unwrap().peer.unwrap().id),
            (None, 2)
        );
    }

    #[test]
    fn an_operator_by_hand_has_a_kind() {
        let request =
            kivapb::AddOperatorRequest { region_id: 1, store_id: 2, ..Default::default() };
        assert_eq!(wanted_from_wire(&request).unwrap_err().field, "kind");
        let kind = OperatorKind::RemovePeer as i32;
        let wanted = wanted_from_wire(&kivapb::AddOperatorRequest { kind, ..request }).unwrap();
        assert_eq!((wanted.kind, wanted.region, wanted.store), (WantedKind::RemovePeer, 1, 2));
    }
}
