//! The Raft paper as a test plan: one test per claim, by section.
//!
//! Sections are those of Ongaro and Ousterhout, "In Search of an Understandable Consensus
//! Algorithm (Extended Version)", 2014; those with "thesis" of Ongaro's dissertation of the same
//! year.

#[path = "paper/later.rs"]
mod later;
mod support;
#[path = "paper/tables.rs"]
mod tables;

use std::collections::BTreeSet;

use bytes::Bytes;
use kiva_raft::{
    Body, Change, Config, Entries, Entry, EntryId, HardState, Index, LogSlice, MembershipChange,
    MemoryLogStore, Payload, ProposeError, Proposed, ReadOutcome, RoleName, Round, Term,
    VoteReason,
};
use support::group::{Group, at, id, voters};

/// The paper's protocol and nothing else: neither pre-vote nor check-quorum.
fn plain(config: &mut Config) {
    config.pre_vote = false;
    config.check_quorum = false;
}

/// Empty entries with these terms, from `first` on.
fn run(first: u64, terms: &[u64]) -> Entries {
    let entry = |(position, &term): (usize, &u64)| Entry {
        index: Index(first + position as u64),
        term: Term(term),
        payload: Payload::Empty,
    };
    terms.iter().enumerate().map(entry).collect()
}

fn append(term: u64, previous: EntryId, terms: &[u64], commit: u64) -> Body {
    let entries = run(previous.index.0 + 1, terms);
    let slice = LogSlice::new(Term(term), previous, entries).expect("part of a log");
    Body::Append { slice, commit: Index(commit), round: Round::ZERO }
}

fn vote(last: EntryId) -> Body {
    Body::Vote { last, reason: VoteReason::Timeout }
}

/// Node 1 of a plain group of `count`, with a past; nobody else is there.
fn alone(count: u64, terms: &[u64], hard_state: HardState) -> Group {
    let numbers: Vec<u64> = (1..=count).collect();
    let store = MemoryLogStore::new(voters(&numbers));
    store.append(&run(1, terms));
    store.set_hard_state(hard_state);
    let mut config = Config::new(id(1));
    plain(&mut config);
    let mut group = Group::default();
    group.add(config, store);
    group
}

fn hard(term: u64, vote: Option<u64>, commit: u64) -> HardState {
    HardState {
        term: Term(term),
        vote: vote.and_then(kiva_raft::NodeId::new),
        commit: Index(commit),
    }
}

/// Brings node 1 of three, which is alone, into a role at term 1.
fn in_role(role: RoleName) -> Group {
    let mut group = alone(3, &[], HardState::default());
    match role {
        RoleName::Follower => {
            group.forge(2, 1, 1, Body::Heartbeat { commit: Index(0), round: Round::ZERO });
            group.stabilise();
        }
        RoleName::Candidate => {
            group.peer(1).node().campaign().expect("a voter campaigns");
            group.stabilise();
        }
        RoleName::Leader => {
            group.peer(1).node().campaign().expect("a voter campaigns");
            group.stabilise();
            group.forge(2, 1, 1, Body::VoteReply { granted: true });
            group.stabilise();
        }
        RoleName::PreCandidate => unreachable!("the paper knows none"),
    }
    assert_eq!((group.role(1), group.term(1)), (role, 1));
    group
}

const ROLES: [RoleName; 3] = [RoleName::Follower, RoleName::Candidate, RoleName::Leader];

/// §5.2: "When servers start up, they begin as followers." Covers 2A-elect-start-follower.
#[test]
fn section_5_2_servers_start_as_followers() {
    let mut group = alone(3, &[], HardState::default());
    assert_eq!(group.role(1), RoleName::Follower);
    assert!(!group.ready(1), "a new node has nothing to do");
}

/// §5.1: "If one server's current term is smaller than the other's, then it updates its current
/// term to the larger value." Covers 2A-elect-term-follower, 2A-elect-term-candidate,
/// 2A-elect-term-leader, 2A-elect-candidate-fallback.
#[test]
fn section_5_1_a_later_term_is_adopted_in_every_role() {
    for role in ROLES {
        let mut group = in_role(role);
        group.forge(3, 1, 2, append(2, EntryId::ZERO, &[], 0));
        assert_eq!((group.role(1), group.term(1)), (RoleName::Follower, 2), "{role:?}");
        assert_eq!(group.peer(1).node().leader(), Some(id(3)));
    }
    let mut group = in_role(RoleName::Candidate);
    group.forge(3, 1, 1, append(1, EntryId::ZERO, &[], 0));
    assert_eq!((group.role(1), group.term(1)), (RoleName::Follower, 1));
    assert_eq!(group.peer(1).node().leader(), Some(id(3)));
}

