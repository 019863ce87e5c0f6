//! Bugs that can be put in on purpose, to see that the simulated cluster finds them.
//!
//! Without the feature `seeded-bugs` there are none: [`Flaws::has`] is a constant `false`, and what
//! it guards is not compiled into anything. With it, `Options::flaws` names one. The feature is for
//! tests that look for them and for nothing else.

/// A bug. Each is of a kind that stores of this sort have had, and says which rule it breaks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Flaw {
    /// A new leader serves what it has applied before an entry of its own term is among it.
    ReadUnsettled,
    /// A lease runs on when leadership is handed over.
    LeaseAcrossTransfer,
    /// Ticks that were missed in a pause are not made up for, so that a lease outlives it.
    LeaseAfterPause,
    /// The applied index is written apart from the data, and first.
    AppliedApart,
    /// Whoever waits at an index is answered by whatever entry is applied there.
    WaiterByIndex,
    /// A removed peer leaves no tombstone.
    NoTombstone,
    /// A peer of an earlier disk comes back and votes.
    VoteAfterAmnesia,
    /// The log drops what a crash of `data` would need again.
    CompactBeforeDurable,
    /// A write to the log counts as durable when it is handed out.
    AcknowledgeBeforeSync,
    /// A latch is released when its write is proposed.
    GuardReleasedEarly,
    /// The log begins behind a snapshot that `data` may lose.
    SnapshotNotDurable,
    /// A write that was decided on in an earlier term is proposed in this one.
    TermUnchecked,
    /// A follower applies, and shows to readers, what its leader has not applied.
    FollowerAhead,
    /// A removed peer goes when it learns of it, whether anybody else knows or not.
    RemovedGoesAtOnce,
    /// A removal is announced before the commit index is saved.
    RemovalNotSaved,
    /// A peer that is removed while it installs a snapshot forgets to clear that away.
    SnapshotLeftBehind,
    /// A proposal of an earlier term is answered only when its index is decided.
    DeposedWaitForEver,
    /// Who waits too long is told that it did not happen.
    GivenUpIsRefused,
    /// A confirmed read does not wait until its index is applied.
    ReadBeforeApplied,
    /// A confirmed read does not wait for the confirmation.
    ReadUnconfirmed,
}

/// The bugs a store has.
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
    pub const ALL: [Self; 20] = [
        Self::ReadUnsettled,
        Self::LeaseAcrossTransfer,
        Self::LeaseAfterPause,
        Self::AppliedApart,
        Self::WaiterByIndex,
        Self::NoTombstone,
        Self::VoteAfterAmnesia,
        Self::CompactBeforeDurable,
        Self::AcknowledgeBeforeSync,
        Self::GuardReleasedEarly,
        Self::SnapshotNotDurable,
        Self::TermUnchecked,
        Self::FollowerAhead,
        Self::RemovedGoesAtOnce,
        Self::RemovalNotSaved,
        Self::SnapshotLeftBehind,
        Self::DeposedWaitForEver,
        Self::GivenUpIsRefused,
        Self::ReadBeforeApplied,
        Self::ReadUnconfirmed,
    ];
}
