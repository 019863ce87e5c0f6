//! What must hold in every run, looked at after every step (Raft figure 3, and what follows).

use std::collections::BTreeMap;

use bytes::Bytes;
use kiva_raft::{
    Body, Entry, EntryId, Index, LogStore, LogWrite, Membership, Message, Node, NodeId, Payload,
    RoleName, Term,
};

use super::peer::{Peer, State};

/// Everything that was ever seen, to compare what is seen next with.
#[derive(Default)]
pub(crate) struct Checker {
    leaders: BTreeMap<Term, NodeId>,
    /// What precedes each entry, and what it holds.
    entries: BTreeMap<EntryId, (EntryId, Payload)>,
    /// Committed entries, with the term in which they were found to be.
    committed: BTreeMap<Index, (EntryId, Term)>,
    /// The state after each applied entry.
    states: BTreeMap<Index, State>,
    votes: BTreeMap<(NodeId, Term), NodeId>,
    seen: BTreeMap<NodeId, Seen>,
    reads: BTreeMap<Bytes, Index>,
    /// Reads that were answered, of either kind: a run without any shows nothing about them.
    pub(crate) reads_checked: u64,
    pub(crate) leases_checked: u64,
}

/// What was seen of a node last.
#[derive(Default)]
struct Seen {
    term: Term,
    commit: Index,
    applied: Index,
    durable_term: Term,
    led: Option<Term>,
    /// Its log: what was handed out to be written.
    base: EntryId,
    log: BTreeMap<Index, EntryId>,
    /// How much of `log` the node has not taken back since.
    kept: Index,
}

impl Seen {
    fn last(&self) -> EntryId {
        self.log.last_key_value().map_or(self.base, |(_, id)| *id)
    }

    fn id_at(&self, index: Index) -> Option<EntryId> {
        if index == self.base.index {
            return Some(self.base);
        }
        self.log.get(&index).copied()
    }

    /// Lowers `kept` to what is still in the log of `node`. What both have is the same, and so is
    /// all before it (Log Matching); what the node has compacted it has.
    fn take_back(&mut self, node: &Node) {
        while let Some(written) = self.log.get(&self.kept) {
            let is_other = node.term_at(self.kept).is_some_and(|term| term != written.term);
            if self.kept <= node.last_index() && !is_other {
                return;
            }
            self.kept = self.kept.previous();
        }
    }
}

impl Checker {
    /// The newest entry that anybody knows to be committed.
    pub(crate) fn committed(&self) -> Index {
        self.committed.last_key_value().map_or(Index::ZERO, |(index, _)| *index)
    }

    /// A node starts, with what is durable.
    pub(crate) fn started(&mut self, id: NodeId, peer: &Peer) {
        let first = peer.store.first_index();
        let base_term = peer.store.term(first.previous()).expect("the term before the log is kept");
        let log = peer.store.all_entries().iter().map(|entry| (entry.index, entry.id())).collect();
        let node = peer.node.as_ref().expect("the node started");
        let seen = self.seen.entry(id).or_default();
        assert!(node.term() >= seen.durable_term, "node {id} forgot its term");
        *seen = Seen {
            base: EntryId::new(base_term, first.previous()),
            kept: peer.store.last().index,
            log,
            durable_term: seen.durable_term,
            ..Seen::default()
        };
    }