/// §5.1: "If a server receives a request with a stale term number, it rejects the request."
/// Covers 2A-log-old-messages.
#[test]
fn section_5_1_a_request_of_a_stale_term_changes_nothing() {
    let mut group = Group::of(3, plain);
    group.elect(1);
    group.elect(2);
    group.elect(1);
    group.forge(2, 3, 2, append(2, at(2, 2), &[2, 2, 2], 5));
    group.stabilise();
    group.propose(1, "x").expect("node 1 leads");
    group.stabilise();
    group.tick(1, 2);
    group.stabilise();
    for node in 1..=3 {
        assert_eq!(group.terms(node), [1, 2, 3, 3], "node {node}");
        assert_eq!(group.commit(node), 4, "node {node}");
    }
}

/// §5.2: "Leaders send periodic heartbeats … to all followers."
/// Covers 2A-elect-heartbeat-bcast, 2A-elect-beat-roles.
#[test]
fn section_5_2_a_leader_sends_heartbeats_and_nobody_else_does() {
    let mut group = Group::of(3, plain);
    group.elect(1);
    group.lost.insert("Append".into());
    group.propose(1, "x").expect("node 1 leads");
    group.ready(1);
    let before = group.sent.len();
    group.tick(1, 2);
    while group.ready(1) {}
    let sent: Vec<_> = group.sent[before..]
        .iter()
        .filter(|message| matches!(message.body, Body::Heartbeat { .. }))
        .map(|message| message.to)
        .collect();
    assert_eq!(sent, [id(2), id(3)], "{:?}", group.sent_by(1, before));
    for role in [RoleName::Follower, RoleName::Candidate] {
        let mut group = in_role(role);
        let before = group.sent.len();
        group.tick(1, 2);
        group.stabilise();
        assert_eq!(group.sent_by(1, before), [""; 0], "{role:?}");
    }
}

/// §5.2: "To begin an election, a follower increments its current term … votes for itself and
/// issues RequestVote RPCs in parallel to each of the other servers." The vote is durable first.
/// Covers 2A-elect-follower-campaigns, 2A-elect-candidate-retries.
#[test]
fn section_5_2_silence_makes_followers_and_candidates_campaign() {
    for (role, term) in [(RoleName::Follower, 2), (RoleName::Candidate, 2)] {
        let mut group = in_role(role);
        let before = group.sent.len();
        let mut ticks = 0;
        while group.term(1) < term {
            group.tick(1, 1);
            ticks += 1;
            assert!(ticks < 20, "no election within two timeouts");
        }
        assert!(ticks >= 10, "an election after {ticks} ticks");
        while group.ready(1) {}
        assert_eq!(group.sent_by(1, before), [""; 0], "sealed until the vote is durable");
        group.stabilise();
        assert_eq!(group.role(1), RoleName::Candidate);
        let state = group.peer(1).store.hard_state();
        assert_eq!((state.term, state.vote), (Term(term), Some(id(1))));
        let to: Vec<_> = group.sent[before..]
            .iter()
            .filter(|message| matches!(message.body, Body::Vote { .. }))
            .map(|message| (message.to.get(), message.term.0))
            .collect();
        assert_eq!(to, [(2, term), (3, term)], "{role:?}");
    }
}

/// §5.2: "A candidate wins an election if it receives votes from a majority of the servers in the
/// full cluster for the same term." Covers 2A-elect-tally, 2A-elect-duplicate-grant,
/// 2A-elect-stale-grant, 2A-elect-majority-refusal, 2A-elect-single.
#[test]
fn section_5_2_a_majority_of_votes_elects() {
    use RoleName::{Candidate, Follower, Leader};
    type Case<'a> = (u64, &'a [(u64, bool)], RoleName);
    let cases: [Case<'_>; 13] = [
        (1, &[], Leader),
        (3, &[(2, true), (3, true)], Leader),
        (3, &[(2, true)], Leader),
        (3, &[(2, false), (3, true)], Leader),
        (3, &[], Candidate),
        (3, &[(2, false)], Candidate),
        (3, &[(2, false), (3, false)], Follower),
        (5, &[(2, true), (3, true)], Leader),
        (5, &[(2, true)], Candidate),
        (5, &[(2, true), (2, true), (2, true)], Candidate),
        (5, &[(2, false), (3, false)], Candidate),
        (5, &[(2, false), (2, false), (2, false)], Candidate),
        (5, &[(2, false), (3, false), (4, false)], Follower),
    ];
    for (count, replies, role) in cases {
        let mut group = alone(count, &[], HardState::default());
        group.peer(1).node().campaign().expect("a voter campaigns");
        group.stabilise();
        for &(voter, granted) in replies {
            group.forge(voter, 1, 1, Body::VoteReply { granted });
            group.stabilise();
        }
        assert_eq!((group.role(1), group.term(1)), (role, 1), "{count} nodes, {replies:?}");
    }
    let mut group = alone(3, &[], HardState::default());
    group.peer(1).node().campaign().expect("a voter campaigns");
    group.stabilise();
    group.peer(1).node().campaign().expect("a voter campaigns again");
    group.stabilise();
    group.forge(2, 1, 1, Body::VoteReply { granted: true });
    assert_eq!((group.role(1), group.term(1)), (Candidate, 2), "a vote of the last term");
}

