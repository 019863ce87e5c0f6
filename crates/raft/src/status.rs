//! What a person may ask a node about.

use crate::id::{Index, NodeId};
use crate::membership::Membership;
use crate::progress::ProgressState;
use crate::storage::{HardState, LogError};

/// What a node is at the moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum RoleName {
    /// Takes entries from the leader, or waits for one.
    #[default]
    Follower,
    /// Asks whether it would win an election.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Decides.
    Leader,
}

/// Everything about a node that can be seen from outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// Which node.
    pub id: NodeId,
    /// Its role.
    pub role: RoleName,
    /// The leader of the term, when known.
    pub leader: Option<NodeId>,
    /// Term, vote and commit, as they are in memory.
    pub hard_state: HardState,
    /// The last applied entry, as the driver reported it.
    pub applied: Index,
    /// The last entry that was handed out to be applied.
    pub handed_out: Index,
    /// The last entry that is durable here.
    pub durable: Index,
    /// The oldest entry.
    pub first: Index,
    /// The newest entry.
    pub last: Index,
    /// The members, as of `applied`.
    pub membership: Membership,
    /// Followers and learners as a leader sees them, itself included; empty otherwise.
    pub progress: Vec<ProgressStatus>,
    /// To whom leadership is being handed.
    pub transfer: Option<NodeId>,
    /// Bytes of proposals of this leader that are not committed.
    pub uncommitted_bytes: usize,
    /// Reads that wait for a confirmation here.
    pub reads_waiting: usize,
    /// Whether its timers stand still.
    pub is_quiescent: bool,
    /// The last thing the log store could not do.
    pub log_fault: Option<LogError>,
    /// What happened since the node started.
    pub counters: Counters,
}

/// One follower, as its leader sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProgressStatus {
    /// Which node.
    pub id: NodeId,
    /// The last entry it is known to hold durably.
    pub matched: Index,
    /// The next entry to send.
    pub next: Index,
    /// How it is being sent entries.
    pub state: ProgressState,
    /// Whether it receives the log and does not count.
    pub is_learner: bool,
    /// Whether it was heard of since the last check of the quorum.
    pub is_active: bool,
    /// Appends on their way.
    pub inflight: usize,
}

/// What happened since the node started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Elections held for a new term.
    pub campaigns: u64,
    /// Elections won.
    pub elections_won: u64,
    /// Times a leader found itself without a quorum.
    pub quorum_lost: u64,
    /// Snapshots sent.
    pub snapshots_sent: u64,
    /// Appends that a follower refused.
    pub appends_rejected: u64,
    /// Confirmation rounds begun.
    pub rounds: u64,
}
