//! Stores that replicate, without trouble but what a test makes: who is refused and how, who may
//! read, what a restart finds.

mod lab;

use std::time::Duration;

use kiva_base::{Epoch, PeerRole, RegionError, Term};
use kiva_engine::{Cf, Engine, WriteBatch};
use kiva_raftstore::command::PeerChange;
use kiva_raftstore::proposal::ProposeError;
use kiva_raftstore::router::Header;
use kiva_raftstore::store::AdminCommand;
use lab::{Lab, REGION, peer, store_id};

#[test]
fn a_write_is_applied_on_every_replica() {
    let mut lab = Lab::new(3);
    lab.elect(1);
    lab.put(1, "k", "v").unwrap();
    assert_eq!(lab.stored(1, "k").as_deref(), Some("v"));
    lab.tick(4);
    for number in 2..=3 {
        assert_eq!(lab.stored(number, "k").as_deref(), Some("v"), "store {number}");
    }
}

/// Covers 2B-not-leader-hint.
#[test]
fn a_follower_names_the_leader_and_proposes_nothing() {
    let mut lab = Lab::new(3);
    let nobody = lab.router(2).replica(&lab.header(2)).err();
    let hint = |leader| Some(RegionError::NotLeader { region: lab::region_id(REGION), leader });
    assert_eq!(nobody, hint(None), "no leader is known yet");
    lab.elect(1);
    let last = lab.status(1).raft.last;
    assert_eq!(lab.router(2).replica(&lab.header(2)).err(), hint(Some(peer(1))));
    lab.settle();
    assert_eq!(lab.status(1).raft.last, last);
}

/// Covers 2B-wrong-store, 2B-wrong-peer, 2B-region-not-found and 2B-stale-term.
#[test]
fn what_a_client_believes_is_checked_in_the_order_of_the_protocol() {
    let mut lab = Lab::new(3);
    lab.elect(1);
    lab.elect(2);
    lab.elect(1);
    let router = lab.router(1);
    let good = lab.header(1);
    let refused = |header: Header| router.replica(&header).err().expect("refused").to_string();
    assert!(router.replica(&good).is_ok());
    let wrong_store = Header { store: 9, region: 77, ..good };
    assert_eq!(refused(wrong_store), "request for store 9 came to store 1");
    assert_eq!(refused(Header { region: 77, peer: 9, ..good }), "region 77 is not on this store");
    assert_eq!(refused(Header { region: 0, ..good }), "region 0 is not on this store");
    assert_eq!(
        refused(Header { peer: 9, epoch: None, ..good }),
        "request for peer 9, the peer here is 101"
    );
    let term = lab.standing(1).term.0;
    assert!(term >= 3, "three elections were held");
    assert!(router.replica(&Header { term: term - 1, ..good }).is_ok());
    let stale = Header { term: term - 2, epoch: None, ..good };
    assert_eq!(refused(stale), RegionError::StaleCommand.to_string());
    assert_eq!(refused(Header { epoch: None, ..good }), "the request has no region epoch");
    let other = Header { epoch: Some(Epoch { conf_ver: 1, version: 2 }), ..good };
    assert!(matches!(router.replica(&other), Err(RegionError::EpochNotMatch { .. })));
}

/// Facts that a write was decided on may be gone in a later term.
#[test]
fn a_write_decided_in_an_earlier_term_is_refused() {
    let mut lab = Lab::new(3);
    let old = lab.elect(1);
    lab.elect(2);
    let new = lab.elect(1);
    assert!(new > old);
    let replica = lab.router(1).replica(&lab.header(1)).unwrap();
    let mut batch = WriteBatch::new();
    batch.put(Cf::Default, b"k", b"v");
    let refused = lab.run(replica.propose(old, batch, Box::new(())));
    assert_eq!(refused, Err(ProposeError::Refused(RegionError::StaleCommand)));
    assert_eq!(lab.stored(1, "k"), None);
}

