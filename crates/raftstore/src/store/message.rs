//! Everything that can happen to a store loop, and everything it asks for.

use std::sync::Arc;

use futures_channel::oneshot;
use kiva_base::{Epoch, Peer, RegionError, RegionId, StoreId};
use kiva_raft::{Index, Receipt};

use crate::apply::{Applied, ApplyMsg};
use crate::command::PeerChange;
use crate::log::{LogBatch, Tombstone};
use crate::meta::RegionRecord;
use crate::peer::PeerStatus;
use crate::placement::{RegionReport, Step};
use crate::proposal::{ProposeError, Write};
use crate::snapshot::Received;
use crate::task::Task;
use crate::transport::{Envelope, Feedback, OutgoingSnapshot};

/// Everything that can happen to a store loop. Time passes by [`super::Store::begin`].
#[derive(Debug)]
pub enum StoreMsg {
    /// Write something.
    Propose(RegionId, Write),
    /// Confirm that this peer, or the leader it follows, still leads.
    Read(RegionId, Read),
    /// Change something about the group.
    Admin(RegionId, Admin),
    /// A peer on another store says something.
    Envelope(Envelope),
    /// A peer on another store has sent a snapshot, and all of it is here.
    Snapshot(Envelope, Received),
    /// What became of what was sent.
    Feedback(Feedback),
    /// A log write is durable.
    Synced(Vec<AfterSync>),
    /// Entries were applied, or tasks are done.
    Applied(Vec<Applied>),
    /// The scheduler wants a step taken.
    Step(Step),
    /// Somebody wants to know.
    Inspect(RegionId, oneshot::Sender<PeerStatus>),
}

/// A read that cannot rest on a lease.
#[derive(Debug)]
pub struct Read {
    /// Whether it may be served by a follower, once the leader has confirmed.
    pub by_any_replica: bool,
    /// Told when the engine's snapshot may be taken.
    pub waiter: oneshot::Sender<Result<(), RegionError>>,
}

/// A change of the group, and who waits for it.
#[derive(Debug)]
pub struct Admin {
    /// What the proposer believes the region to be; with another `conf_ver` it is refused.
    pub epoch: Epoch,
    /// What is to change.
    pub command: AdminCommand,
    /// Told once it has, or once a transfer has begun.
    pub waiter: oneshot::Sender<Result<(), ProposeError>>,
}

/// A change of the group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AdminCommand {
    /// Other peers.
    ChangePeers(Vec<PeerChange>),
    /// Another leader. Not replicated; answered when it has begun.
    TransferLeader(Peer),
}

/// What is due once a log write is durable.
#[derive(Debug)]
pub enum AfterSync {
    /// The receipt is shown to the peer that wrote.
    Receipt {
        /// Whose group.
        region: RegionId,
        /// Which life of the peer: a later one on this store must not be shown it.
        peer: Peer,
        /// The key to what waits.
        receipt: Receipt,
    },
    /// The commit index is saved, which whoever was removed waits for.
    Commit {
        /// Whose group.
        region: RegionId,
        /// Which life of the peer.
        peer: Peer,
        /// Up to where.
        commit: Index,
    },
    /// A tombstone stands, so the peer's data may go.
    Tombstone {
        /// Whose peer is gone.
        region: RegionId,
        /// The peer.
        peer: Peer,
        /// What stands.
        tombstone: Tombstone,
    },
}

/// What one round asks for. Whoever drives the loop carries it out in this order: the log, the
/// envelopes, the rest.
#[derive(Default)]
pub struct Outbox {
    /// For the log: one write and one sync for all regions.
    pub log: LogBatch,
    /// What to tell this loop, as [`StoreMsg::Synced`], when that is durable. Free of anything
    /// when the batch is.
    pub after_sync: Vec<AfterSync>,
    /// For other stores, free to leave now.
    pub envelopes: Vec<(StoreId, Envelope)>,
    /// For other stores, each on a connection of its own.
    pub snapshots: Vec<(StoreId, OutgoingSnapshot)>,
    /// For the apply loop, in order.
    pub apply: Vec<ApplyMsg>,
    /// What takes long, once `apply` is done.
    pub tasks: Vec<Task>,
    /// For the scheduler.
    pub reports: Vec<RegionReport>,
    /// Peers that have heard of no leader for long: does the scheduler still know them?
    pub doubts: Vec<(Arc<RegionRecord>, Peer)>,
}

impl Outbox {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.log.is_empty()
            && self.after_sync.is_empty()
            && self.envelopes.is_empty()
            && self.snapshots.is_empty()
            && self.apply.is_empty()
            && self.tasks.is_empty()
            && self.reports.is_empty()
            && self.doubts.is_empty()
    }
}
