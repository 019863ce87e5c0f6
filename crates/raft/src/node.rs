//! One member of a group: everything that can happen to it, and what it wants done.

mod inspect;
mod step;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;

use crate::config::{Config, ReadMode};
use crate::entry::Payload;
use crate::error::{
    CampaignError, OpenError, ProposeError, Proposed, QuiesceError, ReadError, TransferError,
};
use crate::flaw::Flaw;
use crate::id::{Index, NodeId, Term};
use crate::log::Log;
use crate::membership::{Membership, MembershipChange, MembershipError};
use crate::message::{Body, Message, VoteReason};
use crate::quorum::Tally;
use crate::ready::{Ready, Receipt, RoleChange};
use crate::rng::Rng;
use crate::role::Role;
use crate::role::candidate::{Candidate, Election};
use crate::role::follower::Follower;
use crate::role::leader::{Leader, LeaderTick};
use crate::state::State;
use crate::storage::LogStore;

/// How sending a snapshot ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotOutcome {
    /// All of it arrived. Whether it was installed is told by the follower's acknowledgement.
    Sent,
    /// It did not arrive; another one is to be sent.
    Failed,
}

/// One member of one group, without clock, disk, thread or random source.
///
/// Events go in through methods that return at once; what they lead to comes out of
/// [`Node::ready`] and [`Node::on_synced`].
///
/// Invariants, beside those of the roles and of the log:
/// - One leader per term: a leader that hears of another one of its own term panics.
/// - `leader` is this node exactly when its role is leader.
/// - A node that is not a voter of its own members never campaigns.
pub struct Node {
    state: State,
    role: Role,
    /// What the driver was last told.
    told: RoleChange,
    is_quiescent: bool,
}

impl Node {
    /// A node that goes on where its log left off; that of a new group when the log is empty.
    pub fn open(
        config: Config,
        mut rng: Rng,
        store: Box<dyn LogStore + Send>,
    ) -> Result<Self, OpenError> {
        config.check()?;
        let initial = store.initial_state()?;
        let applied = initial.applied.max(config.applied);
        let (first, last) = (store.first_index(), store.last().index);
        if applied > last {
            return Err(OpenError::AppliedBeyondLog { applied, last });
        }
        if applied.next() < first {
            return Err(OpenError::AppliedBeforeLog { applied, first });
        }
        let hard_state = initial.hard_state;
        if hard_state.commit > last {
            return Err(OpenError::CommitBeyondLog { commit: hard_state.commit, last });
        }
        rng.stir(config.id.get());
        // The commit index may have been lost with the last write; what was applied was committed.
        let mut log = Log::new(store, hard_state.commit.max(applied), applied);
        log.flaws = config.flaws;
        let mut state = State::new(config, rng, hard_state, initial.membership, log);
        let role = Role::Follower(Follower::new(state.draw_timeout()));
        Ok(Self { state, role, told: RoleChange::default(), is_quiescent: false })
    }

    /// Lets one tick pass.
    pub fn tick(&mut self) {
        if self.is_quiescent {
            return;
        }
        self.state.guard_ticks = self.state.guard_ticks.saturating_sub(1);
        self.state.promise.tick();
        self.state.log.retry();
        match &mut self.role {
            Role::Follower(follower) => {
                if follower.tick() {
                    follower.restart_timer();
                    self.hold_election_if_possible();
                }
            }
            Role::Candidate(candidate) => {
                if candidate.tick() {
                    candidate.restart_timer();
                    self.hold_election_if_possible();
                }
            }
            Role::Leader(leader) => {
                if leader.tick(&mut self.state) == LeaderTick::QuorumLost {
                    self.state.counters.quorum_lost += 1;
                    self.become_follower(self.state.term, None);
                }
            }
        }
    }

    /// Asks for a command to be appended.
    pub fn propose(&mut self, command: Bytes) -> Result<Proposed, ProposeError> {
        self.wake();
        match &mut self.role {
            Role::Leader(leader) => {
                leader.propose(&mut self.state, command).map(Proposed::Appended)
            }
            _ => self.forward(Payload::Command(command)),
        }
    }

