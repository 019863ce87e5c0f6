//! What the scheduler says of regions, stores and operators to people, and a store of a replica.

use std::time::Duration;

use kiva_base::codec::DecodeError;
use kiva_base::{RegionId, Term};
use kiva_proto::{kivapb, pdpb};

use super::scheduler::{region_info, store};
use super::{peer, region};
use crate::check::{FamilyDigest, ReplicaDigest};
use crate::rpc::{
    Operator, OperatorKind, OperatorStatus, RegionDetail, StoreDetail, StoreDisk, StoreHealth,
};

/// All that is known of a region; `None` when the answer holds none.
pub(crate) fn region_detail(
    r: kivapb::DescribeRegionResponse,
) -> Result<Option<RegionDetail>, DecodeError> {
    let found = r.region.unwrap_or_default();
    let Some(info) = region_info(found.region, found.leader)? else {
        return Ok(None);
    };
    let down = |stats: pdpb::PeerStats| {
        let down = peer(stats.peer.ok_or(DecodeError::Malformed("a peer that is down"))?)?;
        Ok((down, Duration::from_secs(stats.down_seconds)))
    };
    Ok(Some(RegionDetail {
        info,
        term: Term(r.term),
        down: found.down_peers.into_iter().map(down).collect::<Result<_, DecodeError>>()?,
        pending: found.pending_peers.into_iter().map(peer).collect::<Result<_, _>>()?,
        size_bytes: r.approximate_size,
        keys: r.approximate_keys,
        operator: r.operator.map(operator).transpose()?,
    }))
}

/// All that is known of a store.
pub(crate) fn store_detail(r: kivapb::DescribeStoreResponse) -> Result<StoreDetail, DecodeError> {
    let health = match r.health() {
        kivapb::StoreHealth::Up => StoreHealth::Up,
        kivapb::StoreHealth::Disconnected => StoreHealth::Disconnected,
        kivapb::StoreHealth::Down => StoreHealth::Down,
    };
    let disk = |stats: pdpb::StoreStats| StoreDisk {
        capacity: stats.capacity,
        available: stats.available,
        used: stats.used_size,
    };
    let log = r.log.unwrap_or_default();
    Ok(StoreDetail {
        store: store(r.store.ok_or(DecodeError::Malformed("no store"))?)?,
        health,
        disk: r.stats.map(disk),
        peers: r.peers,
        leaders: r.leaders,
        pending: r.pending_peers,
        size_bytes: r.region_size,
        log_position: log.position,
        lost_below: log.lost_below,
    })
}

/// What a replica holds.
pub(crate) fn digest(r: kivapb::ReplicaDigest) -> Result<ReplicaDigest, DecodeError> {
    let families = r.families.into_iter().map(|family| FamilyDigest {
        family: family.family,
        pairs: family.pairs,
        bytes: family.bytes,
        hash: family.hash,
    });
    Ok(ReplicaDigest {
        region: region(r.region.ok_or(DecodeError::Malformed("a digest without a region"))?)?,
        applied: (Term(r.applied_term), r.applied_index),
        families: families.collect(),
    })
}

/// An operator.
pub(crate) fn operator(r: kivapb::Operator) -> Result<Operator, DecodeError> {
    Ok(Operator {
        region: RegionId::new(r.region_id).ok_or(DecodeError::Malformed("a region id"))?,
        status: match r.status() {
            pdpb::OperatorStatus::Running => OperatorStatus::Running,
            pdpb::OperatorStatus::Success => OperatorStatus::Success,
            pdpb::OperatorStatus::Timeout => OperatorStatus::Timeout,
            pdpb::OperatorStatus::Cancel => OperatorStatus::Cancelled,
            pdpb::OperatorStatus::Replace => OperatorStatus::Replaced,
        },
        description: r.description,
        steps: r.steps,
        done: r.done as usize,
        age: Duration::from_millis(r.age_ms),
    })
}

/// What to ask for.
pub(crate) fn operator_kind(kind: OperatorKind) -> kivapb::OperatorKind {
    match kind {
        OperatorKind::TransferLeader => kivapb::OperatorKind::TransferLeader,
        OperatorKind::AddPeer => kivapb::OperatorKind::AddPeer,
        OperatorKind::RemovePeer => kivapb::OperatorKind::RemovePeer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_a_region_says_that_there_is_none() {
        assert_eq!(region_detail(kivapb::DescribeRegionResponse::default()), Ok(None));
        assert!(store_detail(kivapb::DescribeStoreResponse::default()).is_err());
        assert!(operator(kivapb::Operator::default()).is_err());
    }
}
