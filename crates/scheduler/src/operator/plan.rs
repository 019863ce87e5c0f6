//! What is to become of a region, before it is known how.

use kiva_base::{Moment, Peer, PeerId, PeerRole, StoreId};

use super::{Operator, Origin, Step};
use crate::cluster::{Cluster, Fate};
use crate::regions::RegionReport;

/// What is to become of a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    /// The store gets a peer that counts.
    Add(StoreId),
    /// A learner counts.
    Promote(Peer),
    /// A learner takes the place of a voter, which goes.
    Exchange {
        /// The learner.
        new: Peer,
        /// The voter.
        old: Peer,
    },
    /// A voter goes, and the store gets one in its place.
    Replace {
        /// The voter.
        old: Peer,
        /// The store.
        store: StoreId,
    },
    /// A peer goes.
    Remove(Peer),
    /// Another voter leads.
    Transfer(Peer),
}

/// What somebody wants by hand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// What.
    pub kind: WantedKind,
    /// With which region.
    pub region: u64,
    /// On which store.
    pub store: u64,
}

/// What somebody wants of a region and a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WantedKind {
    /// The region's peer on the store leads.
    TransferLeader,
    /// The store gets a peer that counts.
    AddPeer,
    /// The store's peer goes.
    RemovePeer,
}

/// Why an operator cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// No leader has reported the region.
    #[error("region {0} is not known, or has not been reported by a leader yet")]
    RegionUnknown(u64),
    /// Somebody was first.
    #[error("region {0} has an operator already: wait for its end")]
    Running(u64),
    /// Two peers on one store would fail together.
    #[error("store {store} has a peer of region {region} already")]
    PeerThere {
        /// The region.
        region: u64,
        /// The store.
        store: u64,
    },
    /// There is none to act on.
    #[error("store {store} has no peer of region {region}")]
    NoPeer {
        /// The region.
        region: u64,
        /// The store.
        store: u64,
    },
    /// It does not take part, is not heard of, is full or busy.
    #[error("store {0} cannot take another peer now")]
    NoRoom(u64),
    /// It does not count, is behind, or is not heard of.
    #[error("the peer of region {region} on store {store} cannot lead now")]
    CannotLead {
        /// The region.
        region: u64,
        /// The store.
        store: u64,
    },
    /// A majority of what would be left has to be there.
    #[error("without its peer on store {store} region {region} would have no majority")]
    NoMajority {
        /// The region.
        region: u64,
        /// The store.
        store: u64,
    },
}

impl Plan {
    /// What somebody wants, as a plan for the region as it is.
    pub fn by_hand(
        wanted: Wanted,
        report: &RegionReport,
        cluster: &Cluster,
    ) -> Result<Self, Unfit> {
        let Wanted { kind, region, store } = wanted;
        let id = StoreId::new(store);
        let peer = id.and_then(|id| report.region.peer_on(id));
        match kind {
            WantedKind::AddPeer => {
                if peer.is_some() {
                    return Err(Unfit::PeerThere { region, store });
                }
                let known = id.and_then(|id| Some((id, cluster.stores.get(&id)?)));
                match known {
                    Some((id, condition)) if condition.has_room() => Ok(Self::Add(id)),
                    _ => Err(Unfit::NoRoom(store)),
                }
            }
            WantedKind::RemovePeer => {
                let peer = peer.ok_or(Unfit::NoPeer { region, store })?;
                match keeps_majority(report, cluster, &peer, None) {
                    true => Ok(Self::Remove(peer)),
                    false => Err(Unfit::NoMajority { region, store }),
                }
            }
            WantedKind::TransferLeader => {
                let peer = peer.ok_or(Unfit::NoPeer { region, store })?;
                let leads = report.leader.is_some_and(|leader| leader.id == peer.id);
                let counts = peer.role == PeerRole::Voter;
                match leads || (counts && cluster.is_reliable(report, &peer)) {
                    true => Ok(Self::Transfer(peer)),
                    false => Err(Unfit::CannotLead { region, store }),
                }
            }
        }
    }

