//! What can be chosen when the engine is opened, and what we tell the library.

use std::path::Path;
use std::sync::Arc;

use lsm_tree::config::{
    BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry,
    RestartIntervalPolicy,
};
use lsm_tree::{Cache, CompressionType, Config, SequenceNumberCounter};

use super::filter::Judging;
use crate::Filter;
use crate::limits::MEMTABLE_BYTES;

/// How a [`TreeEngine`](super::TreeEngine) is opened. None of it is kept in the directory.
#[derive(Clone)]
pub struct Options {
    /// Memory for blocks of tables that were read.
    pub cache_bytes: u64,
    /// The memtable is written to a table when it has so many bytes.
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
            memtable_bytes: MEMTABLE_BYTES,
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

/// The settings of the tree in `directory`.
///
/// The library would publish every switch of versions as a moment that can be read, also in the
/// middle of a batch. It gets a counter of its own for that, which nobody reads: what is visible is
/// decided in [`view`](super::view).
pub(super) fn config(
    directory: &Path,
    cache_bytes: u64,
    numbers: &SequenceNumberCounter,
    judging: Judging,
) -> Config {
    // A missing key should cost no read, so tables that are young and many get the better filters.
    let filters = FilterPolicy::new([
        FilterPolicyEntry::Bloom(BloomConstructionPolicy::FalsePositiveRate(0.0001)),
        FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0)),
    ]);
    // Young tables are soon rewritten; what has sunk below them is most of the data.
    let compression = CompressionPolicy::new([
        CompressionType::None,
        CompressionType::None,
        CompressionType::Lz4,
    ]);
    Config::new(directory, numbers.clone(), SequenceNumberCounter::default())
        .use_cache(Arc::new(Cache::with_capacity_bytes(cache_bytes)))
        .filter_policy(filters)
        .data_block_compression_policy(compression)
        .data_block_restart_interval_policy(RestartIntervalPolicy::new([10, 16]))
        .with_compaction_filter_factory(Some(Arc::new(judging)))
}
