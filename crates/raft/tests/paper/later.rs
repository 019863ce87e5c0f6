//! Membership, snapshots, clients, and what the dissertation adds: sections 6 to 8 and "thesis".

use super::*;

/// §7: "the follower discards its entire log; it is all superseded by the snapshot". Covers
/// 2C-raft-restore, 2C-raft-leader-known, 2C-raft-members-overlap, 2C-raft-ignore-old,
/// 2C-raft-stale-snapshot-term, 2C-raft-not-member, 2C-raft-matching-prefix.
#[test]
fn section_7_a_snapshot_replaces_the_log_unless_it_is_old() {
    let snapshot = |last, members: &[u64]| {
        Body::Snapshot(Box::new(kiva_raft::Snapshot {
            last,
            membership: voters(members),
            data: Bytes::new(),
        }))
    };
    let mut group = alone(3, &[1, 1], hard(1, None, 0));
    group.forge(2, 1, 11, snapshot(at(11, 11), &[1, 3, 4]));
    assert_eq!(group.peer(1).node().leader(), Some(id(2)));
    group.stabilise();
    let node = group.peer(1).node();
    assert_eq!((node.last_index(), node.term_at(Index(11))), (Index(11), Some(Term(11))));
    assert_eq!((node.commit(), node.applied()), (Index(11), Index(11)));
    assert_eq!(node.membership(), &voters(&[1, 3, 4]));
    let accepted = Body::AppendAccepted { matched: at(11, 11), round: Round::ZERO };
    assert_eq!(group.sent.last().expect("an answer").body, accepted);

    // What is committed is not taken back; the answer says how far it goes.
    let mut group = alone(3, &[1, 1, 1], hard(1, None, 3));
    group.stabilise();
    group.forge(2, 1, 1, snapshot(at(1, 1), &[1, 2]));
    group.stabilise();
    assert_eq!((group.commit(1), group.terms(1)), (3, vec![1, 1, 1]));
    let accepted = Body::AppendAccepted { matched: at(1, 3), round: Round::ZERO };
    assert_eq!(group.sent.last().expect("an answer").body, accepted);

    // A log that has the snapshot's last entry keeps what follows it (§7).
    let mut group = alone(3, &[1, 1, 1], hard(1, None, 0));
    group.forge(2, 1, 1, snapshot(at(1, 2), &[1, 2, 3]));
    group.stabilise();
    assert_eq!((group.commit(1), group.terms(1)), (2, vec![1, 1, 1]));

    // An older term, and a group that this node is no member of.
    for (term, members) in [(1, &[1, 2, 3][..]), (2, &[2, 3])] {
        let mut group = alone(3, &[1], hard(2, None, 0));
        group.forge(2, 1, term, snapshot(at(1, 9), members));
        group.stabilise();
        assert_eq!((group.commit(1), group.terms(1)), (0, vec![1]), "term {term}");
    }
}

/// §7: a follower that needs what is compacted gets a snapshot. Covers 2C-raft-provide,
/// 2C-raft-slow-node, 2C-raft-snapshot-unavailable, 2C-raft-ready-once.
#[test]
fn section_7_a_slow_follower_gets_a_snapshot() {
    let mut group = Group::of(3, |config| {
        plain(config);
        config.tail_bytes_max = 0;
    });
    group.elect(1);
    group.isolate(3);
    for number in 0..100 {
        group.propose(1, &format!("x{number}")).expect("node 1 leads");
        group.tick(1, 1);
        group.stabilise();
    }
    group.peer(1).store.set_snapshot_pending(true);
    group.peer(1).store.compact(Index(101)).expect("it is there");
    group.heal();
    group.tick(1, 2);
    group.stabilise();
    assert_eq!(group.commit(3), 1, "there is no snapshot yet");
    group.propose(1, "y").expect("node 1 leads");
    group.stabilise();
    assert_eq!(group.commit(1), 102, "others do not wait for it");
    let before = group.sent.len();
    group.peer(1).build_snapshot().expect("there is a state");
    group.peer(1).node().on_log_fetched();
    group.tick(1, 2);
    group.stabilise();
    let snapshots = group.sent[before..]
        .iter()
        .filter(|message| matches!(message.body, Body::Snapshot(_)))
        .count();
    assert_eq!(snapshots, 1);
    group.propose(1, "z").expect("node 1 leads");
    group.stabilise();
    group.tick(1, 2);
    group.stabilise();
    assert_eq!((group.commit(3), group.commit(1)), (103, 103));
    let (one, three) = (group.peer(1).state, group.peer(3).state);
    assert_eq!(one, three, "the same state by another way");
}

