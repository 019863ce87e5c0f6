//! Messages: what each one does to a node, first by its term, then by its meaning.

use bytes::Bytes;

use super::Node;
use crate::entry::Payload;
use crate::error::{ProposeError, StepError, TransferError};
use crate::flaw::Flaw;
use crate::id::{EntryId, Index, NodeId, Term};
use crate::message::{Body, Message, Round, VoteReason};
use crate::role::Role;
use crate::role::candidate::{Election, is_up_to_date};
use crate::role::follower::Follower;

/// What a message's term says about it.
enum Standing {
    /// It is to be looked at.
    Counts,
    /// It is not: too old, or from a candidate that a living leader is defended against.
    Passed,
}

impl Node {
    /// Takes a message from another node. A refusal is for the driver's log; nothing is to be
    /// done about it.
    pub fn step(&mut self, message: Message) -> Result<(), StepError> {
        let id = self.state.id();
        let Message { from, to, term, body } = message;
        if to != id || from == id {
            return Err(StepError::Misrouted { from, to, id });
        }
        if let Body::Append { slice, .. } = &body
            && slice.leader_term() != term
        {
            return Err(StepError::ForeignSlice { from, term, slice: slice.leader_term() });
        }
        self.wake();
        if let Standing::Passed = self.meet_term(from, term, &body) {
            return Ok(());
        }
        match body {
            Body::PreVote { last } => self.on_pre_vote(from, term, last),
            Body::PreVoteReply { granted } => self.on_pre_vote_reply(from, term, granted),
            Body::Vote { last, reason } => self.on_vote(from, last, reason),
            Body::VoteReply { granted } => self.on_vote_reply(from, granted),
            Body::Append { slice, commit, round } => {
                let follower = Self::hear_leader(&mut self.role, &mut self.state, from, round);
                follower.on_append(&mut self.state, from, slice, commit, round);
            }
            Body::Heartbeat { commit, round } => {
                let follower = Self::hear_leader(&mut self.role, &mut self.state, from, round);
                follower.on_heartbeat(&mut self.state, from, commit, round);
            }
            Body::Snapshot(snapshot) => {
                let (role, state) = (&mut self.role, &mut self.state);
                let follower = Self::hear_leader(role, state, from, Round::ZERO);
                return follower.on_snapshot(&mut self.state, from, snapshot);
            }
            Body::AppendAccepted { matched, round } => {
                if let Role::Leader(leader) = &mut self.role {
                    return leader.on_accepted(&mut self.state, from, matched, round);
                }
            }
            Body::AppendRejected { rejected, hint } => {
                if let Role::Leader(leader) = &mut self.role {
                    return leader.on_rejected(&mut self.state, from, rejected, hint);
                }
            }
            Body::HeartbeatReply { round } => {
                if let Role::Leader(leader) = &mut self.role {
                    return leader.on_heartbeat_reply(&mut self.state, from, round);
                }
            }
            Body::TimeoutNow { round } => self.on_timeout_now(from, round),
            // All it says is its term.
            Body::NewerTerm => {}
            Body::Committed { last } => self.on_committed(last),
            Body::Propose { payload } => return self.on_forwarded(payload),
            Body::ReadIndex { context } => self.on_read(from, context),
            Body::ReadConfirmed { context, index } => {
                self.on_read_confirmed(from, term, context, index);
            }
            Body::ReadRefused { context } => {
                self.state.reads.push(crate::ReadOutcome::Refused { context });
            }
            Body::TransferLeader { target } => match &mut self.role {
                Role::Leader(leader) => leader.transfer(&mut self.state, target)?,
                _ => return Err(TransferError::NoLeader.into()),
            },
        }
        Ok(())
    }

