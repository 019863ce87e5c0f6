//! Reads without the log: confirmation rounds, the reads that wait for them, and the lease.
//!
//! A leader may answer a read from its state when it has committed an entry of its term, has
//! noted the commit index at the time the read arrived, has afterwards heard from a quorum that
//! it still leads, and has applied up to the noted index (thesis §6.4).
//!
//! Rounds number the questions. Heartbeats and appends carry the newest, their answers echo it,
//! and an answer to a round answers all before it. All reads that wait when a round begins are
//! confirmed by it; those that come later wait for the next, which begins when this one ends, or
//! with the next heartbeat when answers are lost. So a thousand reads cost a few rounds, and an
//! answer that was given before a read arrived never confirms it.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Leader;
use crate::config::ReadMode;
use crate::error::ReadError;
use crate::flaw::Flaw;
use crate::id::{Index, NodeId};
use crate::limits::READS_WAITING_MAX;
use crate::message::{Body, Round};
use crate::progress::Progress;
use crate::quorum::reached_jointly;
use crate::ready::ReadOutcome;
use crate::state::State;

/// Rounds whose time of asking is remembered. A round that is older than this many others and
/// still unanswered renews no lease.
const ROUNDS_MAX: usize = 64;

/// Rounds set aside while leadership is handed over: more than anybody can ask for meanwhile.
const HANDOVER_ROUNDS: u64 = 1 << 32;

/// The questions "do I still lead?".
///
/// Invariants:
/// - `asked` rises in round and tick.
/// - `confirmed <= newest`.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    newest: Round,
    /// What is not confirmed: round, and the tick at which it was asked.
    asked: VecDeque<(Round, u64)>,
    /// The newest that a quorum answered.
    confirmed: Round,
    /// When the newest confirmed one was asked. A lease counts from here: from the question, not
    /// from the answers.
    lease_start: Option<u64>,
}

impl Rounds {
    pub(super) fn newest(&self) -> Round {
        self.newest
    }

    fn begin(&mut self, tick: u64) -> Round {
        self.newest = self.newest.next();
        if self.asked.len() == ROUNDS_MAX {
            self.asked.pop_front();
        }
        self.asked.push_back((self.newest, tick));
        self.newest
    }

    fn confirm(&mut self, round: Round) {
        assert!(round <= self.newest, "round {} of {} was confirmed", round.0, self.newest.0);
        self.confirmed = self.confirmed.max(round);
        while let Some((_, tick)) = self.asked.pop_front_if(|(asked, _)| *asked <= round) {
            self.lease_start = Some(tick);
        }
    }

    /// A round beyond those that will be asked for while leadership is handed over.
    pub(super) fn beyond_handover(&self) -> Round {
        Round(self.newest.0 + HANDOVER_ROUNDS)
    }

    /// The handover is over, and this node leads on: the next round is beyond that one, and what
    /// was asked before renews no lease.
    pub(super) fn pass(&mut self, round: Round) {
        self.newest = self.newest.max(round);
        self.end_lease();
    }

    /// Time has passed that was not counted, or the promises of others do not hold.
    pub(super) fn end_lease(&mut self) {
        self.lease_start = None;
        self.asked.clear();
    }
}

/// A read that waits.
#[derive(Debug)]
struct Read {
    /// Who asked; `None` for this node.
    from: Option<NodeId>,
    context: Bytes,
    /// The commit index when it arrived.
    index: Index,
    /// The round that will confirm it; `None` before one has begun.
    round: Option<Round>,
}

/// The reads that wait.
///
/// Invariants:
/// - In `waiting`, rounds rise, and reads without one are at the end.
/// - Of `postponed`, none has an index yet: the first entry of the term is not committed.
#[derive(Debug, Default)]
pub(super) struct Reads {
    waiting: VecDeque<Read>,
    postponed: Vec<(Option<NodeId>, Bytes)>,
}

impl Reads {
    pub(super) fn count(&self) -> usize {
        self.waiting.len() + self.postponed.len()
    }

    /// Whether reads wait and none of them for a round that has begun.
    pub(super) fn is_round_due(&self) -> bool {
        self.waiting.front().is_some_and(|read| read.round.is_none())
    }

    fn assign(&mut self, round: Round) {
        for read in self.waiting.iter_mut().rev().take_while(|read| read.round.is_none()) {
            read.round = Some(round);
        }
    }

    fn pop_confirmed(&mut self, confirmed: Round) -> Option<Read> {
        self.waiting.pop_front_if(|read| read.round.is_some_and(|round| round <= confirmed))
    }
}

impl Leader {
    /// How many reads wait.
    pub(crate) fn reads_waiting(&self) -> usize {
        self.reads.count()
    }

    /// A read arrived, from another node or here.
    pub(crate) fn read(
        &mut self,
        state: &mut State,
        from: Option<NodeId>,
        context: Bytes,
    ) -> Result<(), ReadError> {
        let waiting = self.reads.count();
        if waiting >= READS_WAITING_MAX {
            return Err(ReadError::TooManyWaiting { waiting });
        }
        let index = state.log.commit();
        let flaws = state.config.flaws;
        if index < self.term_start && !flaws.has(Flaw::ReadBeforeOwnTerm) {
            // Our commit index may be behind what the last leader committed (thesis §6.4, step 1).
            self.reads.postponed.push((from, context));
        } else if self.lease_ticks(state).is_some() || flaws.has(Flaw::ReadUnconfirmed) {
            self.answer(state, Read { from, context, index, round: None });
        } else {
            self.reads.waiting.push_back(Read { from, context, index, round: None });
        }
        Ok(())
    }