    /// Asks for other members. The change takes effect with [`Node::apply_membership`].
    pub fn propose_membership(
        &mut self,
        change: MembershipChange,
    ) -> Result<Proposed, ProposeError> {
        self.wake();
        let change = Arc::new(change);
        match &mut self.role {
            Role::Leader(leader) => {
                leader.propose_membership(&mut self.state, change).map(Proposed::Appended)
            }
            _ => self.forward(Payload::Membership(change)),
        }
    }

    fn forward(&mut self, payload: Payload) -> Result<Proposed, ProposeError> {
        let leader = self.state.leader;
        match leader {
            Some(leader) if self.state.config.forward_proposals => {
                self.state.send(leader, Body::Propose { payload });
                Ok(Proposed::Forwarded { leader })
            }
            _ => Err(ProposeError::NotLeader { leader }),
        }
    }

    /// Asks from which applied index on a read that arrives now may be served here. The answer
    /// comes in [`Ready::reads`] with the same context; that of a follower may be lost on the
    /// way.
    pub fn read_index(&mut self, context: Bytes) -> Result<(), ReadError> {
        self.wake();
        match &mut self.role {
            Role::Leader(leader) => leader.read(&mut self.state, None, context),
            _ => {
                let leader = self.state.leader.ok_or(ReadError::NoLeader)?;
                self.state.send(leader, Body::ReadIndex { context });
                Ok(())
            }
        }
    }

    /// What a leader inside its lease may read at, without asking anybody: once this index is
    /// applied, a read that arrived before this call may be served. `None` outside a lease.
    ///
    /// Take the view of the state machine first, and call this after: a lease that is valid now
    /// was valid when the view was taken. Ticks that are due must have been given before.
    pub fn lease_read(&self) -> Option<Index> {
        self.lease_ticks().map(|_| self.state.log.commit())
    }

    /// How many more ticks [`Node::lease_read`] will answer unless something happens; `None`
    /// outside a lease, and `u32::MAX` when this node decides alone.
    pub fn lease_ticks(&self) -> Option<u32> {
        match &self.role {
            Role::Leader(leader) if !self.is_quiescent => leader.lease_ticks(&self.state),
            _ => None,
        }
    }

    /// Hands leadership to a voter, or, on the leader with its own id, abandons a transfer that
    /// is under way. A follower passes the request on.
    ///
    /// The lease ends with this call. A driver that has told others how long it lasts must take
    /// that back before it sends the messages of the next [`Ready`].
    pub fn transfer_leadership(&mut self, target: NodeId) -> Result<(), TransferError> {
        self.wake();
        match &mut self.role {
            Role::Leader(leader) => leader.transfer(&mut self.state, target),
            _ => {
                let leader = self.state.leader.ok_or(TransferError::NoLeader)?;
                self.state.send(leader, Body::TransferLeader { target });
                Ok(())
            }
        }
    }

    /// Holds an election now, with a pre-vote if that is on.
    pub fn campaign(&mut self) -> Result<(), CampaignError> {
        self.wake();
        self.check_campaign()?;
        if self.reads_by_lease() && self.defends_leader() {
            return Err(CampaignError::LeaseRunning);
        }
        self.hold_election(self.first_election());
        Ok(())
    }

    /// Makes a follower forget who leads, so that it grants votes at once. Returns whether it
    /// did: others, and followers whose leader reads by lease and rests on their memory, do not.
    pub fn forget_leader(&mut self) -> bool {
        let is_follower = matches!(self.role, Role::Follower(_));
        if !is_follower || self.reads_by_lease() {
            return false;
        }
        self.state.leader = None;
        true
    }

    /// Messages to this node were lost: it is to be probed before more is sent.
    pub fn report_unreachable(&mut self, id: NodeId) {
        if let Role::Leader(leader) = &mut self.role {
            leader.report_unreachable(id);
        }
    }

