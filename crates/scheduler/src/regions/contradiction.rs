//! Reports that cannot all be true.
//!
//! A stale report is nobody's fault and is refused. A report that is new enough and contradicts
//! what is known is a defect of a store: it is taken in all the same, because the leader knows
//! best, and told to people.

use kiva_base::{Peer, RegionId};

use super::RegionReport;

/// Why a report and what is known cannot both be true.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Contradiction {
    /// Every change of peers raises the configuration version.
    #[error("the peers of region {region} have changed and conf_ver {conf_ver} has not")]
    PeersChanged {
        /// The reported region.
        region: RegionId,
        /// The version of both.
        conf_ver: u64,
    },
    /// One change is a change of one peer. Versions that were never reported excuse more.
    #[error("{peers} peers of region {region} have changed at once with conf_ver {conf_ver}")]
    PeersAtOnce {
        /// The reported region.
        region: RegionId,
        /// How many are there, gone, or in another role.
        peers: usize,
        /// The reported version.
        conf_ver: u64,
    },
    /// Of two regions with a key in common the later one has the higher version.
    #[error("regions {region} and {other} have keys in common at version {version}")]
    Overlap {
        /// The reported region.
        region: RegionId,
        /// The region known.
        other: RegionId,
        /// The version of both.
        version: u64,
    },
}

/// What a report that is not stale says of the same region's earlier one, `known`, and of the
/// other regions in its range.
pub(super) fn find<'a>(
    report: &RegionReport,
    known: Option<&RegionReport>,
    overlapped: impl IntoIterator<Item = &'a RegionReport>,
) -> Option<Contradiction> {
    let region = report.region.id;
    let same = |other: &&RegionReport| {
        other.region.id != region && other.region.epoch.version == report.region.epoch.version
    };
    if let Some(other) = overlapped.into_iter().find(same) {
        let (other, version) = (other.region.id, other.region.epoch.version);
        return Some(Contradiction::Overlap { region, other, version });
    }
    let known = known?;
    let conf_ver = report.region.epoch.conf_ver;
    let peers = changed_peers(&known.region.peers, &report.region.peers);
    match conf_ver - known.region.epoch.conf_ver {
        0 if peers > 0 => Some(Contradiction::PeersChanged { region, conf_ver }),
        // Half of a joint change may be seen as no change of any peer.
        1 if peers > 1 && !known.is_joint && !report.is_joint => {
            Some(Contradiction::PeersAtOnce { region, peers, conf_ver })
        }
        _ => None,
    }
}

/// How many peers are in one list and not, or not in the same role, in the other.
fn changed_peers(old: &[Peer], new: &[Peer]) -> usize {
    let changed = new.iter().filter(|peer| !old.contains(peer)).count();
    let gone = old.iter().filter(|peer| !new.iter().any(|other| other.id == peer.id)).count();
    changed + gone
}
