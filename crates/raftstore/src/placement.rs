//! The port to the scheduler: what a store tells it, and the steps it answers with.
//!
//! Everything is a message. What is reported is a copy of its moment: region, epoch and peers of
//! one report belong together. Answers arrive in the mailbox of the region's loop as
//! [`StoreMsg::Step`](crate::store::StoreMsg::Step), and are only advice: each is checked against
//! the region's epoch like anybody's request.

use std::sync::Arc;

use kiva_base::{Epoch, Peer, RegionId, Term};

use crate::command::PeerChange;
use crate::meta::RegionRecord;

/// A region as its leader sees it. Sent when leader, epoch or peers change, and every minute.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegionReport {
    /// Range, epoch, peers.
    pub record: Arc<RegionRecord>,
    /// Who reports: the leader.
    pub leader: Peer,
    /// Its term.
    pub term: Term,
    /// Peers that have heard nothing for longer than an election timeout, and for how many seconds.
    pub down: Vec<(Peer, u64)>,
    /// Peers that are still being sent what they lack.
    pub pending: Vec<Peer>,
    /// Bytes of the range in tables, roughly.
    pub approximate_size: u64,
}

/// What the scheduler wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// To be proposed by the leader.
    ChangePeers {
        /// Whose.
        region: RegionId,
        /// What the scheduler decided on.
        epoch: Epoch,
        /// At least one.
        changes: Vec<PeerChange>,
    },
    /// To be begun by the leader.
    TransferLeader {
        /// Whose.
        region: RegionId,
        /// To whom.
        to: Peer,
    },
    /// The region, at this epoch, has no such peer any more.
    Removed {
        /// Whose.
        region: RegionId,
        /// The peer that is gone.
        peer: Peer,
        /// At least the epoch of its removal.
        epoch: Epoch,
    },
}

impl Step {
    /// The region that is meant.
    pub fn region(&self) -> RegionId {
        match self {
            Self::ChangePeers { region, .. }
            | Self::TransferLeader { region, .. }
            | Self::Removed { region, .. } => *region,
        }
    }
}

/// The scheduler, as a store sees it. Never blocks: what cannot be sent now is dropped, because
/// the next report says it again.
pub trait Placement: Send {
    /// Of a region that is led here.
    fn report_region(&mut self, report: RegionReport);

    /// Does this peer still exist? Asked by one that has heard of no leader for long.
    fn ask_region(&mut self, record: Arc<RegionRecord>, peer: Peer);
}
