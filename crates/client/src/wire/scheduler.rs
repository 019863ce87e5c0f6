//! The scheduler's answers as they arrive.

use kiva_base::codec::DecodeError;
use kiva_base::{ClusterId, StoreId, Timestamp};
use kiva_proto::{metapb, pdpb};

use super::{peer, region};
use crate::rpc::{Member, Members, RegionInfo, SchedulerCallError, Store, StoreState};

/// Whether an answer is one, by its header.
pub(crate) fn header(header: Option<pdpb::ResponseHeader>) -> Result<(), SchedulerCallError> {
    let header = header.ok_or(DecodeError::Malformed("an answer without a header"))?;
    let Some(error) = header.error else {
        return Ok(());
    };
    match pdpb::ErrorType::try_from(error.r#type) {
        // The first store has yet to come, and may.
        Ok(pdpb::ErrorType::NotBootstrapped) => Err(SchedulerCallError::Unreachable(error.message)),
        _ => Err(SchedulerCallError::Refused(error.message)),
    }
}

/// A region with its leader; `None` when the answer holds none.
pub(crate) fn region_info(
    found: Option<metapb::Region>,
    leader: Option<metapb::Peer>,
) -> Result<Option<RegionInfo>, DecodeError> {
    let Some(found) = found else {
        return Ok(None);
    };
    Ok(Some(RegionInfo {
        region: region(found)?,
        // An unknown leader is an empty peer in lists.
        leader: leader.and_then(|leader| peer(leader).ok()),
    }))
}

/// A list of regions. Servers fill one of two forms, or both.
pub(crate) fn regions(r: pdpb::ScanRegionsResponse) -> Result<Vec<RegionInfo>, DecodeError> {
    let found: Vec<_> = if r.regions.is_empty() {
        let leaders = r.leaders.into_iter().map(Some).chain(std::iter::repeat(None));
        let metas = r.region_metas.into_iter().map(Some);
        metas.zip(leaders).collect()
    } else {
        let pair = |found: pdpb::Region| (found.region, found.leader);
        r.regions.into_iter().map(pair).collect()
    };
    found.into_iter().filter_map(|(found, leader)| region_info(found, leader).transpose()).collect()
}

/// A store.
pub(crate) fn store(store: metapb::Store) -> Result<Store, DecodeError> {
    let is_removed = store.node_state == metapb::NodeState::Removed as i32;
    Ok(Store {
        id: StoreId::new(store.id).ok_or(DecodeError::Malformed("a store id"))?,
        address: store.address,
        state: match metapb::StoreState::try_from(store.state) {
            _ if is_removed => StoreState::Tombstone,
            Ok(metapb::StoreState::Up) => StoreState::Up,
            Ok(metapb::StoreState::Offline) => StoreState::Offline,
            Ok(metapb::StoreState::Tombstone) => StoreState::Tombstone,
            Err(_) => return Err(DecodeError::Malformed("the state of a store")),
        },
        version: store.version,
        status_address: store.status_address,
        labels: store.labels.into_iter().map(|label| (label.key, label.value)).collect(),
    })
}

/// The members.
pub(crate) fn members(r: pdpb::GetMembersResponse) -> Result<Members, DecodeError> {
    let cluster = r.header.map_or(0, |header| header.cluster_id);
    let member = |member: pdpb::Member| Member {
        id: member.member_id,
        name: member.name,
        client_urls: member.client_urls,
        peer_urls: member.peer_urls,
    };
    Ok(Members {
        cluster: ClusterId::new(cluster).ok_or(DecodeError::Malformed("a cluster id"))?,
        leader: r.leader.map(|leader| leader.member_id),
        members: r.members.into_iter().map(member).collect(),
    })
}

/// The last timestamp of a batch.
pub(crate) fn timestamps(r: pdpb::TsoResponse, count: u32) -> Result<Timestamp, DecodeError> {
    let ts = r.timestamp.ok_or(DecodeError::Malformed("a batch without timestamps"))?;
    let (Ok(physical), Ok(logical)) = (u64::try_from(ts.physical), u64::try_from(ts.logical))
    else {
        return Err(DecodeError::Malformed("a timestamp below zero"));
    };
    if r.count != count || logical >= Timestamp::PER_MS || physical >= 1 << 46 {
        return Err(DecodeError::Malformed("a batch of timestamps"));
    }
    Ok(Timestamp::new(physical, logical))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_timestamps_is_as_long_as_asked_for() {
        let response = |count, logical| pdpb::TsoResponse {
            count,
            timestamp: Some(pdpb::Timestamp { physical: 5, logical, suffix_bits: 0 }),
            ..Default::default()
        };
        assert_eq!(timestamps(response(3, 9), 3), Ok(Timestamp::new(5, 9)));
        assert!(timestamps(response(2, 9), 3).is_err());
        assert!(timestamps(response(3, -1), 3).is_err());
        assert!(timestamps(response(3, 1 << 18), 3).is_err());
    }

    #[test]
    fn a_cluster_without_stores_is_worth_waiting_for() {
        let answer = |kind: pdpb::ErrorType| {
            header(Some(pdpb::ResponseHeader {
                cluster_id: 1,
                error: Some(pdpb::Error { r#type: kind as i32, message: "no".into() }),
            }))
        };
        assert!(matches!(
            answer(pdpb::ErrorType::NotBootstrapped),
            Err(SchedulerCallError::Unreachable(_))
        ));
        assert!(matches!(answer(pdpb::ErrorType::Unknown), Err(SchedulerCallError::Refused(_))));
        assert!(header(None).is_err());
    }
}