    /// Raft figure 2, "Rules for Servers, All Servers": a later term makes everybody a follower.
    fn meet_term(&mut self, from: NodeId, term: Term, body: &Body) -> Standing {
        let is_leaders =
            matches!(body, Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot(_));
        if term > self.state.term {
            match body {
                // Nobody is in that term yet.
                Body::PreVote { .. } | Body::PreVoteReply { granted: true } => {}
                // A node that was cut off must not depose a leader that others still hear
                // (thesis §4.2.3). It learns of the leader when that one talks to it.
                Body::Vote { reason, .. } if self.is_bound(term, *reason) => {
                    return Standing::Passed;
                }
                _ => self.become_follower(term, is_leaders.then_some(from)),
            }
            return Standing::Counts;
        }
        if term == self.state.term {
            return Standing::Counts;
        }
        match body {
            // The sender leads no more, and would go on until somebody tells it. That it asks us
            // may also be the only way for us, with a term that nobody shares, to be heard.
            Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot(_) => {
                self.state.send(from, Body::NewerTerm);
                Standing::Passed
            }
            Body::Vote { .. } => {
                self.refuse(from, Body::VoteReply { granted: false });
                Standing::Passed
            }
            // No vote of that term is to be had here. The refusal carries the term in which one
            // may be, to a node whose term lags behind everybody's (after etcd's library).
            Body::PreVote { .. } => {
                self.refuse(from, Body::PreVoteReply { granted: false });
                Standing::Passed
            }
            // These are about no term: a question that is asked again, and what stays true.
            Body::Committed { .. }
            | Body::Propose { .. }
            | Body::ReadIndex { .. }
            | Body::ReadConfirmed { .. }
            | Body::ReadRefused { .. }
            | Body::TransferLeader { .. } => Standing::Counts,
            Body::PreVoteReply { .. }
            | Body::VoteReply { .. }
            | Body::AppendAccepted { .. }
            | Body::AppendRejected { .. }
            | Body::HeartbeatReply { .. }
            | Body::TimeoutNow { .. }
            | Body::NewerTerm => Standing::Passed,
        }
    }