/// §8: "a leader … exchange\[s\] heartbeat messages with a majority of the cluster before
/// responding to read-only requests". Covers OPT-ri-basic, OPT-ri-new-leader, OPT-ri-batch.
#[test]
fn section_8_reads_wait_for_a_round_of_heartbeats() {
    let mut group = Group::of(3, plain);
    group.elect(1);
    group.propose(1, "x").expect("node 1 leads");
    group.stabilise();
    let before = group.sent.len();
    for number in 0..100 {
        group.peer(1).node().read_index(format!("r{number}").into()).expect("it leads");
    }
    while group.ready(1) {}
    assert!(group.reads.is_empty(), "nobody has confirmed anything");
    group.stabilise();
    let reads = &group.reads[&id(1)];
    assert_eq!(reads.len(), 100);
    let at_two =
        |read: &ReadOutcome| matches!(read, ReadOutcome::Confirmed { index: Index(2), .. });
    assert!(reads.iter().all(at_two), "{reads:?}");
    let rounds = group.sent[before..]
        .iter()
        .filter(|sent| matches!(sent.body, Body::Heartbeat { .. }) && sent.to == id(2))
        .count();
    assert!(rounds <= 2, "{rounds} rounds for reads that came together");

    // A leader of a new term does not know what is committed until its first entry is (§8).
    let mut group = alone(3, &[1, 1], hard(1, None, 0));
    group.peer(1).node().campaign().expect("a voter campaigns");
    group.stabilise();
    group.forge(2, 1, 2, Body::VoteReply { granted: true });
    group.peer(1).node().read_index(Bytes::from_static(b"early")).expect("it leads");
    group.stabilise();
    group.forge(2, 1, 2, Body::HeartbeatReply { round: Round(99) });
    group.stabilise();
    assert!(group.reads.is_empty(), "held back");
    let accepted = |round| Body::AppendAccepted { matched: at(2, 3), round: Round(round) };
    group.forge(2, 1, 2, accepted(0));
    group.stabilise();
    assert_eq!(group.commit(1), 3);
    assert!(group.reads.is_empty(), "and asked for now");
    group.forge(2, 1, 2, accepted(1));
    group.stabilise();
    let context = Bytes::from_static(b"early");
    let read = ReadOutcome::Confirmed { context, index: Index(3) };
    assert_eq!(group.reads[&id(1)], [read]);
}

/// §8: reads of a leader that is replaced are refused, however many wait. Covers OPT-ri-memory.
#[test]
fn section_8_a_deposed_leader_refuses_the_reads_that_wait() {
    let mut group = Group::of(3, plain);
    group.elect(1);
    group.isolate(1);
    for number in 0..10_000 {
        group.peer(1).node().read_index(format!("r{number}").into()).expect("it leads");
    }
    group.stabilise();
    assert_eq!(group.peer(1).node().status().reads_waiting, 10_000);
    group.elect(2);
    group.heal();
    group.tick(2, 2);
    group.stabilise();
    assert_eq!(group.peer(1).node().status().reads_waiting, 0);
    let reads = &group.reads[&id(1)];
    assert_eq!(reads.len(), 10_000);
    assert!(reads.iter().all(|read| matches!(read, ReadOutcome::Refused { .. })));
}

