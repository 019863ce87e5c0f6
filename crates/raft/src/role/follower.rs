//! A node that takes what the leader sends, and waits for one when there is none.

use crate::error::StepError;
use crate::flaw::Flaw;
use crate::id::{Index, NodeId};
use crate::log::{Appended, LogSlice};
use crate::message::{Body, Round};
use crate::state::State;
use crate::storage::Snapshot;

/// What a follower knows besides its log.
///
/// Invariants:
/// - `verified` is at most the last index: up to there the log equals that of this term's leader.
#[derive(Debug)]
pub(crate) struct Follower {
    /// Ticks since the leader was heard of or a vote granted.
    elapsed: u32,
    /// When to campaign.
    timeout: u32,
    verified: Index,
}

impl Follower {
    pub(crate) fn new(timeout: u32) -> Self {
        Self { elapsed: 0, timeout, verified: Index::ZERO }
    }

    /// Goes on in a later term. The timer runs on: a candidate that cannot win, and asks more often
    /// than we time out, must not keep us from campaigning, for we may be the one who can (Raft
    /// §5.2: the leader restarts the timer, and a vote that is granted).
    pub(crate) fn enter_term(&mut self, timeout: u32) {
        self.timeout = timeout;
        self.verified = Index::ZERO;
    }

    /// Lets a tick pass. Returns whether it is time to campaign.
    pub(crate) fn tick(&mut self) -> bool {
        self.elapsed = self.elapsed.saturating_add(1);
        self.elapsed >= self.timeout
    }

    /// The leader lives, a vote was granted, or no election may be held now: the next timeout
    /// starts here.
    pub(crate) fn restart_timer(&mut self) {
        self.elapsed = 0;
    }

    /// Raft figure 2, AppendEntries, steps 2 to 5. The acknowledgement waits for the disk; the
    /// commit index does not, for an entry is applied only when it is durable.
    pub(crate) fn on_append(
        &mut self,
        state: &mut State,
        from: NodeId,
        slice: LogSlice,
        commit: Index,
        round: Round,
    ) {
        let rejected = slice.previous().index;
        match state.log.append(slice) {
            Appended::Matched(matched) => {
                self.verified = self.verified.max(matched.index);
                // Not the last index: what follows the append may differ from the leader's log.
                let verified = match state.config.flaws.has(Flaw::CommitUnverified) {
                    true => state.log.last().index,
                    false => matched.index,
                };
                state.log.commit_to(commit.min(verified));
                state.acknowledge(from, matched, round);
            }
            Appended::Refused { hint } => {
                state.send(from, Body::AppendRejected { rejected, hint });
            }
        }
    }

    /// The leader knows that we hold everything up to `commit`, or says less.
    pub(crate) fn on_heartbeat(
        &mut self,
        state: &mut State,
        from: NodeId,
        commit: Index,
        round: Round,
    ) {
        state.log.commit_to(commit.min(state.log.last().index));
        state.send_when_term_durable(from, Body::HeartbeatReply { round });
    }

    /// Raft figure 13, InstallSnapshot.
    pub(crate) fn on_snapshot(
        &mut self,
        state: &mut State,
        from: NodeId,
        snapshot: Box<Snapshot>,
    ) -> Result<(), StepError> {
        let last = snapshot.last;
        if last.index <= state.log.commit() {
            let committed = state.log.committed();
            state.acknowledge(from, committed, state.promise.round());
            return Ok(());
        }
        if state.log.holds(last) {
            // "If existing log entry has same index and term ... retain log entries following
            // it": and what is at or before it equals ours, so it is committed here too.
            state.log.commit_to(last.index);
        } else {
            if !snapshot.membership.is_member(state.id()) {
                return Err(StepError::NotInSnapshot { index: last.index });
            }
            state.membership.clone_from(&snapshot.membership);
            state.undecided.clear();
            state.log.restore(snapshot);
        }
        self.verified = self.verified.max(last.index);
        state.acknowledge(from, last, state.promise.round());
        Ok(())
    }

    /// The leader has committed `index`; we may have less of its log.
    pub(crate) fn on_commit_heard(&self, state: &mut State, index: Index) {
        state.log.commit_to(index.min(self.verified).max(state.log.commit()));
    }
}
