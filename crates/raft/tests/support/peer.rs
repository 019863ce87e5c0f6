//! A node with its disk and its state machine, each of which moves only when told to.

use std::collections::VecDeque;

use bytes::Bytes;
use kiva_raft::{
    Config, Entries, Entry, Index, LogStore, LogWrite, Membership, MembershipError, MemoryLogStore,
    Message, Node, OpenError, Payload, Ready, Rng, Snapshot,
};

use super::slow::SlowLog;

/// One member of a group under test.
///
/// Log writes that were handed out wait in `writes` until [`Peer::sync`]; committed entries wait in
/// `to_apply` until [`Peer::apply`]. A crash loses both.
pub(crate) struct Peer {
    pub(crate) config: Config,
    pub(crate) node: Option<Node>,
    pub(crate) store: MemoryLogStore,
    /// How the node sees `store`.
    pub(crate) log: SlowLog,
    pub(crate) writes: VecDeque<LogWrite>,
    pub(crate) to_apply: VecDeque<Entry>,
    /// The state machine.
    pub(crate) state: State,
    /// What of it survives a crash.
    pub(crate) flushed: State,
    /// The members that belong to `state`.
    members: Membership,
    seed: u64,
    starts: u64,
}

/// A state machine that remembers what it was given by a digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct State {
    pub(crate) applied: Index,
    pub(crate) digest: u64,
}

impl State {
    /// The state after one more entry.
    pub(crate) fn after(self, entry: &Entry) -> Self {
        let mut digest = self.digest ^ entry.index.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let command: &[u8] = match &entry.payload {
            Payload::Command(command) => command,
            Payload::Empty | Payload::Membership(_) => b"",
        };
        for byte in command {
            digest = (digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Self { applied: entry.index, digest }
    }

    fn encode(self) -> Bytes {
        self.digest.to_be_bytes().to_vec().into()
    }

    fn decode(snapshot: &Snapshot) -> Self {
        let digest = <[u8; 8]>::try_from(&snapshot.data[..]).map_or(0, u64::from_be_bytes);
        Self { applied: snapshot.last.index, digest }
    }
}

/// One entry that was applied, and what it did to the members.
pub(crate) struct Applied {
    pub(crate) entry: Entry,
    pub(crate) members: Option<Result<Membership, MembershipError>>,
}

impl Peer {
    /// A member that goes on from what `store` holds.
    pub(crate) fn open(
        config: Config,
        store: MemoryLogStore,
        seed: u64,
    ) -> Result<Self, OpenError> {
        let initial = store.initial_state()?;
        let applied = initial.applied.max(config.applied);
        let state = State { applied, digest: 0 };
        let mut peer = Self {
            config,
            node: None,
            log: SlowLog::new(store.clone()),
            store,
            writes: VecDeque::new(),
            to_apply: VecDeque::new(),
            state,
            flushed: state,
            members: initial.membership,
            seed,
            starts: 0,
        };
        peer.restart()?;
        Ok(peer)
    }

    /// The node, which is up.
    pub(crate) fn node(&mut self) -> &mut Node {
        self.node.as_mut().expect("the node is up")
    }

    /// Takes what a round of work holds for the disk and the state machine; the rest is left.
    pub(crate) fn absorb(&mut self, ready: &mut Ready) {
        self.writes.extend(ready.write.take());
        let committed = std::mem::replace(&mut ready.committed, Entries::EMPTY);
        self.to_apply.extend(committed.iter().cloned());
    }

    /// Makes the oldest `count` writes durable and shows the last one's receipt.
    pub(crate) fn sync(&mut self, count: usize) -> Vec<Message> {
        let count = count.min(self.writes.len());
        let mut last = None;
        for write in self.writes.drain(..count) {
            self.store.write(&write);
            if let Some(snapshot) = &write.snapshot {
                self.state = State::decode(snapshot);
                self.flushed = self.state;
                self.members.clone_from(&snapshot.membership);
                self.to_apply.retain(|entry| entry.index > snapshot.last.index);
            }
            last = Some(write);
        }
        match last {
            Some(write) => self.node().on_synced(write.synced()),
            None => Vec::new(),
        }
    }

    /// Applies up to `count` entries. The state survives a crash only after [`Peer::flush`].
    pub(crate) fn apply(&mut self, count: usize) -> Vec<Applied> {
        let count = count.min(self.to_apply.len());
        let mut done = Vec::new();
        for entry in self.to_apply.drain(..count) {
            assert_eq!(entry.index, self.state.applied.next(), "entries come in order, once each");
            self.state = self.state.after(&entry);
            let node = self.node.as_mut().expect("a node that is down has nothing to apply");
            let members = matches!(entry.payload, Payload::Membership(_))
                .then(|| node.apply_membership(entry.index).cloned());
            if let Some(Ok(members)) = &members {
                self.members.clone_from(members);
            }
            done.push(Applied { entry, members });
        }
        if count > 0 {
            let applied = self.state.applied;
            self.node().on_applied(applied);
        }
        done
    }

    /// Makes the state machine durable.
    pub(crate) fn flush(&mut self) {
        self.flushed = self.state;
        self.store.set_applied(self.state.applied, self.members.clone());
    }

    /// Builds a snapshot of the durable state, so that the log up to it may be dropped.
    pub(crate) fn build_snapshot(&mut self) -> Option<Snapshot> {
        self.flush();
        let (state, members) = (self.state, self.members.clone());
        self.store.build_snapshot(state.applied, members, state.encode()).ok()
    }

    /// Dies with all but the oldest `kept` of its outstanding writes.
    pub(crate) fn crash(&mut self, kept: usize) {
        self.node = None;
        for write in self.writes.drain(..).take(kept) {
            self.store.write(&write);
            if let Some(snapshot) = &write.snapshot {
                self.flushed = State::decode(snapshot);
            }
        }
        self.to_apply.clear();
    }

    /// Starts from what is durable.
    pub(crate) fn restart(&mut self) -> Result<(), OpenError> {
        self.starts += 1;
        self.state = self.flushed;
        self.members = self.store.initial_state()?.membership;
        let rng = Rng::seeded(self.seed.wrapping_add(self.starts << 32));
        self.node = Some(Node::open(self.config.clone(), rng, Box::new(self.log.clone()))?);
        Ok(())
    }
}
