//! The durable engine: one LSM tree of `lsm-tree`, without a journal.
//!
//! Whoever writes here has written to a log before, and replays it after a crash. So a write goes
//! to memory only, and [`Engine::flush`] writes that memory to tables.
//!
//! **One tree.** Every key is led by the byte of its family, so a batch, a table and an ingestion
//! cover all families at once, and there is one memtable whose prefix is what a crash leaves.
//!
//! **Who does what.** The library keeps memtables, tables, manifests and the way from one to the
//! next. It has no threads, no journal and no idea of a batch. Ours is:
//!
//! | module | adds |
//! |---|---|
//! | [`options`] | what can be chosen when it is opened |
//! | `inspect`, `archive` | nothing is opened that is damaged, foreign or half made |
//! | `batch` | operations in their order; ranges become deletes |
//! | `view` | moments: whole batches, read without waiting for the disk |
//! | `snapshot` | families are cut out of the one tree |
//! | `flush` | from memory to tables, and merging those |
//! | `work`, `runtime` | threads for both, and writers that wait before it is too late |
//! | `ingest` | many pairs at one moment |
//! | `filter` | what may vanish leaves a tombstone |
//! | `size` | how large a range is |
//!
//! **What a write costs.** An insertion per operation into a skip list, under the writer's lock; no
//! system call. The memtable is sealed between batches, under the same lock, so everything that is
//! ever written to a table is a prefix of the batches.
//!
//! **What waits for what.** Every flush and every merge switches to another list of tables, and the
//! library syncs it under a lock that its own reads and writes need. Ours do not: the active
//! memtable is at hand, and so is a view of everything. Only a seal needs that lock, and is left to
//! a thread.
//!
//! **The first failure is the last.** A write or flush that failed may have happened or not, so
//! everything after it is refused, while snapshots keep reading. What remains is to open again.

mod archive;
mod batch;
mod error;
mod filter;
mod flush;
mod ingest;
mod inspect;
pub mod options;
mod runtime;
mod size;
mod snapshot;
mod view;
mod work;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use kiva_base::KeyRange;
use lsm_tree::{AbstractTree, AnyTree, Memtable, SequenceNumberCounter, Tree};

pub use self::options::Options;
use crate::limits::TABLE_BYTES_TARGET;
use crate::{Cf, Engine, EngineError, Health, Snapshot, SortedItems, WriteBatch};

/// An engine in a directory. The directory stays locked while a snapshot or iterator of it lives.
///
/// Dropping it flushes what was written, as far as that is possible.
pub struct TreeEngine {
    shared: Arc<Shared>,
    threads: runtime::Threads,
}

/// What the handle, its threads, snapshots and iterators share.
struct Shared {
    path: PathBuf,
    tree: Tree,
    /// Held from the first number of a batch until it is visible, so that batches have one order
    /// and whoever holds it knows that none is half inserted. A plain mutex: it is held for
    /// microseconds, and the memtable would serialise writers anyway.
    writer: Mutex<Writer>,
    /// Sequence numbers, for operations and for the library's versions.
    numbers: SequenceNumberCounter,
    current: view::Current,
    work: work::Work,
    /// How many threads merge.
    mergers: usize,
    memtable_bytes: u64,
    /// Ends a merge in its middle.
    closing: Arc<AtomicBool>,
    /// Why the first write or flush failed.
    poison: OnceLock<String>,
    /// Goes last: then the directory is free.
    _lock: File,
}

/// What the writer's lock guards.
struct Writer {
    /// The tree's, kept here because asking for it takes a lock that is held during syncs.
    active: Arc<Memtable>,
    /// Those whose tables are not known to be there, newest first.
    sealed: Vec<Arc<Memtable>>,
}

impl Writer {
    /// Of a tree without sealed memtables.
    fn new(tree: &Tree) -> Self {
        Self { active: tree.active_memtable(), sealed: Vec::new() }
    }

    /// Newest first.
    fn memtables(&self) -> Vec<Arc<Memtable>> {
        std::iter::once(&self.active).chain(&self.sealed).cloned().collect()
    }
}

impl TreeEngine {
    /// Opens the engine in `path`, and makes one when there is nothing.
    ///
    /// Every file is inspected first: damage, a foreign file, or another opener is an error that
    /// names it, and leaves everything as it is.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, EngineError> {
        let path = path.as_ref().to_owned();
        let (found, lock) = inspect::inspect(&path)?;
        let closing = Arc::<AtomicBool>::default();
        // Zero would read the oldest state of the tree, whatever it is.
        let numbers = SequenceNumberCounter::new(1);
        let judging = filter::Judging::new(options.filter, Arc::clone(&closing));
        let directory = path.join(inspect::TREE);
        let tree = options::config(&directory, options.cache_bytes, &numbers, judging)
            .open()
            .map_err(|error| error::of(&path, "open", error))?;
        let AnyTree::Standard(tree) = tree else {
            return Err(error::damaged(&directory, "values lie apart from their keys"));
        };
        if let Some(highest) = tree.get_highest_persisted_seqno() {
            numbers.fetch_max(highest + 1);
        }
        if found == inspect::Found::Nothing {
            inspect::complete(&path)?;
        }
        let writer = Writer::new(&tree);
        let shared = Arc::new(Shared {
            current: view::Current::new(&tree, writer.memtables(), numbers.get()),
            writer: Mutex::new(writer),
            work: work::Work::default(),
            mergers: options.threads.saturating_sub(1).max(1),
            memtable_bytes: options.memtable_bytes,
            poison: OnceLock::new(),
            _lock: lock,
            path,
            tree,
            numbers,
            closing,
        });
        let threads = runtime::Threads::start(&shared, options.threads)
            .map_err(|error| error::io_error("start the threads of", &shared.path, error))?;
        // What was not merged before the last close.
        shared.settle();
        shared.work.ask_merges(shared.mergers);
        Ok(Self { shared, threads })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Writes what is in memory to tables, then merges all tables, which shows every pair to the
    /// filter. Takes as long as rewriting everything.
    pub fn compact(&self) -> Result<(), EngineError> {
        let shared = &*self.shared;
        shared.flush()?;
        shared
            .tree
            .major_compact(TABLE_BYTES_TARGET, shared.current.moment())
            .map_err(|error| shared.fail(error::of(&shared.path, "merge tables of", error)))?;
        shared.settle();
        Ok(())
    }
}

