//! The bugs that random runs seldom meet, each with the one test that must find it.

use bytes::Bytes;

use super::*;
use crate::config::{Config, ReadMode};
use crate::entry::{Entry, Payload};
use crate::id::{EntryId, Index, NodeId, Term};
use crate::log::LogSlice;
use crate::membership::{Change, Leave, Membership, MembershipChange};
use crate::message::{Body, Message, Round, VoteReason};
use crate::node::Node;
use crate::ready::Ready;
use crate::rng::Rng;
use crate::storage::MemoryLogStore;

fn id(raw: u64) -> NodeId {
    NodeId::new(raw).unwrap()
}

fn at(term: u64, index: u64) -> EntryId {
    EntryId::new(Term(term), Index(index))
}

/// Node 1 of three, with a log of these entries, all durable.
struct One {
    node: Node,
    store: MemoryLogStore,
}

impl One {
    fn new(entries: &[Entry], membership: Membership, configure: impl FnOnce(&mut Config)) -> Self {
        let store = MemoryLogStore::new(membership);
        store.append(entries);
        let mut config = Config::new(id(1));
        config.pre_vote = false;
        configure(&mut config);
        let node = Node::open(config, Rng::seeded(1), Box::new(store.clone())).unwrap();
        Self { node, store }
    }

    fn hear(&mut self, from: u64, term: u64, body: Body) {
        self.node.step(Message { from: id(from), to: id(1), term: Term(term), body }).unwrap();
    }

    fn hear_append(&mut self, term: u64, previous: EntryId, entries: Vec<Entry>, commit: u64) {
        let slice = LogSlice::new(Term(term), previous, entries.into()).unwrap();
        self.hear(2, term, Body::Append { slice, commit: Index(commit), round: Round::ZERO });
    }

    /// Writes, syncs and applies; returns what was sent.
    fn work(&mut self) -> Vec<Message> {
        let mut sent = Vec::new();
        while let Some(Ready { messages, committed, write, .. }) = self.node.ready() {
            sent.extend(messages);
            if let Some(write) = write {
                self.store.write(&write);
                sent.extend(self.node.on_synced(write.synced()));
            }
            for entry in &committed {
                if let Payload::Membership(_) = entry.payload {
                    self.node.apply_membership(entry.index).unwrap();
                }
            }
            if let Some(last) = committed.last() {
                self.node.on_applied(last.index);
            }
        }
        sent
    }

    /// Makes it the leader of term 1, with its first entry held by node 2.
    fn lead(&mut self) {
        self.node.campaign().unwrap();
        self.work();
        self.hear(2, 1, Body::VoteReply { granted: true });
        self.work();
        self.hear(2, 1, Body::AppendAccepted { matched: at(1, 1), round: Round::ZERO });
        self.work();
        assert_eq!((self.node.is_leader(), self.node.applied()), (true, Index(1)));
    }

    /// Ticks until heartbeats leave; returns their round.
    fn heartbeat(&mut self) -> Round {
        loop {
            self.node.tick();
            let round = self.work().into_iter().find_map(|message| match message.body {
                Body::Heartbeat { round, .. } => Some(round),
                _ => None,
            });
            if let Some(round) = round {
                return round;
            }
        }
    }
}

fn entry(term: u64, index: u64, payload: Payload) -> Entry {
    Entry { index: Index(index), term: Term(term), payload }
}

fn three() -> Membership {
    Membership::new([1, 2, 3].map(id), [])
}

fn commits_what_was_verified(flaws: Flaws) {
    let own = [1, 2, 3].map(|index| entry(1, index, Payload::Empty));
    let mut follower = One::new(&own, three(), |config| config.flaws = flaws);
    // The leader has other entries at 2 and 3, and this follower does not have them yet.
    follower.hear_append(2, at(1, 1), Vec::new(), 3);
    assert_eq!(follower.node.commit(), Index(1));
}

fn elects_by_both_halves(flaws: Flaws) {
    let change = MembershipChange::Joint {
        changes: vec![Change::Remove(id(2)), Change::Remove(id(3)), Change::AddVoter(id(4))],
        leave: Leave::OnRequest,
        context: Bytes::new(),
    };
    let joint = three().changed(&change).unwrap();
    let mut candidate = One::new(&[], joint, |config| config.flaws = flaws);
    candidate.node.campaign().unwrap();
    candidate.work();
    candidate.hear(4, 1, Body::VoteReply { granted: true });
    assert!(!candidate.node.is_leader(), "two of the outgoing three have not voted");
    candidate.hear(3, 1, Body::VoteReply { granted: true });
    assert!(candidate.node.is_leader());
}

