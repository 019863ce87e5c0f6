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

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> Vec<NodeId> {
        ids.iter().filter_map(|&id| NodeId::new(id)).collect()
    }

    fn id(raw: u64) -> NodeId {
        NodeId::new(raw).unwrap()
    }

    fn simple(changes: &[Change]) -> MembershipChange {
        MembershipChange::Simple { changes: changes.to_vec(), context: Bytes::new() }
    }

    fn joint(changes: &[Change]) -> MembershipChange {
        let (changes, leave) = (changes.to_vec(), Leave::OnRequest);
        MembershipChange::Joint { changes, leave, context: Bytes::new() }
    }

    fn leave() -> MembershipChange {
        MembershipChange::Leave { context: Bytes::new() }
    }

    fn three() -> Membership {
        Membership::new(ids(&[1, 2, 3]), ids(&[4]))
    }

    /// Covers DD-conf-simple-safety.
    #[test]
    fn a_simple_change_moves_one_voter_and_never_the_last() {
        let (add, remove) = (Change::AddVoter(id(5)), Change::Remove(id(1)));
        let after = three().changed(&simple(&[add])).unwrap();
        assert_eq!(after, Membership::new(ids(&[1, 2, 3, 5]), ids(&[4])));
        let two = three().changed(&simple(&[add, remove]));
        assert_eq!(two, Err(MembershipError::NotSimple { voters: 2 }));
        let alone = Membership::new(ids(&[1]), []);
        assert_eq!(alone.changed(&simple(&[remove])), Err(MembershipError::NoVoters));
        let demoted = alone.changed(&simple(&[Change::AddLearner(id(1))]));
        assert_eq!(demoted, Err(MembershipError::NoVoters));
    }

    /// Covers DD-conf-simple-idempotent, DD-conf-update.
    #[test]
    fn what_is_so_already_changes_nothing() {
        for change in [Change::AddVoter(id(1)), Change::AddLearner(id(4)), Change::Remove(id(9))] {
            assert_eq!(three().changed(&simple(&[change, change])), Ok(three()));
        }
        assert_eq!(three().changed(&simple(&[])), Ok(three()));
    }

    /// Covers DD-conf-simple-promote-demote.
    #[test]
    fn learners_are_promoted_and_voters_demoted() {
        let promoted = three().changed(&simple(&[Change::AddVoter(id(4))])).unwrap();
        assert_eq!(promoted, Membership::new(ids(&[1, 2, 3, 4]), []));
        let demoted = promoted.changed(&simple(&[Change::AddLearner(id(2))])).unwrap();
        assert_eq!(demoted, Membership::new(ids(&[1, 3, 4]), ids(&[2])));
    }

    /// Covers DD-conf-learners-next.
    #[test]
    fn a_demoted_voter_becomes_a_learner_when_it_no_longer_votes() {
        let changes = [Change::AddLearner(id(1)), Change::AddVoter(id(4)), Change::AddVoter(id(5))];
        let during = three().changed(&joint(&changes)).unwrap();
        assert_eq!(during.voters(), ids(&[2, 3, 4, 5]));
        assert_eq!(during.outgoing(), ids(&[1, 2, 3]));
        assert_eq!((during.learners(), during.learners_next()), (&[][..], &ids(&[1])[..]));
        assert!(during.is_voter(id(1)));
        let after = during.changed(&leave()).unwrap();
        assert_eq!(after, Membership::new(ids(&[2, 3, 4, 5]), ids(&[1])));
    }

    /// Covers DD-conf-joint-safety, DD-conf-autoleave.
    #[test]
    fn a_joint_configuration_is_entered_and_left_once() {
        let change = joint(&[Change::AddVoter(id(5)), Change::Remove(id(1))]);
        let during = three().changed(&change).unwrap();
        assert_eq!(during.changed(&change), Err(MembershipError::AlreadyJoint));
        assert_eq!(during.changed(&simple(&[])), Err(MembershipError::AlreadyJoint));
        assert_eq!(three().changed(&leave()), Err(MembershipError::NotJoint));
        assert_eq!(during.leave(), Leave::OnRequest);
        let empty = Membership::default().changed(&change);
        assert_eq!(empty, Err(MembershipError::NoVoters));
        let nobody = joint(&[1, 2, 3].map(|raw| Change::Remove(id(raw))));
        assert_eq!(three().changed(&nobody), Err(MembershipError::NoVoters));
    }

    /// Covers DD-conf-joint-idempotent.
    #[test]
    fn steps_of_a_joint_change_may_repeat_and_undo_each_other() {
        let changes = [
            Change::AddVoter(id(5)),
            Change::AddVoter(id(5)),
            Change::Remove(id(5)),
            Change::AddLearner(id(3)),
            Change::AddVoter(id(3)),
            Change::Remove(id(9)),
        ];
        let during = three().changed(&joint(&changes)).unwrap();
        assert_eq!(during.voters(), ids(&[1, 2, 3]));
        assert_eq!(during.changed(&leave()), Ok(three()));
    }

    /// Covers DD-conf-restore.
    #[test]
    fn what_is_taken_apart_is_put_together_again_and_nonsense_is_not() {
        let changes = [Change::AddLearner(id(1)), Change::AddVoter(id(5)), Change::Remove(id(4))];
        for members in [three(), three().changed(&joint(&changes)).unwrap()] {
            let parts = [members.voters(), members.outgoing(), members.learners()];
            let [voters, outgoing, learners] = parts.map(<[NodeId]>::to_vec);
            let next = members.learners_next().to_vec();
            let again = Membership::from_parts(voters, outgoing, learners, next, members.leave());
            assert_eq!(again, Some(members));
        }
        let parts = |lists: [&[u64]; 4]| {
            let [voters, outgoing, learners, next] = lists.map(ids);
            Membership::from_parts(voters, outgoing, learners, next, Leave::Automatic)
        };
        assert_eq!(parts([&[2, 1], &[], &[], &[]]), None, "not sorted");
        assert_eq!(parts([&[1, 1], &[], &[], &[]]), None, "twice");
        assert_eq!(parts([&[1, 2], &[], &[2], &[]]), None, "a voter and a learner");
        assert_eq!(parts([&[1, 2], &[3], &[], &[4]]), None, "never voted");
        assert_eq!(parts([&[], &[3], &[], &[]]), None, "nobody votes");
        assert_eq!(parts([&[], &[], &[], &[]]), Some(Membership::default()));
    }

    #[test]
    fn groups_are_bounded() {
        let many = Membership::new((1..=VOTERS_MAX as u64).filter_map(NodeId::new), []);
        let max = VOTERS_MAX;
        let more = many.changed(&simple(&[Change::AddVoter(id(99))]));
        assert_eq!(more, Err(MembershipError::TooMany { count: max + 1, max }));
    }
}
