//! What a leader can be asked to do at a time.
//!
//! A step is judged by what the leader reports, never by whether it was sent or answered: messages
//! are lost, leaders change, and somebody else may have done it.

use std::fmt;
use std::time::Duration;

use kiva_base::{Epoch, Peer, PeerId, PeerRole, RegionId, StoreId};

use super::keeps_majority;
use crate::cluster::Cluster;
use crate::limits::{CHANGE_TIMEOUT, RESEND_FAST, RESEND_SLOW, TRANSFER_TIMEOUT};
use crate::regions::RegionReport;

/// One part of a planned change. Peers have the role that they are to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A new peer receives the log and does not count. Done when it has caught up.
    AddLearner(Peer),
    /// A learner counts from now on.
    Promote(Peer),
    /// A learner counts and a voter does not, from one moment on: a joint change.
    Swap {
        /// The learner that is to be a voter.
        promoted: Peer,
        /// The voter that is to be a learner.
        demoted: Peer,
    },
    /// A peer goes.
    Remove(Peer),
    /// This voter leads.
    Transfer(Peer),
    /// Somebody else than this peer leads, so that it can go.
    Evict {
        /// Who should not lead.
        from: Peer,
        /// Who should.
        to: Peer,
    },
}

/// What a leader is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Change who belongs to the region. More than one change is a joint one.
    ChangePeers(Vec<PeerChange>),
    /// Hand over to this voter.
    TransferLeader(Peer),
}

/// A change of one peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerChange {
    /// This peer is a member in its role from now on.
    Put(Peer),
    /// This peer is none.
    Remove(Peer),
}

/// What one leader should do now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instruction {
    /// With which region.
    pub region: RegionId,
    /// What it was decided on. A leader that knows another `conf_ver` passes it over.
    pub epoch: Epoch,
    /// Whom it is for. Anybody else passes it over.
    pub leader: Peer,
    /// What.
    pub action: Action,
}

impl Step {
    /// Whether a report shows its effect.
    pub fn is_done(&self, report: &RegionReport) -> bool {
        let role = |peer: &Peer| role(report, peer.id);
        match self {
            Self::AddLearner(peer) => role(peer).is_some() && !report.is_pending(peer.id),
            Self::Promote(peer) => role(peer) == Some(PeerRole::Voter) && !report.is_joint,
            Self::Swap { promoted, demoted } => {
                role(promoted) == Some(PeerRole::Voter)
                    && role(demoted) != Some(PeerRole::Voter)
                    && !report.is_joint
            }
            Self::Remove(peer) => role(peer).is_none() && !report.is_joint,
            Self::Transfer(peer) => leads(report, peer.id),
            Self::Evict { from, .. } => report.leader.is_some() && !leads(report, from.id),
        }
    }

    /// Whether it can still be done, judged by a report that does not show its effect.
    pub fn is_possible(&self, report: &RegionReport) -> bool {
        let role = |peer: &Peer| role(report, peer.id);
        match self {
            Self::AddLearner(peer) => {
                report.region.peer_on(peer.store).is_none_or(|other| other.id == peer.id)
            }
            Self::Promote(peer) => role(peer).is_some(),
            Self::Swap { promoted, demoted } => role(promoted).is_some() && role(demoted).is_some(),
            Self::Remove(peer) => {
                let voter = |other: &&Peer| other.id != peer.id && other.role == PeerRole::Voter;
                report.region.peers.iter().any(|other| voter(&other))
            }
            Self::Transfer(peer) | Self::Evict { to: peer, .. } => {
                role(peer) == Some(PeerRole::Voter)
            }
        }
    }

    /// What to tell the leader; `None` when it has begun and only has to go on.
    pub fn action(&self, report: &RegionReport) -> Option<Action> {
        let role = |peer: &Peer| role(report, peer.id);
        let has_begun = match self {
            Self::AddLearner(peer) => role(peer).is_some(),
            // Until the joint configuration is left, both count.
            Self::Swap { promoted, .. } => role(promoted) == Some(PeerRole::Voter),
            _ => false,
        };
        if has_begun || report.is_joint {
            return None;
        }
        Some(match *self {
            Self::AddLearner(peer) | Self::Promote(peer) => {
                Action::ChangePeers(vec![PeerChange::Put(peer)])
            }
            Self::Swap { promoted, demoted } => {
                Action::ChangePeers(vec![PeerChange::Put(promoted), PeerChange::Put(demoted)])
            }
            Self::Remove(peer) => Action::ChangePeers(vec![PeerChange::Remove(peer)]),
            Self::Transfer(peer) | Self::Evict { to: peer, .. } => Action::TransferLeader(peer),
        })
    }

    /// By how much it may raise `conf_ver`: by one per peer, and by as much again on leaving a
    /// joint configuration.
    pub fn conf_changes(&self) -> u64 {
        match self {
            Self::AddLearner(_) | Self::Promote(_) | Self::Remove(_) => 1,
            Self::Swap { .. } => 4,
            Self::Transfer(_) | Self::Evict { .. } => 0,
        }
    }

    /// The peer that counts, or is to count, because of it.
    pub fn newcomer(&self) -> Option<&Peer> {
        match self {
            Self::AddLearner(peer) | Self::Promote(peer) => Some(peer),
            Self::Swap { promoted, .. } => Some(promoted),
            Self::Remove(_) | Self::Transfer(_) | Self::Evict { .. } => None,
        }
    }

    /// Whether the region can go on after it, as far as is known now.
    pub fn is_safe(&self, report: &RegionReport, cluster: &Cluster) -> bool {
        match self {
            Self::Remove(peer) => keeps_majority(report, cluster, peer, None),
            Self::Swap { promoted, demoted } => {
                keeps_majority(report, cluster, demoted, Some(promoted))
            }
            _ => true,
        }
    }

    /// The store that gets data by it.
    pub fn arriving(&self) -> Option<StoreId> {
        match self {
            Self::AddLearner(peer) => Some(peer.store),
            _ => None,
        }
    }

    /// When to give up.
    pub fn timeout(&self) -> Duration {
        match self {
            Self::Transfer(_) | Self::Evict { .. } => TRANSFER_TIMEOUT,
            _ => CHANGE_TIMEOUT,
        }
    }

    /// When to repeat it.
    pub fn resend_after(&self) -> Duration {
        match self {
            Self::AddLearner(_) | Self::Remove(_) => RESEND_SLOW,
            _ => RESEND_FAST,
        }
    }
}

/// The role that a peer has; `None` when it is none of the region's.
fn role(report: &RegionReport, peer: PeerId) -> Option<PeerRole> {
    report.region.peers.iter().find(|other| other.id == peer).map(|other| other.role)
}

fn leads(report: &RegionReport, peer: PeerId) -> bool {
    report.leader.is_some_and(|leader| leader.id == peer)
}

/// For people: `peer@store`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |peer: &Peer| format!("{}@{}", peer.id, peer.store);
        match self {
            Self::AddLearner(peer) => write!(f, "add learner {}", at(peer)),
            Self::Promote(peer) => write!(f, "promote {}", at(peer)),
            Self::Swap { promoted, demoted } => {
                write!(f, "promote {} and demote {}", at(promoted), at(demoted))
            }
            Self::Remove(peer) => write!(f, "remove {}", at(peer)),
            Self::Transfer(peer) => write!(f, "transfer leader to {}", at(peer)),
            Self::Evict { from, to } => {
                write!(f, "unless another than {} leads, transfer leader to {}", at(from), at(to))
            }
        }
    }
}
