//! The log as consensus sees it: the driver's log, and the end of it that is only in memory.
//!
//! ```text
//!            applied    handed out   durable    written       last
//!               │           │           │          │           │
//!   ────────────┴───────────┴───────────┴──────────┴───────────┘
//!   ◀── committed entries are handed out ─▶│◀─ on their ─▶│◀ to be
//!       once they are durable              │   way        │  written
//! ```
//!
//! The commit index lies anywhere between `handed out` and `last`: a quorum of others may commit
//! an entry that this disk does not have yet.

mod slice;
mod tail;

use std::collections::VecDeque;

use crate::entry::{Entries, Entry, Payload, Weight, fitting};
use crate::flaw::{Flaw, Flaws};
use crate::id::{EntryId, Index, Term};
use crate::ready::WriteNumber;
use crate::storage::{LogError, LogStore, Snapshot};
use tail::Tail;

pub use slice::{LogSlice, SliceError};

/// What happened to an append.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Appended {
    /// The log agrees with the leader's up to here.
    Matched(EntryId),
    /// It does not hold the entry before the append; it may agree up to the hint.
    Refused { hint: EntryId },
}

/// The log of one node.
///
/// Invariants:
/// - `applied <= handed <= commit <= last`.
/// - `durable <= written <= last`, and `handed <= durable` unless a snapshot is being installed.
/// - The tail holds every entry that is not durable. What is not in the tail is in the store.
/// - What is committed is never replaced (Leader Completeness, Raft §5.4.3).
pub(crate) struct Log {
    store: Box<dyn LogStore + Send>,
    tail: Tail,
    /// Proposals of this round; they become a run of the tail when the round ends.
    gathering: Vec<Entry>,
    last: EntryId,
    commit: Index,
    handed: Index,
    applied: Index,
    /// The last entry that some write holds.
    written: Index,
    durable: Index,
    /// Writes that were handed out, oldest first.
    writes: VecDeque<Written>,
    /// To be handed out with the next write.
    snapshot: Option<Box<Snapshot>>,
    /// The last snapshot that this node received. Entries up to it are never handed out.
    restored: Index,
    applying: Applying,
    /// The store could not give what is to be applied; it is asked again after a while.
    is_stalled: bool,
    /// The last thing the store could not do.
    pub(crate) fault: Option<LogError>,
    pub(crate) flaws: Flaws,
}

/// A write that is on its way to the disk.
///
/// Its receipt counts for the entries up to `covers`. Whoever replaces entries lowers that for the
/// writes on their way: a receipt of `(5, term 1)` says nothing about what is at index 5 by now,
/// not even when that is `(5, term 1)` again, because a later write may have put another entry
/// there in between (the ABA case).
#[derive(Debug)]
struct Written {
    number: WriteNumber,
    covers: Index,
}

/// What was handed out to be applied and is not reported yet: last index and bytes of each batch.
#[derive(Debug, Default)]
struct Applying {
    batches: VecDeque<(Index, usize)>,
    bytes: usize,
}

impl Log {
    /// The log as the store has it. `commit` and `applied` are within it.
    pub(crate) fn new(store: Box<dyn LogStore + Send>, commit: Index, applied: Index) -> Self {
        let last = store.last();
        Self {
            tail: Tail::after(last),
            gathering: Vec::new(),
            last,
            commit,
            handed: applied,
            applied,
            written: last.index,
            durable: last.index,
            writes: VecDeque::new(),
            snapshot: None,
            restored: Index::ZERO,
            applying: Applying::default(),
            is_stalled: false,
            fault: None,
            flaws: Flaws::NONE,
            store,
        }
    }

    pub(crate) fn store(&self) -> &dyn LogStore {
        &*self.store
    }

    /// The newest entry.
    pub(crate) fn last(&self) -> EntryId {
        self.last
    }

    /// The oldest entry that can be read.
    pub(crate) fn first(&self) -> Index {
        if self.is_installing() {
            self.tail.before().index.next()
        } else {
            self.store.first_index()
        }
    }

    pub(crate) fn commit(&self) -> Index {
        self.commit
    }

