//! The customs house: between our types and protobuf's. Nothing but `grpc` looks behind it.
//!
//! What arrives is not trusted: an id of zero, a range that runs backward or a missing message is
//! an error of the answer, never a panic. A *refusal* that is garbled is still a refusal, so that
//! nobody takes a request that was not executed for one that may have been.

pub(crate) mod command;
pub(crate) mod fault;
pub(crate) mod placement;
pub(crate) mod reply;
pub(crate) mod scheduler;

use kiva_base::codec::DecodeError;
use kiva_base::{Epoch, KeyRange, Peer, PeerId, PeerRole, Region, RegionId, StoreId};
use kiva_proto::metapb;

/// A region as it arrived.
pub(crate) fn region(region: metapb::Region) -> Result<Region, DecodeError> {
    let epoch = region.region_epoch.ok_or(DecodeError::Malformed("a region without an epoch"))?;
    Ok(Region {
        id: RegionId::new(region.id).ok_or(DecodeError::Malformed("a region id"))?,
        range: KeyRange::new(region.start_key, region.end_key)
            .ok_or(DecodeError::Malformed("a region's range"))?,
        epoch: Epoch { conf_ver: epoch.conf_ver, version: epoch.version },
        peers: region.peers.into_iter().map(peer).collect::<Result<_, _>>()?,
    })
}

/// A peer as it arrived.
pub(crate) fn peer(peer: metapb::Peer) -> Result<Peer, DecodeError> {
    Ok(Peer {
        id: PeerId::new(peer.id).ok_or(DecodeError::Malformed("a peer id"))?,
        store: StoreId::new(peer.store_id).ok_or(DecodeError::Malformed("a store id"))?,
        // On the way into a joint configuration, or out of it, a peer counts.
        role: match metapb::PeerRole::try_from(peer.role) {
            Ok(metapb::PeerRole::Learner) => PeerRole::Learner,
            _ => PeerRole::Voter,
        },
    })
}
