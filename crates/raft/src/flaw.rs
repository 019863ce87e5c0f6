//! Bugs that can be put in on purpose, to see that the tests find them.
//!
//! Without the feature `seeded-bugs` there are none: [`Flaws::has`] is a constant `false`, and
//! what it guards is not compiled into anything. With it, `Config::flaws` names one. The feature
//! is for the tests of this crate and for nothing else.

/// A bug. Each breaks one rule, and says which.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// A granted vote leaves before it is durable (Raft figure 2).
    VoteBeforeSync,
    /// A request for votes leaves before the candidate's log is durable.
    AskBeforeSync,
    /// An acknowledgement leaves before the entries are durable (Raft figure 2).
    AcknowledgeBeforeSync,
    /// The vote is not part of the hard state (Raft figure 2).
    VoteNotSaved,
    /// A second candidate of a term gets a vote too (Raft §5.2).
    VoteTwice,
    /// A vote for a log that lacks what was committed (Raft §5.4.1).
    VoteForStaleLog,
    /// One voter's grant counts as often as it arrives (Raft §5.2).
    GrantsAddUp,
    /// An entry of an older term is committed by counting (Raft §5.4.2).
    CommitOldTerm,
    /// The leader's copy counts before its disk has it.
    OwnCopyAtOnce,
    /// An append that has nothing new removes what follows it (Raft §5.3).
    StaleAppendTruncates,
    /// A follower commits what it has, not what the append verified (Raft figure 2).
    CommitUnverified,
    /// A heartbeat carries the commit index beyond what the follower is known to hold.
    HeartbeatBeyondMatch,
    /// A receipt counts for what has replaced the entries it was for (the ABA case).
    ReceiptForReplaced,
    /// Entries are applied before they are durable here.
    ApplyBeforeSync,
    /// What a follower was sent counts as what it has.
    SentIsMatched,
    /// A joint configuration commits by the new majority alone (Raft §6).
    CommitByOneHalf,
    /// A joint configuration elects by the new majority alone (Raft §6).
    ElectByOneHalf,
    /// A second change of members is appended before the first is applied (thesis §4.1).
    ChangeWhilePending,
    /// A node campaigns before it has applied a committed change of members.
    CampaignUnapplied,
    /// A read is answered without asking anybody (thesis §6.4).
    ReadUnconfirmed,
    /// A read is confirmed by answers to an earlier question (etcd#20418).
    ReadByEarlierRound,
    /// A new leader reads before it has committed an entry of its term (thesis §6.4).
    ReadBeforeOwnTerm,
    /// A lease is used while leadership is being handed over, and after.
    LeaseAcrossTransfer,
    /// A lease counts from the answers, not from the question.
    LeaseFromAnswer,
    /// Voters elect others while the leader's lease runs (thesis §4.2.3).
    NoDefence,
    /// A voter that learns of a later term forgets what it promised the leader.
    PromiseByTerm,
    /// An answer to a heartbeat leaves before its term is durable.
    AnswerBeforeSync,
    /// A transfer that was abandoned is not told from one that is under way.
    HandoverForEver,
    /// A later term restarts the election timer of a follower (Raft §5.2).
    TimerByTerm,
    /// A node that is no voter campaigns.
    NonVoterCampaigns,
}

/// The bugs a node has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flaws {
    #[cfg(feature = "seeded-bugs")]
    flaw: Option<Flaw>,
}

impl Flaws {
    /// None.
    pub const NONE: Self = Self {
        #[cfg(feature = "seeded-bugs")]
        flaw: None,
    };

    /// This one.
    #[cfg(feature = "seeded-bugs")]
    pub const fn one(flaw: Flaw) -> Self {
        Self { flaw: Some(flaw) }
    }

    /// Whether this is one of them.
    #[cfg(feature = "seeded-bugs")]
    pub(crate) fn has(self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// No.
    #[cfg(not(feature = "seeded-bugs"))]
    pub(crate) const fn has(self, _: Flaw) -> bool {
        false
    }
}

#[cfg(feature = "seeded-bugs")]
impl Flaw {
    /// Every bug, for tests that go through them.
    pub const ALL: [Self; 30] = [
        Self::VoteBeforeSync,
        Self::AskBeforeSync,
        Self::AcknowledgeBeforeSync,
        Self::VoteNotSaved,
        Self::VoteTwice,
        Self::VoteForStaleLog,
        Self::GrantsAddUp,
        Self::CommitOldTerm,
        Self::OwnCopyAtOnce,
        Self::StaleAppendTruncates,
        Self::CommitUnverified,
        Self::HeartbeatBeyondMatch,
        Self::ReceiptForReplaced,
        Self::ApplyBeforeSync,
        Self::SentIsMatched,
        Self::CommitByOneHalf,
        Self::ElectByOneHalf,
        Self::ChangeWhilePending,
        Self::CampaignUnapplied,
        Self::ReadUnconfirmed,
        Self::ReadByEarlierRound,
        Self::ReadBeforeOwnTerm,
        Self::LeaseAcrossTransfer,
        Self::LeaseFromAnswer,
        Self::NoDefence,
        Self::PromiseByTerm,
        Self::AnswerBeforeSync,
        Self::HandoverForEver,
        Self::TimerByTerm,
        Self::NonVoterCampaigns,
    ];
}

#[cfg(test)]
mod tests;
