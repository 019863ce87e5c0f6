//! What a node asks of its driver, and the receipts that open what waits for the disk.

use std::fmt;

use bytes::Bytes;

use crate::entry::Entries;
use crate::id::{Index, NodeId};
use crate::message::Message;
use crate::status::RoleName;
use crate::storage::{HardState, Snapshot};

/// One round of work that consensus asks of its driver.
#[must_use = "a dropped Ready is a forgotten vote"]
#[derive(Debug, Default)]
pub struct Ready {
    /// Free to leave now: these promise nothing about our disk.
    pub messages: Vec<Message>,
    /// Committed and durable here: to be applied now, in order. Each entry is handed out once.
    /// Members change when [`Node::apply_membership`](crate::Node::apply_membership) is called for
    /// a membership entry among them.
    pub committed: Entries,
    /// Hard state, entries and snapshot for one synced write. Several may be on their way; they
    /// finish in order.
    pub write: Option<LogWrite>,
    /// Reads that were confirmed or refused since the last round.
    pub reads: Vec<ReadOutcome>,
    /// Who leads and what this node is, when either changed.
    pub change: Option<RoleChange>,
}

/// Who leads and what this node is. Nothing of it needs to be stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RoleChange {
    /// This node's role.
    pub role: RoleName,
    /// The leader of this term, when it is known.
    pub leader: Option<NodeId>,
}

/// What became of a read that was asked for at this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadOutcome {
    /// May be served from the local state once `index` is applied.
    Confirmed {
        /// What [`Node::read_index`](crate::Node::read_index) was given.
        context: Bytes,
        /// What must be applied first.
        index: Index,
    },
    /// Leadership ended first. Nothing was read; ask again, perhaps elsewhere.
    Refused {
        /// What [`Node::read_index`](crate::Node::read_index) was given.
        context: Bytes,
    },
}

/// One numbered write to the log: all of it becomes durable, or the node stops.
///
/// The order on disk is snapshot, entries, hard state, though nobody can tell when the write is
/// atomic. A write that failed is never reported: without its receipt the node promises nothing
/// more.
#[must_use = "a write that is dropped leaves the node waiting for its receipt"]
pub struct LogWrite {
    /// Present when term, vote or commit changed. Replaces the one before.
    pub hard_state: Option<HardState>,
    /// To be appended. They replace everything from the first one's index on.
    pub entries: Entries,
    /// Replaces the state machine and the whole log, which goes on after its last entry.
    pub snapshot: Option<Box<Snapshot>>,
    pub(crate) number: WriteNumber,
    pub(crate) node: NodeId,
}

impl LogWrite {
    /// To be called when the write is durable. There is no second receipt.
    pub fn synced(self) -> Receipt {
        Receipt { number: self.number, node: self.node }
    }
}

impl fmt::Debug for LogWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWrite")
            .field("number", &self.number.0)
            .field("hard_state", &self.hard_state)
            .field("entries", &self.entries)
            .field("snapshot", &self.snapshot)
            .finish()
    }
}

/// Proof that one numbered log write, and all before it, are durable.
#[must_use = "what waits for the disk stays sealed until the receipt is shown"]
#[derive(Debug)]
pub struct Receipt {
    pub(crate) number: WriteNumber,
    pub(crate) node: NodeId,
}

/// Writes of one node since it started, counted from 1. Zero is before the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct WriteNumber(pub(crate) u64);

impl WriteNumber {
    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