/// Covers 2B-stale-command: the old leader's entry is replaced while it is cut off, and its client
/// hears that it will never be applied.
#[test]
fn a_replaced_proposal_is_refused_once_that_is_known() {
    let mut lab = Lab::new(3);
    let term = lab.elect(1);
    let cut = store_id(1);
    lab.passes = Box::new(move |envelope| envelope.from.store != cut && envelope.to.store != cut);
    let replica = lab.router(1).replica(&lab.header(1)).unwrap();
    let mut batch = WriteBatch::new();
    batch.put(Cf::Default, b"k", b"lost");
    let mut waiting = Box::pin(replica.propose(term, batch, Box::new(())));
    assert!(lab.poll(&mut waiting).is_none(), "no majority, no answer");
    let leader = loop {
        lab.tick(1);
        if let Some(leader) = (2..=3).find(|number| lab.standing(*number).is_settled) {
            break leader;
        }
    };
    lab.put(leader, "k", "kept").unwrap();
    assert!(lab.poll(&mut waiting).is_none(), "it cannot know yet");
    lab.passes = Box::new(|_| true);
    lab.tick(10);
    let answer = lab.run(waiting);
    assert_eq!(answer, Err(ProposeError::Refused(RegionError::StaleCommand)));
    assert_eq!(lab.stored(1, "k").as_deref(), Some("kept"));
}

/// A client has better things to do than to wait for a network to be mended.
#[test]
fn a_deposed_leader_that_stays_cut_off_says_that_nobody_knows() {
    let mut lab = Lab::new(3);
    let term = lab.elect(1);
    let cut = store_id(1);
    lab.passes = Box::new(move |envelope| envelope.from.store != cut && envelope.to.store != cut);
    let replica = lab.router(1).replica(&lab.header(1)).unwrap();
    let mut batch = WriteBatch::new();
    batch.put(Cf::Default, b"k", b"v");
    let mut waiting = Box::pin(replica.propose(term, batch, Box::new(())));
    assert!(lab.poll(&mut waiting).is_none(), "no majority, no answer");
    // It asks a quorum once in an election timeout, and others are elected within two.
    lab.tick(22);
    assert_eq!(lab.poll(&mut waiting), Some(Err(ProposeError::Unknown)));
}

/// Covers 2B-empty-leader-entry.
#[test]
fn an_election_applies_an_entry_that_nobody_waits_for() {
    let mut lab = Lab::new(3);
    let before = lab.status(1).state.applied.index;
    lab.elect(1);
    assert!(lab.status(1).state.applied.index > before);
    assert_eq!(lab.stored(1, "k"), None);
}

/// Covers 2B-snap-read: a view is of its moment, with its range.
#[test]
fn a_view_shows_what_was_applied_when_it_was_taken() {
    let mut lab = Lab::new(3);
    let term = lab.elect(1);
    lab.put(1, "k", "old").unwrap();
    let replica = lab.router(1).replica(&lab.header(1)).unwrap();
    let view = lab.run(replica.read_view()).unwrap();
    lab.put(1, "k", "new").unwrap();
    let value = view.snapshot.get(Cf::Default, b"k").unwrap();
    assert_eq!(value.as_deref(), Some(&b"old"[..]));
    assert_eq!((view.term, view.region.id.get()), (term, REGION));
}

/// A leader that heard from a majority a moment ago answers alone; later it asks, and without a
/// majority it does not answer.
#[test]
fn a_lease_saves_the_question_and_ends_by_itself() {
    let mut lab = Lab::new(3);
    lab.elect(1);
    lab.tick(4);
    lab.sent.clear();
    let replica = lab.router(1).replica(&lab.header(1)).unwrap();
    lab.run(replica.read_view()).unwrap();
    assert!(lab.sent.is_empty(), "nobody was asked");
    lab.passes = Box::new(|_| false);
    lab.clock.advance(lab.options.tick * lab.options.lease_ticks);
    let mut reading = Box::pin(replica.read_view());
    assert!(lab.poll(&mut reading).is_none(), "nobody confirms it");
    assert!(!lab.sent.is_empty(), "it has asked");
    lab.passes = Box::new(|_| true);
    lab.tick(4);
    lab.run(reading).unwrap();
}

