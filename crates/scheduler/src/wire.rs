//! Regions, peers, stores and settings as the protocol and the disk know them.
//!
//! What comes in is checked here, and the error names the field; the types inside are always
//! right. What goes out cannot fail.

mod placement;

use std::time::Duration;

use bytes::Bytes;
use kiva_base::{
    ClusterId, Epoch, KeyRange, Peer, PeerId, PeerRole, Region, RegionId, StoreId, Term,
};
use kiva_proto::{kivapb, metapb, pdpb};
use prost::{DecodeError, Message};

use crate::amnesia::StoreLog;
use crate::cluster::Policy;
use crate::regions::{DownPeer, RegionReport};
use crate::settings::{ApiVersion, Settings};
use crate::state::Birth;
use crate::store::{Store, StoreState, StoreStats, StoreView};

pub use placement::*;

/// A message that cannot be what it claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {reason}")]
pub struct WireError {
    /// The field, from the outermost message.
    pub field: &'static str,
    /// What is wrong with it, to be read after its name.
    pub reason: &'static str,
}

/// Something is wrong with a field.
const fn wrong(field: &'static str, reason: &'static str) -> WireError {
    WireError { field, reason }
}

const MISSING: &str = "is missing";
const ZERO: &str = "is 0, which names nothing";
const UNKNOWN: &str = "has a value that this version does not know";

/// An epoch, for sending.
pub fn epoch_to_wire(epoch: Epoch) -> metapb::RegionEpoch {
    metapb::RegionEpoch { conf_ver: epoch.conf_ver, version: epoch.version }
}

/// A received epoch.
pub fn epoch_from_wire(epoch: metapb::RegionEpoch) -> Epoch {
    Epoch { conf_ver: epoch.conf_ver, version: epoch.version }
}

/// A peer, for sending.
pub fn peer_to_wire(peer: Peer) -> metapb::Peer {
    metapb::Peer {
        id: peer.id.get(),
        store_id: peer.store.get(),
        role: match peer.role {
            PeerRole::Voter => metapb::PeerRole::Voter,
            PeerRole::Learner => metapb::PeerRole::Learner,
        } as i32,
        is_witness: false,
    }
}

/// A received peer.
pub fn peer_from_wire(peer: &metapb::Peer) -> Result<Peer, WireError> {
    let role = match metapb::PeerRole::try_from(peer.role) {
        Ok(metapb::PeerRole::Voter | metapb::PeerRole::IncomingVoter) => PeerRole::Voter,
        Ok(metapb::PeerRole::Learner | metapb::PeerRole::DemotingVoter) => PeerRole::Learner,
        Err(_) => return Err(wrong("peer.role", UNKNOWN)),
    };
    Ok(Peer {
        id: PeerId::new(peer.id).ok_or(wrong("peer.id", ZERO))?,
        store: StoreId::new(peer.store_id).ok_or(wrong("peer.store_id", ZERO))?,
        role,
    })
}

/// A region, for sending.
pub fn region_to_wire(region: &Region) -> metapb::Region {
    metapb::Region {
        id: region.id.get(),
        start_key: region.range.start().clone(),
        end_key: region.range.end().clone(),
        region_epoch: Some(epoch_to_wire(region.epoch)),
        peers: region.peers.iter().copied().map(peer_to_wire).collect(),
        ..metapb::Region::default()
    }
}

/// A received region. Its keys are copied: they are kept for longer than the frame they came in.
pub fn region_from_wire(region: &metapb::Region) -> Result<Region, WireError> {
    let epoch = region.region_epoch.ok_or(wrong("region.region_epoch", MISSING))?;
    let range = KeyRange::new(
        Bytes::copy_from_slice(&region.start_key),
        Bytes::copy_from_slice(&region.end_key),
    )
    .filter(|range| !range.is_empty())
    .ok_or(wrong("region.end_key", "is not above `region.start_key`"))?;
    let peers = region.peers.iter().map(peer_from_wire).collect::<Result<Vec<_>, _>>()?;
    for (position, peer) in peers.iter().enumerate() {
        let others = &peers[..position];
        if others.iter().any(|other| other.id == peer.id || other.store == peer.store) {
            return Err(wrong("region.peers", "names a peer or a store twice"));
        }
    }
    Ok(Region {
        id: RegionId::new(region.id).ok_or(wrong("region.id", ZERO))?,
        range,
        epoch: epoch_from_wire(epoch),
        peers,
    })
}

/// A region and who leads it, for sending.
pub fn report_to_wire(report: &RegionReport) -> pdpb::Region {
    pdpb::Region {
        region: Some(region_to_wire(&report.region)),
        leader: report.leader.map(peer_to_wire),
        down_peers: down_to_wire(report),
        pending_peers: report.pending.iter().copied().map(peer_to_wire).collect(),
    }
}

