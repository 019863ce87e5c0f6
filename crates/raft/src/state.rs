//! What a node is whatever its role: term, vote, log, members, and what it wants done.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::config::{Config, ReadMode};
use crate::entry::{Entries, Payload};
use crate::flaw::Flaw;
use crate::id::{EntryId, Index, NodeId, Term};
use crate::log::Log;
use crate::membership::{Membership, MembershipChange};
use crate::message::{Body, Message, Round};
use crate::ready::{LogWrite, ReadOutcome, WriteNumber};
use crate::rng::Rng;
use crate::status::Counters;
use crate::storage::HardState;

/// The part of a node that outlives its roles.
///
/// Invariants:
/// - `term` never falls; `vote` changes at most once in a term, from nobody to somebody.
/// - What is sealed opens in the order of its writes.
/// - Changes in `undecided` are committed, handed out, not applied, and in the order of the log.
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) rng: Rng,
    pub(crate) term: Term,
    pub(crate) vote: Option<NodeId>,
    pub(crate) leader: Option<NodeId>,
    pub(crate) log: Log,
    pub(crate) membership: Membership,
    /// Free to leave.
    pub(crate) outbox: Vec<Message>,
    pub(crate) reads: Vec<ReadOutcome>,
    /// Membership entries that the driver has and has not decided.
    pub(crate) undecided: VecDeque<(Index, Arc<MembershipChange>)>,
    /// What this node promised with its answers to leaders.
    pub(crate) promise: Promise,
    /// Ticks in which a node that restarted keeps out of elections of others, because it may
    /// have promised a leader to, and has forgotten.
    pub(crate) guard_ticks: u32,
    pub(crate) counters: Counters,
    sealed: VecDeque<(WriteNumber, Sealed)>,
    /// What the last write that was handed out made of term, vote and commit.
    saved: HardState,
    /// The last write that was handed out.
    issued: WriteNumber,
    /// The last write that is durable.
    synced: WriteNumber,
    /// The write that made the term what `saved` says.
    term_write: WriteNumber,
}

/// "I heard you lead, and elect nobody else for an election timeout" (thesis §6.4.1): what every
/// answer to a leader says. It outlives the follower that gave it: a node that learns of a later
/// term the next moment is bound all the same, for the leader may be reading by lease.
///
/// Invariants:
/// - `(term, round)` never falls: a message that is late takes nothing back.
/// - Ticks alone shorten it: whoever renews it makes it no shorter than it was.
/// - `term` is at most the node's own: nobody is promised anything about a term to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Promise {
    /// The leader's.
    term: Term,
    /// The newest round heard of in that term.
    round: Round,
    /// How long it still lasts.
    ticks: u32,
}

impl Promise {
    /// Gives it to the leader of `term`, who may ask for the answer to this round.
    pub(crate) fn renew(&mut self, term: Term, round: Round, ticks: u32) {
        let known = if term == self.term { self.round } else { Round::ZERO };
        let renewed = Self { term, round: round.max(known), ticks };
        assert!(
            (renewed.term, renewed.round) >= (self.term, self.round),
            "a promise of round {} in term {term} after one of round {} in term {}",
            renewed.round.0,
            self.round.0,
            self.term
        );
        assert!(ticks >= self.ticks, "a promise of {} ticks is cut to {ticks}", self.ticks);
        *self = renewed;
    }

    /// Lets a tick pass.
    pub(crate) fn tick(&mut self) {
        self.ticks = self.ticks.saturating_sub(1);
    }

    /// Whether it still lasts.
    pub(crate) fn lasts(&self) -> bool {
        self.ticks > 0
    }

    /// The newest round heard of.
    pub(crate) fn round(&self) -> Round {
        self.round
    }

    /// Whether it forbids a vote in `term` for somebody who was told to campaign in this round,
    /// by the leader of the term before. A later round says that this leader leads on.
    pub(crate) fn forbids_transfer(&self, term: Term, round: Round) -> bool {
        self.lasts() && (self.term.next(), self.round) > (term, round)
    }
}

/// What waits for the disk.
#[derive(Debug)]
enum Sealed {
    /// A vote asked for or granted, or an acknowledgement.
    Message(Message),
    /// A candidate's vote for itself.
    OwnVote(Term),
}