fn campaigns_by_the_newest_members(flaws: Flaws) {
    let change = MembershipChange::new(vec![Change::AddVoter(id(4))], Bytes::new());
    let own = [entry(1, 1, Payload::Membership(change.into()))];
    let mut follower = One::new(&own, three(), |config| config.flaws = flaws);
    follower.hear_append(1, at(1, 1), Vec::new(), 1);
    assert!(follower.node.campaign().is_err(), "it does not know of node 4");
    follower.work();
    follower.node.campaign().unwrap();
}

fn reads_are_confirmed_by_later_answers(flaws: Flaws) {
    let mut leader = One::new(&[], three(), |config| config.flaws = flaws);
    leader.lead();
    let earlier = leader.heartbeat();
    leader.node.read_index(Bytes::from_static(b"first")).unwrap();
    leader.hear(2, 1, Body::HeartbeatReply { round: earlier });
    assert!(leader.node.status().reads_waiting == 1, "it was answered before the read came");
    leader.work();
    leader.hear(2, 1, Body::HeartbeatReply { round: Round(earlier.0 + 1) });
    assert_eq!(leader.node.status().reads_waiting, 0);
}

fn a_lease_counts_from_the_question(flaws: Flaws) {
    let mut leader = One::new(&[], three(), |config| {
        config.flaws = flaws;
        config.reads = ReadMode::Lease { ticks: 8 };
    });
    leader.lead();
    let round = leader.heartbeat();
    for _ in 0..5 {
        leader.node.tick();
    }
    leader.hear(2, 1, Body::HeartbeatReply { round });
    assert_eq!(leader.node.lease_ticks(), Some(3));
}

fn follower_of_two(flaws: Flaws) -> One {
    let mut follower = One::new(&[], three(), |config| {
        config.flaws = flaws;
        config.reads = ReadMode::Lease { ticks: 8 };
    });
    follower.hear(2, 1, Body::Heartbeat { commit: Index(0), round: Round(1) });
    follower
}

fn a_promise_outlives_its_term(flaws: Flaws) {
    let mut follower = follower_of_two(flaws);
    follower.work();
    // An answer to what it asked long ago.
    follower.hear(3, 2, Body::VoteReply { granted: false });
    assert_eq!(follower.node.term(), Term(2));
    follower.hear(3, 3, Body::Vote { last: at(1, 1), reason: VoteReason::Timeout });
    assert!(follower.work().is_empty(), "node 2 may be reading by lease");
}

fn an_answer_waits_for_its_term(flaws: Flaws) {
    let mut follower = follower_of_two(flaws);
    let ready = follower.node.ready().unwrap();
    assert!(ready.messages.is_empty(), "a restart would forget what was promised");
    let synced = follower.node.on_synced(ready.write.unwrap().synced());
    assert_eq!(synced.len(), 1);
}

/// A test, and the bug that it finds.
type Case = (Flaw, fn(Flaws));

const CASES: [Case; 7] = [
    (Flaw::CommitUnverified, commits_what_was_verified),
    (Flaw::ElectByOneHalf, elects_by_both_halves),
    (Flaw::CampaignUnapplied, campaigns_by_the_newest_members),
    (Flaw::ReadByEarlierRound, reads_are_confirmed_by_later_answers),
    (Flaw::LeaseFromAnswer, a_lease_counts_from_the_question),
    (Flaw::PromiseByTerm, a_promise_outlives_its_term),
    (Flaw::AnswerBeforeSync, an_answer_waits_for_its_term),
];

/// Covers OPT-ri-duplicate-context, OPT-lease-send-time, 3A-campaign-unapplied.
#[test]
fn without_bugs_the_rules_hold() {
    for (_, check) in CASES {
        check(Flaws::NONE);
    }
}

#[cfg(feature = "seeded-bugs")]
#[test]
fn seeded_bugs_are_found_by_their_tests() {
    for (flaw, check) in CASES {
        let found = std::panic::catch_unwind(|| check(Flaws::one(flaw)));
        assert!(found.is_err(), "nothing was found wrong with {flaw:?}");
    }
}
