//! The port to other stores, and what stores tell each other.
//!
//! An [`Envelope`] carries one message from a peer to a peer of the same region. All envelopes of a
//! round for one store travel in one frame, so the heartbeats of ten thousand regions cost one
//! message per pair of stores and tick.
//!
//! Messages may be lost, repeated, delayed and overtaken; consensus copes, and whoever carries them
//! drops rather than waits. What was dropped is reported with [`Feedback::Unreachable`], so that
//! the leader probes before it sends more.

use std::sync::Arc;

use bytes::Bytes;
use kiva_base::{Epoch, Peer, RegionId, StoreId};
use kiva_raft::Message;

use crate::store::Mailbox;

/// One message from a peer to a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// Whose group.
    pub region: RegionId,
    /// Who sends.
    pub from: Peer,
    /// Who is meant.
    pub to: Peer,
    /// The region's epoch as the sender knows it; zero when it knows none.
    pub epoch: Epoch,
    /// What is said.
    pub content: Content,
}

/// What one peer says to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// A message of consensus. A [`kiva_raft::Body::Snapshot`] travels on a connection of its own,
    /// with its data, and is delivered when all of it has arrived.
    Raft(Message),
    /// "You were removed": the sender's region, at the epoch of the envelope, has no such peer.
    /// The answer to somebody who has not heard of its own removal.
    Removed,
}

/// A snapshot on its way to another store.
#[derive(Clone)]
pub struct OutgoingSnapshot {
    /// The envelope with the [`kiva_raft::Body::Snapshot`]; its `data` is a
    /// [`crate::meta::RegionRecord`], encoded.
    pub envelope: Envelope,
    /// The data of the region's range, exactly as of the snapshot's last entry.
    pub view: Arc<dyn kiva_engine::Snapshot>,
}

/// Carries messages to other stores. May lose, repeat and reorder them.
pub trait Transport: Send {
    /// Queues for the next flush. What exceeds the store's byte budget is dropped, and reported.
    fn send(&mut self, to: StoreId, envelope: Envelope);

    /// Once at the end of a round: one frame per store.
    fn flush(&mut self);

    /// On a connection of its own. The end, good or bad, is reported.
    fn send_snapshot(&mut self, to: StoreId, snapshot: OutgoingSnapshot);
}

/// What whoever carries messages tells the loops.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Feedback {
    /// Messages to this store were dropped.
    Unreachable(StoreId),
    /// Sending a snapshot ended.
    SnapshotSent {
        /// Whose group.
        region: RegionId,
        /// For whom it was.
        to: Peer,
        /// Whether all of it arrived.
        arrived: bool,
    },
}

/// The receiving end of a store: envelopes and feedback go to the loops they belong to. Clones
/// share it.
#[derive(Clone)]
pub struct Inbox {
    loops: Arc<[Mailbox]>,
}

impl Inbox {
    /// In front of these loops, in the order of their numbers.
    pub fn new(loops: Arc<[Mailbox]>) -> Self {
        Self { loops }
    }

    /// Delivers what came in one frame. What finds a full mailbox is dropped: messages of
    /// consensus are sent again.
    pub fn deliver(&self, envelopes: impl IntoIterator<Item = Envelope>) {
        for envelope in envelopes {
            self.of(envelope.region).deliver(envelope);
        }
    }

    /// Delivers a snapshot whose data is complete, as `file`.
    pub fn deliver_snapshot(&self, envelope: Envelope, file: crate::snapshot::Received) {
        self.of(envelope.region).deliver_snapshot(envelope, file);
    }

    /// Tells the loops concerned.
    pub fn report(&self, feedback: &Feedback) {
        match feedback {
            Feedback::Unreachable(_) => {
                self.loops.iter().for_each(|mailbox| mailbox.report(feedback.clone()));
            }
            Feedback::SnapshotSent { region, .. } => self.of(*region).report(feedback.clone()),
        }
    }

    fn of(&self, region: RegionId) -> &Mailbox {
        &self.loops[crate::store::loop_of(region, self.loops.len())]
    }
}

/// Opaque bytes of a frame; see [`crate::wire`].
pub type Frame = Bytes;