/// §5.2, in groups of which some nodes cannot be reached. Covers 2A-elect-network,
/// 2A-elect-cycle, OPT-pv-election.
#[test]
fn section_5_2_leaders_need_a_majority_of_everybody() {
    for pre_vote in [false, true] {
        for (count, down, wins) in
            [(3, 0, true), (3, 1, true), (3, 2, false), (4, 1, true), (4, 2, false), (5, 3, false)]
        {
            let mut group = Group::of(count, |config| config.pre_vote = pre_vote);
            (count - down + 1..=count).for_each(|node| group.isolate(node));
            group.peer(1).node().campaign().expect("a voter campaigns");
            group.stabilise();
            let (role, term) = match (wins, pre_vote) {
                (true, _) => (RoleName::Leader, 1),
                (false, false) => (RoleName::Candidate, 1),
                (false, true) => (RoleName::PreCandidate, 0),
            };
            assert_eq!((group.role(1), group.term(1)), (role, term), "{count} - {down}");
        }
    }
    let mut group = Group::of(3, plain);
    for leader in [1, 2, 3, 1] {
        group.elect(leader);
        for node in 1..=3 {
            let role = group.role(node);
            assert_eq!(role == RoleName::Leader, node == leader);
        }
    }
}

/// §5.2: "Each server will vote for at most one candidate in a given term, on a
/// first-come-first-served basis." Covers 2A-elect-vote-once.
#[test]
fn section_5_2_a_vote_is_given_once_per_term() {
    for (voted, asker, granted) in [
        (None, 2, true),
        (None, 3, true),
        (Some(2), 2, true),
        (Some(3), 3, true),
        (Some(2), 3, false),
        (Some(3), 2, false),
    ] {
        let mut group = alone(3, &[], hard(1, voted, 0));
        group.forge(asker, 1, 1, vote(EntryId::ZERO));
        group.stabilise();
        let replies: Vec<_> = group.sent.iter().map(|reply| (reply.term, &reply.body)).collect();
        assert_eq!(replies, [(Term(1), &Body::VoteReply { granted })], "{voted:?} {asker}");
    }
}

/// Figure 2: the vote is persistent, and written before it is answered. Covers
/// 2A-elect-vote-durable.
#[test]
fn figure_2_a_vote_survives_a_restart_and_leaves_after_it_is_durable() {
    let mut group = alone(3, &[], HardState::default());
    group.forge(2, 1, 1, vote(EntryId::ZERO));
    while group.ready(1) {}
    assert!(group.sent.is_empty(), "a vote that is not durable: {:?}", group.sent);
    group.sync(1, 1);
    assert_eq!(group.sent.len(), 1);
    group.peer(1).crash(0);
    group.peer(1).restart().expect("the node starts again");
    group.forge(3, 1, 1, vote(EntryId::ZERO));
    group.stabilise();
    let replies: Vec<_> = group.sent.iter().map(|reply| &reply.body).collect();
    let [granted, refused] = [true, false].map(|granted| Body::VoteReply { granted });
    assert_eq!(replies, [&granted, &refused]);
}

/// §5.1, §5.2: a request of a later term is granted in every role. Covers 2A-elect-vote-any-role.
#[test]
fn section_5_1_a_vote_of_a_later_term_is_granted_in_every_role() {
    for role in ROLES {
        let mut group = in_role(role);
        let before = group.sent.len();
        group.forge(2, 1, 2, vote(at(1, 42)));
        group.stabilise();
        assert_eq!(group.sent_by(1, before), ["1→2 t2 VoteReply granted"], "{role:?}");
        assert_eq!((group.role(1), group.term(1)), (RoleName::Follower, 2));
        assert_eq!(group.peer(1).store.hard_state().vote, Some(id(2)));
    }
}