    /// Sending a snapshot to this node ended.
    pub fn report_snapshot(&mut self, id: NodeId, outcome: SnapshotOutcome) {
        if let Role::Leader(leader) = &mut self.role {
            leader.report_snapshot(id, outcome);
        }
    }

    /// Something that the log store answered with [`LogError::Pending`](crate::LogError::Pending)
    /// is there now.
    pub fn on_log_fetched(&mut self) {
        self.state.log.retry();
        if let Role::Leader(leader) = &mut self.role {
            leader.on_log_fetched();
        }
    }

    /// Tells followers the commit index with the next round, without waiting for a message or a
    /// heartbeat. For commands whose effect others wait for.
    pub fn announce_commit(&mut self) {
        if let Role::Leader(leader) = &mut self.role {
            leader.announce_commit();
        }
    }

    /// What is to be done now; `None` when there is nothing. Several may be under way: a driver
    /// may take the next one before the write of this one is durable, and before its entries are
    /// applied.
    pub fn ready(&mut self) -> Option<Ready> {
        if !self.has_ready() {
            return None;
        }
        let needed = match &mut self.role {
            Role::Leader(leader) => {
                if leader.has_work() {
                    leader.work(&mut self.state);
                }
                leader.needed(self.state.config.id)
            }
            _ => Index::MAX,
        };
        let write = self.state.take_write();
        let committed = self.state.take_appliable();
        self.state.log.trim(needed, self.state.config.tail_bytes_max);
        let change = self.take_change();
        let is_empty = write.is_none()
            && committed.is_empty()
            && change.is_none()
            && self.state.outbox.is_empty()
            && self.state.reads.is_empty();
        if is_empty {
            return None;
        }
        let messages = std::mem::take(&mut self.state.outbox);
        let reads = std::mem::take(&mut self.state.reads);
        Some(Ready { messages, committed, write, reads, change })
    }

    fn take_change(&mut self) -> Option<RoleChange> {
        let now = RoleChange { role: self.role.name(), leader: self.state.leader };
        if now == self.told {
            return None;
        }
        self.told = now;
        Some(now)
    }

    /// Whether [`Node::ready`] may have something. When this says no, it has not.
    pub fn has_ready(&self) -> bool {
        let has_work = match &self.role {
            Role::Leader(leader) => leader.has_work(),
            _ => false,
        };
        has_work
            || !self.state.outbox.is_empty()
            || !self.state.reads.is_empty()
            || self.state.has_write()
            || self.state.has_appliable()
            || (self.role.name(), self.state.leader) != (self.told.role, self.told.leader)
    }

    /// Opens what waited for this write and those before it: votes, acknowledgements, our own
    /// copy in the quorum. Entries that may be applied because of it come with the next
    /// [`Ready`]. The messages are free to leave.
    ///
    /// Receipts may be skipped, since each covers those before it, and a late one does no harm.
    ///
    /// # Panics
    /// When the receipt is another node's.
    pub fn on_synced(&mut self, receipt: Receipt) -> Vec<Message> {
        assert_eq!(receipt.node, self.state.id(), "a receipt opens what waits at its own node");
        let (messages, own_vote) = self.state.on_synced(receipt.number);
        if own_vote {
            self.on_vote_answer(self.state.id(), true);
        }
        if let Role::Leader(leader) = &mut self.role {
            leader.maybe_commit(&mut self.state);
        }
        messages
    }

    /// Everything up to `applied` has been applied. Calling it twice, or with less, does nothing.
    ///
    /// # Panics
    /// When more is reported than was handed out, or a membership entry among it was not decided
    /// by [`Node::apply_membership`] or [`Node::refuse_membership`].
    pub fn on_applied(&mut self, applied: Index) {
        let undecided = self.state.undecided.front().map(|(index, _)| *index);
        assert!(
            undecided.is_none_or(|index| applied < index),
            "applied up to {applied}, but the change of members at {undecided:?} is not decided"
        );
        self.state.log.on_applied(applied);
        if let Role::Leader(leader) = &mut self.role {
            leader.on_applied(&mut self.state);
        }
    }

