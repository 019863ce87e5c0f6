//! The node that decides: it appends, replicates, commits, serves reads and hands over.
//!
//! Events only note what has become possible. [`Leader::work`], called once per
//! [`Ready`](crate::Ready), sends: at most one append per follower, whatever number of proposals
//! came since the last.

mod reads;
mod replicate;
mod transfer;

use std::sync::Arc;

use bytes::Bytes;

use crate::config::ChangeCheck;
use crate::entry::Payload;
use crate::error::ProposeError;
use crate::flaw::Flaw;
use crate::id::{EntryId, Index, NodeId};
use crate::membership::{Leave, MembershipChange};
use crate::message::Round;
use crate::progress::Progress;
use crate::quorum::{Halves, reached_jointly};
use crate::state::State;
use reads::{Reads, Rounds};
use transfer::Transfer;

/// What a leader knows besides its log.
///
/// Invariants:
/// - `progress` has each member once, sorted, and this node among them while it is one.
/// - Only an entry at or beyond `term_start` is committed by counting copies (Raft §5.4.2).
/// - No second change of members is appended before `pending_change` is applied, unless the
///   driver judges changes itself.
/// - While a transfer is under way nothing is proposed and no lease is used.
pub(crate) struct Leader {
    progress: Vec<Progress>,
    /// The first entry of this term, appended on election.
    term_start: Index,
    /// A change of members may be hidden in what is not applied up to here.
    pending_change: Index,
    /// Ticks since the election.
    ticks: u64,
    /// Ticks since the last heartbeat.
    heartbeat_elapsed: u32,
    /// Ticks since the quorum was checked.
    check_elapsed: u32,
    /// Payload bytes of entries from `term_start` on that are not committed.
    uncommitted_bytes: usize,
    transfer: Option<Transfer>,
    rounds: Rounds,
    reads: Reads,
    /// The newest round when somebody's log or the commit index last moved. Who answers a later
    /// one has heard of the commit index.
    changed_in: Round,
    /// Somebody may be sent something.
    has_news: bool,
    is_heartbeat_due: bool,
}

/// What a tick leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LeaderTick {
    /// Nothing but, perhaps, heartbeats.
    Leads,
    /// No quorum was heard of for an election timeout (thesis §6.2).
    QuorumLost,
}

impl Leader {
    /// Takes office: appends the entry that will commit those of older terms (Raft §5.4.2, §8).
    pub(crate) fn new(state: &mut State) -> Self {
        let last = state.log.last().index;
        let members = state.membership.members();
        let progress = members
            .into_iter()
            .map(|id| Progress::new(id, Halves::of(&state.membership, id), last))
            .collect();
        let term_start = state.log.propose(state.term, Payload::Empty).index;
        Self {
            progress,
            term_start,
            // Whether a change is among the entries that are not applied is not known without
            // reading them all, so it is assumed.
            pending_change: last,
            ticks: 0,
            heartbeat_elapsed: 0,
            check_elapsed: 0,
            uncommitted_bytes: 0,
            transfer: None,
            rounds: Rounds::default(),
            reads: Reads::default(),
            changed_in: Round::ZERO,
            has_news: true,
            is_heartbeat_due: false,
        }
    }

    /// Lets a tick pass.
    pub(crate) fn tick(&mut self, state: &mut State) -> LeaderTick {
        self.ticks += 1;
        self.heartbeat_elapsed += 1;
        if self.heartbeat_elapsed >= state.config.heartbeat_ticks {
            self.heartbeat_elapsed = 0;
            self.is_heartbeat_due = true;
        }
        self.tick_transfer(state.config.election_ticks);
        self.check_elapsed += 1;
        if self.check_elapsed >= state.config.election_ticks {
            self.check_elapsed = 0;
            if state.config.check_quorum && !self.has_active_quorum(state.id()) {
                return LeaderTick::QuorumLost;
            }
            self.progress.iter_mut().for_each(|progress| progress.is_active = false);
        }
        LeaderTick::Leads
    }

    /// Whether a quorum was heard of since the last check; we hear of ourselves.
    fn has_active_quorum(&self, id: NodeId) -> bool {
        let active = |progress: &Progress| {
            (progress.halves, u64::from(progress.is_active || progress.id == id))
        };
        reached_jointly(self.progress.iter().map(active)) > 0
    }

    /// Starts counting anew after the timers stood still: nobody was asked anything.
    pub(crate) fn on_wake(&mut self) {
        self.check_elapsed = 0;
        self.heartbeat_elapsed = 0;
        self.is_heartbeat_due = true;
        self.rounds.end_lease();
        self.progress.iter_mut().for_each(|progress| progress.is_active = true);
    }

    /// Whether everybody has everything, and nobody waits for anything.
    pub(crate) fn is_idle(&self, state: &State) -> bool {
        let last = state.log.last().index;
        let settled = |progress: &Progress| {
            let has_all = progress.matched == last && progress.answered > self.changed_in;
            progress.id == state.id() || has_all
        };
        self.transfer.is_none()
            && self.reads.count() == 0
            && !state.membership.is_joint()
            && self.progress.iter().all(settled)
    }

    /// Gives back what is not needed at rest.
    pub(crate) fn shrink(&mut self) {
        self.progress.iter_mut().for_each(|progress| progress.window.shrink());
    }

