//! What others may know of what is committed, and when a removed peer is told that it may go.
//!
//! Two rules about the commit index, both about what somebody else does once it is known:
//!
//! - **A follower never applies what its leader has not.** A leader answers reads of its lease from
//!   what it has applied, and a follower, for a replica read, from what *it* has. Were a follower
//!   ahead, its reader would see a write that the next reader at the leader does not. A leader with
//!   a slow disk is behind its own commit index, because it applies what is durable here.
//! - **Nobody goes before their removal is durable.** The commit index is not synced by itself. If
//!   the last other voter destroys itself and the leader then loses its power, the leader starts
//!   with a group whose second vote is gone for ever. So a removal is announced when the leader's
//!   disk knows that it is committed; then whoever was removed is told directly.
//! - **A removed peer stays until it is told.** It may be the only one that knows, as a leader that
//!   a joint change removes: it says what is committed, and gives the votes of the old group, until
//!   somebody of the new one answers that it may go.

use std::collections::VecDeque;

use kiva_base::Peer as PeerName;
use kiva_raft::{Body, Index, Message};

use super::{Peer, Phase};
use crate::flaw::Flaw;
use crate::meta::node_id;
use crate::options::Options;
use crate::store::{AfterSync, Outbox};
use crate::transport::{Content, Envelope};

/// Removed peers that have not been told, and answers that wait.
#[derive(Default)]
pub(super) struct Farewells {
    /// In the order of the removals, with the index of each.
    gone: VecDeque<(Index, Vec<PeerName>)>,
    is_saving: bool,
    /// Answers for readers at followers, who would learn the commit index from them.
    held: Vec<Message>,
    /// When a removed peer says again what it knows, in its ticks.
    say_at: u64,
}

impl Farewells {
    /// These were removed by the entry at `index`.
    pub(super) fn add(&mut self, index: Index, gone: Vec<PeerName>) {
        if !gone.is_empty() {
            self.gone.push_back((index, gone));
        }
    }
}

impl Peer {
    /// Whether every removal that is applied here is durable: only then strangers may be told that
    /// they are strangers, and the scheduler who is left. By voters: what a learner knows helps
    /// nobody to win an election.
    pub(crate) fn may_dismiss(&self) -> bool {
        self.farewells.gone.is_empty() && self.is_voter()
    }

    fn is_voter(&self) -> bool {
        self.node.membership().is_voter(self.node.id())
    }

    /// Cuts what a leader says of its commit index down to what others may know. Keeps an answer
    /// that says more until it does not.
    pub(super) fn hold_back(&mut self, mut message: Message) -> Option<Message> {
        if !self.node.is_leader() || self.flaws.has(Flaw::FollowerAhead) {
            return Some(message);
        }
        let bound = self.told_max();
        match &mut message.body {
            Body::Append { commit, .. } | Body::Heartbeat { commit, .. } => {
                *commit = (*commit).min(bound);
            }
            Body::ReadConfirmed { index, .. } if *index > bound => {
                self.farewells.held.push(message);
                return None;
            }
            _ => {}
        }
        Some(message)
    }

    /// What is committed as far as others may know.
    fn told_max(&self) -> Index {
        let applied = self.state.applied.index;
        let gone = self.farewells.gone.front();
        gone.map_or(applied, |(index, _)| index.previous().min(applied))
    }

    /// Sends the answers that need not be held any longer.
    pub(super) fn release_held(&mut self, out: &mut Outbox) {
        if self.farewells.held.is_empty() {
            return;
        }
        let bound = self.told_max();
        let is_due = |message: &mut Message| match &message.body {
            Body::ReadConfirmed { index, .. } => *index <= bound,
            _ => true,
        };
        let due: Vec<_> = self.farewells.held.extract_if(.., is_due).collect();
        if !due.is_empty() {
            // Followers need to hear of the commit index too before they can serve the readers.
            self.node.announce_commit();
            self.send(due, out);
        }
    }

    /// Has the commit index saved that somebody's removal waits for.
    pub(super) fn save_commit(&mut self, out: &mut Outbox) {
        let is_waiting = !self.farewells.gone.is_empty() && !self.farewells.is_saving;
        if !is_waiting || matches!(self.phase, Phase::Installing(_)) {
            return;
        }
        // Nothing of the node waits to be written at the end of a round, so this is what the log
        // has already but for the commit index.
        let hard_state = self.node.status().hard_state;
        if self.flaws.has(Flaw::RemovalNotSaved) {
            self.on_commit_saved(hard_state.commit, out);
            return;
        }
        self.farewells.is_saving = true;
        out.log.hard_state(self.region, hard_state);
        let (region, peer, commit) = (self.region, self.name, hard_state.commit);
        out.after_sync.push(AfterSync::Commit { region, peer, commit });
    }

    /// A removed peer tells the others what is committed; who knows of the removal answers.
    pub(super) fn take_leave(&mut self, options: &Options, out: &mut Outbox) {
        if !self.is_removed() || self.clock.count < self.farewells.say_at {
            return;
        }
        self.farewells.say_at = self.clock.count + u64::from(options.election_ticks);
        let Some(record) = self.record.clone() else { return };
        let epoch = self.epoch();
        for to in &record.region.peers {
            let message = Message {
                from: node_id(self.name.id),
                to: node_id(to.id),
                term: self.node.term(),
                body: Body::Committed { last: self.state.applied },
            };
            let content = Content::Raft(message);
            let (region, from) = (self.region, self.name);
            out.envelopes.push((to.store, Envelope { region, from, to: *to, epoch, content }));
        }
    }

    /// The commit index is durable up to here: who is gone is told.
    pub(crate) fn on_commit_saved(&mut self, commit: Index, out: &mut Outbox) {
        if self.is_doomed() {
            return;
        }
        self.farewells.is_saving = false;
        let epoch = self.epoch();
        while let Some((_, gone)) = self.farewells.gone.pop_front_if(|(index, _)| *index <= commit)
        {
            for to in gone.into_iter().filter(|_| self.is_voter()) {
                let (region, from) = (self.region, self.name);
                let content = Content::Removed;
                out.envelopes.push((to.store, Envelope { region, from, to, epoch, content }));
            }
        }
        self.node.announce_commit();
        self.release_held(out);
    }
}