/// The peers that a leader has not heard of, for sending.
pub fn down_to_wire(report: &RegionReport) -> Vec<pdpb::PeerStats> {
    let down = |down: &DownPeer| pdpb::PeerStats {
        peer: Some(peer_to_wire(down.peer)),
        down_seconds: down.seconds,
    };
    report.down.iter().map(down).collect()
}

/// A leader's report. Without a leader it is nobody's.
pub fn report_from_wire(request: &pdpb::RegionHeartbeatRequest) -> Result<RegionReport, WireError> {
    let region = request.region.as_ref().ok_or(wrong("region", MISSING))?;
    let region = region_from_wire(region)?;
    let leader = peer_from_wire(request.leader.as_ref().ok_or(wrong("leader", MISSING))?)?;
    if !region.peers.iter().any(|peer| peer.id == leader.id && peer.store == leader.store) {
        return Err(wrong("leader", "is none of `region.peers`"));
    }
    let down = |stats: &pdpb::PeerStats| {
        let peer = stats.peer.as_ref().ok_or(wrong("down_peers.peer", MISSING))?;
        Ok(DownPeer { peer: peer_from_wire(peer)?, seconds: stats.down_seconds })
    };
    Ok(RegionReport {
        is_joint: is_joint(request.region.as_ref()),
        region,
        leader: Some(leader),
        term: Term(request.term),
        down: request.down_peers.iter().map(down).collect::<Result<_, _>>()?,
        pending: request.pending_peers.iter().map(peer_from_wire).collect::<Result<_, _>>()?,
        size_bytes: request.approximate_size,
        keys: request.approximate_keys,
    })
}

/// Whether a region is in the middle of a joint change of peers.
fn is_joint(region: Option<&metapb::Region>) -> bool {
    let between = |peer: &metapb::Peer| {
        matches!(peer.role(), metapb::PeerRole::IncomingVoter | metapb::PeerRole::DemotingVoter)
    };
    region.is_some_and(|region| region.peers.iter().any(between))
}

/// A store, for sending.
pub fn store_to_wire(store: &Store) -> metapb::Store {
    // Some clients look at the one state, some at the other.
    let (state, node_state) = match store.state {
        StoreState::Up => (metapb::StoreState::Up, metapb::NodeState::Serving),
        // Clients need not know the difference.
        StoreState::Offline | StoreState::Lost => {
            (metapb::StoreState::Offline, metapb::NodeState::Removing)
        }
        StoreState::Tombstone => (metapb::StoreState::Tombstone, metapb::NodeState::Removed),
    };
    let label = |(key, value): &(String, String)| metapb::StoreLabel {
        key: key.clone(),
        value: value.clone(),
    };
    metapb::Store {
        id: store.id.get(),
        address: store.address.clone(),
        state: state as i32,
        labels: store.labels.iter().map(label).collect(),
        version: store.version.clone(),
        peer_address: store.peer_address.clone(),
        status_address: store.status_address.clone(),
        start_timestamp: store.start_timestamp,
        physically_destroyed: store.state == StoreState::Lost,
        node_state: node_state as i32,
        ..metapb::Store::default()
    }
}

/// A store and when it was last heard of, for sending.
pub fn store_view_to_wire(view: &StoreView) -> metapb::Store {
    let nanos = view.last_heartbeat_ms.saturating_mul(1_000_000);
    metapb::Store {
        last_heartbeat: i64::try_from(nanos).unwrap_or(i64::MAX),
        ..store_to_wire(&view.store)
    }
}

/// A received store.
pub fn store_from_wire(store: &metapb::Store) -> Result<Store, WireError> {
    if store.address.is_empty() {
        return Err(wrong("store.address", "is empty: nobody could reach the store"));
    }
    let label = |label: &metapb::StoreLabel| (label.key.clone(), label.value.clone());
    Ok(Store {
        id: StoreId::new(store.id).ok_or(wrong("store.id", ZERO))?,
        address: store.address.clone(),
        peer_address: store.peer_address.clone(),
        status_address: store.status_address.clone(),
        state: match metapb::StoreState::try_from(store.state) {
            Ok(metapb::StoreState::Up) => StoreState::Up,
            Ok(metapb::StoreState::Offline) if store.physically_destroyed => StoreState::Lost,
            Ok(metapb::StoreState::Offline) => StoreState::Offline,
            Ok(metapb::StoreState::Tombstone) => StoreState::Tombstone,
            Err(_) => return Err(wrong("store.state", UNKNOWN)),
        },
        labels: store.labels.iter().map(label).collect(),
        version: store.version.clone(),
        start_timestamp: store.start_timestamp,
    })
}

