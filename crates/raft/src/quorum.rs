//! Majorities, and pairs of majorities, as arithmetic.
//!
//! A decision needs more than half of the voters, so that any two decisions share a voter (Raft
//! §5.1). In a joint configuration it needs that in both halves (Raft §6). A half without voters
//! agrees to everything: that is the outgoing half of a configuration that is not joint.

use crate::id::NodeId;
use crate::limits::VOTERS_MAX;
use crate::membership::Membership;

/// How a vote stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tally {
    /// A majority granted.
    Won,
    /// A majority can no longer be reached.
    Lost,
    /// Answers are missing.
    Pending,
}

/// How many of `voters` are a majority.
pub(crate) const fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The highest number that a majority has reached; `u64::MAX` when there are no voters.
///
/// With the numbers sorted downwards it is the one at the place of the smallest majority: three
/// voters at 7, 5 and 2 have reached 5.
pub(crate) fn reached(numbers: &mut [u64]) -> u64 {
    match numbers.len() {
        0 => u64::MAX,
        1 => numbers[0],
        2 => numbers[0].min(numbers[1]),
        3 => {
            let (low, high) = (numbers[0].min(numbers[1]), numbers[0].max(numbers[1]));
            low.max(high.min(numbers[2]))
        }
        count => {
            numbers.sort_unstable();
            numbers[count - majority(count)]
        }
    }
}

/// The highest number that a majority of both halves has reached. `numbers` says for each voter
/// which halves it belongs to.
pub(crate) fn reached_jointly(numbers: impl Iterator<Item = (Halves, u64)> + Clone) -> u64 {
    let mut is_joint = false;
    let incoming = numbers.clone().filter(|(halves, _)| {
        is_joint |= halves.outgoing;
        halves.incoming
    });
    let reached = reached_by(incoming.map(|(_, number)| number));
    // Nearly always there is one half.
    if !is_joint {
        return reached;
    }
    let outgoing = numbers.filter(|(halves, _)| halves.outgoing);
    reached.min(reached_by(outgoing.map(|(_, number)| number)))
}

fn reached_by(voters: impl Iterator<Item = u64>) -> u64 {
    let mut numbers = [0; VOTERS_MAX];
    let mut count = 0;
    for number in voters {
        numbers[count] = number;
        count += 1;
    }
    reached(&mut numbers[..count])
}

/// Which halves of a configuration a node votes in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Halves {
    pub(crate) incoming: bool,
    pub(crate) outgoing: bool,
}

impl Halves {
    /// Where `id` votes.
    pub(crate) fn of(membership: &Membership, id: NodeId) -> Self {
        Self {
            incoming: membership.voters().contains(&id),
            outgoing: membership.outgoing().contains(&id),
        }
    }

    /// Whether the node votes at all.
    pub(crate) fn any(self) -> bool {
        self.incoming || self.outgoing
    }
}

/// How a vote among `voters` stands, given who answered what.
pub(crate) fn tally(voters: &[NodeId], answers: &[(NodeId, bool)]) -> Tally {
    if voters.is_empty() {
        return Tally::Won;
    }
    let needed = majority(voters.len());
    let count = |wanted| {
        let counts = |(id, granted): &&(NodeId, bool)| *granted == wanted && voters.contains(id);
        answers.iter().filter(counts).count()
    };
    if count(true) >= needed {
        Tally::Won
    } else if voters.len() - count(false) < needed {
        Tally::Lost
    } else {
        Tally::Pending
    }
}