    /// The first entry of the term is committed.
    pub(super) fn release_postponed(&mut self, state: &mut State) {
        let index = state.log.commit();
        let postponed = self.reads.postponed.drain(..);
        let reads = postponed.map(|(from, context)| Read { from, context, index, round: None });
        self.reads.waiting.extend(reads);
    }

    /// Begins a round and asks every member, learners too: they restart their timers.
    pub(super) fn ask_everybody(&mut self, state: &mut State) {
        let round = self.rounds.begin(self.ticks);
        state.counters.rounds += 1;
        self.reads.assign(round);
        for progress in &self.progress {
            if progress.id != state.id() {
                // Beyond what it is known to hold, the follower's log may differ from ours
                // (etcd-io/raft#138 tells what happened).
                let commit = match state.config.flaws.has(Flaw::HeartbeatBeyondMatch) {
                    true => state.log.commit(),
                    false => state.log.commit().min(progress.matched),
                };
                state.send(progress.id, Body::Heartbeat { commit, round });
            }
        }
        self.confirm_rounds(state);
    }

    /// Lets the appends that are about to be sent renew the lease.
    pub(super) fn begin_round_for_lease(&mut self, state: &State) {
        let by_lease = matches!(state.config.reads, ReadMode::Lease { .. });
        if by_lease && self.rounds.asked.back().is_none_or(|&(_, tick)| tick < self.ticks) {
            self.rounds.begin(self.ticks);
        }
    }

    /// A member answered a round: when it did, it knew of no later term.
    pub(super) fn on_round_answered(&mut self, state: &mut State, position: usize, round: Round) {
        let progress = &mut self.progress[position];
        if round <= progress.answered || round > self.rounds.newest {
            return;
        }
        progress.answered = round;
        self.confirm_rounds(state);
    }

    /// Answers the reads whose round a quorum has answered.
    pub(super) fn confirm_rounds(&mut self, state: &mut State) {
        let (id, newest) = (state.id(), self.rounds.newest);
        let answered = |progress: &Progress| {
            let round = if progress.id == id { newest } else { progress.answered };
            (progress.halves, round.0)
        };
        let confirmed = Round(reached_jointly(self.progress.iter().map(answered)).min(newest.0));
        if confirmed <= self.rounds.confirmed {
            return;
        }
        self.rounds.confirm(confirmed);
        if state.config.flaws.has(Flaw::LeaseFromAnswer) {
            self.rounds.lease_start = Some(self.ticks);
        }
        if state.config.flaws.has(Flaw::ReadByEarlierRound) {
            self.reads.waiting.iter_mut().for_each(|read| read.round = Some(confirmed));
        }
        while let Some(read) = self.reads.pop_confirmed(confirmed) {
            self.answer(state, read);
        }
    }

    fn answer(&mut self, state: &mut State, read: Read) {
        let Read { from, context, index, round: _ } = read;
        match from {
            None => state.reads.push(ReadOutcome::Confirmed { context, index }),
            Some(id) => {
                state.send(id, Body::ReadConfirmed { context, index });
                // The reader waits until it has applied that much, so it is not left to the next
                // heartbeat to hear that it may.
                if let Some(position) = self.find(id)
                    && self.progress[position].commit_told < index
                {
                    self.progress[position].is_owed_commit = true;
                    self.has_news = true;
                }
            }
        }
    }

    /// How many ticks are left in which no one else can be elected; `u32::MAX` when this node
    /// decides alone, `None` when a read has to be confirmed.
    pub(crate) fn lease_ticks(&self, state: &State) -> Option<u32> {
        let ReadMode::Lease { ticks } = state.config.reads else { return None };
        // Until the first entry of the term is applied, the state machine may be behind what an
        // earlier leader answered. During a transfer, others may be elected.
        let is_barred =
            self.transfer.is_some() && !state.config.flaws.has(Flaw::LeaseAcrossTransfer);
        if state.log.applied() < self.term_start || is_barred {
            return None;
        }
        let alone = |progress: &Progress| progress.id == state.id() || !progress.halves.any();
        if self.progress.iter().all(alone) {
            return Some(u32::MAX);
        }
        let end = self.rounds.lease_start? + u64::from(ticks);
        let left = end.checked_sub(self.ticks).filter(|&left| left > 0)?;
        Some(u32::try_from(left).unwrap_or(u32::MAX))
    }

    /// Leadership ended: nothing that waits will be confirmed.
    pub(crate) fn refuse_reads(&mut self, state: &mut State) {
        let waiting = self.reads.waiting.drain(..).map(|read| (read.from, read.context));
        for (from, context) in waiting.chain(self.reads.postponed.drain(..)) {
            match from {
                None => state.reads.push(ReadOutcome::Refused { context }),
                Some(id) => state.send(id, Body::ReadRefused { context }),
            }
        }
    }
}