/// What a store reports about itself, for sending.
pub fn stats_to_wire(store: StoreId, stats: &StoreStats) -> pdpb::StoreStats {
    pdpb::StoreStats {
        store_id: store.get(),
        capacity: stats.capacity,
        available: stats.available,
        region_count: stats.region_count,
        is_busy: stats.is_busy,
        used_size: stats.used,
        ..pdpb::StoreStats::default()
    }
}

/// What a store reports about itself.
pub fn stats_from_wire(stats: &pdpb::StoreStats) -> StoreStats {
    StoreStats {
        capacity: stats.capacity,
        available: stats.available,
        used: stats.used_size,
        region_count: stats.region_count,
        is_busy: stats.is_busy,
    }
}

/// Settings, for sending and saving.
pub fn settings_to_wire(settings: Settings) -> kivapb::Settings {
    kivapb::Settings {
        api_version: match settings.api_version {
            ApiVersion::V1 => kivapb::ApiVersion::V1,
            ApiVersion::V1Ttl => kivapb::ApiVersion::V1ttl,
            ApiVersion::V2 => kivapb::ApiVersion::V2,
        } as i32,
        replicas: settings.replicas,
        tick_ms: settings.tick_ms,
    }
}

/// Settings, received or loaded.
pub fn settings_from_wire(settings: kivapb::Settings) -> Result<Settings, WireError> {
    let nothing = "is 0, which makes no cluster";
    if settings.replicas == 0 {
        return Err(wrong("settings.replicas", nothing));
    }
    if settings.tick_ms == 0 {
        return Err(wrong("settings.tick_ms", nothing));
    }
    Ok(Settings {
        api_version: match kivapb::ApiVersion::try_from(settings.api_version) {
            Ok(kivapb::ApiVersion::V1) => ApiVersion::V1,
            Ok(kivapb::ApiVersion::V1ttl) => ApiVersion::V1Ttl,
            Ok(kivapb::ApiVersion::V2) => ApiVersion::V2,
            Err(_) => return Err(wrong("settings.api_version", UNKNOWN)),
        },
        replicas: settings.replicas,
        tick_ms: settings.tick_ms,
    })
}

/// Why the body of a record cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It is no message.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It is a message that cannot be what it claims to be.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// The body of the record of a birth.
pub fn encode_birth(birth: &Birth) -> Vec<u8> {
    kivapb::Birth {
        cluster_id: birth.cluster.get(),
        settings: Some(settings_to_wire(birth.settings)),
        born_ms: birth.born_ms,
    }
    .encode_to_vec()
}

/// The birth that a record's body tells of.
pub fn decode_birth(body: &[u8]) -> Result<Birth, RecordError> {
    let birth = kivapb::Birth::decode(body)?;
    let settings = birth.settings.ok_or(wrong("settings", MISSING))?;
    Ok(Birth {
        cluster: ClusterId::new(birth.cluster_id).ok_or(wrong("cluster_id", ZERO))?,
        settings: settings_from_wire(settings)?,
        born_ms: birth.born_ms,
    })
}

/// The body of the record of a store.
pub fn encode_store(store: &Store) -> Vec<u8> {
    store_to_wire(store).encode_to_vec()
}

/// The store that a record's body tells of.
pub fn decode_store(body: &[u8]) -> Result<Store, RecordError> {
    Ok(store_from_wire(&metapb::Store::decode(body)?)?)
}

/// The body of the record of a region: the region and who leads it.
pub fn encode_region(report: &RegionReport) -> Vec<u8> {
    pdpb::Region {
        region: Some(region_to_wire(&report.region)),
        leader: report.leader.map(peer_to_wire),
        ..pdpb::Region::default()
    }
    .encode_to_vec()
}

/// The region that a record's body tells of.
pub fn decode_region(body: &[u8]) -> Result<RegionReport, RecordError> {
    let saved = pdpb::Region::decode(body)?;
    let region = saved.region.ok_or(wrong("region", MISSING))?;
    Ok(RegionReport {
        leader: saved.leader.as_ref().map(peer_from_wire).transpose()?,
        ..RegionReport::new(region_from_wire(&region)?)
    })
}

/// The body of the record of a store's log.
pub fn encode_log(log: StoreLog) -> Vec<u8> {
    log_to_wire(log).encode_to_vec()
}

/// The log that a record's body tells of.
pub fn decode_log(body: &[u8]) -> Result<StoreLog, RecordError> {
    let log = kivapb::StoreLog::decode(body)?;
    Ok(StoreLog { position: log.position, lost_below: log.lost_below })
}

/// The body of the record of the scheduler's ways.
pub fn encode_policy(policy: Policy) -> Vec<u8> {
    let millis = u64::try_from(policy.store_down.as_millis()).unwrap_or(u64::MAX);
    kivapb::Policy { store_down_ms: millis }.encode_to_vec()
}

