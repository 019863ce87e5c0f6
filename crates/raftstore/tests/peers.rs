//! The life of a replica: how one is made, moved, truncated, replaced and destroyed.

mod lab;

use kiva_base::{Epoch, Peer, PeerRole, RegionError};
use kiva_engine::{Cf, Engine, WriteBatch};
use kiva_raft::{Body, EntryId, Index, Message, NodeId, Round, Term, VoteReason};
use kiva_raftstore::command::PeerChange;
use kiva_raftstore::proposal::ProposeError;
use kiva_raftstore::store::AdminCommand;
use kiva_raftstore::transport::{Content, Envelope};
use lab::{Lab, REGION, peer, peer_id, region_id, store_id};

fn cut_off(lab: &mut Lab, number: u64) {
    let cut = store_id(number);
    lab.passes = Box::new(move |envelope| envelope.from.store != cut && envelope.to.store != cut);
}

fn heal(lab: &mut Lab) {
    lab.passes = Box::new(|_| true);
}

fn change(change: PeerChange) -> AdminCommand {
    AdminCommand::ChangePeers(vec![change])
}

fn learner(number: u64) -> Peer {
    Peer { role: PeerRole::Learner, ..peer(number) }
}

/// A message to a peer of store 2 that store 2 has never heard of.
fn unheard(body: Body) -> Envelope {
    let node = |number: u64| NodeId::new(number + 100).expect("not zero");
    Envelope {
        region: region_id(REGION),
        from: peer(1),
        to: peer(2),
        epoch: Epoch { conf_ver: 2, version: 1 },
        content: Content::Raft(Message { from: node(1), to: node(2), term: Term(6), body }),
    }
}

/// Covers 2B-initial-msg and OPT-pv-create-peer.
#[test]
fn only_what_a_group_says_to_a_newcomer_makes_a_peer() {
    let last = EntryId::new(Term(5), Index(9));
    let (round, reason) = (Round(1), VoteReason::Timeout);
    let cases = [
        (Body::PreVote { last }, true),
        (Body::Vote { last, reason }, true),
        (Body::Heartbeat { commit: Index(0), round }, true),
        (Body::Heartbeat { commit: Index(7), round }, false),
        (Body::VoteReply { granted: true }, false),
        (Body::AppendAccepted { matched: last, round }, false),
        (Body::TimeoutNow { round }, false),
        (Body::NewerTerm, false),
    ];
    for (body, creates) in cases {
        let mut lab = Lab::with(2, 1);
        let name = body.name();
        lab.stores[&2].assembly.inbox.deliver([unheard(body)]);
        lab.settle();
        assert_eq!(lab.router(2).regions().len(), usize::from(creates), "{name}");
    }
}

/// Covers 2C-apply-uninitialised: a peer that never had a range clears nothing.
#[test]
fn a_newcomer_clears_nothing_on_behalf_of_a_range_it_never_had() {
    let mut lab = Lab::with(2, 1);
    let mut foreign = WriteBatch::new();
    foreign.put(Cf::Local, b"z", b"of the store itself");
    lab.store(2).engine.write(&foreign).unwrap();
    lab.stores[&2]
        .assembly
        .inbox
        .deliver([unheard(Body::PreVote { last: EntryId::new(Term(5), Index(9)) })]);
    lab.settle();
    lab.elect(1);
    lab.put(1, "k", "v").unwrap();
    lab.admin(change(PeerChange::Add(learner(2)))).unwrap();
    lab.tick(10);
    assert_eq!(lab.stored(2, "k").as_deref(), Some("v"));
    let view = lab.store(2).engine.snapshot();
    assert!(view.get(Cf::Local, b"z").unwrap().is_some());
}

/// Covers 2C-apply-clears-old (store side), 2C-last-below-snapshot and 2C-read-after-snapshot.
#[test]
fn a_snapshot_takes_the_place_of_what_was_there() {
    let mut lab = Lab::new(3);
    lab.options.log_entries_max = 10;
    lab.options.compact_ticks = 2;
    (1..=3).for_each(|number| lab.crash(number));
    lab.elect(1);
    lab.put(1, "gone", "v").unwrap();
    lab.tick(4);
    assert!(lab.stored(3, "gone").is_some());
    cut_off(&mut lab, 3);
    let replica = lab.router(1).replica(&lab.header(1)).unwrap();
    let mut batch = WriteBatch::new();
    batch.delete(Cf::Default, b"gone");
    let term = lab.standing(1).term;
    lab.run(replica.propose(term, batch, Box::new(()))).unwrap();
    for number in 0..40 {
        lab.put(1, &format!("k{number:02}"), "v").unwrap();
        lab.tick(1);
    }
    heal(&mut lab);
    lab.tick(30);
    assert_eq!(lab.stored(3, "gone"), None);
    let status = lab.status(3);
    assert!(status.raft.first > Index(40), "the log begins behind the snapshot: {status:?}");
    assert_eq!(status.state.applied.index, lab.status(1).state.applied.index);
    lab.elect(3);
    let replica = lab.router(3).replica(&lab.header(3)).unwrap();
    let view = lab.run(replica.read_view()).unwrap();
    assert!(view.snapshot.get(Cf::Default, b"k39").unwrap().is_some());
    assert!(view.snapshot.get(Cf::Default, b"gone").unwrap().is_none());
}

