//! Positions of the log through appends, writes, receipts and snapshots.

use super::*;
use crate::membership::Membership;
use crate::storage::MemoryLogStore;

fn id(term: u64, index: u64) -> EntryId {
    EntryId::new(Term(term), Index(index))
}

fn run(ids: &[(u64, u64)]) -> Entries {
    let entry = |&(term, index): &(u64, u64)| Entry {
        index: Index(index),
        term: Term(term),
        payload: Payload::Command(vec![0; 10].into()),
    };
    ids.iter().map(entry).collect()
}

fn slice(leader: u64, previous: (u64, u64), ids: &[(u64, u64)]) -> LogSlice {
    LogSlice::new(Term(leader), id(previous.0, previous.1), run(ids)).unwrap()
}

/// A log whose store holds these entries from index 1 on.
fn log(terms: &[u64]) -> (Log, MemoryLogStore) {
    let store = MemoryLogStore::default();
    let ids: Vec<_> = terms.iter().zip(1..).map(|(&term, index)| (term, index)).collect();
    store.append(&run(&ids));
    (Log::new(Box::new(store.clone()), Index::ZERO, Index::ZERO), store)
}

fn ids(log: &Log) -> Vec<(u64, u64)> {
    let term = |index| (log.term(Index(index)).unwrap().0, index);
    (1..=log.last().index.0).map(term).collect()
}

/// Writes what waits, and returns the number under which it may be synced.
fn write(log: &mut Log, store: &MemoryLogStore, number: u64) -> WriteNumber {
    let (entries, snapshot) = log.take_unwritten(WriteNumber(number));
    assert!(snapshot.is_none());
    store.append(&entries);
    WriteNumber(number)
}

/// Covers 2A-log-follower-append.
#[test]
fn a_conflict_removes_the_suffix_and_a_repetition_nothing() {
    let matched = |log: &mut Log, slice| match log.append(slice) {
        Appended::Matched(last) => last,
        refused => panic!("{refused:?}"),
    };
    let (mut extended, _) = log(&[1, 2]);
    assert_eq!(matched(&mut extended, slice(3, (2, 2), &[(3, 3)])), id(3, 3));
    assert_eq!(ids(&extended), [(1, 1), (2, 2), (3, 3)]);

    let (mut replaced, _) = log(&[1, 2]);
    assert_eq!(matched(&mut replaced, slice(4, (1, 1), &[(3, 2), (4, 3)])), id(4, 3));
    assert_eq!(ids(&replaced), [(1, 1), (3, 2), (4, 3)]);
    assert_eq!(replaced.durable(), Index(1));

    let (mut repeated, _) = log(&[1, 2]);
    assert_eq!(matched(&mut repeated, slice(2, (0, 0), &[(1, 1)])), id(1, 1));
    assert_eq!(ids(&repeated), [(1, 1), (2, 2)]);
    assert!(!repeated.has_unwritten());

    let (mut whole, _) = log(&[1, 2]);
    assert_eq!(matched(&mut whole, slice(3, (0, 0), &[(3, 1)])), id(3, 1));
    assert_eq!(ids(&whole), [(3, 1)]);
    assert_eq!(whole.durable(), Index::ZERO);
}

/// Covers OPT-fast-reject.
#[test]
fn a_refusal_hints_at_the_newest_entry_that_may_agree() {
    let (mut log, _) = log(&[1, 1, 2, 2, 2]);
    let mut hint = |previous| match log.append(slice(6, previous, &[])) {
        Appended::Refused { hint } => hint,
        matched => panic!("{matched:?}"),
    };
    assert_eq!(hint((6, 9)), id(2, 5), "shorter: its last entry");
    assert_eq!(hint((1, 4)), id(1, 2), "what is of a later term cannot agree");
    assert_eq!(hint((4, 5)), id(2, 5));
}

#[test]
#[should_panic(expected = "a leader has 3/2 where 1/2 was committed")]
fn a_leader_without_what_was_committed_is_a_contradiction() {
    let (mut log, _) = log(&[1, 1, 1]);
    log.commit_to(Index(2));
    log.append(slice(3, (0, 0), &[(3, 1), (3, 2), (3, 3)]));
}

/// Covers 2A-log-append-below-commit.
#[test]
fn an_append_below_the_commit_index_is_answered_with_it() {
    let (mut log, _) = log(&[1, 1, 1]);
    log.commit_to(Index(2));
    let known = log.append(slice(3, (0, 0), &[(1, 1)]));
    assert_eq!(known, Appended::Matched(id(1, 2)));
    let more = log.append(slice(3, (0, 0), &[(1, 1), (1, 2), (3, 3)]));
    assert_eq!(more, Appended::Matched(id(3, 3)));
    assert_eq!(ids(&log), [(1, 1), (1, 2), (3, 3)]);
}