    pub(crate) fn applied(&self) -> Index {
        self.applied
    }

    pub(crate) fn handed(&self) -> Index {
        self.handed
    }

    pub(crate) fn durable(&self) -> Index {
        self.durable
    }

    pub(crate) fn restored(&self) -> Index {
        self.restored
    }

    /// Whether a snapshot was received that is not on the disk yet. The store still shows the
    /// log that it replaces.
    pub(crate) fn is_installing(&self) -> bool {
        self.durable < self.restored
    }

    /// The term of the entry at `index`.
    pub(crate) fn term(&self, index: Index) -> Result<Term, LogError> {
        if index == self.last.index {
            return Ok(self.last.term);
        }
        let before = self.tail.before();
        if index == before.index {
            return Ok(before.term);
        }
        if index < before.index {
            if self.is_installing() {
                return Err(LogError::Compacted { first: before.index.next() });
            }
            return self.store.term(index);
        }
        let entry = self.tail.get(index).or_else(|| {
            let first = self.gathering.first()?.index;
            self.gathering.get(index.0.checked_sub(first.0)? as usize)
        });
        entry.map(|entry| entry.term).ok_or(LogError::BeyondEnd { last: self.last.index })
    }

    /// Whether this very entry is in the log. What was compacted away is not.
    pub(crate) fn holds(&self, id: EntryId) -> bool {
        id == self.last || self.term(id.index) == Ok(id.term)
    }

    /// The newest entry at or before `index` whose term is at most `term`: where two logs may
    /// still agree when one has an entry of `term` at `index` and the other has not. Skips a whole
    /// term per message instead of an entry (Raft §5.3, as etcd's library does it).
    pub(crate) fn newest_agreeable(&self, index: Index, term: Term) -> EntryId {
        let mut index = index.min(self.last.index);
        loop {
            match self.term(index) {
                Ok(found) if found <= term => return EntryId::new(found, index),
                Ok(_) => index = index.previous(),
                // Compacted, so committed, so agreed upon: the leader will send a snapshot if it
                // has compacted it too.
                Err(_) => return EntryId::new(Term::ZERO, index),
            }
        }
    }

    /// Appends a proposal of this leader.
    pub(crate) fn propose(&mut self, term: Term, payload: Payload) -> EntryId {
        let id = EntryId::new(term, self.last.index.next());
        self.gathering.push(Entry { index: id.index, term, payload });
        self.last = id;
        id
    }

    /// Ends the round: what was proposed since becomes one run.
    pub(crate) fn seal(&mut self) {
        if self.gathering.len() > 1 {
            self.tail.push(self.gathering.drain(..).collect());
        } else if let Some(alone) = self.gathering.pop() {
            self.tail.push(alone.into());
        }
    }

    /// Appends what a leader sent, where it fits (Raft figure 2, AppendEntries).
    pub(crate) fn append(&mut self, slice: LogSlice) -> Appended {
        self.seal();
        if slice.previous() == self.last {
            return Appended::Matched(self.extend(slice.into_entries()));
        }
        if slice.previous().index < self.commit {
            return self.append_below_commit(&slice);
        }
        if !self.holds(slice.previous()) {
            let (index, term) = (slice.previous().index, slice.previous().term);
            return Appended::Refused { hint: self.newest_agreeable(index, term) };
        }
        Appended::Matched(self.merge(slice.entries(), slice.last()))
    }

    /// What is committed here the leader has too, so only what follows is of interest. The
    /// predecessor may be compacted, and its term unknown.
    fn append_below_commit(&mut self, slice: &LogSlice) -> Appended {
        if slice.last().index <= self.commit {
            return Appended::Matched(self.committed());
        }
        let known = self.commit.since(slice.previous().index) as usize;
        let (theirs, ours) = (slice.entries()[known - 1].id(), self.committed());
        assert!(theirs == ours, "a leader has {theirs} where {ours} was committed");
        let rest = slice.entries().part(known, slice.entries().len());
        Appended::Matched(self.merge(&rest, slice.last()))
    }