/// Covers 2B-minority-read: the other side has moved on; the old leader answers nobody, and says
/// so when it learns of the new term.
#[test]
fn a_leader_that_is_cut_off_does_not_read() {
    let mut lab = Lab::new(5);
    lab.elect(1);
    lab.put(1, "k", "old").unwrap();
    let minority = |number: u64| number <= 2;
    lab.passes = Box::new(move |envelope| {
        minority(envelope.from.store.get()) == minority(envelope.to.store.get())
    });
    let replica = lab.router(1).replica(&lab.header(1)).unwrap();
    lab.clock.advance(lab.options.tick * lab.options.lease_ticks);
    let mut reading = Box::pin(replica.read_view());
    assert!(lab.poll(&mut reading).is_none());
    lab.tick(60);
    let leader = (3..=5).find(|number| lab.standing(*number).is_settled).expect("a new leader");
    lab.put(leader, "k", "new").unwrap();
    lab.passes = Box::new(|_| true);
    lab.tick(20);
    let answer = lab.run(reading).err().expect("it must not show the old value");
    assert!(matches!(answer, RegionError::NotLeader { .. }), "{answer}");
}

/// A follower reads what the leader has acknowledged, after it has asked.
#[test]
fn a_follower_reads_once_the_leader_has_confirmed() {
    let mut lab = Lab::new(3);
    lab.elect(1);
    lab.put(1, "k", "v").unwrap();
    let header = Header { by_any_replica: true, ..lab.header(2) };
    let replica = lab.router(2).replica(&header).unwrap();
    let mut reading = Box::pin(replica.read_view());
    let mut answer = lab.poll(&mut reading);
    for _ in 0..4 {
        if answer.is_none() {
            lab.tick(1);
            answer = lab.poll(&mut reading);
        }
    }
    let view = answer.expect("confirmed within a heartbeat").unwrap();
    let value = view.snapshot.get(Cf::Default, b"k").unwrap();
    assert_eq!(value.as_deref(), Some(&b"v"[..]));
}

/// What was applied and not flushed is replayed from the log, once.
#[test]
fn a_crash_of_every_store_loses_nothing_that_was_acknowledged() {
    let mut lab = Lab::new(3);
    lab.elect(1);
    for number in 0..20 {
        lab.put(1, &format!("k{number}"), "v").unwrap();
    }
    (1..=3).for_each(|number| lab.crash(number));
    lab.elect(2);
    for number in 0..20 {
        assert_eq!(lab.stored(2, &format!("k{number}")).as_deref(), Some("v"), "k{number}");
    }
}

/// Covers 2C-compact-lagging: who is behind what the log still has gets a snapshot.
#[test]
fn a_replica_that_lags_too_far_gets_a_snapshot() {
    let mut lab = Lab::new(3);
    lab.options.log_entries_max = 10;
    lab.options.compact_ticks = 2;
    for number in 1..=3 {
        lab.crash(number);
    }
    lab.elect(1);
    lab.put(1, "early", "v").unwrap();
    let cut = store_id(3);
    lab.passes = Box::new(move |envelope| envelope.from.store != cut && envelope.to.store != cut);
    for number in 0..40 {
        lab.put(1, &format!("k{number:02}"), "v").unwrap();
        lab.tick(1);
    }
    let truncated = lab.status(1).state.truncated;
    assert!(truncated.index > lab.status(3).raft.last, "the log has moved on");
    lab.flush(1);
    lab.sent.clear();
    lab.passes = Box::new(|_| true);
    lab.tick(30);
    assert_eq!(lab.stored(3, "k39").as_deref(), Some("v"));
    let is_snapshot = |envelope: &&kiva_raftstore::transport::Envelope| {
        matches!(&envelope.content, kiva_raftstore::transport::Content::Raft(message)
            if matches!(message.body, kiva_raft::Body::Snapshot(_)))
    };
    assert_eq!(lab.sent.iter().filter(is_snapshot).count(), 1);
    // It is a member like the others, after a crash too.
    lab.crash(3);
    lab.elect(3);
    lab.put(3, "late", "v").unwrap();
    assert_eq!(lab.stored(3, "early").as_deref(), Some("v"));
}