/// §5.2: "Raft uses randomized election timeouts to ensure that split votes are rare."
/// Covers 2A-elect-random-follower, 2A-elect-random-candidate.
#[test]
fn section_5_2_election_timeouts_are_drawn_from_one_to_two_timeouts() {
    for role in [RoleName::Follower, RoleName::Candidate] {
        let mut group = in_role(role);
        let mut seen = BTreeSet::new();
        for _ in 0..500 {
            let term = group.term(1);
            let mut ticks = 0;
            while group.term(1) == term {
                group.tick(1, 1);
                ticks += 1;
            }
            seen.insert(ticks);
            group.stabilise();
            if role == RoleName::Follower {
                let term = group.term(1);
                let heartbeat = Body::Heartbeat { commit: Index(0), round: Round::ZERO };
                group.forge(2, 1, term, heartbeat);
                group.stabilise();
            }
        }
        assert_eq!(seen, (10..20).collect(), "{role:?}");
    }
}

/// §5.2, the same claim about whole groups. Covers 2A-elect-noconflict-follower,
/// 2A-elect-noconflict-candidate.
#[test]
fn section_5_2_split_votes_are_rare() {
    for role in [RoleName::Follower, RoleName::Candidate] {
        let mut conflicts = 0;
        let mut group = Group::of(5, plain);
        (1..=5).for_each(|node| group.isolate(node));
        for _ in 0..1_000 {
            for node in 1..=5 {
                let term = group.term(node);
                if role == RoleName::Follower {
                    let from = node % 5 + 1;
                    let heartbeat = Body::Heartbeat { commit: Index(0), round: Round::ZERO };
                    group.cut.clear();
                    group.forge(from, node, term + 1, heartbeat);
                    group.isolate(node);
                } else {
                    let _ = group.peer(node).node().campaign();
                }
                while group.ready(node) {}
                group.sync(node, usize::MAX);
                group.network.clear();
            }
            let terms: Vec<u64> = (1..=5).map(|node| group.term(node)).collect();
            let mut first = 0;
            while first == 0 {
                (1..=5).for_each(|node| group.tick(node, 1));
                first = (1..=5).filter(|&node| group.term(node) > terms[node as usize - 1]).count();
            }
            conflicts += usize::from(first > 1);
        }
        assert!(conflicts <= 300, "{role:?}: {conflicts} of 1,000 timeouts at the same tick");
        assert!(conflicts > 0, "timeouts that are all different are not drawn");
    }
}

/// §5.3: "The leader appends the command to its log as a new entry, then issues AppendEntries RPCs
/// in parallel to each of the other servers." Covers 2A-log-start-replication, 2A-log-commit,
/// 2A-log-progress-self.
#[test]
fn section_5_3_a_leader_appends_sends_and_commits() {
    let mut group = Group::of(3, |config| {
        plain(config);
        config.eager_commit = true;
    });
    group.elect(1);
    let before = group.sent.len();
    group.propose(1, "x").expect("node 1 leads");
    assert_eq!(group.peer(1).node().last_index(), Index(2));
    group.ready(1);
    assert_eq!(group.commit(1), 1, "not committed yet");
    let appends: Vec<_> = group.sent[before..]
        .iter()
        .map(|message| match &message.body {
            Body::Append { slice, commit, .. } => {
                (message.to.get(), slice.previous(), slice.entries().len(), *commit)
            }
            other => panic!("not an append: {other:?}"),
        })
        .collect();
    assert_eq!(appends, [(2, at(1, 1), 1, Index(1)), (3, at(1, 1), 1, Index(1))]);
    let status = group.peer(1).node().status();
    let next: Vec<_> = status.progress.iter().map(|one| (one.id.get(), one.next.0)).collect();
    assert_eq!(next, [(1, 3), (2, 3), (3, 3)]);
    group.stabilise();
    for node in 1..=3 {
        assert_eq!(group.commit(node), 2, "told at once");
        assert_eq!(group.applied[&id(node)], ["1/1 empty", "1/2 \"x\""]);
    }
    let status = group.peer(1).node().status();
    assert!(status.progress.iter().all(|one| one.matched == Index(2) && one.next == Index(3)));
}