    /// A write is handed out: Log Matching (§5.3), nothing committed is taken back, and nothing
    /// comes again that was not taken back.
    pub(crate) fn writes(&mut self, id: NodeId, write: &LogWrite) {
        let seen = self.seen.entry(id).or_default();
        if let Some(snapshot) = &write.snapshot {
            let known = self.committed.get(&snapshot.last.index);
            if let Some((known, _)) = known {
                assert_eq!(*known, snapshot.last, "a snapshot of what was committed");
            }
            seen.base = snapshot.last;
            seen.log.clear();
            seen.kept = snapshot.last.index;
        }
        let Some(first) = write.entries.first() else { return };
        assert!(first.index > seen.kept, "node {id} writes {} twice", first.id());
        for (index, dropped) in seen.log.split_off(&first.index) {
            let committed = self.committed.get(&index).map(|(id, _)| *id);
            assert!(committed != Some(dropped), "node {id} takes back {dropped}");
        }
        for entry in &write.entries {
            let before = seen.last();
            assert_eq!(before.index.next(), entry.index, "node {id} writes a gap");
            seen.log.insert(entry.index, entry.id());
            let new = (before, entry.payload.clone());
            let old = self.entries.entry(entry.id()).or_insert_with(|| new.clone());
            assert_eq!(*old, new, "log matching at {} on node {id}", entry.id());
        }
        seen.kept = seen.last().index;
    }

    /// A message leaves: what it promises is durable.
    pub(crate) fn leaves(&mut self, message: &Message, sender: &Peer) {
        let Message { from, to, term, body } = message;
        let hard = sender.store.hard_state();
        let voted = match body {
            Body::VoteReply { granted: true } => Some(to),
            Body::Vote { .. } => Some(from),
            _ => None,
        };
        if let Some(candidate) = voted {
            let durable = hard.term > *term || (hard.term, hard.vote) == (*term, Some(*candidate));
            assert!(durable, "the vote of {from} for {candidate} in term {term}: {hard:?}");
            let first = self.votes.entry((*from, *term)).or_insert(*candidate);
            assert_eq!(first, candidate, "node {from} votes twice in term {term}");
        }
        if let Body::AppendAccepted { matched, .. } = body {
            assert!(hard.term >= *term, "node {from} acknowledges in term {term}, not durable");
            let is_held = holds(sender, *matched);
            let was_committed = self.committed.get(&matched.index).map(|(id, _)| id);
            let is_held = is_held || was_committed == Some(matched);
            assert!(is_held, "node {from} acknowledges {matched}, which is not durable");
        }
    }

    /// Looks at a node after something happened to it.
    pub(crate) fn look(&mut self, peers: &BTreeMap<NodeId, Peer>, id: NodeId) {
        let peer = &peers[&id];
        let Some(node) = peer.node.as_ref() else { return };
        let (term, commit, applied) = (node.term(), node.commit(), node.applied());
        let durable_term = peer.store.hard_state().term;
        let seen = self.seen.entry(id).or_default();
        assert!(term >= seen.term, "the term of node {id} falls to {term}");
        assert!(durable_term >= seen.durable_term, "the durable term of node {id} falls");
        assert!(commit >= seen.commit, "the commit of node {id} falls to {commit}");
        assert!(applied >= seen.applied, "what node {id} applied falls to {applied}");
        assert!(applied <= commit, "node {id} applied {applied} above its commit {commit}");
        assert!(commit <= node.last_index(), "node {id} commits beyond its log");
        (seen.term, seen.commit, seen.applied) = (term, commit, applied);
        seen.durable_term = durable_term;
        seen.take_back(node);
        let led = std::mem::replace(&mut seen.led, node.is_leader().then_some(term));
        if node.is_leader() {
            let first = self.leaders.entry(term).or_insert(id);
            assert_eq!(*first, id, "election safety: two leaders in term {term}");
            if led != Some(term) {
                self.leader_completeness(id, node);
            }
            self.one_pending_change(id, node);
        }
        self.commits(peers, id, node);
    }

    /// §5.4: a leader holds everything that was committed in earlier terms.
    fn leader_completeness(&self, id: NodeId, node: &Node) {
        let older = self.committed.iter().rev().find(|(_, (_, found))| *found < node.term());
        let Some((index, (committed, _))) = older else { return };
        let held = term_at(node, &self.seen[&id], *index);
        assert!(
            held.is_none_or(|held| held == committed.term) && node.last_index() >= *index,
            "leader completeness: node {id} leads term {} without {committed}",
            node.term()
        );
    }