/// Covers 2C-compact-restart and 3B-log-gc-per-region: the truncation is remembered by `data`, the
/// entries go with the next flush, and a crash in between costs nothing.
#[test]
fn a_truncation_survives_a_crash_before_the_entries_are_gone() {
    let mut lab = Lab::new(3);
    lab.options.log_entries_max = 10;
    lab.options.compact_ticks = 2;
    (1..=3).for_each(|number| lab.crash(number));
    lab.elect(1);
    for number in 0..60 {
        lab.put(1, &format!("k{number:02}"), "v").unwrap();
        lab.tick(1);
    }
    lab.tick(10);
    for number in 1..=3 {
        let state = lab.status(number).state;
        let behind = state.applied.index.since(state.truncated.index);
        assert!(behind <= 20, "store {number} keeps {behind} entries");
        // The engine is durable, the log has not been told.
        lab.store(number).engine.flush().unwrap();
    }
    let before = lab.status(2).state;
    (1..=3).for_each(|number| lab.crash(number));
    assert_eq!(lab.status(2).state.truncated, before.truncated);
    assert_eq!(lab.status(2).raft.first, before.truncated.index.next());
    lab.elect(2);
    (1..=3).for_each(|number| lab.flush(number));
    lab.put(2, "late", "v").unwrap();
    assert_eq!(lab.stored(2, "k00").as_deref(), Some("v"));
}

/// Covers 3B-add-back-same-store: the newer peer's messages end the old one first.
#[test]
fn a_newer_peer_on_the_same_store_takes_the_place_of_a_stale_one() {
    let mut lab = Lab::new(3);
    lab.elect(1);
    cut_off(&mut lab, 3);
    lab.admin(change(PeerChange::Remove(peer(3)))).unwrap();
    let newer = Peer { id: peer_id(900), ..peer(3) };
    lab.admin(change(PeerChange::Add(newer))).unwrap();
    assert_eq!(lab.standing(3).peer, peer(3), "it has not heard");
    heal(&mut lab);
    lab.put(1, "k", "v").unwrap();
    lab.tick(20);
    assert_eq!(lab.standing(3).peer.id, newer.id);
    assert_eq!(lab.stored(3, "k").as_deref(), Some("v"));
}

/// Covers 3B-uninitialised-removed: a peer whose snapshot never came is told like the others.
#[test]
fn a_peer_without_data_goes_when_it_is_removed() {
    let mut lab = Lab::with(2, 1);
    lab.elect(1);
    lab.passes = Box::new(|envelope| {
        !matches!(&envelope.content, Content::Raft(message)
            if matches!(message.body, Body::Snapshot(_)))
    });
    lab.admin(change(PeerChange::Add(learner(2)))).unwrap();
    lab.tick(10);
    assert!(lab.status(2).record.is_none(), "no snapshot has come");
    lab.admin(change(PeerChange::Remove(learner(2)))).unwrap();
    heal(&mut lab);
    lab.tick(60);
    let view = lab.store(2).engine.snapshot();
    let range = kiva_base::KeyRange::ALL;
    let mut local = view.iter(Cf::Local, &range, kiva_engine::Order::Forward);
    assert_eq!(local.next().unwrap(), None);
}

/// Covers 3B-destroy-twice: being told of its removal twice does a peer no harm.
#[test]
fn a_peer_is_destroyed_once() {
    let mut lab = Lab::new(3);
    lab.elect(1);
    lab.admin(change(PeerChange::Remove(peer(3)))).unwrap();
    let told = Envelope {
        region: region_id(REGION),
        from: peer(1),
        to: peer(3),
        epoch: Epoch { conf_ver: 9, version: 1 },
        content: Content::Removed,
    };
    lab.stores[&3].assembly.inbox.deliver([told.clone(), told.clone()]);
    lab.settle();
    lab.stores[&3].assembly.inbox.deliver([told]);
    lab.tick(10);
    assert!(lab.router(3).regions().is_empty());
    lab.put(1, "k", "v").unwrap();
}