/// §5.3: "A log entry is committed once the leader that created the entry has replicated it on a
/// majority of the servers." Covers 2A-log-ack-matrix, 2A-log-single-node.
#[test]
fn section_5_3_an_entry_commits_when_a_majority_holds_it() {
    for (count, acceptors, commits) in [
        (1, &[][..], true),
        (3, &[], false),
        (3, &[2], true),
        (3, &[2, 3], true),
        (5, &[], false),
        (5, &[2], false),
        (5, &[2, 3], true),
        (5, &[2, 3, 4], true),
        (5, &[2, 3, 4, 5], true),
    ] {
        let mut group = Group::of(count, plain);
        group.elect(1);
        group.propose(1, "x").expect("node 1 leads");
        (2..=count).filter(|node| !acceptors.contains(node)).for_each(|node| group.isolate(node));
        group.stabilise();
        assert_eq!(group.commit(1), if commits { 2 } else { 1 }, "{count} {acceptors:?}");
    }
}

/// §5.3: "The leader decides when it is safe to apply … this also commits all preceding entries in
/// the leader's log." Covers 2A-log-commit-preceding, OPT-lease-current-term.
#[test]
fn section_5_3_committing_an_entry_commits_all_before_it() {
    for terms in [&[][..], &[2], &[1, 2], &[1]] {
        let mut group = alone(3, terms, hard(2, None, 0));
        group.peer(1).node().campaign().expect("a voter campaigns");
        group.stabilise();
        group.forge(2, 1, 3, Body::VoteReply { granted: true });
        group.propose(1, "x").expect("node 1 leads");
        group.stabilise();
        let old = terms.len() as u64;
        assert_eq!(group.commit(1), 0);
        let accepted = Body::AppendAccepted { matched: at(3, old + 2), round: Round::ZERO };
        group.forge(2, 1, 3, accepted);
        group.stabilise();
        let mut expected: Vec<String> =
            terms.iter().zip(1..).map(|(term, index)| format!("{term}/{index} empty")).collect();
        expected.push(format!("3/{} empty", old + 1));
        expected.push(format!("3/{} \"x\"", old + 2));
        assert_eq!(group.applied[&id(1)], expected);
    }
}

/// §5.3: followers apply what the leader says is committed, in log order. Covers
/// 2A-log-follower-commit, 2A-log-commit-monotone, 2A-log-append-below-commit.
#[test]
fn section_5_3_followers_commit_what_the_leader_says_they_hold() {
    for (terms, commit) in [(&[1][..], 1), (&[1, 1], 2), (&[1, 1], 1)] {
        let mut group = alone(3, &[], hard(1, None, 0));
        group.forge(2, 1, 1, append(1, EntryId::ZERO, terms, commit));
        group.stabilise();
        assert_eq!(group.commit(1), commit);
        let applied: Vec<_> = (1..=commit).map(|index| format!("1/{index} empty")).collect();
        assert_eq!(group.applied[&id(1)], applied);
        group.forge(2, 1, 1, append(1, EntryId::ZERO, &[], 0));
        group.forge(2, 1, 1, Body::Heartbeat { commit: Index(0), round: Round::ZERO });
        group.stabilise();
        assert_eq!(group.commit(1), commit, "a lower commit is old news");
    }
}

/// §5.3: "If the follower does not find an entry in its log with the same index and term, then it
/// refuses the new entries." Covers 2A-log-follower-check-prev.
#[test]
fn section_5_3_an_append_needs_its_predecessor() {
    for (previous, accepted) in
        [(at(0, 0), true), (at(1, 1), true), (at(2, 2), true), (at(1, 2), false), (at(2, 3), false)]
    {
        let mut group = alone(3, &[1, 2], hard(2, None, 1));
        group.forge(2, 1, 2, append(2, previous, &[], 0));
        group.stabilise();
        let reply = &group.sent.last().expect("an answer").body;
        let was_accepted = matches!(reply, Body::AppendAccepted { .. });
        assert_eq!(was_accepted, accepted, "{previous}: {reply:?}");
    }
}

/// §5.3: "If an existing entry conflicts with a new one (same index but different terms), delete
/// the existing entry and all that follow it." Covers 2A-log-follower-append,
/// 2A-log-stale-append-shorter.
#[test]
fn section_5_3_conflicts_are_deleted_and_repetitions_are_not() {
    type Case<'a> = (&'a [u64], EntryId, &'a [u64], &'a [u64]);
    let cases: [Case<'_>; 6] = [
        (&[1, 2], at(2, 2), &[3], &[1, 2, 3]),
        (&[1, 2], at(1, 1), &[3, 3], &[1, 3, 3]),
        (&[1, 2], at(0, 0), &[1], &[1, 2]),
        (&[1, 2], at(0, 0), &[3], &[3]),
        (&[1, 2, 2, 2], at(1, 1), &[2], &[1, 2, 2, 2]),
        (&[1, 2, 2, 2], at(2, 2), &[2, 3], &[1, 2, 2, 3]),
    ];
    for (log, previous, terms, after) in cases {
        let mut group = alone(3, log, hard(3, None, 0));
        group.forge(2, 1, 3, append(3, previous, terms, 9));
        let commit = previous.index.0 + terms.len() as u64;
        assert_eq!(group.commit(1), commit, "no further than what the append speaks for");
        group.stabilise();
        assert_eq!(group.terms(1), after);
        let reply = group.sent.last().expect("an answer").body.clone();
        let last = at(terms.last().copied().unwrap_or(0), commit);
        assert_eq!(reply, Body::AppendAccepted { matched: last, round: Round::ZERO });
    }
}

