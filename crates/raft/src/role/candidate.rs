//! A node that wants to lead: it asks for votes, and before that whether it would get them.
//!
//! A request for a vote leaves only when the candidate's own term, vote and log are durable. It
//! names the last entry of the log, and a grant is a statement about that log. Were it sent
//! earlier, then this could happen: a candidate with entries 1 to 9, of which the disk has 5, asks
//! for votes in term 3 and crashes. It restarts with 1 to 5 in term 2, campaigns in term 3 once
//! more, and the grants for the first request arrive. It would win with a log that lacks what was
//! committed at 6 to 9.

use crate::flaw::Flaw;
use crate::id::{EntryId, NodeId};
use crate::message::{Body, VoteReason};
use crate::quorum::{Tally, tally, tally_jointly};
use crate::state::State;

/// What is being asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Election {
    /// Whether an election in the next term would be won (thesis §9.6).
    PreVote,
    /// Votes of this term.
    Vote(VoteReason),
}

/// What a candidate knows.
///
/// Invariants:
/// - The first answer of a voter counts, others of the same voter do not.
/// - Of an [`Election::Vote`], the node's own vote is in `answers` only when it is durable.
#[derive(Debug)]
pub(crate) struct Candidate {
    election: Election,
    answers: Vec<(NodeId, bool)>,
    elapsed: u32,
    timeout: u32,
}

impl Candidate {
    pub(crate) fn new(election: Election, timeout: u32) -> Self {
        Self { election, answers: Vec::new(), elapsed: 0, timeout }
    }

    pub(crate) fn election(&self) -> Election {
        self.election
    }

    /// Asks every other voter. The state is that of the election: its term is the one to be led,
    /// or, for a pre-vote, the one before.
    pub(crate) fn ask(&self, state: &mut State) {
        let last = state.log.last();
        let voters = [state.membership.voters(), state.membership.outgoing()].concat();
        for (position, &voter) in voters.iter().enumerate() {
            if voter == state.id() || voters[..position].contains(&voter) {
                continue;
            }
            match self.election {
                Election::PreVote => {
                    let mut message = state.message(voter, Body::PreVote { last });
                    message.term = state.term.next();
                    state.outbox.push(message);
                }
                Election::Vote(reason) => {
                    state.send_when_durable(voter, Body::Vote { last, reason });
                }
            }
        }
    }

    /// Counts an answer.
    pub(crate) fn on_answer(&mut self, state: &State, from: NodeId, granted: bool) -> Tally {
        let flaws = state.config.flaws;
        if self.answers.iter().all(|(id, _)| *id != from) || flaws.has(Flaw::GrantsAddUp) {
            self.answers.push((from, granted));
        }
        if flaws.has(Flaw::ElectByOneHalf) {
            return tally(state.membership.voters(), &self.answers);
        }
        tally_jointly(&state.membership, &self.answers)
    }

    /// Lets a tick pass. Returns whether the election has taken too long (Raft §5.2: a split
    /// vote).
    pub(crate) fn tick(&mut self) -> bool {
        self.elapsed += 1;
        self.elapsed >= self.timeout
    }

    /// The election was too long, and the next one cannot be held yet.
    pub(crate) fn restart_timer(&mut self) {
        self.elapsed = 0;
    }
}

/// Whether a log whose last entry is `theirs` may lead one whose last entry is `ours` (Raft
/// §5.4.1). The order of entry ids is the order of the paper.
pub(crate) fn is_up_to_date(theirs: EntryId, ours: EntryId) -> bool {
    theirs >= ours
}