/// §5.3, in pieces. Covers 2A-log-max-size.
#[test]
fn section_5_3_appends_are_cut_at_the_limit_and_the_follower_catches_up() {
    let mut group = Group::of(3, |_| ());
    group.elect(1);
    group.isolate(3);
    for _ in 0..1_000 {
        group.peer(1).node().propose(vec![0; 10 * 1024].into()).expect("node 1 leads");
        group.stabilise_only(&[1, 2]);
    }
    let before = group.sent.len();
    group.heal();
    group.tick(1, 2);
    group.stabilise();
    assert_eq!(group.peer(3).node().last_index(), group.peer(1).node().last_index());
    let sizes: Vec<usize> = group.sent[before..]
        .iter()
        .filter_map(|message| match &message.body {
            Body::Append { slice, .. } if message.to == id(3) => Some(slice.entries().size()),
            _ => None,
        })
        .collect();
    assert!(sizes.iter().all(|size| *size <= 1024 * 1024), "{sizes:?}");
    assert!(sizes.len() < 30, "{sizes:?}");
}

/// Thesis §6.4.1: a lease rests on voters that refuse others, and on a timeout that outlasts it.
/// Covers OPT-lease-without-quorum-check.
#[test]
fn thesis_section_6_4_1_a_lease_needs_check_quorum_and_a_longer_timeout() {
    use kiva_raft::{ConfigError, ReadMode};
    let mut config = Config::new(id(1));
    config.reads = ReadMode::Lease { ticks: 8 };
    assert_eq!(config.check(), Ok(()));
    config.reads = ReadMode::Lease { ticks: 9 };
    assert_eq!(config.check(), Err(ConfigError::LeaseTooLong { lease: 9, election: 10 }));
    config.reads = ReadMode::Lease { ticks: u32::MAX };
    let lease = u32::MAX;
    assert_eq!(config.check(), Err(ConfigError::LeaseTooLong { lease, election: 10 }));
    config.reads = ReadMode::Lease { ticks: 8 };
    config.check_quorum = false;
    assert_eq!(config.check(), Err(ConfigError::LeaseWithoutCheckQuorum));
}

/// §5.6: timing that cannot work is refused, and so are limits with which nothing would move.
#[test]
fn section_5_6_settings_that_make_no_sense_are_refused() {
    use kiva_raft::ConfigError::{ElectionTooLong, ElectionTooShort, NoHeartbeats, ZeroLimit};
    use kiva_raft::ReadMode;
    let check = |adjust: fn(&mut Config)| {
        let mut config = Config::new(id(1));
        adjust(&mut config);
        config.check()
    };
    assert_eq!(check(|config| config.heartbeat_ticks = 0), Err(NoHeartbeats));
    let short = ElectionTooShort { election: 2, heartbeat: 2 };
    assert_eq!(check(|config| config.election_ticks = 2), Err(short));
    let long = ElectionTooLong { election: u32::MAX };
    assert_eq!(check(|config| config.election_ticks = u32::MAX), Err(long));
    let zero = |field| Err(ZeroLimit { field });
    assert_eq!(check(|config| config.entry_bytes_max = 0), zero("entry_bytes_max"));
    assert_eq!(check(|config| config.append_bytes_max = 0), zero("append_bytes_max"));
    assert_eq!(check(|config| config.inflight_messages_max = 0), zero("inflight_messages_max"));
    assert_eq!(check(|config| config.reads = ReadMode::Lease { ticks: 0 }), zero("reads"));
}