    /// The last committed entry.
    pub(crate) fn committed(&self) -> EntryId {
        let term = self.term(self.commit).expect("the log goes on after its commit index");
        EntryId::new(term, self.commit)
    }

    /// Appends the entries that are not there yet, and replaces those that differ. A log that has
    /// more than was sent keeps it: a late message says nothing about what came after (Raft §5.3,
    /// "If an existing entry conflicts").
    fn merge(&mut self, entries: &Entries, last: EntryId) -> EntryId {
        let Some(news) = entries.iter().position(|entry| !self.holds(entry.id())) else {
            if self.flaws.has(Flaw::StaleAppendTruncates) && last.index < self.last.index {
                self.truncate(last.index.next().max(self.commit.next()));
            }
            return last;
        };
        let index = entries[news].index;
        if index <= self.last.index {
            self.truncate(index);
        }
        self.extend(entries.part(news, entries.len()))
    }

    fn extend(&mut self, entries: Entries) -> EntryId {
        self.tail.push(entries);
        self.last = self.tail.last();
        self.last
    }

    /// Drops the entries from `index` on.
    fn truncate(&mut self, index: Index) {
        assert!(
            index > self.commit,
            "a leader's entry at {index} replaces one that was committed up to {}",
            self.commit
        );
        let kept = index.previous();
        if kept <= self.tail.before().index {
            let term = self.term(kept).expect("an entry above the commit index is in the log");
            self.tail = Tail::after(EntryId::new(term, kept));
        } else {
            self.tail.truncate(index);
        }
        self.last = self.tail.last();
        self.written = self.written.min(kept);
        self.durable = self.durable.min(kept);
        if self.flaws.has(Flaw::ReceiptForReplaced) {
            return;
        }
        for write in &mut self.writes {
            write.covers = write.covers.min(kept);
        }
    }

    /// Everything up to `commit` is agreed upon.
    pub(crate) fn commit_to(&mut self, commit: Index) {
        assert!(
            commit <= self.last.index,
            "commit {commit} is beyond the log, which ends at {}",
            self.last.index
        );
        self.commit = self.commit.max(commit);
    }

    /// Replaces the whole log by a snapshot. `Node` has checked that it is ahead.
    pub(crate) fn restore(&mut self, snapshot: Box<Snapshot>) {
        let last = snapshot.last;
        assert!(
            last.index > self.commit,
            "a snapshot at {} of a log committed up to {}",
            last.index,
            self.commit
        );
        self.gathering.clear();
        self.tail = Tail::after(last);
        self.last = last;
        self.commit = last.index;
        self.handed = last.index;
        self.written = last.index;
        self.restored = last.index;
        // Nothing of what is on its way says anything about the new log.
        self.durable = Index::ZERO;
        self.writes.iter_mut().for_each(|write| write.covers = Index::ZERO);
        self.snapshot = Some(snapshot);
    }

    /// Whether entries or a snapshot wait to be written.
    pub(crate) fn has_unwritten(&self) -> bool {
        self.written < self.last.index || self.snapshot.is_some()
    }

    /// Takes what waits to be written, for the write of this number.
    pub(crate) fn take_unwritten(
        &mut self,
        number: WriteNumber,
    ) -> (Entries, Option<Box<Snapshot>>) {
        self.seal();
        let entries = self.tail.range(self.written.next(), self.last.index.next());
        self.written = self.last.index;
        self.writes.push_back(Written { number, covers: self.written });
        (entries, self.snapshot.take())
    }

    /// The write of this number, and all before it, are durable.
    pub(crate) fn on_synced(&mut self, number: WriteNumber) {
        while let Some(write) = self.writes.front() {
            if write.number > number {
                break;
            }
            self.durable = self.durable.max(write.covers);
            self.writes.pop_front();
        }
        if !self.is_installing() {
            // The driver installed the snapshot with the write; what it had not applied before
            // that, it never will.
            self.advance_applied(self.restored);
        }
        assert!(
            self.durable <= self.written,
            "durable up to {} and written up to {}",
            self.durable,
            self.written
        );
    }

    /// The store may have by now what it had not.
    pub(crate) fn retry(&mut self) {
        self.is_stalled = false;
    }