    /// Applies the membership entry at `index`, which [`Ready::committed`] held. Returns the
    /// members from now on, to be stored with the applied index. An error is the same on every
    /// replica: the entry has no effect.
    ///
    /// An entry that a snapshot has overtaken changes nothing either: the members are those of
    /// the snapshot.
    ///
    /// # Panics
    /// When no membership entry at `index` waits to be decided, or an earlier one does.
    pub fn apply_membership(&mut self, index: Index) -> Result<&Membership, MembershipError> {
        let Some(change) = self.decide(index) else { return Ok(&self.state.membership) };
        self.state.membership = self.state.membership.changed(&change)?;
        self.on_membership();
        Ok(&self.state.membership)
    }

    /// Decides that the membership entry at `index` has no effect. To be decided alike on every
    /// replica.
    ///
    /// # Panics
    /// As [`Node::apply_membership`].
    pub fn refuse_membership(&mut self, index: Index) {
        let _ = self.decide(index);
    }

    /// Takes the next undecided change; `None` when a snapshot has overtaken it.
    fn decide(&mut self, index: Index) -> Option<Arc<MembershipChange>> {
        if index <= self.state.log.restored() {
            return None;
        }
        let next = self.state.undecided.pop_front_if(|(at, _)| *at == index);
        let (_, change) = next.expect("changes are decided in order, each once, after they came");
        Some(change)
    }

    fn on_membership(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        leader.on_membership(&mut self.state);
        if !self.state.membership.is_voter(self.state.id()) {
            // It led until its own removal was committed (thesis §4.2.2), and the others need to
            // hear of that from it: once it is gone, a group of two has nobody else to tell.
            leader.announce_commit();
            leader.work(&mut self.state);
            self.become_follower(self.state.term, None);
        }
    }

    /// Stops the timers of an idle node, until [`Node::wake`], a message, or a call that asks for
    /// something. All members of the group must do this together: a follower that goes on ticking
    /// takes the silence for a death. Memory that the busy node needed is given back.
    ///
    /// A leader that may do this has seen everybody hold, and know to be committed, all there is.
    pub fn quiesce(&mut self) -> Result<(), QuiesceError> {
        if self.state.leader.is_none() {
            return Err(QuiesceError::NoLeader);
        }
        let last = self.state.log.last().index;
        let is_settled = self.state.log.applied() == last && !self.state.is_writing();
        let is_idle = match &self.role {
            Role::Leader(leader) => leader.is_idle(&self.state),
            _ => true,
        };
        if !is_settled || !is_idle || self.has_ready() {
            return Err(QuiesceError::Busy);
        }
        self.is_quiescent = true;
        self.state.shrink();
        if let Role::Leader(leader) = &mut self.role {
            leader.shrink();
        }
        Ok(())
    }

    /// Starts the timers again. A leader counts its quorum from now on; its lease is gone.
    pub fn wake(&mut self) {
        if !self.is_quiescent {
            return;
        }
        self.is_quiescent = false;
        if let Role::Leader(leader) = &mut self.role {
            leader.on_wake();
        }
    }

    /// Whether this node would refuse its vote because of a leader it heard of: a leader that was
    /// heard of within the shortest election timeout lives as far as anybody can tell (thesis
    /// §4.2.3), and may serve reads because of that promise.
    fn defends_leader(&self) -> bool {
        if !self.state.config.check_quorum || self.state.config.flaws.has(Flaw::NoDefence) {
            return false;
        }
        let promised = self.state.promise.lasts();
        let lately = match &self.role {
            Role::Leader(_) => true,
            // Whatever became of this node since.
            _ if self.reads_by_lease() => promised,
            Role::Follower(_) => promised && self.state.leader.is_some(),
            Role::Candidate(_) => false,
        };
        lately || self.state.guard_ticks > 0
    }

