//! Ordered bytes in column families: snapshots, atomic batches, and two implementations.
//!
//! [`Engine`] is the one seam between Kiva and its local storage. It is object-safe and small, so
//! that nothing above has an engine parameter. [`memory`] is a map of versions with a visible and a
//! durable state, for tests and the simulator; [`tree`] is the durable one. Both run one suite,
//! `tests/contract`.
//!
//! What is always true:
//!
//! - A batch is visible, and survives a crash, whole or not at all, over all families.
//! - A crash leaves a prefix of the batches, and at least those written before the last
//!   [`Engine::flush`] that returned.
//! - A snapshot never changes, and sees whole batches only.
//! - A failed write or flush is final: the engine is poisoned and accepts nothing more.
//!
//! ```
//! use kiva_base::KeyRange;
//! use kiva_engine::{Cf, Engine, Order, WriteBatch, memory::MemoryEngine};
//!
//! let engine = MemoryEngine::new();
//! let before = engine.snapshot();
//! let mut batch = WriteBatch::new();
//! batch.put(Cf::Default, b"key", b"value");
//! batch.delete_range(Cf::Lock, &KeyRange::prefix("key"));
//! engine.write(&batch)?; // visible, and lost in a crash
//! engine.flush()?; // durable
//!
//! assert_eq!(before.get(Cf::Default, b"key")?, None);
//! let now = engine.snapshot();
//! let mut pairs = now.iter(Cf::Default, &KeyRange::ALL, Order::Reverse);
//! assert_eq!(pairs.next()?, Some(("key".into(), "value".into())));
//! # Ok::<(), kiva_engine::EngineError>(())
//! ```
//!
//! What is deliberately not here: keys have no meaning (that is `txn` and `kv`), nothing is
//! replicated, and there is no cache of decoded records.

pub mod batch;
pub mod cf;
pub mod filter;
pub mod limits;
pub mod memory;
mod sorted;
pub mod tree;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use kiva_base::KeyRange;

pub use batch::{Op, WriteBatch};
pub use cf::Cf;
pub use filter::{Filter, Verdict};

/// Ordered local bytes in column families.
pub trait Engine: Send + Sync {
    /// One moment of all families; sees whole batches. Cheap enough for one per request.
    fn snapshot(&self) -> Arc<dyn Snapshot>;

    /// Visible whole or not at all, not yet durable. After an error nobody knows whether it
    /// happened, and nothing more is accepted.
    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError>;

    /// Makes durable what was written before the call. A crash leaves a prefix of the batches,
    /// never less than this. Slow: for a background thread.
    fn flush(&self) -> Result<(), EngineError>;

    /// Puts and deletes over all families in key order, seen at one moment, durable on return.
    fn ingest(&self, items: &mut dyn SortedItems) -> Result<(), EngineError>;

    /// Bytes in tables; off by a table per level and what is still in memory.
    fn approximate_size(&self, cf: Cf, range: &KeyRange) -> u64;

    /// How near to a stall it is, and whether it still accepts writes. A failure in the background
    /// is found by the next write or flush.
    fn health(&self) -> Health;
}

/// A read-only view of one moment. Keys and values share the engine's buffers where they can.
pub trait Snapshot: Send + Sync {
    /// The value of `key`.
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// The pairs of `range` in `order`. It cannot seek: step a few times, then open another.
    fn iter(&self, cf: Cf, range: &KeyRange, order: Order) -> Box<dyn Iter>;
}

/// Pairs in key order. Holds its snapshot alive; may outlive the handle it came from.
pub trait Iter: Send {
    /// The next key and value; `None` at the end, and again after it. After an error the iterator
    /// is at its end.
    fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, EngineError>;
}

/// Which end an iteration begins at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// From the smallest key up.
    Forward,
    /// From the largest key down.
    Reverse,
}

/// A stream for [`Engine::ingest`]: strictly ascending by family, then by key.
pub trait SortedItems {
    /// The next family, key and value (`None`: a delete); `None` at the end.
    fn next(&mut self) -> Result<Option<SortedItem>, EngineError>;
}

/// One put or delete of an ingestion.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SortedItem {
    /// Where.
    pub cf: Cf,
    /// Which key.
    pub key: Bytes,
    /// Its new value; `None` deletes it.
    pub value: Option<Bytes>,
}

/// What an engine knows of its own state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// Takes writes at full speed.
    Good,
    /// Takes writes, and would be glad of a pause: flushes or compactions are behind.
    Pressed,
    /// Takes nothing more; reads still work.
    Poisoned,
}

/// Why storage failed. None of these is the caller's mistake to repeat: a failure of
/// [`Engine::write`] or [`Engine::flush`] is final.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The system refused to read or write.
    #[error("{action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried, as a verb: "open", "sync".
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what it was when it was written.
    #[error("{path} is damaged: {reason}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// Something in the directory does not belong to an engine.
    #[error("{path} does not belong in a data directory: {reason}", path = path.display())]
    Foreign {
        /// The file or folder.
        path: PathBuf,
        /// What was expected.
        reason: String,
    },
    /// Another process, or another engine of this one, has the directory open.
    #[error("{path} is in use by another process", path = path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// An earlier write or flush failed; nothing is accepted any more.
    #[error("the engine has failed before and accepts nothing more: {reason}")]
    Poisoned {
        /// What failed then.
        reason: String,
    },
    /// A key or value is beyond [`limits`].
    #[error("{what} has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// "a key" or "a value".
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The largest allowed.
        limit: usize,
    },
    /// Bytes that are not a batch, or items of an ingestion that do not ascend.
    #[error("malformed batch: {0}")]
    Malformed(&'static str),
}