/// Figure 7: "The leader handles inconsistencies by forcing the followers' logs to duplicate its
/// own." Covers 2A-log-sync-follower, 2A-log-conflict-hint, OPT-fast-reject.
#[test]
fn figure_7_every_follower_ends_with_the_leaders_log() {
    let reference = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [(&[u64], usize); 6] = [
        (&[1, 1, 1, 4, 4, 5, 5, 6, 6], 1),
        (&[1, 1, 1, 4], 1),
        (&[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6], 2),
        (&[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7], 2),
        (&[1, 1, 1, 4, 4, 4, 4], 2),
        (&[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3], 3),
    ];
    for (log, refusals_max) in followers {
        let mut group = alone(3, &reference, hard(8, None, 0));
        for (number, log) in [(2, log), (3, &[][..])] {
            let store = MemoryLogStore::new(voters(&[1, 2, 3]));
            store.append(&run(1, log));
            store.set_hard_state(hard(log.last().copied().unwrap_or(0), None, 0));
            let mut config = Config::new(id(number));
            plain(&mut config);
            group.add(config, store);
        }
        group.elect(1);
        group.propose(1, "x").expect("node 1 leads");
        group.stabilise();
        let mut expected = reference.to_vec();
        expected.extend([9, 9]);
        assert_eq!(group.terms(2), expected, "{log:?}");
        let refusals = group.sent.iter().filter(|message| {
            message.from == id(2) && matches!(message.body, Body::AppendRejected { .. })
        });
        assert!(refusals.count() <= refusals_max, "{log:?}: {:#?}", group.sent_by(2, 0));
    }
}

/// §5.4.1: "RequestVote includes information about the candidate's log, and the voter denies its
/// vote if its own log is more up-to-date." Covers 2A-log-vote-request, 2A-log-voter-freshness,
/// 2A-log-vote-matrix.
#[test]
fn section_5_4_1_voters_refuse_older_logs() {
    for terms in [&[1][..], &[1, 2]] {
        let mut group = alone(3, terms, hard(2, None, 0));
        group.peer(1).node().campaign().expect("a voter campaigns");
        group.stabilise();
        let last = at(*terms.last().expect("an entry"), terms.len() as u64);
        let asked = group.sent.iter().filter(|message| message.body == vote(last)).count();
        assert_eq!(asked, 2);
    }
    for (log, candidate, granted) in [
        (&[1][..], at(1, 1), true),
        (&[1], at(1, 2), true),
        (&[1, 1], at(1, 1), false),
        (&[1], at(2, 1), true),
        (&[1], at(2, 2), true),
        (&[1, 1], at(2, 1), true),
        (&[2], at(1, 1), false),
        (&[2], at(1, 2), false),
        (&[2, 2], at(1, 1), false),
    ] {
        let mut group = alone(3, log, hard(2, None, 0));
        group.forge(2, 1, 3, vote(candidate));
        group.stabilise();
        let reply = &group.sent.last().expect("an answer").body;
        assert_eq!(reply, &Body::VoteReply { granted }, "{log:?} {candidate}");
    }
    for role in [RoleName::Candidate, RoleName::Leader] {
        let mut group = in_role(role);
        let before = group.sent.len();
        group.forge(2, 1, 1, vote(at(1, 42)));
        group.stabilise();
        assert_eq!(group.sent_by(1, before), ["1→2 t1 VoteReply refused"], "{role:?}");
    }
}

/// §5.4.2: "Only log entries from the leader's current term are committed by counting replicas."
/// Covers 2A-log-commit-current-term.
#[test]
fn section_5_4_2_only_entries_of_the_current_term_are_committed_by_counting() {
    for (matched, commit) in [(at(1, 1), 0), (at(2, 2), 0), (at(3, 3), 3)] {
        let mut group = alone(3, &[1, 2], hard(2, None, 0));
        group.peer(1).node().campaign().expect("a voter campaigns");
        group.stabilise();
        group.forge(2, 1, 3, Body::VoteReply { granted: true });
        group.stabilise();
        group.forge(2, 1, 3, Body::AppendAccepted { matched, round: Round::ZERO });
        group.stabilise();
        assert_eq!(group.commit(1), commit, "{matched}");
    }
}