    /// Where the entries end that may be handed out.
    fn appliable(&self) -> Index {
        if self.flaws.has(Flaw::ApplyBeforeSync) && !self.is_installing() {
            return self.commit;
        }
        self.commit.min(self.durable)
    }

    /// Whether something may be handed out. `bytes_max` bounds what is being applied.
    pub(crate) fn has_appliable(&self, bytes_max: usize) -> bool {
        self.handed < self.appliable()
            && (self.applying.bytes < bytes_max || self.applying.batches.is_empty())
            && !self.is_stalled
    }

    /// Takes entries to be applied, at most `bytes_max` of them, if [`Log::has_appliable`].
    pub(crate) fn take_appliable(&mut self, bytes_max: usize) -> Entries {
        let entries = match self.entries(self.handed.next(), self.appliable().next(), bytes_max) {
            Ok(entries) => entries,
            Err(error) => {
                self.fault = Some(error);
                self.is_stalled = true;
                return Entries::EMPTY;
            }
        };
        let Some(last) = entries.last() else { return entries };
        self.handed = last.index;
        let bytes = entries.size();
        self.applying.batches.push_back((last.index, bytes));
        self.applying.bytes += bytes;
        entries
    }

    /// Everything up to `applied` has been applied.
    pub(crate) fn on_applied(&mut self, applied: Index) {
        assert!(
            applied <= self.handed,
            "applied up to {applied}, but only {} was handed out",
            self.handed
        );
        self.advance_applied(applied);
    }

    fn advance_applied(&mut self, applied: Index) {
        self.applied = self.applied.max(applied);
        while let Some(&(last, bytes)) = self.applying.batches.front() {
            if last > self.applied {
                break;
            }
            self.applying.bytes -= bytes;
            self.applying.batches.pop_front();
        }
    }

    /// Entries from `first` up to, not including, `end`, as many as fit and at least one.
    pub(crate) fn entries(
        &self,
        first: Index,
        end: Index,
        bytes_max: usize,
    ) -> Result<Entries, LogError> {
        let start = self.tail.before().index.next();
        if first >= start {
            let range = self.tail.range(first, end);
            if range.size() <= bytes_max {
                return Ok(range);
            }
            return Ok(range.part(0, fitting(&range, bytes_max)));
        }
        if self.is_installing() {
            return Err(LogError::Compacted { first: start });
        }
        self.store.entries(first, end.min(start), bytes_max)
    }

    /// Forgets entries that the store has and nobody here needs: those that were handed out and
    /// that `needed` is beyond, and, when there are more than `bytes_max`, committed ones.
    pub(crate) fn trim(&mut self, needed: Index, bytes_max: usize) {
        let done = self.handed.min(self.durable);
        while let Some(oldest) = self.tail.oldest() {
            let is_done = oldest <= done && oldest <= needed;
            let is_much = self.tail.bytes() > bytes_max && oldest <= self.appliable();
            if !is_done && !is_much {
                break;
            }
            self.tail.drop_oldest();
        }
    }

    /// Gives back what is not needed at rest: the store has every entry, and all are applied.
    pub(crate) fn shrink(&mut self) {
        self.trim(Index::MAX, 0);
        self.tail.shrink();
        self.gathering.shrink_to_fit();
        self.writes.shrink_to_fit();
        self.applying.batches.shrink_to_fit();
    }

    /// What the entries of `first..=last` add up to. Reads no further than memory: what this
    /// leader appended and has not committed is there.
    pub(crate) fn weigh(&self, first: Index, last: Index) -> Weight {
        self.tail.weigh(first, last)
    }

    /// Whether a change of members is among the committed entries that were not handed out.
    pub(crate) fn has_change_to_hand_out(&self, page_bytes: usize) -> Result<bool, LogError> {
        let mut first = self.handed.next();
        while first <= self.commit {
            let page = self.entries(first, self.commit.next(), page_bytes)?;
            let Some(last) = page.last() else { break };
            if page.weight().has_change {
                return Ok(true);
            }
            first = last.index.next();
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
