//! Who belongs to the group, and how that changes.
//!
//! A change is an entry of the log and takes effect where it is applied. A *simple* change adds or
//! removes one voter: old and new majorities overlap, so nothing else is needed (thesis §4.1). Any
//! other goes through a *joint* configuration, in which elections and commits need a majority of
//! the old voters and one of the new (Raft §6, thesis §4.3), and which a second entry leaves.
//!
//! Raft lets a change take effect where it is appended. We follow etcd's library in waiting until
//! it is applied: a configuration is then never rolled back, and the overlap argument holds as
//! long as there is one change at a time and no election before it is applied, both of which
//! [`Node`](crate::Node) sees to.

use bytes::Bytes;

use crate::id::NodeId;
use crate::limits::{LEARNERS_MAX, VOTERS_MAX};

/// The members of a group.
///
/// Invariants:
/// - Every list is sorted and holds nobody twice.
/// - A voter of either half is not a learner.
/// - `learners_next` is part of `outgoing`, and empty when `outgoing` is.
/// - `voters` is empty only in a node that was told of no group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Membership {
    voters: Vec<NodeId>,
    outgoing: Vec<NodeId>,
    learners: Vec<NodeId>,
    learners_next: Vec<NodeId>,
    leave: Leave,
}

/// How a joint configuration ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Leave {
    /// The leader proposes the end as soon as the beginning is applied.
    #[default]
    Automatic,
    /// Somebody proposes [`MembershipChange::Leave`].
    OnRequest,
}

/// One step of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Makes the node a voter, whether it was a learner or nobody.
    AddVoter(NodeId),
    /// Makes the node a learner: it receives the log and does not count.
    AddLearner(NodeId),
    /// The node is no member afterwards.
    Remove(NodeId),
}

/// A change of members, as an entry of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MembershipChange {
    /// In one step; at most one voter is added or removed.
    Simple {
        /// What changes, in order.
        changes: Vec<Change>,
        /// The caller's. Consensus never looks inside.
        context: Bytes,
    },
    /// Enters a joint configuration.
    Joint {
        /// What changes, in order.
        changes: Vec<Change>,
        /// How it ends.
        leave: Leave,
        /// The caller's. Consensus never looks inside.
        context: Bytes,
    },
    /// Leaves a joint configuration.
    Leave {
        /// The caller's. Consensus never looks inside.
        context: Bytes,
    },
}

impl MembershipChange {
    /// Simple when there is one change, joint with automatic leave when there are more.
    pub fn new(changes: Vec<Change>, context: Bytes) -> Self {
        if changes.len() > 1 {
            Self::Joint { changes, leave: Leave::Automatic, context }
        } else {
            Self::Simple { changes, context }
        }
    }

    /// What the caller attached.
    pub fn context(&self) -> &Bytes {
        match self {
            Self::Simple { context, .. }
            | Self::Joint { context, .. }
            | Self::Leave { context } => context,
        }
    }

    /// Bytes that count towards limits.
    pub fn size(&self) -> usize {
        let changes = match self {
            Self::Simple { changes, .. } | Self::Joint { changes, .. } => changes.len(),
            Self::Leave { .. } => 0,
        };
        changes * size_of::<Change>() + self.context().len()
    }
}

/// Why members cannot change like this. The same on every replica that applies the entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MembershipError {
    /// A group without voters can never decide anything again.
    #[error("the change would leave no voter")]
    NoVoters,
    /// Only one voter may be added or removed in one step.
    #[error("a simple change of {voters} voters: use a joint one")]
    NotSimple {
        /// How many would be added or removed.
        voters: usize,
    },
    /// The previous change has not left its joint configuration.
    #[error("the configuration is joint and must be left first")]
    AlreadyJoint,
    /// There is nothing to leave.
    #[error("the configuration is not joint")]
    NotJoint,
    /// More than [`VOTERS_MAX`] or [`LEARNERS_MAX`].
    #[error("{count} members of a kind, of at most {max}")]
    TooMany {
        /// How many there would be.
        count: usize,
        /// The limit.
        max: usize,
    },
}

impl Membership {
    /// A configuration that is not joint. Order and repetition do not matter; who is in both lists
    /// is a voter.
    pub fn new(
        voters: impl IntoIterator<Item = NodeId>,
        learners: impl IntoIterator<Item = NodeId>,
    ) -> Self {
        let voters = sorted(voters);
        let mut learners = sorted(learners);
        learners.retain(|id| !voters.contains(id));
        Self { voters, learners, ..Self::default() }
    }

    /// A configuration as it was taken apart for an encoding, joint when `outgoing` is not empty.
    /// `None` when it breaks an invariant of this type.
    pub fn from_parts(
        voters: Vec<NodeId>,
        outgoing: Vec<NodeId>,
        learners: Vec<NodeId>,
        learners_next: Vec<NodeId>,
        leave: Leave,
    ) -> Option<Self> {
        let all = Self { voters, outgoing, learners, learners_next, leave };
        let lists = [&all.voters, &all.outgoing, &all.learners, &all.learners_next];
        let ordered = lists.iter().all(|list| list.windows(2).all(|pair| pair[0] < pair[1]));
        let apart = all.learners.iter().all(|&id| !all.is_voter(id));
        let next = all.learners_next.iter().all(|id| all.outgoing.contains(id));
        let led = !all.voters.is_empty() || lists.iter().all(|list| list.is_empty());
        let bounded = all.check_counts().is_ok();
        let left = all.is_joint() || all.leave == Leave::Automatic;
        (ordered && apart && next && led && bounded && left).then_some(all)
    }

