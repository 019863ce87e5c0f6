//! Sending the log: what each follower is to get next, and what its answers mean.

use super::Leader;
use crate::error::StepError;
use crate::id::{EntryId, Index, NodeId, Term};
use crate::log::LogSlice;
use crate::message::{Body, Round};
use crate::node::SnapshotOutcome;
use crate::progress::{Progress, ProgressState};
use crate::state::State;
use crate::storage::{LogError, Snapshot};

/// What a follower is to be sent.
enum Parcel {
    /// Nothing now.
    Nothing,
    /// Entries from its `next` on, or none when there are none.
    Append,
    /// No entries: a question what it has, or news of the commit index.
    Empty,
}

impl Leader {
    /// Whether [`Leader::work`] would do something.
    pub(crate) fn has_work(&self) -> bool {
        self.has_news || self.is_heartbeat_due || self.reads.is_round_due()
    }

    /// Sends what has become possible since the last round.
    pub(crate) fn work(&mut self, state: &mut State) {
        if self.is_heartbeat_due || self.reads.is_round_due() {
            self.is_heartbeat_due = false;
            self.ask_everybody(state);
        }
        if self.has_news {
            self.has_news = false;
            self.begin_round_for_lease(state);
            state.log.seal();
            for position in 0..self.progress.len() {
                if self.progress[position].id != state.id() {
                    self.send_to(state, position);
                }
            }
        }
    }

    /// What followers that are a little behind still need from memory. One that is far behind, or
    /// gone, does not keep the log there.
    pub(crate) fn needed(&self, id: NodeId) -> Index {
        let served = |progress: &&Progress| {
            let waits = matches!(progress.state, ProgressState::Snapshot { .. });
            progress.id != id && progress.is_active && !waits
        };
        let matched = self.progress.iter().filter(served).map(|progress| progress.matched);
        matched.min().unwrap_or(Index::MAX)
    }

    fn send_to(&mut self, state: &mut State, position: usize) {
        let progress = &self.progress[position];
        match self.parcel_for(state, progress) {
            Parcel::Nothing => self.progress[position].is_owed_commit = false,
            Parcel::Append => self.send_append(state, position, state.config.append_bytes_max),
            Parcel::Empty => self.send_append(state, position, 0),
        }
    }

    fn parcel_for(&self, state: &State, progress: &Progress) -> Parcel {
        let has_more = progress.next <= state.log.last().index;
        if progress.awaits_log {
            return Parcel::Nothing;
        }
        match progress.state {
            ProgressState::Snapshot { .. } => Parcel::Nothing,
            ProgressState::Probe if progress.is_probing => Parcel::Nothing,
            ProgressState::Probe => Parcel::Append,
            ProgressState::Replicate => {
                let config = &state.config;
                let is_full = progress
                    .window
                    .is_full(config.inflight_messages_max, config.inflight_bytes_max);
                let is_owed = progress.is_owed_commit && progress.commit_told < state.log.commit();
                if has_more && !is_full {
                    Parcel::Append
                } else if progress.is_poked || is_owed {
                    Parcel::Empty
                } else {
                    Parcel::Nothing
                }
            }
        }
    }

    /// Sends an append with entries of at most `bytes_max`, or none when that is zero; or the
    /// snapshot that replaces what is no longer there.
    fn send_append(&mut self, state: &mut State, position: usize, bytes_max: usize) {
        let next = self.progress[position].next;
        match self.slice_from(state, next, bytes_max) {
            Ok(slice) => {
                let progress = &mut self.progress[position];
                let (commit, round) = (state.log.commit(), self.rounds.newest());
                let entries = slice.entries();
                progress.sent(slice.last(), entries.len(), entries.size(), commit);
                // What does not fit into this append goes with the next round.
                self.has_news |= bytes_max > 0
                    && progress.state == ProgressState::Replicate
                    && progress.next <= state.log.last().index;
                let to = progress.id;
                state.send(to, Body::Append { slice, commit, round });
            }
            Err(LogError::Compacted { .. }) => self.send_snapshot(state, position),
            Err(error) => {
                state.log.fault = Some(error);
                self.progress[position].awaits_log = true;
            }
        }
    }

    fn slice_from(
        &self,
        state: &State,
        next: Index,
        bytes_max: usize,
    ) -> Result<LogSlice, LogError> {
        let previous = EntryId::new(state.log.term(next.previous())?, next.previous());
        let end = state.log.last().index.next();
        let entries = if bytes_max == 0 || next == end {
            Default::default()
        } else {
            state.log.entries(next, end, bytes_max)?
        };
        Ok(LogSlice::trusted(state.term, previous, entries))
    }

