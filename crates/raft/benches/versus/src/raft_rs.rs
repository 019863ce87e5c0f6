//! Crate `raft` 0.7 doing the work, with the settings that suit it best: entries that wait are sent
//! together, and followers hear of a commit with the next message, both of which are off by
//! default.

use std::hint::black_box;

use bytes::Bytes;
use raft::prelude::{ConfState, Entry, Message, MessageType};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};
use slog::{Discard, Logger, o};

use crate::{HEARTBEAT_TICKS, NEVER, Pace};

/// Entries after which the log is dropped, as on the other side.
const KEPT: u64 = 10_000;

pub(crate) struct Group {
    members: Vec<Member>,
    messages: Vec<Message>,
    delivered: u64,
}

struct Member {
    node: RawNode<MemStorage>,
    store: MemStorage,
    applied: u64,
    compacted: u64,
}

impl Group {
    /// A group of `voters` whose first node leads.
    pub(crate) fn new(voters: u64, pace: Pace) -> Self {
        let logger = Logger::root(Discard, o!());
        let ids: Vec<u64> = (1..=voters).collect();
        let member = |&id: &u64| {
            let members = ConfState::from((ids.clone(), vec![]));
            let store = MemStorage::new_with_conf_state(members);
            let node = RawNode::new(&config(id, pace), store.clone(), &logger)
                .expect("an empty log can be read");
            Member { node, store, applied: 0, compacted: 0 }
        };
        let members = ids.iter().map(member).collect();
        let mut group = Self { members, messages: Vec::new(), delivered: 0 };
        group.members[0].node.campaign().expect("a voter campaigns");
        group.settle();
        assert_eq!(group.members[0].node.raft.state, StateRole::Leader);
        group.delivered = 0;
        group
    }

    fn settle(&mut self) {
        loop {
            for member in &mut self.members {
                member.work(&mut self.messages);
            }
            if self.messages.is_empty() {
                return;
            }
            for message in std::mem::take(&mut self.messages) {
                self.delivered += 1;
                let to = message.to as usize - 1;
                self.members[to].node.step(message).expect("members know each other");
            }
        }
    }
}

fn config(id: u64, pace: Pace) -> Config {
    let (heartbeat_tick, election_tick) = match pace {
        Pace::Usual => (HEARTBEAT_TICKS as usize, 10),
        Pace::Idle => (NEVER as usize, 2 * NEVER as usize),
    };
    Config {
        id,
        heartbeat_tick,
        election_tick,
        check_quorum: true,
        pre_vote: true,
        skip_bcast_commit: true,
        batch_append: true,
        max_size_per_msg: 1024 * 1024,
        ..Config::default()
    }
}

impl Member {
    fn work(&mut self, messages: &mut Vec<Message>) {
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            messages.append(&mut ready.take_messages());
            let earlier = ready.take_committed_entries();
            {
                let mut log = self.store.wl();
                log.append(ready.entries()).expect("entries follow the log");
                if let Some(state) = ready.hs() {
                    log.set_hardstate(state.clone());
                }
            }
            messages.append(&mut ready.take_persisted_messages());
            let mut light = self.node.advance_append(ready);
            if let Some(commit) = light.commit_index() {
                self.store.wl().mut_hard_state().commit = commit;
            }
            messages.append(&mut light.take_messages());
            let later = light.take_committed_entries();
            let Some(last) = later.last().or(earlier.last()) else { continue };
            self.applied = last.index;
            self.node.advance_apply();
            if self.applied - self.compacted >= KEPT {
                self.compacted = self.applied;
                // All but the last entry, without which the store forgets where it ended.
                self.store.wl().compact(self.applied).expect("what is applied is in the log");
            }
        }
    }

    /// Asks for a command to be appended, as `RawNode::propose` does, without the copy that its
    /// argument would cost.
    fn propose(&mut self, command: Bytes) {
        let entry = Entry { data: command, ..Entry::default() };
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.node.raft.id;
        message.set_entries(vec![entry].into());
        self.node.step(message).expect("the first node leads");
    }
}

impl crate::Group for Group {
    fn bursts(&mut self, count: u64, burst: u64, command: &Bytes) {
        for _ in 0..count {
            (0..burst).for_each(|_| self.members[0].propose(command.clone()));
            self.settle();
        }
    }

    fn ticks(&mut self, member: usize, count: u64) {
        let node = &mut self.members[member].node;
        for _ in 0..count {
            black_box(&mut *node).tick();
        }
    }

    fn questions(&mut self, count: u64) {
        let node = &mut self.members[0].node;
        for _ in 0..count {
            assert!(!black_box(&mut *node).has_ready());
        }
    }

    fn heartbeats(&mut self, count: u64) {
        for _ in 0..count {
            for member in &mut self.members {
                (0..HEARTBEAT_TICKS).for_each(|_| {
                    member.node.tick();
                });
            }
            self.settle();
        }
    }

    fn applied(&self) -> u64 {
        self.members[0].applied
    }

    fn messages(&self) -> u64 {
        self.delivered
    }
}

/// Bytes that the nodes of a group of three own after `bursts` of 64: the mean of them. `freed`
/// tells how many bytes the program has given back so far. The log is not counted.
pub fn memory(bursts: u64, freed: impl Fn() -> usize) -> usize {
    let mut group = Group::new(3, Pace::Usual);
    crate::Group::bursts(&mut group, bursts, 64, &Bytes::from(vec![7; 256]));
    crate::Group::heartbeats(&mut group, 4);
    let count = group.members.len();
    let total: usize = group
        .members
        .drain(..)
        .map(|member| {
            let _log = member.store;
            let before = freed();
            drop(member.node);
            freed() - before
        })
        .sum();
    total / count + size_of::<RawNode<MemStorage>>()
}