    /// Appends a command.
    pub(crate) fn propose(
        &mut self,
        state: &mut State,
        command: Bytes,
    ) -> Result<EntryId, ProposeError> {
        self.append(state, Payload::Command(command))
    }

    /// Appends a change of members (thesis §4.1: one at a time).
    pub(crate) fn propose_membership(
        &mut self,
        state: &mut State,
        change: Arc<MembershipChange>,
    ) -> Result<EntryId, ProposeError> {
        if state.config.change_check == ChangeCheck::Strict {
            let is_pending = state.log.applied() < self.pending_change;
            if is_pending && !state.config.flaws.has(Flaw::ChangeWhilePending) {
                return Err(ProposeError::ChangePending { index: self.pending_change });
            }
            state.membership.changed(&change)?;
        }
        let id = self.append(state, Payload::Membership(change))?;
        self.pending_change = id.index;
        Ok(id)
    }

    fn append(&mut self, state: &mut State, payload: Payload) -> Result<EntryId, ProposeError> {
        if let Some(transfer) = &self.transfer {
            return Err(ProposeError::TransferInProgress { target: transfer.target });
        }
        let (size, max) = (payload.size(), state.config.entry_bytes_max);
        if size > max {
            return Err(ProposeError::TooLarge { size, max });
        }
        let (bytes, max) = (self.uncommitted_bytes, state.config.uncommitted_bytes_max);
        // Empty entries always pass: they are what ends a joint configuration. So does one entry
        // when nothing waits, or a limit below the size of an entry would stop everything.
        if size > 0 && bytes > 0 && bytes + size > max {
            return Err(ProposeError::TooManyUncommitted { bytes, max });
        }
        self.uncommitted_bytes += size;
        self.has_news = true;
        Ok(state.log.propose(state.term, payload))
    }

    /// Commits what a quorum holds durably: the rule of Raft §5.3 and §5.4.2. Our own copy counts
    /// like every other, from the moment our disk has it; a quorum of others may be faster
    /// (thesis §10.2.1).
    pub(crate) fn maybe_commit(&mut self, state: &mut State) {
        let (id, flaws) = (state.id(), state.config.flaws);
        let own = match flaws.has(Flaw::OwnCopyAtOnce) {
            true => state.log.last().index,
            false => state.log.durable(),
        };
        let held = |progress: &Progress| {
            let matched = match progress.id == id {
                true => own,
                false if flaws.has(Flaw::SentIsMatched) => progress.next.previous(),
                false => progress.matched,
            };
            let outgoing = progress.halves.outgoing && !flaws.has(Flaw::CommitByOneHalf);
            (Halves { outgoing, ..progress.halves }, matched.0)
        };
        let committed = Index(reached_jointly(self.progress.iter().map(held)));
        let before = state.log.commit();
        // An entry of an older term may be held by a quorum and still be replaced by a leader
        // that has a newer one (Raft figure 8).
        let is_older = committed < self.term_start && !flaws.has(Flaw::CommitOldTerm);
        if committed <= before || is_older || committed == Index::MAX {
            return;
        }
        state.log.commit_to(committed);
        self.changed_in = self.rounds.newest();
        let first = before.next().max(self.term_start);
        let weight = state.log.weigh(first, committed);
        self.uncommitted_bytes = self.uncommitted_bytes.saturating_sub(weight.bytes);
        if before < self.term_start {
            self.release_postponed(state);
        }
        if state.config.eager_commit || weight.has_change {
            self.announce_commit();
        }
    }

    /// Tells everybody of the commit index with the next round.
    pub(crate) fn announce_commit(&mut self) {
        self.has_news = true;
        self.progress.iter_mut().for_each(|progress| progress.is_owed_commit = true);
    }

    /// The driver has applied entries. Ends a joint configuration that is to end by itself.
    pub(crate) fn on_applied(&mut self, state: &mut State) {
        let leaves = state.membership.is_joint() && state.membership.leave() == Leave::Automatic;
        if leaves && state.log.applied() >= self.pending_change {
            // Not refused during a transfer: whoever leads next may do it too, and twice is an
            // error that is the same everywhere.
            let change = Arc::new(MembershipChange::Leave { context: Bytes::new() });
            let payload = Payload::Membership(change);
            self.pending_change = state.log.propose(state.term, payload).index;
            self.has_news = true;
        }
    }

    /// The members are others now.
    pub(crate) fn on_membership(&mut self, state: &mut State) {
        let last = state.log.last().index;
        self.progress.retain(|progress| state.membership.is_member(progress.id));
        for id in state.membership.members() {
            let halves = Halves::of(&state.membership, id);
            match self.progress.binary_search_by_key(&id, |progress| progress.id) {
                Ok(position) => self.progress[position].halves = halves,
                Err(position) => self.progress.insert(position, Progress::new(id, halves, last)),
            }
        }
        self.has_news = true;
        self.abandon_transfer_to_others(state);
        // Fewer may be needed now than a moment ago.
        self.maybe_commit(state);
        self.confirm_rounds(state);
    }

    /// Whom this leader serves.
    pub(crate) fn progress(&self) -> &[Progress] {
        &self.progress
    }

    pub(crate) fn uncommitted_bytes(&self) -> usize {
        self.uncommitted_bytes
    }

    fn find(&self, id: NodeId) -> Option<usize> {
        self.progress.iter().position(|progress| progress.id == id)
    }
}
