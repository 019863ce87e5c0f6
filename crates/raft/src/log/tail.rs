//! The end of the log, in memory: what the store does not have yet, and what was just appended.

use std::collections::VecDeque;

use crate::entry::{Entries, Entry, Weight};
use crate::id::{EntryId, Index};

/// The entries after `before`, as the runs in which they came.
///
/// A run is the batch of one round at the leader and the content of one append at a follower. It
/// is sent, written and applied as a whole, so that in the usual course no entry is ever copied.
///
/// Invariants:
/// - Runs are not empty and follow each other, the first one follows `before`.
/// - `bytes` is the sum over the runs.
#[derive(Debug)]
pub(super) struct Tail {
    /// The last entry that is not in here.
    before: EntryId,
    runs: VecDeque<Run>,
    bytes: usize,
}

#[derive(Debug)]
struct Run {
    entries: Entries,
    first: Index,
    last: EntryId,
}

impl Run {
    fn new(entries: Entries) -> Option<Self> {
        let (first, last) = (entries.first()?.index, entries.last()?.id());
        Some(Self { entries, first, last })
    }

    /// Memory, payloads included.
    fn bytes(&self) -> usize {
        self.entries.size() + self.entries.len() * size_of::<Entry>()
    }
}

impl Tail {
    /// An empty one.
    pub(super) fn after(before: EntryId) -> Self {
        Self { before, runs: VecDeque::new(), bytes: 0 }
    }

    /// What precedes the first entry in here.
    pub(super) fn before(&self) -> EntryId {
        self.before
    }

    /// The last entry, or what precedes them all.
    pub(super) fn last(&self) -> EntryId {
        self.runs.back().map_or(self.before, |run| run.last)
    }

    /// Memory, payloads included.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a run.
    pub(super) fn push(&mut self, entries: Entries) {
        let Some(run) = Run::new(entries) else { return };
        assert_eq!(run.first, self.last().index.next(), "a run leaves no gap");
        self.bytes += run.bytes();
        self.runs.push_back(run);
    }

    /// Drops the entries from `index` on.
    pub(super) fn truncate(&mut self, index: Index) {
        while let Some(run) = self.runs.pop_back() {
            self.bytes -= run.bytes();
            if run.first < index {
                let kept = index.since(run.first) as usize;
                self.push(run.entries.part(0, kept.min(run.entries.len())));
                return;
            }
        }
    }

    /// The oldest run's last index.
    pub(super) fn oldest(&self) -> Option<Index> {
        self.runs.front().map(|run| run.last.index)
    }

    /// Drops the oldest run.
    pub(super) fn drop_oldest(&mut self) {
        if let Some(run) = self.runs.pop_front() {
            self.bytes -= run.bytes();
            self.before = run.last;
        }
    }

    /// Gives back the room of runs that are gone.
    pub(super) fn shrink(&mut self) {
        self.runs.shrink_to_fit();
    }

    /// The entry at `index`, when it is in here.
    pub(super) fn get(&self, index: Index) -> Option<&Entry> {
        let run = self.runs.get(self.position(index))?;
        if index < run.first {
            return None;
        }
        run.entries.get(index.since(run.first) as usize)
    }

    /// Entries from `first` up to, not including, `end`; both are in here, or just after. Shared
    /// when one run holds them, gathered from several otherwise.
    pub(super) fn range(&self, first: Index, end: Index) -> Entries {
        if first >= end {
            return Entries::EMPTY;
        }
        if let Some(run) = self.newest(first, end.previous()) {
            return run.entries.clone();
        }
        let position = self.position(first);
        let run = &self.runs[position];
        if (first, end) == (run.first, run.last.index.next()) {
            return run.entries.clone();
        }
        let start = first.since(run.first) as usize;
        if end <= run.last.index.next() {
            return run.entries.part(start, start + end.since(first) as usize);
        }
        let mut gathered = Vec::with_capacity(end.since(first) as usize);
        for run in self.runs.range(position..) {
            if run.first >= end {
                break;
            }
            let start = first.since(run.first) as usize;
            let stop = (end.since(run.first) as usize).min(run.entries.len());
            gathered.extend_from_slice(&run.entries[start..stop]);
        }
        gathered.into()
    }