impl State {
    pub(crate) fn new(
        config: Config,
        rng: Rng,
        hard_state: HardState,
        membership: Membership,
        log: Log,
    ) -> Self {
        // Who promised something has a term on its disk, see `State::send_when_term_durable`.
        let has_lived = !config.is_first_start && hard_state != HardState::default();
        let may_have_promised = matches!(config.reads, ReadMode::Lease { .. }) && has_lived;
        Self {
            promise: Promise::default(),
            guard_ticks: if may_have_promised { config.election_ticks } else { 0 },
            config,
            rng,
            term: hard_state.term,
            vote: hard_state.vote,
            leader: None,
            log,
            membership,
            outbox: Vec::new(),
            reads: Vec::new(),
            undecided: VecDeque::new(),
            counters: Counters::default(),
            sealed: VecDeque::new(),
            saved: hard_state,
            issued: WriteNumber::default(),
            synced: WriteNumber::default(),
            term_write: WriteNumber::default(),
        }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.config.id
    }

    pub(crate) fn hard_state(&self) -> HardState {
        HardState { term: self.term, vote: self.vote, commit: self.log.commit() }
    }

    /// Moves to a later term, in which nobody has our vote.
    pub(crate) fn enter_term(&mut self, term: Term) {
        assert!(term >= self.term, "term went from {} to {term}", self.term);
        assert!(
            self.promise.term <= self.term,
            "a promise about term {} in term {}",
            self.promise.term,
            self.term
        );
        if term > self.term {
            self.term = term;
            self.vote = None;
            if self.config.flaws.has(Flaw::PromiseByTerm) {
                self.promise = Promise::default();
            }
        }
    }

    /// Gives this term's vote.
    pub(crate) fn vote_for(&mut self, id: NodeId) {
        assert!(
            self.vote.is_none_or(|vote| vote == id) || self.config.flaws.has(Flaw::VoteTwice),
            "node {} has voted for {:?} in term {} and votes for {id}",
            self.id(),
            self.vote,
            self.term
        );
        self.vote = Some(id);
    }

    /// A timeout for the next election (Raft §5.2: drawn anew each time, or two nodes that
    /// collided once would do so for ever).
    pub(crate) fn draw_timeout(&mut self) -> u32 {
        let ticks = self.config.election_ticks;
        self.rng.draw(ticks, 2 * ticks)
    }

    /// A message of this term.
    pub(crate) fn message(&self, to: NodeId, body: Body) -> Message {
        Message { from: self.id(), to, term: self.term, body }
    }

    /// Sends what promises nothing about the disk.
    pub(crate) fn send(&mut self, to: NodeId, body: Body) {
        let message = self.message(to, body);
        self.outbox.push(message);
    }

    /// Sends what promises that term, vote and log, as they are now, are durable.
    pub(crate) fn send_when_durable(&mut self, to: NodeId, body: Body) {
        let flaw = match body {
            Body::VoteReply { .. } => Flaw::VoteBeforeSync,
            Body::Vote { .. } => Flaw::AskBeforeSync,
            _ => Flaw::AcknowledgeBeforeSync,
        };
        if self.config.flaws.has(flaw) {
            return self.send(to, body);
        }
        let message = self.message(to, body);
        match self.seal_number() {
            Some(number) => self.seal(number, message),
            None => self.outbox.push(message),
        }
    }

    /// Sends what promises that the term, as it is now, is durable.
    pub(crate) fn send_when_term_durable(&mut self, to: NodeId, body: Body) {
        let is_durable = self.term == self.saved.term && self.term_write <= self.synced;
        if is_durable || self.config.flaws.has(Flaw::AnswerBeforeSync) {
            self.send(to, body);
        } else {
            self.send_when_durable(to, body);
        }
    }

    /// Acknowledges `matched` to the leader, once it is durable.
    pub(crate) fn acknowledge(&mut self, to: NodeId, matched: EntryId, round: Round) {
        self.send_when_durable(to, Body::AppendAccepted { matched, round });
    }

    /// Counts our own vote, just given, once it is durable.
    pub(crate) fn seal_own_vote(&mut self) {
        assert!(self.has_write(), "a vote that was just given is not durable");
        self.sealed.push_back((self.issued.next(), Sealed::OwnVote(self.term)));
    }

    fn seal(&mut self, number: WriteNumber, message: Message) {
        // Acknowledgements of one write to one leader are one message: the later covers the
        // earlier.
        if let (Body::AppendAccepted { matched: newer, round: newer_round }, Some(newest)) =
            (&message.body, self.sealed.back_mut())
            && let (sealed_for, Sealed::Message(sealed)) = newest
            && *sealed_for == number
            && (sealed.to, sealed.term) == (message.to, message.term)
            && let Body::AppendAccepted { matched, round } = &mut sealed.body
        {
            // In one term the leader's log only grows, and ours follows it.
            *matched = (*matched).max(*newer);
            *round = (*round).max(*newer_round);
            return;
        }
        self.sealed.push_back((number, Sealed::Message(message)));
    }

