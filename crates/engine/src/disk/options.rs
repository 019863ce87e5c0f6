//! What can be chosen when the engine is opened, and what we tell the library.

use std::path::Path;
use std::sync::Arc;

use fjall::{Database, DatabaseBuilder, KeyspaceCreateOptions};

use super::filter::Judging;
use crate::limits::MEMTABLE_BYTES_MAX;

pub use crate::tree::Options;

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