/// Covers 3B-pending-peers (store side) and 3A-new-node-empty: a peer is made by a message, gets
/// its data by snapshot, and is a voter after that.
#[test]
fn a_new_peer_comes_to_life_with_a_snapshot() {
    let mut lab = Lab::with(3, 2);
    lab.elect(1);
    lab.put(1, "k", "v").unwrap();
    let learner = kiva_base::Peer { role: PeerRole::Learner, ..peer(3) };
    lab.admin(AdminCommand::ChangePeers(vec![PeerChange::Add(learner)])).unwrap();
    lab.tick(10);
    assert_eq!(lab.stored(3, "k").as_deref(), Some("v"));
    lab.admin(AdminCommand::ChangePeers(vec![PeerChange::Add(peer(3))])).unwrap();
    lab.tick(4);
    assert_eq!(lab.standing(3).region.epoch.conf_ver, 3);
    assert!(lab.standing(3).region.peers.contains(&peer(3)));
    lab.elect(3);
    lab.put(3, "k", "w").unwrap();
}

/// Covers 3B-destroy-residue, 3B-tombstone-persist and 3B-message-to-older-peer.
#[test]
fn a_removed_peer_leaves_nothing_and_does_not_come_back() {
    let mut lab = Lab::new(3);
    lab.elect(1);
    lab.put(1, "k", "v").unwrap();
    lab.tick(4);
    lab.admin(AdminCommand::ChangePeers(vec![PeerChange::Remove(peer(3))])).unwrap();
    let late: Vec<_> = lab.sent.iter().filter(|envelope| envelope.to == peer(3)).cloned().collect();
    lab.tick(10);
    assert!(lab.router(3).regions().is_empty());
    let everything = |lab: &Lab, cf| {
        let view = lab.stores[&3].engine.snapshot();
        let range = kiva_base::KeyRange::ALL;
        let mut pairs = view.iter(cf, &range, kiva_engine::Order::Forward);
        std::iter::from_fn(move || pairs.next().expect("memory")).count()
    };
    assert_eq!((everything(&lab, Cf::Default), everything(&lab, Cf::Local)), (0, 0));
    lab.crash(3);
    lab.stores[&3].assembly.inbox.deliver(late);
    lab.tick(10);
    assert!(lab.router(3).regions().is_empty(), "its tombstone stands");
    // A newer peer may.
    let newer = kiva_base::Peer { id: lab::peer_id(900), ..peer(3) };
    lab.admin(AdminCommand::ChangePeers(vec![PeerChange::Add(newer)])).unwrap();
    lab.tick(10);
    assert_eq!(lab.stored(3, "k").as_deref(), Some("v"));
    assert_eq!(lab.standing(3).peer.id.get(), 900);
}

/// Covers 3B-stale-peer-isolated.
#[test]
fn a_peer_that_was_removed_while_cut_off_learns_of_it() {
    let mut lab = Lab::new(3);
    lab.elect(1);
    let cut = store_id(3);
    lab.passes = Box::new(move |envelope| envelope.from.store != cut && envelope.to.store != cut);
    lab.admin(AdminCommand::ChangePeers(vec![PeerChange::Remove(peer(3))])).unwrap();
    lab.tick(30);
    assert_eq!(lab.router(3).regions().len(), 1, "it has not heard");
    lab.passes = Box::new(|_| true);
    lab.tick(60);
    assert!(lab.router(3).regions().is_empty());
    assert_eq!(lab.standing(1).term, lab.standing(2).term);
}