    fn reads_by_lease(&self) -> bool {
        matches!(self.state.config.reads, ReadMode::Lease { .. })
    }

    /// Whether a vote in `term` would break a promise.
    fn is_bound(&self, term: Term, reason: VoteReason) -> bool {
        match reason {
            VoteReason::Timeout => self.defends_leader(),
            // The leader asked for it, and has no lease until it has begun a later round. Who has
            // restarted does not know whether it heard of one.
            VoteReason::Transfer { round } => {
                let forbids = self.state.promise.forbids_transfer(term, round);
                self.reads_by_lease()
                    && (forbids || self.state.guard_ticks > 0)
                    && !self.state.config.flaws.has(Flaw::NoDefence)
            }
        }
    }

    fn first_election(&self) -> Election {
        if self.state.config.pre_vote {
            Election::PreVote
        } else {
            Election::Vote(VoteReason::Timeout)
        }
    }

    fn check_campaign(&self) -> Result<(), CampaignError> {
        if matches!(self.role, Role::Leader(_)) {
            return Err(CampaignError::Leads);
        }
        if self.state.log.is_installing() {
            return Err(CampaignError::SnapshotPending);
        }
        let is_voter = self.state.membership.is_voter(self.state.id());
        if !is_voter && !self.state.config.flaws.has(Flaw::NonVoterCampaigns) {
            return Err(CampaignError::NotVoter);
        }
        let is_careful = !self.state.config.flaws.has(Flaw::CampaignUnapplied);
        if is_careful && self.state.has_unapplied_change() {
            return Err(CampaignError::ChangePending);
        }
        Ok(())
    }

    fn hold_election_if_possible(&mut self) {
        if self.check_campaign().is_ok() {
            self.hold_election(self.first_election());
        }
    }

    /// Becomes a candidate of this kind (Raft §5.2). [`Node::check_campaign`] allowed it.
    fn hold_election(&mut self, election: Election) {
        self.state.leader = None;
        if let Election::Vote(_) = election {
            self.state.counters.campaigns += 1;
            self.state.enter_term(self.state.term.next());
            self.state.vote_for(self.state.id());
        }
        let candidate = Candidate::new(election, self.state.draw_timeout());
        candidate.ask(&mut self.state);
        self.role = Role::Candidate(candidate);
        match election {
            Election::PreVote => self.on_vote_answer(self.state.id(), true),
            Election::Vote(_) => self.state.seal_own_vote(),
        }
    }

    /// Counts an answer to the election under way.
    fn on_vote_answer(&mut self, from: NodeId, granted: bool) {
        let Role::Candidate(candidate) = &mut self.role else { return };
        let tally = candidate.on_answer(&self.state, from, granted);
        match (tally, candidate.election()) {
            (Tally::Pending, _) => {}
            (Tally::Won, Election::PreVote) => {
                self.hold_election(Election::Vote(VoteReason::Timeout));
            }
            (Tally::Won, Election::Vote(_)) => self.become_leader(),
            (Tally::Lost, _) => self.become_follower(self.state.term, None),
        }
    }

    fn become_leader(&mut self) {
        self.state.counters.elections_won += 1;
        self.state.leader = Some(self.state.id());
        self.role = Role::Leader(Box::new(Leader::new(&mut self.state)));
    }

    fn become_follower(&mut self, term: Term, leader: Option<NodeId>) {
        if let Role::Leader(leader) = &mut self.role {
            leader.refuse_reads(&mut self.state);
        }
        self.state.enter_term(term);
        self.state.leader = leader;
        let timeout = self.state.draw_timeout();
        match &mut self.role {
            Role::Follower(follower) if !self.state.config.flaws.has(Flaw::TimerByTerm) => {
                follower.enter_term(timeout);
            }
            _ => self.role = Role::Follower(Follower::new(timeout)),
        }
    }
}
