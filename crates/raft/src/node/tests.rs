//! Three nodes in one thread: a smoke test of the whole, and the cases that need a look inside.

use std::collections::VecDeque;

use bytes::Bytes;

use super::*;
use crate::entry::Entry;
use crate::id::EntryId;
use crate::membership::Change;
use crate::ready::{LogWrite, ReadOutcome};
use crate::status::RoleName;
use crate::storage::{HardState, MemoryLogStore};

fn id(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

/// One node with its disk and its state machine.
struct Member {
    node: Node,
    store: MemoryLogStore,
    /// Handed out and not synced.
    writes: VecDeque<LogWrite>,
    applied: Vec<Entry>,
    reads: Vec<ReadOutcome>,
}

struct Group {
    members: Vec<Member>,
    mail: VecDeque<Message>,
    sent: usize,
    /// Nodes whose disks do not answer.
    slow: Vec<NodeId>,
    /// Nodes nobody can talk to.
    cut: Vec<NodeId>,
    seed: u64,
    configure: fn(&mut Config),
}

impl Group {
    fn new(count: u64, configure: fn(&mut Config)) -> Self {
        let mut group = Self {
            members: Vec::new(),
            mail: VecDeque::new(),
            sent: 0,
            slow: Vec::new(),
            cut: Vec::new(),
            seed: 7,
            configure,
        };
        for raw in 1..=count {
            let store = MemoryLogStore::new(Membership::new((1..=count).map(id), []));
            group.add(raw, store);
        }
        group
    }

    fn add(&mut self, raw: u64, store: MemoryLogStore) {
        let node = self.open(raw, &store);
        let (writes, applied, reads) = Default::default();
        self.members.push(Member { node, store, writes, applied, reads });
    }

    fn open(&self, raw: u64, store: &MemoryLogStore) -> Node {
        let mut config = Config::new(id(raw));
        (self.configure)(&mut config);
        Node::open(config, Rng::seeded(self.seed), Box::new(store.clone())).unwrap()
    }

    fn node(&mut self, raw: u64) -> &mut Node {
        &mut self.member(raw).node
    }

    fn member(&mut self, raw: u64) -> &mut Member {
        self.members.iter_mut().find(|member| member.node.id() == id(raw)).unwrap()
    }

    fn post(&mut self, messages: Vec<Message>) {
        self.sent += messages.len();
        self.mail.extend(messages);
    }

    /// Does what one node asks for. Returns whether there was anything.
    fn drive(&mut self, raw: u64) -> bool {
        let is_slow = self.slow.contains(&id(raw));
        let member = self.member(raw);
        let mut messages = Vec::new();
        let mut busy = false;
        while let Some(ready) = member.node.ready() {
            busy = true;
            messages.extend(ready.messages);
            member.reads.extend(ready.reads);
            for entry in &ready.committed {
                if let Payload::Membership(_) = entry.payload {
                    let members = member.node.apply_membership(entry.index).cloned();
                    if let Ok(members) = members {
                        member.store.set_applied(entry.index, members);
                    }
                }
                member.applied.push(entry.clone());
            }
            if let Some(last) = ready.committed.last() {
                member.node.on_applied(last.index);
            }
            member.writes.extend(ready.write);
        }
        while !is_slow && let Some(write) = member.writes.pop_front() {
            busy = true;
            member.store.write(&write);
            messages.extend(member.node.on_synced(write.synced()));
        }
        self.post(messages);
        busy
    }

    /// Lets everybody work until nothing is left to do.
    fn settle(&mut self) {
        loop {
            let mut busy = false;
            for raw in self.ids() {
                busy |= self.drive(raw);
            }
            while let Some(message) = self.mail.pop_front() {
                busy = true;
                let is_cut = self.cut.contains(&message.from) || self.cut.contains(&message.to);
                let known = self.members.iter().any(|member| member.node.id() == message.to);
                if !is_cut && known {
                    self.member(message.to.get()).node.step(message).unwrap();
                }
            }
            if !busy {
                return;
            }
        }
    }

    fn ids(&self) -> Vec<u64> {
        self.members.iter().map(|member| member.node.id().get()).collect()
    }

    fn tick(&mut self, ticks: u32) {
        for _ in 0..ticks {
            self.members.iter_mut().for_each(|member| member.node.tick());
            self.settle();
        }
    }

    fn elect(&mut self, raw: u64) {
        self.node(raw).campaign().unwrap();
        self.settle();
        assert!(self.node(raw).is_leader(), "{:?}", self.node(raw).status());
    }

    fn commands(&mut self, raw: u64) -> Vec<Bytes> {
        let command = |entry: &Entry| match &entry.payload {
            Payload::Command(bytes) => Some(bytes.clone()),
            _ => None,
        };
        self.member(raw).applied.iter().filter_map(command).collect()
    }

    /// Loses what was not synced and starts again.
    fn restart(&mut self, raw: u64) {
        let store = self.member(raw).store.clone();
        let node = self.open(raw, &store);
        let member = self.member(raw);
        member.writes.clear();
        member.node = node;
        let applied = member.node.applied();
        member.applied.retain(|entry| entry.index <= applied);
    }
}

fn command(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[test]
fn three_nodes_elect_replicate_and_apply() {
    let mut group = Group::new(3, |_| {});
    group.elect(1);
    for text in ["a", "b", "c"] {
        group.node(1).propose(command(text)).unwrap();
        group.settle();
    }
    group.tick(2);
    for raw in 1..=3 {
        assert_eq!(group.commands(raw), ["a", "b", "c"], "node {raw}");
        assert_eq!(group.node(raw).commit(), Index(4));
    }
}

#[test]
fn a_timeout_elects_somebody_and_a_lost_leader_is_replaced() {
    let mut group = Group::new(3, |_| {});
    group.tick(40);
    let first = group.ids().into_iter().find(|&raw| group.node(raw).is_leader()).unwrap();
    group.cut.push(id(first));
    group.tick(60);
    assert!(!group.node(first).is_leader(), "it has no quorum");
    let second = group.ids().into_iter().find(|&raw| group.node(raw).is_leader()).unwrap();
    group.node(second).propose(command("x")).unwrap();
    group.settle();
    group.cut.clear();
    group.tick(10);
    assert_eq!(group.commands(first), ["x"]);
    let term = group.node(second).term();
    assert_eq!(group.node(first).term(), term, "pre-votes have raised nobody's term");
}

#[test]
fn a_lone_proposal_takes_four_messages_and_a_burst_no_more() {
    let mut group = Group::new(3, |_| {});
    group.elect(1);
    group.sent = 0;
    group.node(1).propose(command("a")).unwrap();
    group.settle();
    assert_eq!(group.sent, 4);
    group.sent = 0;
    for _ in 0..64 {
        group.node(1).propose(command("b")).unwrap();
    }
    group.settle();
    assert_eq!(group.sent, 4);
}

#[test]
fn a_single_node_leads_and_commits_when_its_disk_says_so() {
    let mut group = Group::new(1, |_| {});
    group.node(1).campaign().unwrap();
    group.slow.push(id(1));
    group.settle();
    assert_eq!(group.node(1).role(), RoleName::Candidate, "its vote is not durable");
    group.slow.clear();
    group.settle();
    assert!(group.node(1).is_leader());
    group.slow.push(id(1));
    group.node(1).propose(command("a")).unwrap();
    group.settle();
    assert!(group.commands(1).is_empty());
    group.slow.clear();
    group.settle();
    assert_eq!(group.commands(1), ["a"]);
    assert_eq!(group.sent, 0);
}

/// Covers OPT-async-leader.
#[test]
fn a_quorum_of_others_commits_and_the_slow_leader_applies_later() {
    let mut group = Group::new(3, |_| {});
    group.elect(1);
    group.slow.push(id(1));
    group.node(1).propose(command("a")).unwrap();
    group.settle();
    assert_eq!(group.node(1).commit(), Index(2));
    assert!(group.commands(1).is_empty(), "its own log does not hold it durably");
    group.slow.clear();
    group.settle();
    assert_eq!(group.commands(1), ["a"]);
}

#[test]
fn an_acknowledgement_waits_for_the_disk() {
    let mut group = Group::new(3, |_| {});
    group.elect(1);
    group.slow.extend([id(2), id(3)]);
    group.node(1).propose(command("a")).unwrap();
    group.settle();
    assert_eq!(group.node(1).commit(), Index(1));
    // The first acknowledges several writes with the receipt of the last.
    group.node(1).propose(command("b")).unwrap();
    group.settle();
    assert_eq!(group.member(2).writes.len(), 2);
    group.slow.clear();
    group.settle();
    assert_eq!(group.node(1).commit(), Index(3));
}

/// Covers 2A-elect-vote-durable.
#[test]
fn a_vote_survives_a_restart() {
    let mut group = Group::new(3, |config| config.pre_vote = false);
    let last = EntryId::ZERO;
    let vote = |from| Message {
        from: id(from),
        to: id(1),
        term: Term(1),
        body: Body::Vote { last, reason: VoteReason::Timeout },
    };
    group.node(1).step(vote(2)).unwrap();
    let ready = group.node(1).ready().unwrap();
    assert_eq!(ready.messages, [], "the grant is sealed");
    let write = ready.write.unwrap();
    let saved = HardState { term: Term(1), vote: Some(id(2)), commit: Index::ZERO };
    assert_eq!(write.hard_state, Some(saved));
    group.member(1).store.write(&write);
    let messages = group.node(1).on_synced(write.synced());
    assert_eq!(messages[0].body, Body::VoteReply { granted: true });
    group.restart(1);
    group.node(1).step(vote(3)).unwrap();
    let ready = group.node(1).ready().unwrap();
    assert_eq!(ready.messages[0].body, Body::VoteReply { granted: false });
}

#[test]
fn a_follower_that_lags_gets_a_snapshot_and_then_the_log() {
    let mut group = Group::new(3, |_| {});
    group.elect(1);
    group.cut.push(id(3));
    for _ in 0..20 {
        group.node(1).propose(command("a")).unwrap();
        group.settle();
    }
    // The leader keeps what it needs in memory until it is silent for long.
    group.tick(25);
    let members = group.node(1).membership().clone();
    let store = group.member(1).store.clone();
    store.build_snapshot(Index(15), members, command("state")).unwrap();
    store.compact(Index(15)).unwrap();
    group.cut.clear();
    group.tick(30);
    assert_eq!(group.node(3).status().first, Index(16));
    assert_eq!(group.node(3).commit(), Index(21));
    assert_eq!(group.node(3).applied(), Index(21));
    assert_eq!(group.node(1).status().counters.snapshots_sent, 1);
}

#[test]
fn members_come_and_go_jointly_and_the_leader_removes_itself() {
    let mut group = Group::new(3, |_| {});
    group.elect(1);
    // It gets the log from its first entry on, so it starts with the members of that time.
    group.add(4, MemoryLogStore::new(Membership::new([1, 2, 3].map(id), [])));
    let changes = vec![Change::AddVoter(id(4)), Change::Remove(id(1))];
    let change = MembershipChange::new(changes, Bytes::new());
    group.node(1).propose_membership(change.clone()).unwrap();
    let refused = group.node(1).propose_membership(change);
    assert!(matches!(refused, Err(ProposeError::ChangePending { .. })));
    group.settle();
    group.tick(60);
    for raw in 2..=4 {
        let members = group.node(raw).membership().clone();
        assert_eq!(members, Membership::new([2, 3, 4].map(id), []), "node {raw}");
    }
    assert_eq!(group.node(1).role(), RoleName::Follower);
    assert_eq!(group.node(1).campaign(), Err(CampaignError::NotVoter));
    let leader = group.ids().into_iter().find(|&raw| group.node(raw).is_leader()).unwrap();
    group.node(leader).propose(command("x")).unwrap();
    group.tick(3);
    assert_eq!(group.commands(4), ["x"]);
}

#[test]
fn leadership_is_handed_over_and_back() {
    let mut group = Group::new(3, |config| config.reads = ReadMode::Lease { ticks: 8 });
    group.elect(1);
    group.tick(2);
    assert!(group.node(1).lease_read().is_some());
    group.node(1).transfer_leadership(id(2)).unwrap();
    assert_eq!(group.node(1).lease_read(), None);
    let refused = group.node(1).propose(command("a"));
    assert_eq!(refused, Err(ProposeError::TransferInProgress { target: id(2) }));
    group.settle();
    assert!(group.node(2).is_leader());
    group.node(3).transfer_leadership(id(1)).unwrap();
    group.settle();
    assert!(group.node(1).is_leader(), "a follower passes the request on");
}

/// Covers OPT-lease-transfer.
#[test]
fn an_abandoned_transfer_ends_the_lease_until_a_later_round() {
    let mut group = Group::new(3, |config| config.reads = ReadMode::Lease { ticks: 8 });
    group.elect(1);
    group.tick(2);
    group.cut.push(id(3));
    group.node(1).transfer_leadership(id(3)).unwrap();
    group.tick(9);
    assert_eq!(group.node(1).lease_read(), None, "node 3 may be elected");
    group.node(1).tick();
    assert!(group.node(1).is_leader());
    assert_eq!(group.node(1).propose(command("a")).map(|_| ()), Ok(()));
    assert_eq!(group.node(1).lease_read(), None, "node 2 may vote for node 3");
    group.tick(2);
    assert!(group.node(1).lease_read().is_some(), "node 2 has answered a later round");
}

#[test]
fn many_reads_are_confirmed_by_few_rounds() {
    let mut group = Group::new(3, |_| {});
    group.elect(1);
    let rounds = group.node(1).status().counters.rounds;
    for _ in 0..1000 {
        group.node(1).read_index(command("r")).unwrap();
        group.node(2).read_index(command("f")).unwrap();
    }
    group.settle();
    assert_eq!(group.member(1).reads.len(), 1000);
    assert_eq!(group.member(2).reads.len(), 1000);
    let expected = ReadOutcome::Confirmed { context: command("f"), index: Index(1) };
    assert_eq!(group.member(2).reads[0], expected);
    assert!(group.node(1).status().counters.rounds - rounds <= 2);
    assert_eq!(group.node(2).applied(), Index(1), "who reads here hears of the commit at once");
}

#[test]
fn an_idle_group_sleeps_and_wakes() {
    let mut group = Group::new(3, |_| {});
    group.elect(1);
    group.node(1).propose(command("a")).unwrap();
    group.settle();
    assert_eq!(group.node(1).quiesce(), Err(QuiesceError::Busy));
    group.tick(4);
    for raw in 1..=3 {
        assert_eq!(group.node(raw).quiesce(), Ok(()), "node {raw}");
    }
    group.sent = 0;
    group.tick(100);
    assert_eq!(group.sent, 0);
    group.node(1).propose(command("b")).unwrap();
    group.tick(3);
    assert_eq!(group.commands(3), ["a", "b"]);
    assert!(group.node(1).is_leader());
}