/// Covers 3B-remove-leader-of-two: a leader hands over instead of removing itself.
#[test]
fn a_leader_does_not_remove_itself() {
    let mut lab = Lab::new(2);
    lab.elect(1);
    let remove = AdminCommand::ChangePeers(vec![PeerChange::Remove(peer(1))]);
    let refused = lab.admin(remove.clone()).unwrap_err();
    assert!(matches!(refused, ProposeError::Refused(RegionError::NotLeader { .. })), "{refused}");
    lab.tick(10);
    assert_eq!(lab.leader(), Some(2));
    lab.admin(remove).unwrap();
    lab.tick(10);
    assert!(lab.router(1).regions().is_empty());
    lab.put(2, "k", "alone").unwrap();
}

/// Covers OPT-async-leader (store side): followers answer for the leader's own disk.
#[test]
fn a_leader_whose_disk_stalls_commits_by_the_others_and_applies_later() {
    let mut lab = Lab::new(3);
    let term = lab.elect(1);
    lab.store(1).is_disk_stalled = true;
    let replica = lab.router(1).replica(&lab.header(1)).unwrap();
    let mut batch = WriteBatch::new();
    batch.put(Cf::Default, b"k", b"v");
    let mut waiting = Box::pin(replica.propose(term, batch, Box::new(())));
    assert!(lab.poll(&mut waiting).is_none(), "it is not durable here");
    lab.tick(4);
    assert_eq!(lab.stored(1, "k"), None, "applied never passes the log");
    assert_eq!(lab.stored(2, "k"), None, "no follower is ahead of its leader");
    lab.resume_disk(1);
    lab.run(waiting).unwrap();
    assert_eq!(lab.stored(1, "k").as_deref(), Some("v"));
    lab.tick(4);
    assert_eq!(lab.stored(2, "k").as_deref(), Some("v"), "a majority has it");
}

/// Covers OPT-lease-send-time's other half: a pause longer than the lease leaves no lease behind.
#[test]
fn a_leader_that_was_paused_asks_before_it_reads() {
    let mut lab = Lab::new(3);
    lab.elect(1);
    lab.tick(4);
    let replica = lab.router(1).replica(&lab.header(1)).unwrap();
    lab.clock.advance(Duration::from_secs(5));
    let mut reading = Box::pin(replica.read_view());
    assert!(lab::poll_once(&mut reading).is_none(), "the loop has not run since the pause");
    lab.tick(60);
    // By now somebody leads, perhaps somebody else. Either it was confirmed, or it was refused.
    if let Err(refusal) = lab.run(reading) {
        assert!(matches!(refusal, RegionError::NotLeader { .. }), "{refusal}");
    }
}

#[test]
fn terms_of_standings_only_grow() {
    let mut lab = Lab::new(3);
    let mut before = Term(0);
    for number in [1, 2, 3, 1] {
        let now = lab.elect(number);
        assert!(now > before, "term {now} after {before}");
        before = now;
    }
}

/// A peer that stays silent is reported, and for how long.
#[test]
fn a_silent_follower_is_reported_with_its_age() {
    let mut lab = Lab::new(3);
    lab.options.report_ticks = 40;
    (1..=3).for_each(|number| lab.crash(number));
    lab.elect(1);
    lab.tick(60);
    assert!(lab.store(1).reports.iter().all(|report| report.down.is_empty()));
    let cut = store_id(3);
    lab.passes = Box::new(move |envelope| envelope.from.store != cut && envelope.to.store != cut);
    lab.tick(200);
    let last = lab.store(1).reports.last().expect("a report").down.clone();
    assert_eq!(last.len(), 1);
    assert_eq!(last[0].0, peer(3));
    assert!((7..=10).contains(&last[0].1), "silent for {} s of 10", last[0].1);
    lab.passes = Box::new(|_| true);
    lab.tick(60);
    assert!(lab.store(1).reports.last().expect("a report").down.is_empty());
}
