//! Several nodes and the messages between them, which move only when told to.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kiva_raft::{
    Body, Config, EntryId, Index, Membership, MemoryLogStore, Message, NodeId, Payload,
    ProposeError, Proposed, ReadOutcome, RoleName, StepError, Term,
};

use super::peer::{Applied, Peer};
use super::print;

/// The node with this number.
pub(crate) fn id(number: u64) -> NodeId {
    NodeId::new(number).expect("tests count nodes from 1")
}

/// The entry at `index` of `term`.
pub(crate) fn at(term: u64, index: u64) -> EntryId {
    EntryId::new(Term(term), Index(index))
}

/// A group of voters with these numbers.
pub(crate) fn voters(numbers: &[u64]) -> Membership {
    Membership::new(numbers.iter().copied().map(id), [])
}

/// Nodes with their disks, joined by a network that is a list.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) peers: BTreeMap<NodeId, Peer>,
    /// Sent and not delivered, oldest first.
    pub(crate) network: Vec<Message>,
    /// Links that lose everything, as (from, to).
    pub(crate) cut: BTreeSet<(NodeId, NodeId)>,
    /// Words for what is lost wherever it goes: names of bodies.
    pub(crate) lost: BTreeSet<String>,
    /// Everything that was applied, by node.
    pub(crate) applied: BTreeMap<NodeId, Vec<String>>,
    /// Reads that were answered, by node.
    pub(crate) reads: BTreeMap<NodeId, Vec<ReadOutcome>>,
    /// Every message that was sent.
    pub(crate) sent: Vec<Message>,
    events: Vec<String>,
}

impl Group {
    /// `count` voters without a log, each changed by `adjust`.
    pub(crate) fn of(count: u64, adjust: impl Fn(&mut Config)) -> Self {
        let numbers: Vec<u64> = (1..=count).collect();
        let mut group = Self::default();
        for &number in &numbers {
            let mut config = Config::new(id(number));
            adjust(&mut config);
            group.add(config, MemoryLogStore::new(voters(&numbers)));
        }
        group
    }

    /// One more node, with its log.
    pub(crate) fn add(&mut self, config: Config, store: MemoryLogStore) {
        let node = config.id;
        let peer = Peer::open(config, store, 1).expect("the node starts");
        self.peers.insert(node, peer);
    }

    /// The node with this number, which exists.
    pub(crate) fn peer(&mut self, number: u64) -> &mut Peer {
        self.peers.get_mut(&id(number)).expect("the node exists")
    }

