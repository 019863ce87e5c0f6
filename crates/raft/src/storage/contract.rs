//! The suite that every [`LogStore`] has to pass.
//!
//! An implementation says how it is written to ([`Subject`]) and calls [`check`] from a test.
//!
//! ```
//! use kiva_raft::storage::contract;
//!
//! contract::check(|| Box::new(kiva_raft::MemoryLogStore::default()));
//! ```

use bytes::Bytes;

use crate::entry::{Entries, Entry, Payload};
use crate::id::{EntryId, Index, NodeId, Term};
use crate::membership::Membership;
use crate::storage::{HardState, InitialState, LogError, LogStore, Snapshot};

/// A log store under test, with what a driver does to it. Each call is durable when it returns.
pub trait Subject {
    /// The store.
    fn store(&self) -> &dyn LogStore;
    /// Appends entries; they replace everything from the first one's index on.
    fn append(&mut self, entries: &[Entry]);
    /// Replaces the hard state.
    fn save(&mut self, hard_state: HardState);
    /// Notes what was applied, and who belongs to the group since.
    fn apply(&mut self, applied: Index, membership: Membership);
    /// Drops entries up to and including `index`, which was applied.
    fn compact(&mut self, index: Index);
    /// Replaces everything by a snapshot.
    fn install(&mut self, snapshot: Snapshot);
}

/// Runs the suite; `new` makes an empty log of a group without members.
///
/// # Panics
/// When a promise of [`LogStore`] is broken.
pub fn check(mut new: impl FnMut() -> Box<dyn Subject>) {
    an_empty_log_starts_before_its_first_entry(&mut *new());
    what_was_appended_is_read_back(&mut *new());
    an_append_replaces_what_follows(&mut *new());
    a_page_holds_what_fits_and_at_least_one(&mut *new());
    a_compacted_log_knows_the_term_before_its_first_entry(&mut *new());
    a_snapshot_replaces_everything(&mut *new());
    a_restart_finds_what_was_saved(&mut *new());
}

fn an_empty_log_starts_before_its_first_entry(subject: &mut dyn Subject) {
    let store = subject.store();
    assert_eq!(store.initial_state(), Ok(InitialState::default()));
    assert_eq!((store.first_index(), store.last()), (Index(1), EntryId::ZERO));
    assert_eq!(store.term(Index::ZERO), Ok(Term::ZERO));
    assert_eq!(store.term(Index(1)), Err(LogError::BeyondEnd { last: Index::ZERO }));
    let entries = store.entries(Index(1), Index(2), usize::MAX);
    assert_eq!(entries, Err(LogError::BeyondEnd { last: Index::ZERO }));
}

fn what_was_appended_is_read_back(subject: &mut dyn Subject) {
    let all = run(&[1, 1, 2, 5, 5]);
    subject.append(&all[..2]);
    subject.append(&all[2..]);
    let store = subject.store();
    assert_eq!((store.first_index(), store.last()), (Index(1), id(5, 5)));
    for first in 1..=5 {
        assert_eq!(store.term(Index(first)), Ok(all[first as usize - 1].term));
        for end in first + 1..=6 {
            let entries = store.entries(Index(first), Index(end), usize::MAX);
            let expected = Entries::from(all[first as usize - 1..end as usize - 1].to_vec());
            assert_eq!(entries, Ok(expected), "entries of {first}..{end}");
        }
    }
    let beyond = Err(LogError::BeyondEnd { last: Index(5) });
    assert_eq!(store.entries(Index(5), Index(7), usize::MAX), beyond);
}