    /// What the entries of `first..=last` that are in here add up to.
    pub(super) fn weigh(&self, first: Index, last: Index) -> Weight {
        if let Some(run) = self.newest(first, last) {
            return run.entries.weight();
        }
        let mut weight = Weight::ZERO;
        for run in self.runs.range(self.position(first).min(self.runs.len())..) {
            if run.first > last {
                break;
            }
            let is_whole = first <= run.first && run.last.index <= last;
            weight = weight.and(if is_whole {
                run.entries.weight()
            } else {
                let start = first.max(run.first).since(run.first) as usize;
                let stop = last.next().since(run.first) as usize;
                Weight::of(&run.entries[start..stop.min(run.entries.len())])
            });
        }
        weight
    }

    /// The newest run, if it is these entries and no others. Almost always it is.
    fn newest(&self, first: Index, last: Index) -> Option<&Run> {
        self.runs.back().filter(|run| (run.first, run.last.index) == (first, last))
    }

    /// The number of the first run that does not end before `index`.
    fn position(&self, index: Index) -> usize {
        // Almost everybody asks for the newest run.
        if self.runs.back().is_some_and(|run| run.first <= index) {
            return self.runs.len() - 1;
        }
        self.runs.partition_point(|run| run.last.index < index)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::entry::Payload;
    use crate::id::Term;
    use crate::membership::MembershipChange;

    fn run(term: u64, indexes: std::ops::Range<u64>) -> Entries {
        let entry = |index| Entry {
            index: Index(index),
            term: Term(term),
            payload: Payload::Command(vec![0; 10].into()),
        };
        indexes.map(entry).collect()
    }

    fn tail() -> Tail {
        let mut tail = Tail::after(EntryId::new(Term(1), Index(4)));
        tail.push(run(1, 5..8));
        tail.push(run(2, 8..9));
        tail.push(run(2, 9..13));
        tail
    }

    fn indexes(entries: &Entries) -> Vec<u64> {
        entries.iter().map(|entry| entry.index.0).collect()
    }

    #[test]
    fn a_range_is_found_whatever_runs_it_crosses() {
        let tail = tail();
        for first in 5..13 {
            for end in first..14 {
                let range = tail.range(Index(first), Index(end));
                assert_eq!(indexes(&range), (first..end).collect::<Vec<_>>());
            }
        }
        let shared = tail.range(Index(10), Index(12));
        assert!(std::ptr::eq(&shared[0], tail.get(Index(10)).unwrap()));
        assert_eq!(tail.get(Index(4)), None);
        assert_eq!(tail.get(Index(13)), None);
    }

    #[test]
    fn truncation_cuts_inside_a_run_and_between_runs() {
        for index in 5..14 {
            let mut cut = tail();
            cut.truncate(Index(index));
            assert_eq!(cut.last().index, Index(index - 1));
            assert_eq!(indexes(&cut.range(Index(5), Index(index))), (5..index).collect::<Vec<_>>());
            let bytes: usize = cut.runs.iter().map(Run::bytes).sum();
            assert_eq!(cut.bytes(), bytes);
        }
    }

    #[test]
    fn whatever_runs_are_weighed_it_is_the_sum_of_their_entries() {
        let mut tail = tail();
        let change = MembershipChange::Leave { context: Vec::new().into() };
        let payload = Payload::Membership(Arc::new(change));
        tail.push([Entry { index: Index(13), term: Term(2), payload }].into_iter().collect());
        for first in 0..14 {
            for last in first..14 {
                let range = tail.range(Index(first.max(5)), Index(last.max(4) + 1));
                let weight = tail.weigh(Index(first), Index(last));
                assert_eq!(weight, Weight::of(&range), "{first}..={last}");
                assert_eq!(weight.has_change, last == 13);
            }
        }
    }

    #[test]
    fn what_is_dropped_is_still_known_by_name() {
        let mut tail = tail();
        assert_eq!(tail.oldest(), Some(Index(7)));
        tail.drop_oldest();
        tail.drop_oldest();
        assert_eq!(tail.before(), EntryId::new(Term(2), Index(8)));
        assert_eq!(tail.get(Index(8)), None);
        tail.drop_oldest();
        assert_eq!((tail.bytes(), tail.last().index), (0, Index(12)));
    }
}