/// §5.4.2, figure 8, by whole nodes. Covers 2A-log-noop-commits.
#[test]
fn section_5_4_2_entries_of_an_older_term_commit_with_the_next_leaders_first() {
    let mut group = Group::of(5, plain);
    group.elect(1);
    (3..=5).for_each(|node| group.isolate(node));
    group.propose(1, "x").expect("node 1 leads");
    group.propose(1, "y").expect("node 1 leads");
    group.stabilise();
    assert_eq!(group.commit(1), 1);
    group.heal();
    group.network.clear();
    group.peer(2).node().campaign().expect("a voter campaigns");
    group.stabilise();
    group.tick(2, 2);
    group.stabilise();
    for node in 1..=5 {
        assert_eq!((group.commit(node), group.terms(node)), (4, vec![1, 1, 1, 2]), "node {node}");
    }
}

/// §5.4.3, figure 8: entries that were not committed may be lost. Covers 2A-log-overwrite-newer.
#[test]
fn figure_8_an_entry_of_a_later_term_is_overwritten_when_it_was_not_committed() {
    let mut group = Group::default();
    for (number, log, state) in [
        (1, &[1][..], hard(1, None, 0)),
        (2, &[1], hard(1, None, 0)),
        (3, &[2], hard(2, Some(3), 0)),
        (4, &[], hard(2, Some(3), 0)),
        (5, &[], hard(2, Some(3), 0)),
    ] {
        let store = MemoryLogStore::new(voters(&[1, 2, 3, 4, 5]));
        store.append(&run(1, log));
        store.set_hard_state(state);
        let mut config = Config::new(id(number));
        plain(&mut config);
        group.add(config, store);
    }
    group.peer(1).node().campaign().expect("a voter campaigns");
    group.stabilise();
    assert_eq!((group.role(1), group.term(1)), (RoleName::Follower, 2));
    group.elect(1);
    for node in 1..=5 {
        assert_eq!(group.terms(node), [1, 3], "node {node}");
    }
}

/// §5.2, §5.3: the disturbances of a deposed leader end with its term. Covers
/// 2A-elect-candidate-heartbeat, 2A-elect-candidate-append, 2A-elect-split-vote, 2A-log-dueling,
/// 2A-log-concede, 2A-elect-disruptive.
#[test]
fn section_5_2_candidates_return_to_the_leader_of_their_term() {
    let mut group = Group::of(3, plain);
    group.isolate(1);
    group.peer(1).node().campaign().expect("a voter campaigns");
    group.stabilise();
    group.elect(3);
    group.heal();
    group.propose(3, "x").expect("node 3 leads");
    group.tick(3, 2);
    group.stabilise();
    group.tick(3, 2);
    group.stabilise();
    assert_eq!((group.role(1), group.term(1), group.commit(1)), (RoleName::Follower, 1, 2));
    assert_eq!(group.terms(1), group.terms(3));

    let mut group = Group::of(3, plain);
    group.elect(1);
    group.isolate(1);
    group.peer(2).node().campaign().expect("a voter campaigns");
    group.peer(3).node().campaign().expect("a voter campaigns");
    group.stabilise();
    assert_eq!((group.role(2), group.role(3)), (RoleName::Candidate, RoleName::Candidate));
    group.elect(3);
    assert_eq!((group.term(2), group.term(3)), (3, 3));

    let mut group = Group::of(3, plain);
    group.cut.extend([(id(1), id(3)), (id(3), id(1))]);
    group.elect(1);
    group.peer(3).node().campaign().expect("a voter campaigns");
    group.stabilise();
    assert_eq!(group.role(3), RoleName::Candidate);
    group.heal();
    group.peer(3).node().campaign().expect("a voter campaigns");
    group.stabilise();
    assert!((1..=3).all(|node| group.role(node) == RoleName::Follower && group.term(node) == 2));
    assert_eq!((group.terms(1), group.terms(2), group.terms(3)), (vec![1], vec![1], vec![]));

    let mut group = Group::of(3, plain);
    group.elect(1);
    group.isolate(3);
    group.peer(3).node().campaign().expect("a voter campaigns");
    group.stabilise();
    group.heal();
    group.tick(1, 2);
    group.stabilise();
    assert_eq!((group.role(1), group.term(1)), (RoleName::Follower, 2), "so that 3 is not stuck");
}

