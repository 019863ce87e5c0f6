//! What a slot of the log holds, and runs of slots that are shared and never copied.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

use crate::id::{EntryId, Index, Term};
use crate::membership::MembershipChange;

/// A slot of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its place.
    pub index: Index,
    /// The term of the leader that appended it.
    pub term: Term,
    /// What is to be done when it is applied.
    pub payload: Payload,
}

/// What is to be done when an entry is applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Payload {
    /// Nothing. A new leader appends one, because an entry of its own term is what commits those
    /// of older terms (Raft §5.4.2, §8).
    Empty,
    /// A command of the state machine. Consensus never looks inside.
    Command(Bytes),
    /// Other members, from the moment it is applied.
    Membership(Arc<MembershipChange>),
}

impl Payload {
    /// Bytes that count towards limits: those somebody else handed in.
    pub fn size(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Command(bytes) => bytes.len(),
            Self::Membership(change) => change.size(),
        }
    }
}

impl Entry {
    /// Its name.
    pub fn id(&self) -> EntryId {
        EntryId::new(self.term, self.index)
    }

    /// Bytes of its payload.
    pub fn size(&self) -> usize {
        self.payload.size()
    }

    fn weight(&self) -> Weight {
        let has_change = matches!(self.payload, Payload::Membership(_));
        Weight { bytes: self.size(), has_change }
    }
}

/// A run of entries, shared by everybody who sends, writes or applies them.
///
/// A clone costs a reference count, whatever the run's length; a part of a run is a clone too.
///
/// Invariants:
/// - Indexes are consecutive. [`LogSlice::new`](crate::LogSlice::new) is where a run from outside
///   is checked.
/// - `weight` is that of the entries: everybody asks for it, and nobody counts again.
#[derive(Clone, Default)]
pub struct Entries {
    /// `None` when empty.
    shared: Option<Arc<[Entry]>>,
    start: usize,
    end: usize,
    weight: Weight,
}

/// What some entries add up to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Weight {
    /// Bytes of their payloads.
    pub(crate) bytes: usize,
    /// Whether a change of members is among them.
    pub(crate) has_change: bool,
}

impl Weight {
    pub(crate) const ZERO: Self = Self { bytes: 0, has_change: false };

    pub(crate) fn of(entries: &[Entry]) -> Self {
        entries.iter().map(Entry::weight).fold(Self::ZERO, Self::and)
    }

    pub(crate) fn and(self, other: Self) -> Self {
        let has_change = self.has_change || other.has_change;
        Self { bytes: self.bytes + other.bytes, has_change }
    }
}

impl Entries {
    /// No entries.
    pub const EMPTY: Self = Self { shared: None, start: 0, end: 0, weight: Weight::ZERO };

    /// The entries of positions `start..end`, sharing this run.
    ///
    /// # Panics
    /// When the positions are not inside the run.
    pub fn part(&self, start: usize, end: usize) -> Self {
        assert!(start <= end, "a part from {start} to {end} ends before it starts");
        assert!(end <= self.len(), "a part up to {end} of a run of {}", self.len());
        if start == end {
            return Self::EMPTY;
        }
        Self {
            shared: self.shared.clone(),
            start: self.start + start,
            end: self.start + end,
            weight: Weight::of(&self[start..end]),
        }
    }

    /// Bytes of all payloads.
    pub fn size(&self) -> usize {
        self.weight.bytes
    }

    pub(crate) fn weight(&self) -> Weight {
        self.weight
    }
}

/// How many entries from the front fit into `bytes`. At least one, so that an entry larger than
/// the limit travels alone instead of never.
pub(crate) fn fitting(entries: &[Entry], bytes: usize) -> usize {
    let mut size = 0;
    for (position, entry) in entries.iter().enumerate() {
        size += entry.size();
        if size > bytes && position > 0 {
            return position;
        }
    }
    entries.len()
}

impl Deref for Entries {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        match &self.shared {
            Some(shared) => &shared[self.start..self.end],
            None => &[],
        }
    }
}

impl FromIterator<Entry> for Entries {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let shared: Arc<[Entry]> = entries.into_iter().collect();
        let end = shared.len();
        if end == 0 {
            return Self::EMPTY;
        }
        let weight = Weight::of(&shared);
        Self { shared: Some(shared), start: 0, end, weight }
    }
}

impl From<Entry> for Entries {
    fn from(entry: Entry) -> Self {
        let weight = entry.weight();
        Self { shared: Some(Arc::new([entry])), start: 0, end: 1, weight }
    }
}

impl From<Vec<Entry>> for Entries {
    fn from(entries: Vec<Entry>) -> Self {
        entries.into_iter().collect()
    }
}

impl<'a> IntoIterator for &'a Entries {
    type Item = &'a Entry;
    type IntoIter = std::slice::Iter<'a, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for Entries {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl Eq for Entries {}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self[..].fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(sizes: &[usize]) -> Entries {
        let entry = |(position, &size): (usize, &usize)| Entry {
            index: Index(position as u64 + 1),
            term: Term(1),
            payload: Payload::Command(vec![0; size].into()),
        };
        sizes.iter().enumerate().map(entry).collect()
    }

    #[test]
    fn a_part_of_a_part_shares_the_run() {
        let all = run(&[1, 2, 3, 4]);
        let part = all.part(1, 4).part(1, 3);
        assert_eq!(part.iter().map(|entry| entry.index.0).collect::<Vec<_>>(), [3, 4]);
        assert!(std::ptr::eq(&all[2], &part[0]));
        assert_eq!(part.size(), 7);
        assert!(all.part(2, 2).is_empty());
    }

    #[test]
    fn an_entry_above_the_limit_travels_alone() {
        let all = run(&[5, 5, 50, 1]);
        assert_eq!(fitting(&all, 10), 2);
        assert_eq!(fitting(&all, 0), 1);
        assert_eq!(fitting(&all.part(2, 4), 10), 1);
        assert_eq!(fitting(&all, 1000), 4);
        assert_eq!(fitting(&Entries::EMPTY, 10), 0);
    }
}