/// Covers 3B-self-remove-stop and 3B-router-close: who waits at a peer that goes is told.
#[test]
fn whoever_waits_at_a_removed_peer_hears_that_it_is_gone() {
    let mut lab = Lab::new(3);
    let term = lab.elect(1);
    let replica = lab.router(1).replica(&lab.header(1)).unwrap();
    cut_off(&mut lab, 1);
    let mut batch = WriteBatch::new();
    batch.put(Cf::Default, b"k", b"v");
    let mut waiting = Box::pin(replica.propose(term, batch, Box::new(())));
    assert!(lab.poll(&mut waiting).is_none());
    lab.tick(60);
    let leader = (2..=3).find(|number| lab.standing(*number).is_settled).expect("a new leader");
    let (router, epoch) = (lab.router(leader), lab.standing(leader).region.epoch);
    let remove = change(PeerChange::Remove(peer(1)));
    lab.run(router.admin(region_id(REGION), epoch, remove)).unwrap();
    heal(&mut lab);
    lab.tick(60);
    assert!(lab.router(1).regions().is_empty());
    let answer = lab.run(waiting).unwrap_err();
    assert!(
        matches!(answer, ProposeError::Unknown | ProposeError::Refused(RegionError::StaleCommand)),
        "{answer}"
    );
    let mut batch = WriteBatch::new();
    batch.put(Cf::Default, b"k", b"w");
    let late = lab.run(replica.propose(term, batch, Box::new(()))).unwrap_err();
    assert!(matches!(late, ProposeError::Refused(RegionError::RegionNotFound { .. })), "{late}");
}

/// Covers 3B-transfer-epoch and 3B-transfer-snapshotting, and OPT-snap-no-transfer.
#[test]
fn leadership_goes_to_nobody_who_is_behind_and_on_no_stale_request() {
    let mut lab = Lab::with(3, 2);
    lab.elect(1);
    let transfer = |to| AdminCommand::TransferLeader(to);
    let stale = Epoch { conf_ver: 0, version: 1 };
    let router = lab.router(1);
    let refused = lab.run(router.admin(region_id(REGION), stale, transfer(peer(2))));
    assert!(matches!(refused, Err(ProposeError::Refused(RegionError::EpochNotMatch { .. }))));
    lab.passes = Box::new(|envelope| {
        !matches!(&envelope.content, Content::Raft(message)
            if matches!(message.body, Body::Snapshot(_)))
    });
    lab.admin(change(PeerChange::Add(peer(3)))).unwrap();
    lab.tick(4);
    let refused = lab.admin(transfer(peer(3))).unwrap_err().to_string();
    assert_eq!(refused, "peer 103 is still being sent a snapshot");
    let refused = lab.admin(transfer(peer(9))).unwrap_err().to_string();
    assert_eq!(refused, "peer 109 is no voter of region 2");
    assert_eq!(lab.leader(), Some(1));
}

/// Covers 3B-remove-leader-general: the others elect, and nothing is read at the old one.
#[test]
fn a_leader_of_three_that_is_to_go_hands_over_and_goes() {
    let mut lab = Lab::new(3);
    lab.elect(1);
    lab.put(1, "k", "v").unwrap();
    let replica = lab.router(1).replica(&lab.header(1)).unwrap();
    assert!(lab.admin(change(PeerChange::Remove(peer(1)))).is_err(), "it hands over first");
    lab.tick(10);
    let leader = lab.leader().expect("a new leader, without an election timeout");
    assert_ne!(leader, 1);
    lab.admin(change(PeerChange::Remove(peer(1)))).unwrap();
    lab.tick(10);
    let refused = lab.run(replica.read_view()).err().expect("it is gone");
    assert!(matches!(refused, RegionError::RegionNotFound { .. }), "{refused}");
    lab.put(leader, "k", "w").unwrap();
}

/// Covers 2C-snapshot-gc's store side: what was installed is removed.
#[test]
fn an_installed_snapshot_leaves_no_file() {
    let mut lab = Lab::with(2, 1);
    lab.elect(1);
    lab.put(1, "k", "v").unwrap();
    lab.admin(change(PeerChange::Add(learner(2)))).unwrap();
    lab.tick(10);
    assert_eq!(lab.stored(2, "k").as_deref(), Some("v"));
    let now = kiva_base::Clock::now(&lab.clock);
    lab.stores[&2].folder.collect(now).unwrap();
    assert!(lab.stores[&2].folder.list().is_empty());
}

/// Covers 2B-duplicate-retry and 2B-batch-order: entries are applied in the order of the log, and
/// the operations of one in their own.
#[test]
fn operations_take_effect_in_their_order() {
    let mut lab = Lab::new(3);
    let term = lab.elect(1);
    let replica = lab.router(1).replica(&lab.header(1)).unwrap();
    let mut batch = WriteBatch::new();
    batch.put(Cf::Default, b"k", b"1");
    batch.delete(Cf::Default, b"k");
    batch.put(Cf::Default, b"k", b"2");
    batch.put(Cf::Default, b"gone", b"1");
    batch.delete(Cf::Default, b"gone");
    let twice = batch.clone();
    let first = replica.propose(term, batch, Box::new(()));
    let mut other = WriteBatch::new();
    other.put(Cf::Default, b"k", b"3");
    let second = replica.propose(term, other, Box::new(()));
    let third = replica.propose(term, twice, Box::new(()));
    let mut all = Box::pin(async { (first.await, second.await, third.await) });
    let mut answers = lab.poll(&mut all);
    while answers.is_none() {
        answers = lab.poll(&mut all);
    }
    assert_eq!(answers, Some((Ok(()), Ok(()), Ok(()))));
    assert_eq!(lab.stored(1, "k").as_deref(), Some("2"));
    assert_eq!(lab.stored(1, "gone"), None);
}
