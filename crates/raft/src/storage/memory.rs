//! A log in memory, for tests, examples and benchmarks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::entry::{Entries, Entry, fitting};
use crate::id::{EntryId, Index, NodeId, Term};
use crate::membership::Membership;
use crate::ready::LogWrite;
use crate::storage::contract::Subject;
use crate::storage::{HardState, InitialState, LogError, LogStore, Snapshot};

/// A log in memory. A clone is a handle to the same log: the node reads through one, the driver
/// writes through another.
///
/// Everything that is written is durable at once; a test that wants to lose unsynced writes keeps
/// the [`LogWrite`]s back and applies the ones that survive.
///
/// Invariants:
/// - Entries follow `compacted` without a gap.
/// - `compacted.index <= applied <=` the last index.
#[derive(Clone, Debug, Default)]
pub struct MemoryLogStore {
    shared: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    hard_state: HardState,
    membership: Membership,
    applied: Index,
    /// What precedes the first entry.
    compacted: EntryId,
    entries: Vec<Entry>,
    /// What a follower gets that needs more than the log has.
    snapshot: Option<Snapshot>,
    /// Whether a snapshot is said to be in the making.
    snapshot_pending: bool,
}

impl MemoryLogStore {
    /// The empty log of a new group with these members.
    pub fn new(membership: Membership) -> Self {
        let store = Self::default();
        store.lock().membership = membership;
        store
    }

    /// The log of a group whose state at `start` is given: entries follow it. Its term may be
    /// that of no election, as when a region is born at index 5 in term 5.
    pub fn starting_at(start: EntryId, membership: Membership) -> Self {
        let store = Self::new(membership);
        {
            let mut state = store.lock();
            state.compacted = start;
            state.applied = start.index;
            state.hard_state = HardState { term: start.term, vote: None, commit: start.index };
        }
        store
    }

    /// Does what one write asks for.
    pub fn write(&self, write: &LogWrite) {
        let mut state = self.lock();
        if let Some(snapshot) = &write.snapshot {
            state.install(Snapshot::clone(snapshot));
        }
        state.append(&write.entries);
        if let Some(hard_state) = write.hard_state {
            state.hard_state = hard_state;
        }
    }

    /// Appends entries, which replace everything from the first one's index on.
    pub fn append(&self, entries: &[Entry]) {
        self.lock().append(entries);
    }

    /// Replaces the hard state.
    pub fn set_hard_state(&self, hard_state: HardState) {
        self.lock().hard_state = hard_state;
    }

    /// Notes what a restart would start from.
    pub fn set_applied(&self, applied: Index, membership: Membership) {
        let mut state = self.lock();
        state.applied = applied;
        state.membership = membership;
    }

    /// Makes `data` the state at `index`, from the log's entry there and the members given. A
    /// follower that needs more than the log has gets this snapshot.
    pub fn build_snapshot(
        &self,
        index: Index,
        membership: Membership,
        data: Bytes,
    ) -> Result<Snapshot, LogError> {
        let mut state = self.lock();
        let last = EntryId::new(state.term(index)?, index);
        let snapshot = Snapshot { last, membership, data };
        state.snapshot = Some(snapshot.clone());
        state.snapshot_pending = false;
        Ok(snapshot)
    }

    /// Lets the next requests for a snapshot answer that it is in the making, until one is built
    /// or this is taken back.
    pub fn set_snapshot_pending(&self, pending: bool) {
        self.lock().snapshot_pending = pending;
    }

    /// Drops entries up to and including `index`.
    pub fn compact(&self, index: Index) -> Result<(), LogError> {
        let mut state = self.lock();
        let compacted = EntryId::new(state.term(index)?, index);
        let count = index.since(state.compacted.index) as usize;
        state.entries.drain(..count);
        state.compacted = compacted;
        Ok(())
    }

    /// The hard state as last written.
    pub fn hard_state(&self) -> HardState {
        self.lock().hard_state
    }

    /// Every entry that is there.
    pub fn all_entries(&self) -> Vec<Entry> {
        self.lock().entries.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the log as it was between two calls.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn last(&self) -> EntryId {
        self.entries.last().map_or(self.compacted, Entry::id)
    }

    fn term(&self, index: Index) -> Result<Term, LogError> {
        if index == self.compacted.index {
            return Ok(self.compacted.term);
        }
        self.position(index).map(|position| self.entries[position].term)
    }

    /// Where the entry at `index` is in the list.
    fn position(&self, index: Index) -> Result<usize, LogError> {
        let first = self.compacted.index.next();
        if index < first {
            return Err(LogError::Compacted { first });
        }
        let position = index.since(first) as usize;
        if position >= self.entries.len() {
            return Err(LogError::BeyondEnd { last: self.last().index });
        }
        Ok(position)
    }

    fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        let end = self.last().index.next();
        assert!(first.index <= end, "an append at {} to a log that ends at {end}", first.index);
        let start = self.compacted.index.next();
        assert!(first.index >= start, "an append at {} to a log from {start}", first.index);
        self.entries.truncate(first.index.since(start) as usize);
        self.entries.extend_from_slice(entries);
    }

    fn install(&mut self, snapshot: Snapshot) {
        self.compacted = snapshot.last;
        self.entries.clear();
        self.applied = snapshot.last.index;
        self.membership.clone_from(&snapshot.membership);
        self.snapshot = Some(snapshot);
    }
}

impl LogStore for MemoryLogStore {
    fn initial_state(&self) -> Result<InitialState, LogError> {
        let state = self.lock();
        Ok(InitialState {
            hard_state: state.hard_state,
            membership: state.membership.clone(),
            applied: state.applied,
        })
    }

    fn first_index(&self) -> Index {
        self.lock().compacted.index.next()
    }

    fn last(&self) -> EntryId {
        self.lock().last()
    }

    fn term(&self, index: Index) -> Result<Term, LogError> {
        self.lock().term(index)
    }

    fn entries(&self, first: Index, end: Index, bytes_max: usize) -> Result<Entries, LogError> {
        assert!(first < end, "entries from {first} to {end}");
        let state = self.lock();
        let start = state.position(first)?;
        state.position(end.previous())?;
        let wanted = &state.entries[start..start + end.since(first) as usize];
        Ok(wanted[..fitting(wanted, bytes_max)].iter().cloned().collect())
    }

    fn snapshot(&self, _to: NodeId, index: Index) -> Result<Snapshot, LogError> {
        let state = self.lock();
        match &state.snapshot {
            Some(snapshot) if !state.snapshot_pending && snapshot.last.index >= index => {
                Ok(snapshot.clone())
            }
            _ => Err(LogError::Pending),
        }
    }
}

impl Subject for MemoryLogStore {
    fn store(&self) -> &dyn LogStore {
        self
    }

    fn append(&mut self, entries: &[Entry]) {
        Self::append(self, entries);
    }

    fn save(&mut self, hard_state: HardState) {
        self.set_hard_state(hard_state);
    }

    fn apply(&mut self, applied: Index, membership: Membership) {
        self.set_applied(applied, membership);
    }

    fn compact(&mut self, index: Index) {
        Self::compact(self, index).expect("the suite compacts what is there");
    }

    fn install(&mut self, snapshot: Snapshot) {
        self.lock().install(snapshot);
    }
}