impl Shared {
    fn alive(&self) -> Result<(), EngineError> {
        match self.poison.get() {
            Some(reason) => Err(EngineError::Poisoned { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Remembers the first failure, and gives it back.
    fn fail(&self, error: EngineError) -> EngineError {
        self.poison(&error.to_string());
        error
    }

    fn poison(&self, reason: &str) {
        let reason = self.poison.get_or_init(|| reason.to_owned());
        tracing::error!(path = %self.path.display(), %reason, "engine takes no more writes");
        self.work.end();
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    fn lock_writer(&self) -> Result<MutexGuard<'_, Writer>, EngineError> {
        let writer = self.writer.lock().unwrap_or_else(|poisoned| {
            self.poison("a thread has panicked in the middle of a write");
            poisoned.into_inner()
        });
        self.alive()?;
        Ok(writer)
    }
}

impl Engine for TreeEngine {
    fn snapshot(&self) -> Arc<dyn Snapshot> {
        Arc::new(snapshot::TreeSnapshot::new(&self.shared))
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        batch.check()?;
        let shared = &*self.shared;
        shared.work.wait_for_room();
        let mut writer = shared.lock_writer()?;
        batch::insert(shared, &writer.active, batch)?;
        shared.current.publish(shared.numbers.get());
        let size = writer.active.size();
        if size >= shared.memtable_bytes {
            // A thread seals it, unless it is late.
            if size >= shared.memtable_bytes.saturating_add(shared.memtable_bytes / 4) {
                shared.seal(&mut writer);
            }
            shared.work.ask_flush();
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.shared.flush()
    }

    fn ingest(&self, items: &mut dyn SortedItems) -> Result<(), EngineError> {
        self.shared.alive()?;
        ingest::ingest(&self.shared, items)
    }

    fn approximate_size(&self, cf: Cf, range: &KeyRange) -> u64 {
        size::approximate(&self.shared.tree, &snapshot::bounds(cf, range))
    }

    fn health(&self) -> Health {
        if self.shared.poison.get().is_some() {
            Health::Poisoned
        } else if self.shared.work.is_pressed() {
            Health::Pressed
        } else {
            Health::Good
        }
    }
}

impl Drop for TreeEngine {
    fn drop(&mut self) {
        let shared = &*self.shared;
        shared.closing.store(true, Ordering::Relaxed);
        shared.work.end();
        self.threads.join();
        if let Ok(mut writer) = shared.lock_writer() {
            shared.seal(&mut writer);
            drop(writer);
            // It has been logged, and there is nobody left to tell.
            let _ = shared.flush_sealed();
        }
    }
}

impl std::fmt::Debug for TreeEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TreeEngine({})", self.shared.path.display())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;

    use super::*;
    use crate::{Filter, Verdict};

    /// Counts the pairs it is shown, and keeps the first one waiting.
    #[derive(Default)]
    struct Gate {
        state: Mutex<(usize, bool)>,
        changed: Condvar,
    }

    impl Gate {
        fn wait(&self, until: impl Fn(&(usize, bool)) -> bool) -> MutexGuard<'_, (usize, bool)> {
            let state = self.state.lock().expect("nobody panics");
            self.changed.wait_while(state, |state| !until(state)).expect("nobody panics")
        }
    }

    impl Filter for Gate {
        fn judge(&self, _: Cf, _: &[u8], _: &[u8]) -> Verdict {
            self.state.lock().expect("nobody panics").0 += 1;
            self.changed.notify_all();
            drop(self.wait(|(_, open)| *open));
            Verdict::Keep
        }
    }

    #[test]
    fn a_close_ends_a_merge_in_its_middle_and_loses_nothing() {
        let directory = tempfile::tempdir().expect("makes a directory");
        let gate = Arc::new(Gate::default());
        let filter = Some(Arc::clone(&gate) as Arc<dyn Filter>);
        let options = Options { filter, ..Options::default() };
        let engine = TreeEngine::open(directory.path(), options).expect("opens");
        for round in 0..10_u8 {
            let mut batch = WriteBatch::new();
            for key in 0..100_u8 {
                batch.put(Cf::Default, &[key], &[round]);
            }
            engine.write(&batch).expect("writes");
            engine.flush().expect("flushes");
        }
        drop(gate.wait(|(shown, _)| *shown == 1));
        let mut batch = WriteBatch::new();
        batch.put(Cf::Default, &[100], &[9]);
        engine.write(&batch).expect("writes");
        // As the first line of `drop` does, so that the merge goes on only after it.
        engine.shared.closing.store(true, Ordering::Relaxed);
        gate.wait(|_| true).1 = true;
        gate.changed.notify_all();
        drop(engine);
        assert_eq!(gate.wait(|_| true).0, 1, "the merge went on");

        let engine = TreeEngine::open(directory.path(), Options::default()).expect("opens");
        let snapshot = engine.snapshot();
        for key in 0..=100_u8 {
            let value = snapshot.get(Cf::Default, &[key]).expect("reads");
            assert_eq!(value.as_deref(), Some(&[9][..]));
        }
    }
}