/// Covers OPT-async-aba.
#[test]
fn a_receipt_counts_for_no_entry_that_was_replaced_since() {
    let (mut log, store) = log(&[]);
    log.append(slice(1, (0, 0), &[(1, 1), (1, 2)]));
    let first = write(&mut log, &store, 1);
    log.append(slice(2, (1, 1), &[(2, 2)]));
    let second = write(&mut log, &store, 2);
    // The very entry of the first write again, as a leader of term 3 may have it.
    log.append(slice(3, (1, 1), &[(1, 2)]));
    let third = write(&mut log, &store, 3);
    log.on_synced(first);
    assert_eq!(log.durable(), Index(1), "the disk may hold 2/2 by now");
    log.on_synced(second);
    assert_eq!(log.durable(), Index(1));
    log.on_synced(third);
    assert_eq!(log.durable(), Index(2));
}

#[test]
fn a_receipt_covers_the_writes_before_it() {
    let (mut log, store) = log(&[]);
    log.append(slice(1, (0, 0), &[(1, 1)]));
    write(&mut log, &store, 1);
    log.append(slice(1, (1, 1), &[(1, 2)]));
    let second = write(&mut log, &store, 2);
    log.commit_to(Index(2));
    assert!(!log.has_appliable(usize::MAX), "nothing is applied before it is durable");
    log.on_synced(second);
    assert_eq!(log.durable(), Index(2));
    assert_eq!(log.take_appliable(usize::MAX).len(), 2);
    log.on_synced(WriteNumber(1));
    assert_eq!(log.durable(), Index(2), "a late one does no harm");
}

/// Covers OPT-apply-pages.
#[test]
fn entries_are_handed_out_in_pages_once_each() {
    let (mut log, _) = log(&[1, 1, 1, 1, 1]);
    log.append(slice(1, (1, 5), &[(1, 6)]));
    log.commit_to(Index(6));
    let mut pages = Vec::new();
    while log.has_appliable(30) {
        let page = log.take_appliable(20);
        pages.push(page.len());
        if pages.len() > 1 {
            log.on_applied(page[0].index);
        }
    }
    assert_eq!(pages, [2, 2, 1]);
    assert_eq!((log.handed(), log.applied()), (Index(5), Index(5)));
}

#[test]
fn memory_is_given_back_and_the_store_answers_instead() {
    let (mut log, store) = log(&[]);
    for index in 1..=4 {
        log.propose(Term(1), Payload::Command(vec![0; 10].into()));
        log.seal();
        assert_eq!(log.last().index, Index(index));
    }
    let number = write(&mut log, &store, 1);
    log.trim(Index::MAX, 0);
    assert_eq!(log.tail.before(), EntryId::ZERO, "what is not durable stays");
    log.on_synced(number);
    log.commit_to(Index(3));
    log.take_appliable(usize::MAX);
    log.trim(Index(1), usize::MAX);
    assert_eq!(log.tail.before(), id(1, 1), "a follower needs the rest");
    log.trim(Index(1), 0);
    assert_eq!(log.tail.before(), id(1, 3), "but not at any price");
    let all = log.entries(Index(1), Index(5), usize::MAX).unwrap();
    assert_eq!(all.len(), 3, "a page of what the store has");
    assert_eq!(log.term(Index(2)), Ok(Term(1)));
    assert_eq!(log.entries(Index(4), Index(5), 0).unwrap()[0].index, Index(4));
}

/// Covers 2C-raft-ready-once.
#[test]
fn a_snapshot_replaces_the_log_and_counts_when_it_is_durable() {
    let (mut log, store) = log(&[1, 1, 1]);
    log.append(slice(1, (1, 3), &[(1, 4)]));
    let before = write(&mut log, &store, 1);
    let (membership, data) = (Membership::default(), bytes::Bytes::new());
    log.restore(Box::new(Snapshot { last: id(3, 20), membership, data }));
    log.append(slice(3, (3, 20), &[(3, 21)]));
    log.commit_to(Index(21));
    let (entries, snapshot) = log.take_unwritten(WriteNumber(2));
    assert_eq!((entries.len(), snapshot.unwrap().last), (1, id(3, 20)));
    assert!(log.take_unwritten(WriteNumber(3)).1.is_none(), "it is handed out once");
    log.on_synced(before);
    assert!(log.is_installing());
    assert!(!log.has_appliable(usize::MAX), "nothing on top of what is not there");
    assert_eq!(log.term(Index(2)), Err(LogError::Compacted { first: Index(21) }));
    log.on_synced(WriteNumber(2));
    assert_eq!((log.applied(), log.durable()), (Index(20), Index(21)));
    assert_eq!(log.take_appliable(usize::MAX).len(), 1);
}