/// §5.3, at the smallest limits there are: one entry travels, is applied, and waits at a time, and
/// everything arrives.
#[test]
fn section_5_3_the_smallest_limits_move_one_entry_at_a_time() {
    let mut group = Group::of(3, |config| {
        config.append_bytes_max = 1;
        config.inflight_messages_max = 1;
        config.inflight_bytes_max = 0;
        config.uncommitted_bytes_max = 0;
        config.apply_bytes_max = 0;
        config.applying_bytes_max = 0;
        config.tail_bytes_max = 0;
    });
    group.elect(1);
    for text in ["a", "b", "c"] {
        group.propose(1, text).unwrap();
        let refused = ProposeError::TooManyUncommitted { bytes: 1, max: 0 };
        assert_eq!(group.propose(1, "more"), Err(refused));
        group.stabilise();
    }
    group.tick(1, 2);
    group.stabilise();
    for number in 1..=3 {
        let own = &group.applied[&id(number)];
        assert_eq!(*own, ["1/1 empty", "1/2 \"a\"", "1/3 \"b\"", "1/4 \"c\""]);
    }
}

/// §6: "voters are in both configurations", and a commit needs both majorities.
/// Covers DD-quorum-joint-commit.
#[test]
fn section_6_a_joint_configuration_needs_both_majorities() {
    let mut group = Group::of(3, plain);
    for number in [4, 5] {
        let mut config = Config::new(id(number));
        plain(&mut config);
        group.add(config, MemoryLogStore::new(voters(&[1, 2, 3])));
    }
    group.elect(1);
    let changes = [2, 3].map(|node| Change::Remove(id(node)));
    let adding = [4, 5].map(|node| Change::AddVoter(id(node)));
    let change = MembershipChange::Joint {
        changes: changes.into_iter().chain(adding).collect(),
        leave: kiva_raft::Leave::OnRequest,
        context: Bytes::new(),
    };
    group.peer(1).node().propose_membership(change).expect("it is allowed");
    group.stabilise();
    let members = group.peer(1).node().membership().clone();
    assert_eq!(
        (members.voters(), members.outgoing()),
        (&ids(&[1, 4, 5])[..], &ids(&[1, 2, 3])[..])
    );
    for cut in [[2, 3], [4, 5]] {
        cut.iter().for_each(|&node| group.isolate(node));
        let before = group.commit(1);
        group.propose(1, "x").expect("node 1 leads");
        group.stabilise();
        assert_eq!(group.commit(1), before, "one majority is not enough");
        group.heal();
        group.tick(1, 2);
        group.stabilise();
        group.tick(1, 2);
        group.stabilise();
        assert_eq!(group.commit(1), before + 1);
    }
    // Elections need both as well.
    [2, 3].into_iter().for_each(|node| group.isolate(node));
    group.peer(4).node().campaign().expect("a voter campaigns");
    group.stabilise();
    assert_eq!(group.role(4), RoleName::Candidate, "1 and 5 are a majority of one half only");
    group.heal();
    group.elect(5);
}

fn ids(numbers: &[u64]) -> Vec<kiva_raft::NodeId> {
    numbers.iter().copied().map(id).collect()
}

/// Thesis §3.10: the leader brings the target up to date and lets it campaign at once. Covers
/// 3A-transfer-up-to-date, 3A-transfer-slow-follower, OPT-cq-transfer.
#[test]
fn thesis_section_3_10_leadership_moves_without_waiting_for_a_timeout() {
    let mut group = Group::of(3, |_| ());
    group.elect(1);
    group.isolate(2);
    group.propose(1, "x").expect("node 1 leads");
    group.stabilise();
    group.heal();
    group.peer(1).node().transfer_leadership(id(2)).expect("node 2 is a voter");
    let during = group.propose(1, "y");
    assert_eq!(during, Err(ProposeError::TransferInProgress { target: id(2) }));
    group.stabilise();
    group.tick(1, 2);
    group.stabilise();
    assert_eq!((group.role(1), group.role(2)), (RoleName::Follower, RoleName::Leader));
    assert!(matches!(group.propose(2, "z"), Ok(Proposed::Appended(_))));
    group.stabilise();
    group.peer(2).node().transfer_leadership(id(1)).expect("node 1 is a voter");
    group.stabilise();
    assert_eq!(group.role(1), RoleName::Leader);
}