/// How a vote stands that both halves have to win.
pub(crate) fn tally_jointly(membership: &Membership, answers: &[(NodeId, bool)]) -> Tally {
    let halves = (tally(membership.voters(), answers), tally(membership.outgoing(), answers));
    match halves {
        (Tally::Lost, _) | (_, Tally::Lost) => Tally::Lost,
        (Tally::Won, Tally::Won) => Tally::Won,
        _ => Tally::Pending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> Vec<NodeId> {
        ids.iter().map(|&id| NodeId::new(id).unwrap()).collect()
    }

    fn answers(answers: &[(u64, bool)]) -> Vec<(NodeId, bool)> {
        answers.iter().map(|&(id, granted)| (NodeId::new(id).unwrap(), granted)).collect()
    }

    /// Covers DD-quorum-majority-commit.
    #[test]
    fn a_majority_has_reached_what_the_middle_has() {
        let table: [(&[u64], u64); 11] = [
            (&[], u64::MAX),
            (&[0], 0),
            (&[12], 12),
            (&[7, 0], 0),
            (&[7, 9], 7),
            (&[9, 2, 5], 5),
            (&[5, 5, 5], 5),
            (&[0, 0, 9], 0),
            (&[4, 1, 3, 2], 2),
            (&[1, 2, 3, 4, 5], 3),
            (&[9, 9, 9, 1, 1], 9),
        ];
        for (numbers, expected) in table {
            for rotation in 0..numbers.len().max(1) {
                let mut numbers = numbers.to_vec();
                if !numbers.is_empty() {
                    numbers.rotate_left(rotation);
                }
                assert_eq!(reached(&mut numbers), expected, "{numbers:?}");
            }
        }
    }

    /// Three numbers are the common case and have a formula of their own.
    #[test]
    fn the_formula_for_three_agrees_with_sorting() {
        for code in 0..64u64 {
            let numbers = [code % 4, code / 4 % 4, code / 16];
            let mut sorted = numbers;
            sorted.sort_unstable();
            assert_eq!(reached(&mut numbers.clone()), sorted[1], "{numbers:?}");
        }
    }

    /// Covers DD-quorum-joint-commit.
    #[test]
    fn two_halves_have_reached_the_smaller_of_both() {
        let both = Halves { incoming: true, outgoing: true };
        let new = Halves { incoming: true, outgoing: false };
        let old = Halves { incoming: false, outgoing: true };
        let none = Halves::default();
        let reached = |numbers: &[(Halves, u64)]| reached_jointly(numbers.iter().copied());
        assert_eq!(reached(&[]), u64::MAX);
        assert_eq!(reached(&[(new, 4)]), 4);
        assert_eq!(reached(&[(new, 4), (none, 9), (new, 6), (new, 5)]), 5);
        // Disjoint: {1, 2, 3} at 10 each, {4, 5, 6} at 3, 2, 1.
        let apart = [(new, 10), (new, 10), (new, 10), (old, 3), (old, 2), (old, 1)];
        assert_eq!(reached(&apart), 2);
        // Overlapping: {1, 2, 3} and {3, 4, 5}.
        let shared = [(new, 10), (new, 8), (both, 2), (old, 6), (old, 7)];
        assert_eq!(reached(&shared), 6);
    }

    /// Voters, answers, and how the vote stands.
    type Row<'a> = (&'a [u64], &'a [(u64, bool)], Tally);

    /// Covers DD-quorum-majority-vote.
    #[test]
    fn a_vote_is_won_lost_or_pending() {
        let table: [Row; 10] = [
            (&[], &[], Tally::Won),
            (&[1], &[], Tally::Pending),
            (&[1], &[(1, true)], Tally::Won),
            (&[1], &[(1, false)], Tally::Lost),
            (&[1, 2], &[(1, true)], Tally::Pending),
            (&[1, 2], &[(1, true), (2, false)], Tally::Lost),
            (&[1, 2, 3], &[(1, true), (2, false)], Tally::Pending),
            (&[1, 2, 3], &[(1, true), (9, true)], Tally::Pending),
            (&[1, 2, 3], &[(1, true), (3, true)], Tally::Won),
            (&[1, 2, 3, 4], &[(1, false), (3, false)], Tally::Lost),
        ];
        for (voters, given, expected) in table {
            assert_eq!(tally(&ids(voters), &answers(given)), expected, "{voters:?} {given:?}");
        }
    }

    /// Covers DD-quorum-joint-vote.
    #[test]
    fn a_joint_vote_is_won_by_both_halves_and_lost_by_either() {
        let joint = |incoming: &[u64], outgoing: &[u64]| {
            let leave = crate::Leave::Automatic;
            Membership::from_parts(ids(incoming), ids(outgoing), vec![], vec![], leave).unwrap()
        };
        let members = joint(&[1, 2, 3], &[3, 4, 5]);
        let table: [(&[(u64, bool)], Tally); 5] = [
            (&[(1, true), (2, true)], Tally::Pending),
            (&[(1, true), (3, true), (4, true)], Tally::Won),
            (&[(1, true), (2, true), (4, false), (5, false)], Tally::Lost),
            (&[(4, true), (5, true), (1, false)], Tally::Pending),
            (&[(3, true)], Tally::Pending),
        ];
        for (given, expected) in table {
            assert_eq!(tally_jointly(&members, &answers(given)), expected, "{given:?}");
        }
    }
}
