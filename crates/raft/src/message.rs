//! What nodes tell each other: an envelope, and a body with one variant per meaning.
//!
//! Messages may be lost, repeated, delayed and overtaken. A driver carries them to
//! [`Node::step`](crate::Node::step) of the node they name and does nothing else with them.

use bytes::Bytes;

use crate::entry::Payload;
use crate::id::{EntryId, Index, NodeId, Term};
use crate::log::LogSlice;
use crate::storage::Snapshot;

/// A message on its way from one node of a group to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Who sent it.
    pub from: NodeId,
    /// Who is to step it.
    pub to: NodeId,
    /// The sender's term; for [`Body::PreVote`] and a granted [`Body::PreVoteReply`] the term of
    /// the election that is being considered.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a message says.
///
/// *Sealed* messages leave with the receipt of a write, out of
/// [`Node::on_synced`](crate::Node::on_synced), because they promise something about the sender's
/// disk; the others leave at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// "Would you vote for me?" Raises nobody's term (Ongaro's thesis §9.6).
    PreVote {
        /// The last entry of the sender's log.
        last: EntryId,
    },
    /// The answer to [`Body::PreVote`]. No promise.
    PreVoteReply {
        /// Whether a vote would be granted.
        granted: bool,
    },
    /// "Vote for me." Sealed: see `role::candidate` for what goes wrong otherwise.
    Vote {
        /// The last entry of the sender's log.
        last: EntryId,
        /// Why the vote is asked for.
        reason: VoteReason,
    },
    /// The answer to [`Body::Vote`]; sealed when granted.
    VoteReply {
        /// Whether the vote is the sender's.
        granted: bool,
    },
    /// Entries of the leader's log, or none, to find out what the follower has (Raft §5.3).
    Append {
        /// The entries and what precedes them.
        slice: LogSlice,
        /// The leader's commit index.
        commit: Index,
        /// The leader's newest confirmation round, echoed by the answer.
        round: Round,
    },
    /// Everything up to `matched` is durable here and agrees with the leader's log. Sealed.
    AppendAccepted {
        /// The last entry this speaks for.
        matched: EntryId,
        /// The round of the append.
        round: Round,
    },
    /// The entry before the append is not in the follower's log.
    AppendRejected {
        /// The index of [`LogSlice::previous`] in the append.
        rejected: Index,
        /// The newest entry of the follower's log that may agree with the leader's: at or before
        /// `rejected`, of a term not above that of the refused predecessor (after Raft §5.3).
        hint: EntryId,
    },
    /// "I lead." Restarts the election timer and confirms the leader for reads.
    Heartbeat {
        /// The leader's commit index, at most what the receiver is known to hold: its log may
        /// differ beyond that.
        commit: Index,
        /// The confirmation round.
        round: Round,
    },
    /// The answer to [`Body::Heartbeat`]. Sealed until the term is durable, and free after that:
    /// it promises to elect nobody for an election timeout, and a node that has forgotten its term
    /// has forgotten that too.
    HeartbeatReply {
        /// The round of the heartbeat.
        round: Round,
    },
    /// State that replaces the log up to its index; answered by [`Body::AppendAccepted`].
    Snapshot(Box<Snapshot>),
    /// "Campaign at once": the leader hands over (thesis §3.10).
    TimeoutNow {
        /// A round that is not reached before the transfer has ended. A receiver that has heard
        /// of a later one ignores the message, because the transfer was abandoned.
        round: Round,
    },
    /// "You are behind": the answer to a leader of an older term. The envelope's term says it all.
    NewerTerm,
    /// "This much is committed": sent with a refusal by a node that is no voter any more. The
    /// candidate may not have heard of the change that removed it, and need its vote for ever.
    Committed {
        /// The last entry that the sender knows to be committed.
        last: EntryId,
    },
    /// A proposal that a follower passes on.
    Propose {
        /// What is to be appended.
        payload: Payload,
    },
    /// A follower asks for a read index (thesis §6.4.1).
    ReadIndex {
        /// What the asker told the read from others by.
        context: Bytes,
    },
    /// The read may be served once the asker has applied `index`.
    ReadConfirmed {
        /// That of the question.
        context: Bytes,
        /// What must be applied first.
        index: Index,
    },
    /// The read was not confirmed; the asker may try again elsewhere.
    ReadRefused {
        /// That of the question.
        context: Bytes,
    },
    /// A request to hand leadership over that a follower passes on.
    TransferLeader {
        /// Who is to lead.
        target: NodeId,
    },
}

impl Body {
    /// A word for logs and scripts.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PreVote { .. } => "PreVote",
            Self::PreVoteReply { .. } => "PreVoteReply",
            Self::Vote { .. } => "Vote",
            Self::VoteReply { .. } => "VoteReply",
            Self::Append { .. } => "Append",
            Self::AppendAccepted { .. } => "AppendAccepted",
            Self::AppendRejected { .. } => "AppendRejected",
            Self::Heartbeat { .. } => "Heartbeat",
            Self::HeartbeatReply { .. } => "HeartbeatReply",
            Self::Snapshot(_) => "Snapshot",
            Self::TimeoutNow { .. } => "TimeoutNow",
            Self::NewerTerm => "NewerTerm",
            Self::Committed { .. } => "Committed",
            Self::Propose { .. } => "Propose",
            Self::ReadIndex { .. } => "ReadIndex",
            Self::ReadConfirmed { .. } => "ReadConfirmed",
            Self::ReadRefused { .. } => "ReadRefused",
            Self::TransferLeader { .. } => "TransferLeader",
        }
    }
}

/// Why a vote is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VoteReason {
    /// No leader was heard of. Voters that have heard of one refuse (thesis §4.2.3).
    Timeout,
    /// The leader asked for it, so its voters need not defend it (thesis §3.10) unless they have
    /// heard of a later round: then the transfer was abandoned.
    Transfer {
        /// That of [`Body::TimeoutNow`].
        round: Round,
    },
}

/// A count of the leader's questions "do I still lead?", from 1 in each term. Zero is before the
/// first. An answer to a round answers all before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Round(pub u64);

impl Round {
    /// Before the first question.
    pub const ZERO: Self = Self(0);

    /// The round after this one.
    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