fn an_append_replaces_what_follows(subject: &mut dyn Subject) {
    subject.append(&run(&[1, 1, 1, 1]));
    let newer = Entry { index: Index(3), term: Term(2), payload: Payload::Empty };
    subject.append(std::slice::from_ref(&newer));
    let store = subject.store();
    assert_eq!(store.last(), id(2, 3));
    assert_eq!(store.term(Index(2)), Ok(Term(1)));
    assert_eq!(store.term(Index(4)), Err(LogError::BeyondEnd { last: Index(3) }));
    let entries = store.entries(Index(3), Index(4), usize::MAX);
    assert_eq!(entries, Ok(Entries::from(vec![newer])));
    subject.append(&[]);
    assert_eq!(subject.store().last(), id(2, 3), "nothing replaces nothing");
}

fn a_page_holds_what_fits_and_at_least_one(subject: &mut dyn Subject) {
    // Ten bytes each.
    subject.append(&run(&[1, 1, 1, 1, 1]));
    let count = |bytes| subject.store().entries(Index(2), Index(6), bytes).map(|page| page.len());
    assert_eq!(count(0), Ok(1), "one entry, or the log would never be read");
    assert_eq!(count(19), Ok(1));
    assert_eq!(count(20), Ok(2));
    assert_eq!(count(40), Ok(4));
    assert_eq!(count(usize::MAX), Ok(4));
}

fn a_compacted_log_knows_the_term_before_its_first_entry(subject: &mut dyn Subject) {
    subject.append(&run(&[1, 2, 3, 3, 4]));
    subject.apply(Index(4), members());
    subject.compact(Index(3));
    let store = subject.store();
    assert_eq!((store.first_index(), store.last()), (Index(4), id(4, 5)));
    assert_eq!(store.term(Index(3)), Ok(Term(3)), "an append is checked against it");
    let compacted = LogError::Compacted { first: Index(4) };
    assert_eq!(store.term(Index(2)), Err(compacted));
    assert_eq!(store.entries(Index(3), Index(5), usize::MAX), Err(compacted));
    let entries = store.entries(Index(4), Index(6), usize::MAX);
    assert_eq!(entries.map(|entries| entries.len()), Ok(2));
}

fn a_snapshot_replaces_everything(subject: &mut dyn Subject) {
    subject.append(&run(&[1, 1, 1]));
    let data = Bytes::from_static(b"state");
    let snapshot = Snapshot { last: id(6, 9), membership: members(), data };
    subject.install(snapshot);
    let store = subject.store();
    assert_eq!((store.first_index(), store.last()), (Index(10), id(6, 9)));
    assert_eq!(store.term(Index(9)), Ok(Term(6)));
    assert_eq!(store.term(Index(3)), Err(LogError::Compacted { first: Index(10) }));
    let initial = store.initial_state().expect("the log was readable a moment ago");
    assert_eq!((initial.applied, initial.membership), (Index(9), members()));
    let next = Entry { index: Index(10), term: Term(7), payload: Payload::Empty };
    subject.append(&[next]);
    assert_eq!(subject.store().last(), id(7, 10), "the log goes on after it");
}

fn a_restart_finds_what_was_saved(subject: &mut dyn Subject) {
    subject.append(&run(&[1, 1, 2]));
    let hard_state = HardState { term: Term(3), vote: NodeId::new(2), commit: Index(2) };
    subject.save(hard_state);
    subject.apply(Index(1), members());
    let expected = InitialState { hard_state, membership: members(), applied: Index(1) };
    assert_eq!(subject.store().initial_state(), Ok(expected));
}

/// A log of these terms, from index 1 on, ten bytes each.
fn run(terms: &[u64]) -> Vec<Entry> {
    let entry = |(position, &term): (usize, &u64)| Entry {
        index: Index(position as u64 + 1),
        term: Term(term),
        payload: Payload::Command(Bytes::from(format!("{position:010}"))),
    };
    terms.iter().enumerate().map(entry).collect()
}

fn id(term: u64, index: u64) -> EntryId {
    EntryId::new(Term(term), Index(index))
}

fn members() -> Membership {
    Membership::new([1, 2, 3].into_iter().filter_map(NodeId::new), NodeId::new(4))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_memory_log_passes() {
        super::check(|| Box::new(crate::MemoryLogStore::default()));
    }
}