    /// A leader of this term talks: whoever wanted to lead it concedes (Raft §5.2).
    fn hear_leader<'a>(
        role: &'a mut Role,
        state: &mut crate::state::State,
        from: NodeId,
        round: Round,
    ) -> &'a mut Follower {
        assert!(
            state.leader.is_none_or(|leader| leader == from),
            "nodes {:?} and {from} both lead term {}",
            state.leader,
            state.term
        );
        state.leader = Some(from);
        if !matches!(role, Role::Follower(_)) {
            *role = Role::Follower(Follower::new(state.draw_timeout()));
        }
        let Role::Follower(follower) = role else { unreachable!("it was made one just now") };
        follower.restart_timer();
        state.promise.renew(state.term, round, state.config.election_ticks);
        follower
    }

    /// Thesis §9.6: granted when a vote would be. Changes nothing here. The term is ours or a
    /// later one.
    fn on_pre_vote(&mut self, from: NodeId, term: Term, last: EntryId) {
        if self.defends_leader() {
            return;
        }
        let is_free = term > self.state.term || self.could_vote_for(from);
        let granted = is_free && self.is_up_to_date(last);
        if !granted {
            self.refuse(from, Body::PreVoteReply { granted });
            return;
        }
        let mut reply = self.state.message(from, Body::PreVoteReply { granted });
        // The term in question, so that the candidate can tell this from an older answer.
        reply.term = term;
        self.state.outbox.push(reply);
    }

    fn on_pre_vote_reply(&mut self, from: NodeId, term: Term, granted: bool) {
        let Role::Candidate(candidate) = &self.role else { return };
        let expected = if granted { self.state.term.next() } else { self.state.term };
        if candidate.election() == Election::PreVote && term == expected {
            self.on_vote_answer(from, granted);
        }
    }

    /// Raft figure 2, RequestVote. The term is ours by now.
    fn on_vote(&mut self, from: NodeId, last: EntryId, reason: VoteReason) {
        // This term may have come with another message than the request.
        let is_bound = self.state.vote.is_none() && self.is_bound(self.state.term, reason);
        let granted = self.could_vote_for(from) && self.is_up_to_date(last) && !is_bound;
        if !granted {
            self.refuse(from, Body::VoteReply { granted });
            return;
        }
        self.state.vote_for(from);
        match &mut self.role {
            // Whoever is about to win needs time to say so.
            Role::Follower(follower) => follower.restart_timer(),
            Role::Candidate(candidate) => candidate.restart_timer(),
            Role::Leader(_) => {}
        }
        self.state.send_when_durable(from, Body::VoteReply { granted });
    }

    /// Refuses a vote.
    ///
    /// Two nodes lead a group; one removes itself, commits that, applies it, and the news of the
    /// commit is lost. The other still counts it, and its log is one entry shorter: it will never
    /// have this vote, and without it cannot learn that it needs no vote at all (tikv#10595).
    /// What is committed is committed, so telling it is safe.
    fn refuse(&mut self, from: NodeId, reply: Body) {
        self.state.send(from, reply);
        if !self.state.membership.is_voter(self.state.id()) && self.state.log.commit() > Index::ZERO
        {
            let last = self.state.log.committed();
            self.state.send(from, Body::Committed { last });
        }
    }

    /// Somebody knows this entry to be committed; if it is in our log, so is everything before it.
    fn on_committed(&mut self, last: EntryId) {
        let is_leader = matches!(self.role, Role::Leader(_));
        if !is_leader && last.index > self.state.log.commit() && self.state.log.holds(last) {
            self.state.log.commit_to(last.index);
        }
    }

    /// One vote per term; the same candidate may ask again. A node that knows this term's leader
    /// has no use for another.
    fn could_vote_for(&self, id: NodeId) -> bool {
        match self.state.vote {
            _ if self.state.config.flaws.has(Flaw::VoteTwice) => true,
            Some(vote) => vote == id,
            None => self.state.leader.is_none(),
        }
    }

    fn is_up_to_date(&self, last: EntryId) -> bool {
        is_up_to_date(last, self.state.log.last())
            || self.state.config.flaws.has(Flaw::VoteForStaleLog)
    }

    fn on_vote_reply(&mut self, from: NodeId, granted: bool) {
        if let Role::Candidate(candidate) = &self.role
            && candidate.election() != Election::PreVote
        {
            self.on_vote_answer(from, granted);
        }
    }

    /// The leader hands over (thesis §3.10): no pre-vote, and voters need not defend the leader.
    fn on_timeout_now(&mut self, from: NodeId, round: Round) {
        let Role::Follower(_) = &self.role else { return };
        let (term, reason) = (self.state.term.next(), VoteReason::Transfer { round });
        let is_leaders = self.state.leader.is_none_or(|leader| leader == from);
        let is_over = self.state.promise.forbids_transfer(term, round);
        if is_leaders && !is_over && !self.is_bound(term, reason) && self.check_campaign().is_ok() {
            self.hold_election(Election::Vote(reason));
        }
    }

    fn on_forwarded(&mut self, payload: Payload) -> Result<(), StepError> {
        let leader = self.state.leader;
        let Role::Leader(role) = &mut self.role else {
            return Err(ProposeError::NotLeader { leader }.into());
        };
        match payload {
            Payload::Command(command) => role.propose(&mut self.state, command)?,
            Payload::Membership(change) => role.propose_membership(&mut self.state, change)?,
            // Nothing to do, and nobody to tell.
            Payload::Empty => return Ok(()),
        };
        Ok(())
    }

    /// A follower asks for a read index. Only members are answered: who was removed may have
    /// missed any number of writes, and more members are none of its business.
    fn on_read(&mut self, from: NodeId, context: Bytes) {
        let is_member = self.state.membership.is_member(from);
        let read = match &mut self.role {
            Role::Leader(leader) if is_member => {
                // The context is a reference count, and is needed for the refusal.
                leader.read(&mut self.state, Some(from), context.clone()).ok()
            }
            _ => None,
        };
        if read.is_none() {
            self.state.send(from, Body::ReadRefused { context });
        }
    }

    fn on_read_confirmed(&mut self, from: NodeId, term: Term, context: Bytes, index: Index) {
        self.state.reads.push(crate::ReadOutcome::Confirmed { context, index });
        if let Role::Follower(follower) = &self.role
            && (term, Some(from)) == (self.state.term, self.state.leader)
        {
            follower.on_commit_heard(&mut self.state, index);
        }
    }
}
