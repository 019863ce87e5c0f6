//! A log that has not everything at hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kiva_raft::{
    Entries, EntryId, Index, InitialState, LogError, LogStore, MemoryLogStore, NodeId, Snapshot,
    Term,
};

/// A log in memory that says, while it is slow, that entries have to be fetched first.
#[derive(Clone, Default)]
pub(crate) struct SlowLog {
    store: MemoryLogStore,
    is_slow: Arc<AtomicBool>,
}

impl SlowLog {
    pub(crate) fn new(store: MemoryLogStore) -> Self {
        Self { store, is_slow: Arc::default() }
    }

    pub(crate) fn set_slow(&self, is_slow: bool) {
        self.is_slow.store(is_slow, Ordering::Relaxed);
    }
}

impl LogStore for SlowLog {
    fn initial_state(&self) -> Result<InitialState, LogError> {
        self.store.initial_state()
    }

    fn first_index(&self) -> Index {
        self.store.first_index()
    }

    fn last(&self) -> EntryId {
        self.store.last()
    }

    fn term(&self, index: Index) -> Result<Term, LogError> {
        self.store.term(index)
    }

    fn entries(&self, first: Index, end: Index, bytes_max: usize) -> Result<Entries, LogError> {
        if self.is_slow.load(Ordering::Relaxed) {
            return Err(LogError::Pending);
        }
        self.store.entries(first, end, bytes_max)
    }

    fn snapshot(&self, to: NodeId, index: Index) -> Result<Snapshot, LogError> {
        self.store.snapshot(to, index)
    }
}
