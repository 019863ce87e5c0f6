//! A whole group in one thread: what one committed proposal costs without a network and a disk.

use bytes::Bytes;
use kiva_raft::{Config, Index, Membership, MemoryLogStore, Message, Node, NodeId, Rng, RoleName};

/// Entries after which the log is dropped, so that it costs the same however long it runs.
const KEPT: u64 = 10_000;

/// Nodes whose messages arrive at once, whose writes are durable at once, and whose state machine
/// is a counter.
pub(crate) struct Group {
    pub(crate) members: Vec<Member>,
    messages: Vec<Message>,
    /// Messages that were delivered.
    pub(crate) delivered: u64,
}

/// A node with its driver.
pub(crate) struct Member {
    pub(crate) node: Node,
    pub(crate) store: MemoryLogStore,
    applied: Index,
    compacted: Index,
}

impl Group {
    /// A group of `voters` whose first node leads.
    pub(crate) fn new(voters: u64) -> Self {
        Self::configured(voters, Config::new)
    }

    /// The same with other settings.
    pub(crate) fn configured(voters: u64, config: impl Fn(NodeId) -> Config) -> Self {
        let ids: Vec<NodeId> = (1..=voters).filter_map(NodeId::new).collect();
        let membership = Membership::new(ids.iter().copied(), []);
        let member = |id| {
            let store = MemoryLogStore::new(membership.clone());
            let node = Node::open(config(id), Rng::seeded(7), Box::new(store.clone()))
                .expect("an empty log can be read");
            Member { node, store, applied: Index::ZERO, compacted: Index::ZERO }
        };
        let members = ids.into_iter().map(member).collect();
        let mut group = Self { members, messages: Vec::new(), delivered: 0 };
        group.members[0].node.campaign().expect("a voter campaigns");
        group.settle();
        assert_eq!(group.members[0].node.role(), RoleName::Leader);
        group.delivered = 0;
        group
    }

    /// Proposes `burst` commands at once and works until all are committed and applied.
    pub(crate) fn burst(&mut self, burst: u64, command: &Bytes) {
        for _ in 0..burst {
            self.members[0].node.propose(command.clone()).expect("the first node leads");
        }
        self.settle();
    }

    /// The last entry that the leader has applied.
    pub(crate) fn applied(&self) -> Index {
        self.members[0].applied
    }

    /// Works until nothing is left to be done.
    pub(crate) fn settle(&mut self) {
        loop {
            for member in &mut self.members {
                member.work(&mut self.messages);
            }
            if self.messages.is_empty() {
                return;
            }
            for message in std::mem::take(&mut self.messages) {
                self.delivered += 1;
                let to = message.to.get() as usize - 1;
                self.members[to].node.step(message).expect("members know each other");
            }
        }
    }
}

impl Member {
    fn work(&mut self, messages: &mut Vec<Message>) {
        while let Some(mut ready) = self.node.ready() {
            messages.append(&mut ready.messages);
            if let Some(write) = ready.write {
                self.store.write(&write);
                messages.append(&mut self.node.on_synced(write.synced()));
            }
            let Some(last) = ready.committed.last() else { continue };
            self.applied = last.index;
            self.node.on_applied(last.index);
            if last.index.since(self.compacted) >= KEPT {
                self.compacted = last.index;
                self.store.set_applied(last.index, self.node.membership().clone());
                self.store.compact(last.index).expect("what is applied is in the log");
            }
        }
    }
}