    /// Voters; of a joint configuration the incoming ones.
    pub fn voters(&self) -> &[NodeId] {
        &self.voters
    }

    /// Voters of the configuration that is being left; empty when it is not joint.
    pub fn outgoing(&self) -> &[NodeId] {
        &self.outgoing
    }

    /// Members that receive the log and do not count.
    pub fn learners(&self) -> &[NodeId] {
        &self.learners
    }

    /// Outgoing voters that become learners when the joint configuration is left.
    pub fn learners_next(&self) -> &[NodeId] {
        &self.learners_next
    }

    /// How the joint configuration ends; means nothing when it is not joint.
    pub fn leave(&self) -> Leave {
        self.leave
    }

    /// Whether two majorities are needed.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether the node votes, in either half.
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// Whether the node receives the log.
    pub fn is_member(&self, id: NodeId) -> bool {
        self.is_voter(id) || self.learners.contains(&id)
    }

    /// Everybody, sorted.
    pub fn members(&self) -> Vec<NodeId> {
        let lists = [&self.voters, &self.outgoing, &self.learners];
        sorted(lists.into_iter().flatten().copied())
    }

    /// The members after `change`. Repeated and void steps change nothing.
    pub fn changed(&self, change: &MembershipChange) -> Result<Self, MembershipError> {
        let after = match change {
            MembershipChange::Simple { changes, .. } => self.simple(changes)?,
            MembershipChange::Joint { changes, leave, .. } => self.joint(changes, *leave)?,
            MembershipChange::Leave { .. } => self.left()?,
        };
        if after.voters.is_empty() {
            return Err(MembershipError::NoVoters);
        }
        after.check_counts()?;
        after.assert_invariants();
        Ok(after)
    }

    fn simple(&self, changes: &[Change]) -> Result<Self, MembershipError> {
        if self.is_joint() {
            return Err(MembershipError::AlreadyJoint);
        }
        let mut after = self.clone();
        changes.iter().for_each(|change| after.step(*change));
        let gone = self.voters.iter().filter(|id| !after.voters.contains(id)).count();
        let come = after.voters.iter().filter(|id| !self.voters.contains(id)).count();
        if gone + come > 1 && !after.voters.is_empty() {
            return Err(MembershipError::NotSimple { voters: gone + come });
        }
        Ok(after)
    }

    fn joint(&self, changes: &[Change], leave: Leave) -> Result<Self, MembershipError> {
        if self.is_joint() {
            return Err(MembershipError::AlreadyJoint);
        }
        if self.voters.is_empty() {
            // Joining nothing to something would let the new half decide alone.
            return Err(MembershipError::NoVoters);
        }
        let mut after = self.clone();
        after.outgoing.clone_from(&self.voters);
        after.leave = leave;
        changes.iter().for_each(|change| after.step(*change));
        Ok(after)
    }

    fn left(&self) -> Result<Self, MembershipError> {
        if !self.is_joint() {
            return Err(MembershipError::NotJoint);
        }
        let learners = self.learners.iter().chain(&self.learners_next).copied();
        Ok(Self::new(self.voters.iter().copied(), learners))
    }

    /// Takes one step. Who still votes in the outgoing half becomes a learner only on leaving,
    /// because a node counts in one way at a time (etcd's `learners_next`).
    fn step(&mut self, change: Change) {
        match change {
            Change::AddVoter(id) => {
                remove(&mut self.learners, id);
                remove(&mut self.learners_next, id);
                insert(&mut self.voters, id);
            }
            Change::AddLearner(id) => {
                remove(&mut self.voters, id);
                if self.outgoing.contains(&id) {
                    insert(&mut self.learners_next, id);
                } else {
                    insert(&mut self.learners, id);
                }
            }
            Change::Remove(id) => {
                remove(&mut self.voters, id);
                remove(&mut self.learners, id);
                remove(&mut self.learners_next, id);
            }
        }
    }

    fn check_counts(&self) -> Result<(), MembershipError> {
        let learners = self.learners.len() + self.learners_next.len();
        let lists = [
            (self.voters.len(), VOTERS_MAX),
            (self.outgoing.len(), VOTERS_MAX),
            (learners, LEARNERS_MAX),
        ];
        match lists.into_iter().find(|(count, max)| count > max) {
            Some((count, max)) => Err(MembershipError::TooMany { count, max }),
            None => Ok(()),
        }
    }

    fn assert_invariants(&self) {
        for id in &self.learners {
            assert!(!self.is_voter(*id), "node {id} is a voter and a learner");
        }
        for id in &self.learners_next {
            assert!(self.outgoing.contains(id), "node {id} is to be a learner and never voted");
        }
    }
}

fn sorted(ids: impl IntoIterator<Item = NodeId>) -> Vec<NodeId> {
    let mut ids: Vec<NodeId> = ids.into_iter().collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn insert(list: &mut Vec<NodeId>, id: NodeId) {
    if let Err(position) = list.binary_search(&id) {
        list.insert(position, id);
    }
}

fn remove(list: &mut Vec<NodeId>, id: NodeId) {
    list.retain(|&member| member != id);
}
