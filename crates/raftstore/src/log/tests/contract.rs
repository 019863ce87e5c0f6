//! What consensus is promised of a log store, checked by its own suite.

use kiva_raft::storage::contract::{self, Subject};
use kiva_raft::{
    Entries, Entry, EntryId, HardState, Index, InitialState, LogError, LogStore, Membership,
    NodeId, Snapshot, Term,
};

use super::{SMALL, collect_all, crash, open_with, region, write};
use crate::disk::MemoryDisk;
use crate::log::{LogBatch, Opened, Options, RegionLog};

/// A region's log, with what its peer knows.
struct Peer {
    disk: MemoryDisk,
    options: Options,
    habit: Habit,
    opened: Opened,
    region: RegionLog,
    membership: Membership,
    applied: Index,
    compacted: Index,
}

/// What happens after every write.
#[derive(Clone, Copy, PartialEq)]
enum Habit {
    Nothing,
    Restart,
    Collect,
}

impl Peer {
    fn new(options: Options, habit: Habit) -> Self {
        let disk = MemoryDisk::new();
        let opened = open_with(&disk, options);
        let region = opened.log.region(region(7));
        let membership = Membership::default();
        let (applied, compacted) = (Index::ZERO, Index::ZERO);
        Self { disk, options, habit, opened, region, membership, applied, compacted }
    }

    fn write(&mut self, fill: impl FnOnce(&mut LogBatch)) {
        let mut batch = LogBatch::new();
        fill(&mut batch);
        write(&self.opened.log, &batch);
        self.after();
    }

    fn after(&mut self) {
        match self.habit {
            Habit::Nothing => return,
            Habit::Collect => collect_all(&self.opened.log),
            Habit::Restart => {
                self.disk = crash(&self.disk);
                self.opened = open_with(&self.disk, self.options);
                assert_eq!(self.opened.damage.len() + self.opened.lost.len(), 0);
            }
        }
        self.region = self.opened.log.region(region(7));
        self.opened.log.compact(region(7), self.compacted);
    }
}

impl LogStore for Peer {
    fn initial_state(&self) -> Result<InitialState, LogError> {
        let (hard_state, membership) = (self.region.hard_state(), self.membership.clone());
        Ok(InitialState { hard_state, membership, applied: self.applied })
    }

    fn first_index(&self) -> Index {
        self.region.first_index()
    }

    fn last(&self) -> EntryId {
        self.region.last()
    }

    fn term(&self, index: Index) -> Result<Term, LogError> {
        self.region.term(index)
    }

    fn entries(&self, first: Index, end: Index, bytes_max: usize) -> Result<Entries, LogError> {
        self.region.entries(first, end, bytes_max)
    }

    fn snapshot(&self, _to: NodeId, _index: Index) -> Result<Snapshot, LogError> {
        Err(LogError::Pending)
    }
}

impl Subject for Peer {
    fn store(&self) -> &dyn LogStore {
        self
    }

    fn append(&mut self, entries: &[Entry]) {
        let entries = Entries::from(entries.to_vec());
        self.write(|batch| batch.entries(region(7), &entries));
    }

    fn save(&mut self, state: HardState) {
        self.write(|batch| batch.hard_state(region(7), state));
    }

    fn apply(&mut self, applied: Index, membership: Membership) {
        (self.applied, self.membership) = (applied, membership);
    }

    fn compact(&mut self, index: Index) {
        self.compacted = index;
        self.opened.log.compact(region(7), index);
        self.after();
    }

    fn install(&mut self, snapshot: Snapshot) {
        (self.applied, self.membership) = (snapshot.last.index, snapshot.membership);
        self.compacted = snapshot.last.index;
        self.write(|batch| batch.restart(region(7), snapshot.last));
    }
}

#[test]
fn a_region_of_the_log_keeps_the_promises_of_a_log_store() {
    for cache_bytes in [0, 150, 1 << 20] {
        for habit in [Habit::Nothing, Habit::Restart, Habit::Collect] {
            let options = Options { cache_bytes, ..SMALL };
            contract::check(|| Box::new(Peer::new(options, habit)));
        }
    }
}
