//! This crate with a task for each node and a channel to each task.

use std::collections::VecDeque;

use bytes::Bytes;
use kiva_raft::{
    Config, Index, LogError, Membership, MemoryLogStore, Message, Node, NodeId, Proposed, Rng,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

/// Entries after which the log is dropped.
const KEPT: u64 = 10_000;

/// Most events of one round.
const ROUND: usize = 4096;

#[derive(Clone)]
pub(super) struct Cluster {
    leader: UnboundedSender<Event>,
}

enum Event {
    Campaign,
    Message(Message),
    Propose { command: Bytes, applied: oneshot::Sender<()> },
}

struct Member {
    node: Node,
    log: MemoryLogStore,
    peers: Vec<UnboundedSender<Event>>,
    waiting: VecDeque<(Index, oneshot::Sender<()>)>,
    compacted: Index,
}

impl Cluster {
    /// To be called on the runtime.
    #[expect(clippy::disallowed_methods, reason = "each node is a task, as on the other side")]
    pub(super) fn start() -> Self {
        let ids: Vec<NodeId> = (1..=3).filter_map(NodeId::new).collect();
        let membership = Membership::new(ids.iter().copied(), []);
        let (peers, mailboxes): (Vec<_>, Vec<_>) = ids.iter().map(|_| unbounded_channel()).unzip();
        for (id, mailbox) in ids.into_iter().zip(mailboxes) {
            let log = MemoryLogStore::new(membership.clone());
            let node = Node::open(Config::new(id), Rng::seeded(7), Box::new(log.clone()))
                .expect("an empty log can be read");
            let (waiting, compacted) = (VecDeque::new(), Index::ZERO);
            let member = Member { node, log, peers: peers.clone(), waiting, compacted };
            tokio::spawn(member.drive(mailbox));
        }
        let leader = peers[0].clone();
        let _ = leader.send(Event::Campaign);
        Self { leader }
    }

    /// Returns when the command is applied. Nothing is proposed to a node that does not lead: such
    /// a proposal is made again.
    pub(super) async fn propose(&self, command: Bytes) {
        loop {
            let (applied, answer) = oneshot::channel();
            let _ = self.leader.send(Event::Propose { command: command.clone(), applied });
            if answer.await.is_ok() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Member {
    async fn drive(mut self, mut mailbox: UnboundedReceiver<Event>) {
        let mut events = Vec::new();
        while mailbox.recv_many(&mut events, ROUND).await > 0 {
            for event in events.drain(..) {
                match event {
                    Event::Campaign => self.node.campaign().expect("a voter campaigns"),
                    Event::Message(message) => {
                        self.node.step(message).expect("members know each other");
                    }
                    // Whoever is not heard drops the sender, which the client notices.
                    Event::Propose { command, applied } => {
                        if let Ok(Proposed::Appended(id)) = self.node.propose(command) {
                            self.waiting.push_back((id.index, applied));
                        }
                    }
                }
            }
            self.work().expect("what is applied is in the log");
        }
    }

    fn work(&mut self) -> Result<(), LogError> {
        while let Some(ready) = self.node.ready() {
            self.send(ready.messages);
            if let Some(write) = ready.write {
                self.log.write(&write);
                let opened = self.node.on_synced(write.synced());
                self.send(opened);
            }
            let Some(last) = ready.committed.last() else { continue };
            self.node.on_applied(last.index);
            while let Some((_, client)) = self.waiting.pop_front_if(|(at, _)| *at <= last.index) {
                let _ = client.send(());
            }
            if last.index.since(self.compacted) >= KEPT {
                self.compacted = last.index;
                self.log.set_applied(last.index, self.node.membership().clone());
                self.log.compact(last.index)?;
            }
        }
        Ok(())
    }

    fn send(&self, messages: Vec<Message>) {
        for message in messages {
            let to = message.to.get() as usize - 1;
            let _ = self.peers[to].send(Event::Message(message));
        }
    }
}