    /// Why, in a word.
    pub fn description(&self) -> &'static str {
        match self {
            Self::Add(_) => "add-peer",
            Self::Promote(_) => "promote-peer",
            Self::Exchange { .. } | Self::Replace { .. } => "replace-peer",
            Self::Remove(_) => "remove-peer",
            Self::Transfer(_) => "transfer-leader",
        }
    }

    /// The store that gets a new peer, which then needs an id.
    pub fn arriving(&self) -> Option<StoreId> {
        match *self {
            Self::Add(store) | Self::Replace { store, .. } => Some(store),
            _ => None,
        }
    }

    /// How it is done, for a region as it is. `fresh` is the id of the new peer if there is one.
    /// `None` when it cannot be done now: the new peer has no id, or nobody could lead instead of
    /// one that goes.
    pub fn steps(
        &self,
        report: &RegionReport,
        cluster: &Cluster,
        fresh: Option<PeerId>,
    ) -> Option<Vec<Step>> {
        let new = |store| fresh.map(|id| Peer { id, store, role: PeerRole::Learner });
        match *self {
            Self::Add(store) => {
                let new = new(store)?;
                Some(vec![Step::AddLearner(new), Step::Promote(voter(new))])
            }
            Self::Promote(learner) => Some(vec![Step::Promote(voter(learner))]),
            Self::Transfer(to) => Some(vec![Step::Transfer(to)]),
            Self::Remove(old) => {
                let mut steps = Vec::from_iter(evict(report, cluster, old)?);
                steps.push(Step::Remove(old));
                Some(steps)
            }
            Self::Exchange { new, old } => Some(exchange(report, cluster, new, old)),
            Self::Replace { old, store } => {
                let new = new(store)?;
                let mut steps = vec![Step::AddLearner(new)];
                steps.extend(exchange(report, cluster, new, old));
                Some(steps)
            }
        }
    }

    /// The operator that does it.
    pub fn into_operator(
        self,
        report: &RegionReport,
        cluster: &Cluster,
        fresh: Option<PeerId>,
        origin: Origin,
        now: Moment,
    ) -> Option<Operator> {
        let steps = self.steps(report, cluster, fresh)?;
        Some(Operator::new(report, self.description(), origin, steps, now))
    }
}

fn voter(peer: Peer) -> Peer {
    Peer { role: PeerRole::Voter, ..peer }
}

fn learner(peer: Peer) -> Peer {
    Peer { role: PeerRole::Learner, ..peer }
}

fn voters(report: &RegionReport) -> impl Iterator<Item = &Peer> {
    report.region.peers.iter().filter(|peer| peer.role == PeerRole::Voter)
}

/// Whether a region can do without `gone`: of the peers that count then, `new` among them, a
/// majority can be relied on.
pub(crate) fn keeps_majority(
    report: &RegionReport,
    cluster: &Cluster,
    gone: &Peer,
    new: Option<&Peer>,
) -> bool {
    let (mut count, mut reliable) = (0, 0);
    for other in voters(report).filter(|other| other.id != gone.id).chain(new) {
        count += 1;
        reliable += usize::from(cluster.is_reliable(report, other));
    }
    // A learner does not count, now or later.
    gone.role == PeerRole::Learner && new.is_none() || reliable > count / 2
}

/// A learner takes the place of a voter. Where nobody else could lead meanwhile, it has to count
/// first, and lead.
fn exchange(report: &RegionReport, cluster: &Cluster, new: Peer, old: Peer) -> Vec<Step> {
    match evict(report, cluster, old) {
        Some(evict) => {
            let swap = Step::Swap { promoted: voter(new), demoted: learner(old) };
            evict.into_iter().chain([swap, Step::Remove(learner(old))]).collect()
        }
        None => vec![
            Step::Promote(voter(new)),
            Step::Evict { from: old, to: voter(new) },
            Step::Remove(old),
        ],
    }
}

/// The step that makes sure that `old` does not lead, if it could. `None` when it leads and nobody
/// else could.
fn evict(report: &RegionReport, cluster: &Cluster, old: Peer) -> Option<Option<Step>> {
    let leads = |peer: &Peer| report.leader.is_some_and(|leader| leader.id == peer.id);
    let is_able = matches!(cluster.fate(report, &old), Fate::Sound | Fate::Leaving);
    if !leads(&old) && (old.role == PeerRole::Learner || !is_able) {
        return Some(None);
    }
    let heir = voters(report)
        .filter(|peer| peer.id != old.id && cluster.is_reliable(report, peer))
        .max_by_key(|peer| leads(peer))?;
    Some(Some(Step::Evict { from: old, to: *heir }))
}
