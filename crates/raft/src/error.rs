//! Refusals, one enum per family of calls. In each of them nothing has happened.

use crate::config::ConfigError;
use crate::id::{EntryId, Index, NodeId, Term};
use crate::membership::MembershipError;
use crate::storage::LogError;

/// Why a node cannot start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting makes no sense.
    #[error("bad configuration")]
    Config(#[from] ConfigError),
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Log(#[from] LogError),
    /// The state machine is ahead of its log: entries are missing that were durable once.
    #[error("applied up to {applied}, but the log ends at {last}")]
    AppliedBeyondLog {
        /// What the state machine has.
        applied: Index,
        /// Where the log ends.
        last: Index,
    },
    /// What was committed is missing: entries were lost that were durable once.
    #[error("committed up to {commit}, but the log ends at {last}")]
    CommitBeyondLog {
        /// What the hard state says.
        commit: Index,
        /// Where the log ends.
        last: Index,
    },
    /// The state machine is behind the first entry of its log: entries are missing between them.
    #[error("applied up to {applied}, but the log starts at {first}")]
    AppliedBeforeLog {
        /// What the state machine has.
        applied: Index,
        /// Where the log starts.
        first: Index,
    },
}

/// Why nothing was appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProposeError {
    /// Only the leader appends. Ask `leader` when it is known.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// Leadership is being handed over; ask again soon, perhaps of the target.
    #[error("leadership is being handed to node {target}")]
    TransferInProgress {
        /// Who is to lead.
        target: NodeId,
    },
    /// Larger than [`Config::entry_bytes_max`](crate::Config::entry_bytes_max).
    #[error("a proposal of {size} bytes, of at most {max}")]
    TooLarge {
        /// What was proposed.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// The followers do not keep up; ask again when something is committed.
    #[error("{bytes} bytes are not committed yet, of at most {max}")]
    TooManyUncommitted {
        /// What waits already.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A change of members is not applied yet, or, after an election, may be hidden in what is
    /// not.
    #[error("a change of members at or before {index} is not applied yet")]
    ChangePending {
        /// What must be applied first.
        index: Index,
    },
    /// The members do not allow this change.
    #[error("members cannot change like this")]
    Membership(#[from] MembershipError),
}

/// What became of a proposal that was not refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proposed {
    /// Appended here. It took effect when an entry of this very term is applied at this index;
    /// when another one is, it never will.
    Appended(EntryId),
    /// Passed on to the leader. It may be lost, and nothing will be heard of it.
    Forwarded {
        /// Who leads, as far as this node knew.
        leader: NodeId,
    },
}

/// Why a read was not even tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadError {
    /// There is nobody to ask.
    #[error("no leader is known")]
    NoLeader,
    /// The quorum does not answer and [`READS_WAITING_MAX`](crate::limits::READS_WAITING_MAX)
    /// reads wait already.
    #[error("{waiting} reads wait already")]
    TooManyWaiting {
        /// How many.
        waiting: usize,
    },
}

/// Why leadership is not handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TransferError {
    /// There is nobody to ask.
    #[error("no leader is known")]
    NoLeader,
    /// Only a voter can lead.
    #[error("node {target} is no voter")]
    NotVoter {
        /// Who was to lead.
        target: NodeId,
    },
}

/// Why a node does not campaign.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CampaignError {
    /// It leads already.
    #[error("this node leads already")]
    Leads,
    /// Its own members do not list it as a voter.
    #[error("this node is no voter")]
    NotVoter,
    /// It holds a snapshot that is not installed yet, so it does not know its members.
    #[error("a snapshot is being installed")]
    SnapshotPending,
    /// Reads are by lease, and this node promised the leader it heard of to elect nobody yet.
    #[error("the leader's lease may be running")]
    LeaseRunning,
    /// A committed change of members is not applied yet: the election might be held in a
    /// configuration that no longer counts (raft-rs#373 tells the story).
    #[error("a change of members is committed and not applied yet")]
    ChangePending,
}

/// Why a message was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StepError {
    /// It names another node, or this node as its sender.
    #[error("a message from {from} to {to} reached node {id}")]
    Misrouted {
        /// Its sender.
        from: NodeId,
        /// Its receiver.
        to: NodeId,
        /// This node.
        id: NodeId,
    },
    /// An answer of somebody who is no member. A node that was removed may still talk.
    #[error("node {from} is no member")]
    UnknownSender {
        /// Its sender.
        from: NodeId,
    },
    /// Entries that were checked against another term than the message's.
    #[error("a slice of the leader of term {slice} in a message of term {term} from {from}")]
    ForeignSlice {
        /// Its sender.
        from: NodeId,
        /// The message's term.
        term: Term,
        /// What the slice was made for.
        slice: Term,
    },
    /// An answer that no node can have given: it speaks for entries that were never sent.
    #[error("node {from} acknowledges {matched}, which this leader never sent")]
    NeverSent {
        /// Its sender.
        from: NodeId,
        /// What it acknowledges.
        matched: EntryId,
    },
    /// A forwarded proposal was refused; its proposer does not hear of it.
    #[error("a forwarded proposal was refused")]
    Propose(#[from] ProposeError),
    /// A forwarded transfer was refused.
    #[error("a forwarded transfer was refused")]
    Transfer(#[from] TransferError),
    /// A snapshot whose members do not include this node: it was meant for a former life.
    #[error("a snapshot at {index} without this node")]
    NotInSnapshot {
        /// Its last index.
        index: Index,
    },
}

/// Why a node goes on ticking.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QuiesceError {
    /// Nobody leads, or an election is going on.
    #[error("no leader is known")]
    NoLeader,
    /// Entries, reads, writes, a transfer or a change of members are under way.
    #[error("there is work to do")]
    Busy,
}