/// The ways that a record's body tells of.
pub fn decode_policy(body: &[u8]) -> Result<Policy, RecordError> {
    match kivapb::Policy::decode(body)?.store_down_ms {
        0 => Err(wrong("store_down_ms", "is 0: no store would be up").into()),
        millis => Ok(Policy { store_down: Duration::from_millis(millis) }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn region() -> metapb::Region {
        let peer = |id, store_id| metapb::Peer { id, store_id, ..metapb::Peer::default() };
        metapb::Region {
            id: 2,
            start_key: "a".into(),
            end_key: "b".into(),
            region_epoch: Some(metapb::RegionEpoch { conf_ver: 1, version: 2 }),
            peers: vec![peer(4, 1), peer(5, 2)],
            ..metapb::Region::default()
        }
    }

    #[test]
    fn a_region_comes_back_as_it_went() {
        let inside = region_from_wire(&region()).unwrap();
        assert_eq!(region_to_wire(&inside), region());
    }

    /// Covers 3C-hb-unknown-shape, with the next.
    #[test]
    fn what_cannot_be_a_region_names_the_field() {
        type Change = fn(&mut metapb::Region);
        let cases: [(&str, Change); 7] = [
            ("region.id", |r| r.id = 0),
            ("region.region_epoch", |r| r.region_epoch = None),
            ("region.end_key", |r| r.end_key = "a".into()),
            ("region.end_key", |r| r.end_key = "A".into()),
            ("region.peers", |r| r.peers[1].store_id = 1),
            ("peer.store_id", |r| r.peers[0].store_id = 0),
            ("peer.role", |r| r.peers[0].role = 77),
        ];
        for (field, change) in cases {
            let mut wire = region();
            change(&mut wire);
            assert_eq!(region_from_wire(&wire).unwrap_err().field, field);
        }
    }

    #[test]
    fn a_leader_is_one_of_the_peers() {
        let mut heartbeat = pdpb::RegionHeartbeatRequest {
            region: Some(region()),
            leader: Some(region().peers[0]),
            ..pdpb::RegionHeartbeatRequest::default()
        };
        assert!(report_from_wire(&heartbeat).is_ok());
        heartbeat.leader = Some(metapb::Peer { id: 9, store_id: 9, ..metapb::Peer::default() });
        assert_eq!(report_from_wire(&heartbeat).unwrap_err().field, "leader");
        heartbeat.leader = None;
        assert_eq!(report_from_wire(&heartbeat).unwrap_err().field, "leader");
        heartbeat.region = None;
        assert_eq!(report_from_wire(&heartbeat).unwrap_err().field, "region");
    }

    #[test]
    fn a_joint_configuration_shows_in_the_roles_of_peers() {
        let mut heartbeat = pdpb::RegionHeartbeatRequest {
            region: Some(region()),
            leader: Some(region().peers[0]),
            ..pdpb::RegionHeartbeatRequest::default()
        };
        assert!(!report_from_wire(&heartbeat).unwrap().is_joint);
        let peers = &mut heartbeat.region.as_mut().unwrap().peers;
        peers[0].set_role(metapb::PeerRole::DemotingVoter);
        let report = report_from_wire(&heartbeat).unwrap();
        assert!(report.is_joint);
        // The leader is the same peer whatever role it names.
        assert_eq!(report.leader.unwrap().id.get(), 4);
    }

    #[test]
    fn a_store_has_both_states() {
        let wire = metapb::Store {
            id: 1,
            address: "here:1".into(),
            state: metapb::StoreState::Tombstone as i32,
            ..metapb::Store::default()
        };
        let back = store_to_wire(&store_from_wire(&wire).unwrap());
        assert_eq!(back.state, 2);
        assert_eq!(back.node_state, 3);
        // Clients see a store that is lost as one that is being emptied; the record knows better.
        let lost = Store { state: StoreState::Lost, ..store_from_wire(&wire).unwrap() };
        let back = store_to_wire(&lost);
        assert_eq!((back.state, back.node_state), (1, 2));
        assert_eq!(store_from_wire(&back).unwrap(), lost);
    }

    proptest! {
        #[test]
        fn bytes_from_outside_never_panic(bytes: Vec<u8>) {
            if let Ok(heartbeat) = pdpb::RegionHeartbeatRequest::decode(&bytes[..]) {
                let _ = report_from_wire(&heartbeat);
            }
            if let Ok(store) = metapb::Store::decode(&bytes[..]) {
                let _ = store_from_wire(&store);
            }
            let _ = (decode_birth(&bytes), decode_store(&bytes), decode_region(&bytes));
            let _ = (decode_log(&bytes), decode_policy(&bytes));
        }
    }
}
