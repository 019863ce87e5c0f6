//! The durable engine: one LSM tree of `fjall`, with a journal before it.
//!
//! **One tree.** Every key is led by the byte of its family, so a batch, a table and an ingestion
//! cover all families at once, and there is one journal whose prefix is what a crash leaves.
//!
//! **Who does what.** The library keeps journal, memtables, tables and the threads that flush and
//! compact; it makes a batch visible at once. Ours is what it does not promise:
//!
//! | module | adds |
//! |---|---|
//! | [`options`] | what can be chosen when it is opened |
//! | `inspect` | nothing is opened that is damaged, foreign or half made |
//! | `journal`, `synced` | what inspection reads, and how far it must be whole |
//! | `batch` | the last operation on a key wins; ranges become deletes |
//! | `snapshot` | families are cut out of the one tree |
//! | `ingest` | many pairs at one moment |
//! | `flush`, `runtime` | the sync, without holding up writers; a wait that ends |
//! | `filter` | what may vanish leaves a tombstone |
//!
//! **What a write costs.** It fills a buffer of 8 KiB in front of the journal and returns; the
//! buffer goes to the system when it is full, and at the latest in [`Engine::flush`]. Not
//! durable means just that: `kill -9` may take the tail, never the middle.
//!
//! **The first failure is the last.** A write or flush that failed may have happened or not, so
//! everything after it is refused, while snapshots keep reading. What remains is to open again.

mod batch;
mod error;
mod filter;
mod flush;
mod ingest;
mod inspect;
mod journal;
pub mod options;
mod runtime;
mod snapshot;
mod synced;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use fjall::{Database, Keyspace};
use kiva_base::KeyRange;

pub use self::options::Options;
use crate::tree::snapshot::bounds;
use crate::{
    Cf, Engine, EngineError, Health, Snapshot, SortedItems, WriteBatch,
    limits::{L0_RUNS_PRESSED, SEALED_MEMTABLES_PRESSED},
};

/// The one tree.
const TREE: &str = "data";

/// An engine in a directory. The directory stays locked while a snapshot or iterator of it lives.
pub struct DiskEngine {
    path: Arc<PathBuf>,
    database: Database,
    tree: Keyspace,
    memtable_bytes: u64,
    /// Held from reading what a range delete covers until the batch is written, so that batches
    /// have one order. A plain mutex: writers are few, and the journal has one anyway.
    writer: Mutex<()>,
    /// Held for a whole sync: one at a time, and whoever waited syncs what came meanwhile.
    syncer: Mutex<flush::Syncer>,
    /// Why the first write or flush failed.
    poison: OnceLock<String>,
}

impl DiskEngine {
    /// Opens the engine in `path`, and makes one when there is nothing.
    ///
    /// Every file is inspected first: damage, a foreign file, or another opener is an error that
    /// names it, and leaves everything as it is.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, EngineError> {
        let path = Arc::new(path.as_ref().to_owned());
        let found = inspect::inspect(&path)?;
        let memtable_bytes = options.memtable_bytes;
        let database = options::database(&path, options)
            .open()
            .map_err(|error| error::of_open(&path, error))?;
        if found != inspect::Found::Nothing && !database.keyspace_exists(TREE) {
            return Err(EngineError::Damaged {
                path: path.join(inspect::TREES),
                reason: "the tree that holds the data is not listed".to_owned(),
            });
        }
        let tree =
            database.keyspace(TREE, options::tree).map_err(|error| error::of_open(&path, error))?;
        let synced = match found {
            inspect::Found::Engine(synced) => synced,
            inspect::Found::Nothing => {
                inspect::complete(&path)?;
                synced::Synced { journal: 0, position: 0 }
            }
        };
        let syncer = flush::Syncer::new(&path, synced)?;
        Ok(Self {
            path,
            database,
            tree,
            memtable_bytes,
            writer: Mutex::new(()),
            syncer: Mutex::new(syncer),
            poison: OnceLock::new(),
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what is in memory to tables, then merges all tables, which shows every pair to the
    /// filter. Takes as long as rewriting everything.
    pub fn compact(&self) -> Result<(), EngineError> {
        self.alive()?;
        self.tree
            .rotate_memtable_and_wait()
            .and_then(|()| self.tree.major_compact())
            .map_err(|error| error::of(&self.path, "compact", error))
    }

    fn alive(&self) -> Result<(), EngineError> {
        match self.poison.get() {
            Some(reason) => Err(EngineError::Poisoned { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Remembers the first failure, and gives it back.
    fn fail(&self, error: EngineError) -> EngineError {
        let reason = self.poison.get_or_init(|| error.to_string());
        tracing::error!(path = %self.path.display(), %reason, "engine takes no more writes");
        error
    }

    fn lock_writer(&self) -> MutexGuard<'_, ()> {
        // It guards no data, so a panic under it has left nothing half done.
        self.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Engine for DiskEngine {
    fn snapshot(&self) -> Arc<dyn Snapshot> {
        Arc::new(snapshot::DiskSnapshot::new(self))
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        batch.check()?;
        let _writer = self.lock_writer();
        self.alive()?;
        self.wait_for_room()?;
        let resolved = batch::resolve(self, batch)?;
        resolved.commit().map_err(|error| self.fail(error::of(&self.path, "write to", error)))?;
        self.rotate_when_full()
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.alive()?;
        self.sync().map_err(|error| self.fail(error))
    }

    fn ingest(&self, items: &mut dyn SortedItems) -> Result<(), EngineError> {
        self.alive()?;
        ingest::ingest(self, items)
    }

    fn approximate_size(&self, cf: Cf, range: &KeyRange) -> u64 {
        crate::tree::size::approximate(&self.tree.tree, &bounds(cf, range))
    }

    fn health(&self) -> Health {
        if self.poison.get().is_some() {
            Health::Poisoned
        } else if fjall::AbstractTree::l0_run_count(&self.tree.tree) >= L0_RUNS_PRESSED
            || self.tree.sealed_memtable_count() >= SEALED_MEMTABLES_PRESSED
        {
            Health::Pressed
        } else {
            Health::Good
        }
    }
}

impl std::fmt::Debug for DiskEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DiskEngine({})", self.path.display())
    }
}