    fn one_pending_change(&self, id: NodeId, node: &Node) {
        let from = self.committed().next();
        let pending = self.seen[&id].log.range(from..).filter(|(_, entry)| {
            matches!(self.entries.get(entry), Some((_, Payload::Membership(_))))
        });
        assert!(pending.count() <= 1, "two changes under way on leader {id} in {}", node.term());
    }

    /// §5.4: what is committed stays, and a quorum holds it durably when it becomes so.
    fn commits(&mut self, peers: &BTreeMap<NodeId, Peer>, id: NodeId, node: &Node) {
        let (known, commit) = (self.committed(), node.commit());
        let seen = &self.seen[&id];
        if let Some(term) = term_at(node, seen, commit)
            && let Some((old, _)) = self.committed.get(&commit)
        {
            assert_eq!(old.term, term, "node {id} commits another entry at {commit}");
        }
        if commit <= known {
            return;
        }
        for index in known.next().0..=commit.0 {
            let Some(term) = term_at(node, seen, Index(index)) else { continue };
            let entry = EntryId::new(term, Index(index));
            self.committed.insert(Index(index), (entry, node.term()));
        }
        if commit <= peers[&id].flushed.applied {
            // Where the group was born.
            return;
        }
        let Some((newest, _)) = self.committed.get(&commit) else { return };
        let holders = |id: &NodeId| peers.get(id).is_some_and(|peer| holds(peer, *newest));
        let is_quorum = |half: &[NodeId]| {
            half.is_empty() || half.iter().filter(|id| holders(id)).count() > half.len() / 2
        };
        let members: &Membership = node.membership();
        assert!(
            is_quorum(members.voters()) && is_quorum(members.outgoing()),
            "node {id}, {:?} of term {}, commits {newest} without a durable quorum of {members:?}",
            node.role(),
            node.term()
        );
        assert!(
            node.role() != RoleName::Leader || newest.term == node.term(),
            "leader {id} of term {} commits {newest} by counting (§5.4.2)",
            node.term()
        );
    }

    /// An entry was applied: State Machine Safety (§5.4.3).
    pub(crate) fn applies(&mut self, id: NodeId, entry: &Entry, state: State) {
        if let Some((committed, _)) = self.committed.get(&entry.index) {
            assert_eq!(*committed, entry.id(), "node {id} applies what was not committed");
        }
        self.state(id, state);
    }

    /// The state of a node, applied or taken from a snapshot.
    pub(crate) fn state(&mut self, id: NodeId, state: State) {
        let known = self.states.entry(state.applied).or_insert(state);
        assert_eq!(*known, state, "state machine safety at {} on node {id}", state.applied);
    }

    /// A read is asked for now.
    pub(crate) fn asks(&mut self, context: Bytes) {
        self.reads.insert(context, self.committed());
    }

    /// A read was confirmed: it sees everything that was committed when it was asked for.
    pub(crate) fn confirms(&mut self, id: NodeId, context: &Bytes, index: Index) {
        let asked = self.reads[context];
        assert!(index >= asked, "node {id} reads at {index}, but {asked} was committed before");
        self.reads_checked += 1;
    }

    /// A lease is relied on now.
    pub(crate) fn leases(&mut self, id: NodeId, index: Index) {
        let committed = self.committed();
        assert!(index >= committed, "node {id} reads at {index} in its lease, not {committed}");
        self.leases_checked += 1;
    }
}

fn term_at(node: &Node, seen: &Seen, index: Index) -> Option<Term> {
    node.term_at(index).or_else(|| seen.id_at(index).map(|id| id.term))
}

/// Whether an entry is durable on a node, in its log or in its state.
fn holds(peer: &Peer, entry: EntryId) -> bool {
    let store = &peer.store;
    entry.index < store.first_index().previous() || store.term(entry.index) == Ok(entry.term)
}