/// §5.3: a heartbeat commits nothing that may conflict. Covers 2A-log-heartbeat-commit-guard,
/// 2A-log-heartbeat-resync.
#[test]
fn section_5_3_a_heartbeat_commits_only_what_the_follower_is_known_to_hold() {
    for (own, theirs) in [(1, 1), (5, 1), (1, 3), (5, 3), (5, 10)] {
        let mut group = Group::of(3, plain);
        group.elect(1);
        group.isolate(1);
        for _ in 0..own {
            group.propose(1, "lost").expect("node 1 believes that it leads");
        }
        group.stabilise();
        group.elect(2);
        for _ in 0..theirs {
            group.propose(2, "kept").expect("node 2 leads");
        }
        group.stabilise();
        group.heal();
        group.lost.insert("Append".into());
        group.tick(2, 2);
        group.stabilise();
        assert_eq!(group.commit(1), 1, "{own} {theirs}");
        group.heal();
        group.tick(2, 2);
        group.stabilise();
        group.tick(2, 2);
        group.stabilise();
        assert_eq!(group.terms(1), group.terms(2), "one round of heartbeats shows the gap");
        assert_eq!(group.commit(1), group.commit(2));
    }
}

/// §5.3: nothing is accepted where nobody leads. Covers 2A-log-proposal-no-leader,
/// 2A-log-replicate.
#[test]
fn section_5_3_a_proposal_needs_a_leader() {
    let mut group = Group::of(3, plain);
    let refused = Err(ProposeError::NotLeader { leader: None });
    assert_eq!(group.propose(1, "x"), refused);
    (2..=3).for_each(|node| group.isolate(node));
    group.peer(1).node().campaign().expect("a voter campaigns");
    group.stabilise();
    assert_eq!(group.role(1), RoleName::Candidate);
    assert_eq!(group.propose(1, "x"), refused);
    assert_eq!((group.terms(1), group.term(1)), (vec![], 1));

    let mut group = Group::of(3, plain);
    group.elect(1);
    group.propose(1, "x").expect("node 1 leads");
    group.stabilise();
    group.elect(2);
    assert_eq!(group.propose(1, "y"), Err(ProposeError::NotLeader { leader: Some(id(2)) }));
    group.propose(2, "y").expect("node 2 leads");
    group.stabilise();
    group.tick(2, 2);
    group.stabilise();
    for node in 1..=3 {
        assert_eq!(group.commit(node), 4);
        let applied = ["1/1 empty", "1/2 \"x\"", "2/3 empty", "2/4 \"y\""];
        assert_eq!(group.applied[&id(node)], applied);
    }
}

/// §5.1: every role gives way to a later term, and the log stays. Covers 2A-log-stepdown-matrix.
#[test]
fn section_5_1_every_role_steps_down_for_votes_and_appends_of_a_later_term() {
    for role in ROLES {
        for (body, leader) in
            [(vote(at(9, 9)), None), (append(3, EntryId::ZERO, &[], 0), Some(id(2)))]
        {
            let mut group = in_role(role);
            let length = group.peer(1).node().last_index();
            group.forge(2, 1, 3, body);
            assert_eq!((group.role(1), group.term(1)), (RoleName::Follower, 3));
            let node = group.peer(1).node();
            assert_eq!((node.last_index(), node.leader()), (length, leader), "{role:?}");
        }
    }
}

/// §5.3: answers of nodes that are no members count for nothing. Covers 2A-log-unknown-sender.
#[test]
fn section_5_3_strangers_do_not_count() {
    let mut group = in_role(RoleName::Leader);
    let before = group.peer(1).node().status();
    let accepted = Body::AppendAccepted { matched: at(1, 1), round: Round::ZERO };
    group.forge(9, 1, 1, accepted);
    group.forge(9, 1, 1, Body::HeartbeatReply { round: Round::ZERO });
    assert_eq!(group.peer(1).node().status(), before);
}

/// §5.2: granting restarts the election timer, refusing does not. Covers
/// 2A-elect-grant-resets-timer.
#[test]
fn section_5_2_a_granted_vote_restarts_the_timer() {
    for (last, granted) in [(at(1, 5), true), (at(0, 0), false)] {
        let mut group = alone(3, &[1], hard(1, None, 0));
        let mut campaigned = false;
        // Requests of rising terms, more often than anybody times out.
        for term in 2..6 {
            group.tick(1, 5);
            campaigned |= group.role(1) == RoleName::Candidate;
            group.forge(2, 1, term, vote(last));
            group.stabilise();
        }
        assert_eq!(campaigned, !granted, "the longest timeout is less than twenty ticks");
        group.tick(1, 20);
        assert_eq!(group.role(1), RoleName::Candidate);
    }
}