    /// The write whose receipt shows that everything is durable as it is now; `None` when it is
    /// already.
    fn seal_number(&self) -> Option<WriteNumber> {
        if self.has_write() {
            Some(self.issued.next())
        } else if self.synced < self.issued {
            Some(self.issued)
        } else {
            None
        }
    }

    /// Whether something must be written. The commit index alone need not be: a restarted node
    /// hears of it again.
    pub(crate) fn has_write(&self) -> bool {
        self.log.has_unwritten() || (self.term, self.vote) != (self.saved.term, self.saved.vote)
    }

    /// Gives back what is not needed at rest, where nothing waits for anything.
    pub(crate) fn shrink(&mut self) {
        self.log.shrink();
        self.sealed.shrink_to_fit();
        self.undecided.shrink_to_fit();
    }

    /// Whether anything is on its way to the disk or has to go there.
    pub(crate) fn is_writing(&self) -> bool {
        self.has_write() || self.synced < self.issued || !self.sealed.is_empty()
    }

    /// Takes what is to be written.
    pub(crate) fn take_write(&mut self) -> Option<LogWrite> {
        if !self.has_write() {
            return None;
        }
        self.issued = self.issued.next();
        let (entries, snapshot) = self.log.take_unwritten(self.issued);
        let mut hard_state = self.hard_state();
        let changed = hard_state != self.saved;
        if hard_state.term != self.saved.term {
            self.term_write = self.issued;
        }
        self.saved = hard_state;
        if self.config.flaws.has(Flaw::VoteNotSaved) {
            hard_state.vote = None;
        }
        Some(LogWrite {
            hard_state: changed.then_some(hard_state),
            entries,
            snapshot,
            number: self.issued,
            node: self.id(),
        })
    }

    /// Opens what waited for a write. Returns the messages, and whether our own vote of this term
    /// counts from now on.
    pub(crate) fn on_synced(&mut self, number: WriteNumber) -> (Vec<Message>, bool) {
        assert!(number <= self.issued, "a receipt of write {} of {}", number.0, self.issued.0);
        self.synced = self.synced.max(number);
        self.log.on_synced(number);
        let mut messages = Vec::with_capacity(self.sealed.len());
        let mut own_vote = false;
        while let Some((_, sealed)) = self.sealed.pop_front_if(|(at, _)| *at <= number) {
            match sealed {
                // A vote or an acknowledgement of a past term helps nobody any more; and what it
                // speaks for may have been replaced since.
                Sealed::Message(message) if message.term == self.term => messages.push(message),
                Sealed::OwnVote(term) if term == self.term => own_vote = true,
                Sealed::Message(_) | Sealed::OwnVote(_) => {}
            }
        }
        (messages, own_vote)
    }

    /// Whether something may be handed out to be applied.
    pub(crate) fn has_appliable(&self) -> bool {
        self.log.has_appliable(self.config.applying_bytes_max)
    }

    /// Takes entries to be applied, and remembers the changes of members among them.
    pub(crate) fn take_appliable(&mut self) -> Entries {
        if !self.has_appliable() {
            return Entries::EMPTY;
        }
        let entries = self.log.take_appliable(self.config.apply_bytes_max);
        if entries.weight().has_change {
            for entry in &entries {
                if let Payload::Membership(change) = &entry.payload {
                    self.undecided.push_back((entry.index, Arc::clone(change)));
                }
            }
        }
        entries
    }

    /// Whether a committed change of members is not applied here. When the log cannot be read the
    /// answer is yes.
    pub(crate) fn has_unapplied_change(&self) -> bool {
        !self.undecided.is_empty()
            || self.log.has_change_to_hand_out(self.config.apply_bytes_max).unwrap_or(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promise() -> Promise {
        let mut promise = Promise::default();
        promise.renew(Term(2), Round(5), 10);
        promise
    }

    #[test]
    fn a_late_message_makes_a_promise_longer_and_no_older() {
        let mut promise = promise();
        for _ in 0..10 {
            assert!(promise.lasts());
            promise.tick();
        }
        assert!(!promise.lasts());
        promise.tick();
        promise.renew(Term(2), Round(4), 10);
        assert_eq!((promise.round(), promise.lasts()), (Round(5), true));
        promise.renew(Term(3), Round(1), 10);
        assert_eq!(promise.round(), Round(1), "each leader counts its own");
    }

    #[test]
    #[should_panic(expected = "in term 1 after one of")]
    fn a_promise_to_an_earlier_leader_is_a_bug() {
        promise().renew(Term(1), Round(9), 10);
    }

    #[test]
    #[should_panic(expected = "is cut to 9")]
    fn a_promise_that_others_rely_on_is_not_cut() {
        promise().renew(Term(2), Round(6), 9);
    }
}