    /// One line per event since this was called last.
    pub(crate) fn take_events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events)
    }

    pub(crate) fn note(&mut self, event: String) {
        self.events.push(event);
    }

    fn send(&mut self, messages: Vec<Message>) {
        for message in messages {
            let lost = self.loses(&message);
            let mark = if lost { " (lost)" } else { "" };
            self.note(format!("{}{mark}", print::message(&message)));
            self.sent.push(message.clone());
            if !lost {
                self.network.push(message);
            }
        }
    }

    fn loses(&self, message: &Message) -> bool {
        let is_down = self.peers.get(&message.to).is_none_or(|peer| peer.node.is_none());
        is_down
            || self.cut.contains(&(message.from, message.to))
            || self.lost.contains(message.body.name())
    }

    /// Takes one round of work from a node. Returns whether there was one.
    pub(crate) fn ready(&mut self, number: u64) -> bool {
        let node = id(number);
        let peer = self.peer(number);
        let Some(mut ready) = peer.node.as_mut().and_then(kiva_raft::Node::ready) else {
            return false;
        };
        let write = ready.write.as_ref().map(print::write);
        let committed = print::entries(&ready.committed);
        peer.absorb(&mut ready);
        if let Some(change) = ready.change {
            self.note(format!("{node} becomes {}", print::role(&change)));
        }
        if let Some(write) = write {
            self.note(format!("{node} writes {write}"));
        }
        self.send(ready.messages);
        if !committed.is_empty() {
            self.note(format!("{node} commits {committed}"));
        }
        for outcome in ready.reads {
            self.note(format!("{node} reads {}", print::read(&outcome)));
            self.reads.entry(node).or_default().push(outcome);
        }
        true
    }

    /// Finishes the oldest `count` writes of a node.
    pub(crate) fn sync(&mut self, number: u64, count: usize) {
        let peer = self.peer(number);
        let outstanding = peer.writes.len();
        if outstanding == 0 {
            return;
        }
        let messages = peer.sync(count);
        let left = outstanding - count.min(outstanding);
        let left = if left > 0 { format!(", {left} to go") } else { String::new() };
        self.note(format!("{number} synced{left}"));
        self.send(messages);
    }

    /// Applies up to `count` entries on a node, durably.
    pub(crate) fn apply(&mut self, number: u64, count: usize) {
        let peer = self.peer(number);
        let done = peer.apply(count);
        peer.flush();
        for Applied { entry, members } in done {
            let text = print::entry(&entry);
            let effect = match members {
                None => String::new(),
                Some(Ok(members)) => format!(" → {}", print::members(&members)),
                Some(Err(error)) => format!(" → no effect: {error}"),
            };
            if matches!(entry.payload, Payload::Membership(_)) {
                self.note(format!("{number} applies {text}{effect}"));
            }
            self.applied.entry(id(number)).or_default().push(text);
        }
    }

    /// Delivers the messages that `wanted` picks, in the order they were sent.
    pub(crate) fn deliver(&mut self, wanted: impl Fn(&Message) -> bool) -> usize {
        let (picked, left) = std::mem::take(&mut self.network).into_iter().partition(wanted);
        self.network = left;
        let picked: Vec<Message> = picked;
        let count = picked.len();
        for message in picked {
            let _ = self.step(message);
        }
        count
    }

    /// Hands one message to its receiver.
    pub(crate) fn step(&mut self, message: Message) -> Result<(), StepError> {
        if self.loses(&message) {
            self.note(format!("{} (lost)", print::message(&message)));
            return Ok(());
        }
        let to = message.to.get();
        let result = self.peer(to).node().step(message);
        if let Err(error) = result {
            self.note(format!("{to} refuses: {error}"));
        }
        result
    }

    /// A message that nobody sent.
    pub(crate) fn forge(&mut self, from: u64, to: u64, term: u64, body: Body) {
        let message = Message { from: id(from), to: id(to), term: Term(term), body };
        let _ = self.step(message);
    }

    /// Work, writes, applying and deliveries of the nodes in `only` until nothing is left.
    pub(crate) fn stabilise_only(&mut self, only: &[u64]) {
        for _ in 0..10_000 {
            let mut busy = false;
            for &number in only {
                while self.ready(number) {
                    busy = true;
                }
                busy |= !self.peer(number).writes.is_empty();
                self.sync(number, usize::MAX);
                busy |= !self.peer(number).to_apply.is_empty();
                self.apply(number, usize::MAX);
            }
            busy |= self.deliver(|message| only.contains(&message.to.get())) > 0;
            if !busy {
                return;
            }
        }
        panic!("the nodes never come to rest: {:#?}", self.events);
    }

    /// The same for everybody who is up.
    pub(crate) fn stabilise(&mut self) {
        let up: Vec<u64> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.node.is_some())
            .map(|(node, _)| node.get())
            .collect();
        self.stabilise_only(&up);
    }

    /// Every link to and from a node loses everything.
    pub(crate) fn isolate(&mut self, number: u64) {
        let others: Vec<NodeId> = self.peers.keys().copied().collect();
        for other in others {
            self.cut.insert((id(number), other));
            self.cut.insert((other, id(number)));
        }
    }

    /// All links carry everything again.
    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        self.lost.clear();
    }

    /// Lets ticks pass at one node.
    pub(crate) fn tick(&mut self, number: u64, count: usize) {
        for _ in 0..count {
            self.peer(number).node().tick();
        }
    }

    /// Elects a node, with everybody's help.
    pub(crate) fn elect(&mut self, number: u64) {
        self.peer(number).node().campaign().expect("the node may campaign");
        self.stabilise();
        assert_eq!(self.role(number), RoleName::Leader, "node {number} is elected");
    }

    pub(crate) fn propose(&mut self, number: u64, text: &str) -> Result<Proposed, ProposeError> {
        self.peer(number).node().propose(Bytes::copy_from_slice(text.as_bytes()))
    }

    pub(crate) fn role(&mut self, number: u64) -> RoleName {
        self.peer(number).node().role()
    }

    pub(crate) fn term(&mut self, number: u64) -> u64 {
        self.peer(number).node().term().0
    }

    pub(crate) fn commit(&mut self, number: u64) -> u64 {
        self.peer(number).node().commit().0
    }

    /// Terms of the durable log.
    pub(crate) fn terms(&mut self, number: u64) -> Vec<u64> {
        self.peer(number).store.all_entries().iter().map(|entry| entry.term.0).collect()
    }

    /// What a node has sent since `from`, as lines.
    pub(crate) fn sent_by(&self, number: u64, from: usize) -> Vec<String> {
        let own = self.sent[from..].iter().filter(|message| message.from == id(number));
        own.map(print::message).collect()
    }
}
