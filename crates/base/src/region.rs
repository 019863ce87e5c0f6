//! Regions: which keys, which peers, and since which change of either.

use crate::id::{PeerId, RegionId, StoreId};
use crate::key::KeyRange;

/// How often a region has changed: its peers (`conf_ver`) and its range (`version`).
///
/// Both only grow. Two descriptions of a region with equal epochs are equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Epoch {
    /// Raised by every change of peers.
    pub conf_ver: u64,
    /// Raised by every split and merge.
    pub version: u64,
}

impl Epoch {
    /// Where a region begins.
    pub const FIRST: Self = Self { conf_ver: 1, version: 1 };

    /// Whether either part is behind `other`'s.
    pub fn is_stale_against(self, other: Self) -> bool {
        self.conf_ver < other.conf_ver || self.version < other.version
    }
}

/// Whether a peer counts in quorums.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum PeerRole {
    /// Counts.
    #[default]
    Voter,
    /// Receives the log and does not count.
    Learner,
}

/// One replica of a region.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Peer {
    /// Its own id, never used again after the replica is gone.
    pub id: PeerId,
    /// Where it lives.
    pub store: StoreId,
    /// Whether it counts.
    pub role: PeerRole,
}

/// A half-open range of stored keys and the peers that replicate it.
///
/// Invariants: the range is not empty; no two peers share a store or an id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Region {
    /// Its id.
    pub id: RegionId,
    /// The stored keys it is responsible for.
    pub range: KeyRange,
    /// Raised by every change of `range` or `peers`.
    pub epoch: Epoch,
    /// Its replicas.
    pub peers: Vec<Peer>,
}

impl Region {
    /// Whether it is responsible for this stored key.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.range.contains(key)
    }

    /// Its replica on `store`, if there is one.
    pub fn peer_on(&self, store: StoreId) -> Option<Peer> {
        self.peers.iter().copied().find(|peer| peer.store == store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_stale_when_either_part_is_behind() {
        let now = Epoch { conf_ver: 2, version: 5 };
        assert!(Epoch { conf_ver: 1, version: 9 }.is_stale_against(now));
        assert!(Epoch { conf_ver: 9, version: 4 }.is_stale_against(now));
        assert!(!now.is_stale_against(now));
    }
}
