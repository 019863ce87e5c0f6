//! What can be chosen when the engine is opened, and what we tell the library.

use std::path::Path;
use std::sync::Arc;

use fjall::{Database, DatabaseBuilder, KeyspaceCreateOptions};

use super::filter::Judging;
use crate::Filter;
use crate::limits::MEMTABLE_BYTES_MAX;

/// How a [`DiskEngine`](super::DiskEngine) is opened. None of it is kept in the directory.
#[derive(Clone)]
pub struct Options {
    /// Memory for blocks of tables that were read.
    pub cache_bytes: u64,
    /// The memtable is written to a table when it has so many bytes; at most
    /// [`MEMTABLE_BYTES_MAX`].
    pub memtable_bytes: u64,
    /// Threads that write and merge tables. With one, merging waits for writing.
    pub threads: usize,
    /// What may vanish in compaction.
    pub filter: Option<Arc<dyn Filter>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 64 * 1024 * 1024,
            memtable_bytes: MEMTABLE_BYTES_MAX,
            threads: 2,
            filter: None,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("cache_bytes", &self.cache_bytes)
            .field("memtable_bytes", &self.memtable_bytes)
            .field("threads", &self.threads)
            .field("filter", &self.filter.is_some())
            .finish()
    }
}

pub(super) fn database(path: &Path, options: Options) -> DatabaseBuilder<Database> {
    let builder = Database::builder(path)
        .cache_size(options.cache_bytes)
        .worker_threads(options.threads.max(1))
        // A batch stays in the buffer before the journal until that is full or `flush` comes:
        // one system call for many batches.
        .manual_journal_persist(true);
    match options.filter {
        Some(filter) => {
            let factory = Arc::new(Judging::new(filter));
            builder.with_compaction_filter_factories(Arc::new(move |name| {
                (name == super::TREE).then(|| Arc::clone(&factory) as Arc<_>)
            }))
        }
        None => builder,
    }
}

/// What the library keeps with the tree when it is made. Blocks of the lower levels are LZ4.
pub(super) fn tree() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .manual_journal_persist(true)
        .max_memtable_size(MEMTABLE_BYTES_MAX)
}