    fn send_snapshot(&mut self, state: &mut State, position: usize) {
        let to = self.progress[position].id;
        let wanted = state.log.first().previous();
        let mut answer = state.log.store().snapshot(to, wanted);
        if answer.as_ref().is_ok_and(|snapshot| !snapshot.membership.is_member(to)) {
            // It is from before `to` became a member, and `to` would refuse it. One of now is not.
            answer = state.log.store().snapshot(to, state.log.applied());
        }
        let is_for = |snapshot: &Snapshot| snapshot.membership.is_member(to);
        match answer.and_then(|found| is_for(&found).then_some(found).ok_or(LogError::Pending)) {
            Ok(snapshot) => {
                self.progress[position].await_snapshot(snapshot.last.index);
                state.counters.snapshots_sent += 1;
                state.send(to, Body::Snapshot(Box::new(snapshot)));
            }
            Err(error) => {
                state.log.fault = Some(error);
                self.progress[position].awaits_log = true;
            }
        }
    }

    /// A follower holds everything up to `matched`, durably.
    pub(crate) fn on_accepted(
        &mut self,
        state: &mut State,
        from: NodeId,
        matched: EntryId,
        round: Round,
    ) -> Result<(), StepError> {
        let position = self.find(from).ok_or(StepError::UnknownSender { from })?;
        let is_ours = matched.index < self.term_start || matched.term == state.term;
        if matched.index > state.log.last().index || !is_ours {
            return Err(StepError::NeverSent { from, matched });
        }
        let progress = &mut self.progress[position];
        progress.is_active = true;
        if matched.index > progress.matched {
            self.changed_in = self.rounds.newest();
        }
        progress.accept(matched.index, || state.log.first());
        let has_all = progress.matched == state.log.last().index;
        // What it lacks was kept back until now, or is on its way already.
        self.has_news |= progress.next <= state.log.last().index;
        // One more copy of what is committed commits nothing.
        if matched.index > state.log.commit() {
            self.maybe_commit(state);
        }
        self.on_round_answered(state, position, round);
        if has_all {
            self.on_caught_up(state, position);
        }
        Ok(())
    }

    /// A follower lacks the entry at `rejected`, and may agree up to `hint`.
    pub(crate) fn on_rejected(
        &mut self,
        state: &mut State,
        from: NodeId,
        rejected: Index,
        hint: EntryId,
    ) -> Result<(), StepError> {
        let position = self.find(from).ok_or(StepError::UnknownSender { from })?;
        state.counters.appends_rejected += 1;
        // The follower has skipped what is of a later term than our entry at `rejected`; we skip
        // what is of a later term than its hint. Each round trip crosses a whole term.
        let agreed = match hint.term {
            Term::ZERO => hint.index,
            term => state.log.newest_agreeable(hint.index, term).index,
        };
        let progress = &mut self.progress[position];
        progress.is_active = true;
        if progress.reject(rejected, agreed) {
            self.has_news = true;
        }
        Ok(())
    }

    /// A follower answered a heartbeat.
    pub(crate) fn on_heartbeat_reply(
        &mut self,
        state: &mut State,
        from: NodeId,
        round: Round,
    ) -> Result<(), StepError> {
        let position = self.find(from).ok_or(StepError::UnknownSender { from })?;
        let last = state.log.last().index;
        let progress = &mut self.progress[position];
        progress.is_active = true;
        progress.revive(last);
        self.has_news |= progress.is_poked || progress.state == ProgressState::Probe;
        self.on_round_answered(state, position, round);
        Ok(())
    }

    /// What was sent is lost, so its successor cannot be accepted.
    pub(crate) fn report_unreachable(&mut self, id: NodeId) {
        let Some(position) = self.find(id) else { return };
        let progress = &mut self.progress[position];
        if progress.state == ProgressState::Replicate {
            progress.probe_from(Index::ZERO);
            // Nothing now: it is unreachable. The answer to a heartbeat ends this.
            progress.is_probing = true;
        }
    }

    /// Sending a snapshot ended. The follower's acknowledgement, or its answer to a heartbeat,
    /// tells what to send next.
    pub(crate) fn report_snapshot(&mut self, id: NodeId, outcome: SnapshotOutcome) {
        let Some(position) = self.find(id) else { return };
        let progress = &mut self.progress[position];
        if let ProgressState::Snapshot { index } = progress.state {
            match outcome {
                SnapshotOutcome::Sent => progress.probe_from(index.next()),
                SnapshotOutcome::Failed => progress.probe_from(Index::ZERO),
            }
            progress.is_probing = true;
        }
    }

    /// The log store has something now that it had not.
    pub(crate) fn on_log_fetched(&mut self) {
        self.has_news = true;
        self.progress.iter_mut().for_each(|progress| progress.awaits_log = false);
    }
}
