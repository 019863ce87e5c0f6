//! A part of a leader's log that was checked once and is trusted from then on.

use crate::entry::{Entries, Entry};
use crate::id::{EntryId, Index, Term};

/// A part of the log of the leader of a term: some entries and the id of what precedes them.
///
/// Invariants, checked by [`LogSlice::new`], the only way to make one:
/// 1. The first entry follows `previous`, and each entry the one before: no gaps.
/// 2. Terms never fall, from `previous` on.
/// 3. No term exceeds that of the leader whose log it is.
///
/// By Log Matching (Raft §5.3) a log that holds `previous` may append the entries, and then agrees
/// with the leader's up to the last of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogSlice {
    leader_term: Term,
    previous: EntryId,
    entries: Entries,
}

/// Why entries from outside are no part of any leader's log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SliceError {
    /// Property 1.
    #[error("entry {found} follows {before}")]
    Gap {
        /// The index before.
        before: Index,
        /// The index found.
        found: Index,
    },
    /// Property 2.
    #[error("entry {found} follows {before}, of a later term")]
    TermFell {
        /// The entry before.
        before: EntryId,
        /// The entry found.
        found: EntryId,
    },
    /// Property 3.
    #[error("entry {found} in the log of a leader of term {term}")]
    BeyondLeader {
        /// The entry found.
        found: EntryId,
        /// The leader's term.
        term: Term,
    },
}

impl LogSlice {
    /// Checks the three properties.
    pub fn new(leader_term: Term, previous: EntryId, entries: Entries) -> Result<Self, SliceError> {
        let mut before = previous;
        for entry in &entries {
            let found = entry.id();
            if found.index != before.index.next() {
                return Err(SliceError::Gap { before: before.index, found: found.index });
            }
            if found.term < before.term {
                return Err(SliceError::TermFell { before, found });
            }
            before = found;
        }
        if before.term > leader_term {
            return Err(SliceError::BeyondLeader { found: before, term: leader_term });
        }
        Ok(Self { leader_term, previous, entries })
    }

    /// A part of our own log, which has the properties.
    pub(crate) fn trusted(leader_term: Term, previous: EntryId, entries: Entries) -> Self {
        let slice = Self { leader_term, previous, entries };
        debug_assert_eq!(
            Self::new(leader_term, previous, slice.entries.clone()).err(),
            None,
            "a leader sends what its own log holds"
        );
        slice
    }

    /// The term of the leader whose log it is.
    pub fn leader_term(&self) -> Term {
        self.leader_term
    }

    /// What precedes the entries.
    pub fn previous(&self) -> EntryId {
        self.previous
    }

    /// The entries, perhaps none.
    pub fn entries(&self) -> &Entries {
        &self.entries
    }

    /// The last entry, or what precedes them when there is none.
    pub fn last(&self) -> EntryId {
        self.entries.last().map_or(self.previous, Entry::id)
    }

    /// The entries themselves.
    pub(crate) fn into_entries(self) -> Entries {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Payload;

    fn id(term: u64, index: u64) -> EntryId {
        EntryId::new(Term(term), Index(index))
    }

    fn run(ids: &[(u64, u64)]) -> Entries {
        let entry = |&(term, index): &(u64, u64)| Entry {
            index: Index(index),
            term: Term(term),
            payload: Payload::Empty,
        };
        ids.iter().map(entry).collect()
    }

    #[test]
    fn a_gap_a_falling_term_and_a_term_beyond_the_leader_are_refused() {
        let new = |term, previous, ids: &[_]| LogSlice::new(Term(term), previous, run(ids));
        assert!(new(3, id(1, 4), &[(1, 5), (3, 6)]).is_ok());
        assert!(new(3, id(3, 4), &[]).is_ok());
        let gap = SliceError::Gap { before: Index(4), found: Index(6) };
        assert_eq!(new(3, id(1, 4), &[(1, 6)]), Err(gap));
        let again = SliceError::Gap { before: Index(5), found: Index(5) };
        assert_eq!(new(3, id(1, 4), &[(1, 5), (1, 5)]), Err(again));
        let fell = SliceError::TermFell { before: id(2, 4), found: id(1, 5) };
        assert_eq!(new(3, id(2, 4), &[(1, 5)]), Err(fell));
        let beyond = SliceError::BeyondLeader { found: id(4, 5), term: Term(3) };
        assert_eq!(new(3, id(2, 4), &[(4, 5)]), Err(beyond));
        let beyond = SliceError::BeyondLeader { found: id(4, 4), term: Term(3) };
        assert_eq!(new(3, id(4, 4), &[]), Err(beyond));
    }

    #[test]
    fn the_last_entry_of_nothing_is_what_precedes_it() {
        let slice = LogSlice::new(Term(3), id(1, 4), Entries::EMPTY).unwrap();
        assert_eq!(slice.last(), id(1, 4));
        let slice = LogSlice::new(Term(3), id(1, 4), run(&[(2, 5), (2, 6)])).unwrap();
        assert_eq!(slice.last(), id(2, 6));
    }
}
