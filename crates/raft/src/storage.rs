//! What consensus reads back: the log as the driver persisted it.
//!
//! A node writes nothing. It hands out a [`LogWrite`](crate::LogWrite), and from the moment its
//! receipt is shown, what was written must be found here. [`MemoryLogStore`] is the implementation
//! for tests and examples; [`contract`] is the suite that every implementation has to pass.

pub mod contract;
mod memory;

use bytes::Bytes;

use crate::entry::Entries;
use crate::id::{EntryId, Index, NodeId, Term};
use crate::membership::Membership;

pub use memory::MemoryLogStore;

/// What a node must never forget (Raft figure 2, "persistent state").
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HardState {
    /// The latest term the node has seen.
    pub term: Term,
    /// Who has its vote in that term.
    pub vote: Option<NodeId>,
    /// What it knew to be committed. Only a head start: it is written along with something else
    /// and never by itself.
    pub commit: Index,
}

/// What a node starts from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct InitialState {
    /// As last written.
    pub hard_state: HardState,
    /// The members after the last applied change; those a new group is born with otherwise.
    pub membership: Membership,
    /// The last entry whose effect the state machine still has.
    pub applied: Index,
}

/// State that replaces the log up to and including its last entry (Raft §7).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The last entry whose effect it holds.
    pub last: EntryId,
    /// The members after that entry.
    pub membership: Membership,
    /// The state, or what tells the driver where to find it.
    pub data: Bytes,
}

/// Read access to the persisted log.
///
/// What an implementation promises:
/// - `first_index() <= last_index() + 1`, and every index from first to last has an entry.
/// - The term at `first_index() - 1` is known: that of the last compacted entry, or zero.
/// - What a write held is visible before its receipt is shown, and what it replaced is gone.
/// - Between receipts nothing changes but `first_index`, which only grows and never passes what
///   was applied.
pub trait LogStore {
    /// Read once, when the node starts.
    fn initial_state(&self) -> Result<InitialState, LogError>;

    /// Index of the oldest entry that is still there, or would be.
    fn first_index(&self) -> Index;

    /// The newest entry; that before `first_index` when there is none.
    fn last(&self) -> EntryId;

    /// The term of the entry at `index`, from `first_index() - 1` to the last.
    fn term(&self, index: Index) -> Result<Term, LogError>;

    /// Entries from `first` up to, not including, `end`, as many as fit into `bytes_max` and at
    /// least one. `first < end`.
    fn entries(&self, first: Index, end: Index, bytes_max: usize) -> Result<Entries, LogError>;

    /// A snapshot for `to`, at or beyond `index`. [`LogError::Pending`] while it is being built.
    ///
    /// One whose members lack `to` is of no use to it. The node does not send it, and asks once
    /// more, for one of what is applied by now.
    fn snapshot(&self, to: NodeId, index: Index) -> Result<Snapshot, LogError>;
}

/// Why the log has no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LogError {
    /// It was replaced by a snapshot.
    #[error("the log starts at {first}")]
    Compacted {
        /// The oldest index that is there.
        first: Index,
    },
    /// It was never there.
    #[error("the log ends at {last}")]
    BeyondEnd {
        /// The newest index that is there.
        last: Index,
    },
    /// It is being fetched or built. [`Node::on_log_fetched`](crate::Node::on_log_fetched) asks
    /// again; so does the next heartbeat.
    #[error("not available yet")]
    Pending,
    /// It was there and cannot be read. The node goes on without it and says so in its status.
    #[error("the log is damaged at {index}")]
    Damaged {
        /// The first index that cannot be read.
        index: Index,
    },
}
