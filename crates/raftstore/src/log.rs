//! The log of a store: entries and hard states of all its regions, in one sequence of bytes.
//!
//! A store syncs one thing on the way of a write, and this is it. Whatever must survive a crash and
//! is not data goes here: entries, votes, the traces of removed peers, the identity of the store.
//!
//! ```text
//!   LogBatch          Log::write            Log::sync                 RegionLog
//!   one round of  ──▶ one record, at ──▶    one fsync for all   ──▶   what readers see:
//!   all regions       the end of the log    that is written           first, last, entries
//!                                                                     ▲ tail cache, else disk
//!   segments   [1 ........][2 ........][3 .....▸       ][4 prepared ]
//!               ▲ oldest: dropped or rewritten by Log::collect, and used again as 5
//! ```
//!
//! - **A record** is one batch: a directory (who, which indexes, terms, sizes, checksums) and the
//!   payloads behind it. The directory's checksum covers the segment's number and the offset, so
//!   the bytes of a recycled file never pass for new ones; every payload has its own, so that
//!   damage hits one entry.
//! - **Segments** are files of one size, prepared before they are needed and recycled when nothing
//!   in them is. A segment is durable before the next one begins, and ends with a copy of all its
//!   directories: whoever opens the log reads those, and payloads of the last segment only.
//! - **The index** in memory says where each entry is. The newest entries of all regions stay in
//!   memory too, as many as fit into one budget; the oldest go first, whoever's they are.
//! - **Space.** [`Log::compact`] says what is not needed. Files go oldest first: what is still
//!   needed of the oldest one is written again at the end, then the file is dropped. The oldest
//!   goes first because a later segment says what became of the entries of an earlier one.
//!
//! **Torn or damaged.** Every record tells up to which position the log was known to be durable
//! when it was written, and so do the segments that follow. A bad record below that was there once:
//! it is *damage*, and the region is told which index it lost, instead of passing for a log that
//! ends earlier. A bad record that nobody vouches for is the torn end of a crash: the log is cut
//! there, and what lies behind the hole goes with it. [`Log::mark`] vouches for what was written
//! last when nothing else is.
//!
//! **The first failure is the last.** After a write or a sync that failed nothing more is accepted:
//! nobody knows what is on the disk. Reads go on.
//!
//! What is not here: membership and applied indexes (`data` has them), snapshots' contents, and
//! deciding what may be compacted.

mod batch;
mod cache;
mod collect;
mod format;
mod index;
mod inspect;
mod publish;
mod reader;
mod recover;
mod scan;
mod segment;
mod store;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use kiva_base::{Epoch, PeerId, RegionId};
use kiva_raft::{EntryId, HardState, Index};

pub use self::batch::LogBatch;
pub use self::collect::Collected;
pub use self::inspect::{InspectedItem, InspectedRecord, InspectedRun, Inspection, inspect};
pub use self::reader::RegionLog;
use self::store::Shared;
use crate::disk::{Disk, FileName};
use crate::limits;

/// The log of a store. A clone is a handle to the same log.
///
/// Any number of threads may read. Of writers there is usually one, and up to two syncs are on
/// their way at a time; a third one waits.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

/// What can be chosen when a log is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Size of a segment's file. A batch that is larger gets a larger file. May differ from what
    /// it was when the log was last open.
    pub segment_size: u64,
    /// Bytes of entries of all regions that are kept in memory after they were written.
    pub cache_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_size: limits::SEGMENT_SIZE, cache_bytes: limits::LOG_CACHE_BYTES }
    }
}

/// A place in the log: bytes since its beginning, over all segments. Never goes back: a log that
/// is shorter than it said before has lost what was durable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A log that was opened, and what was found in it.
pub struct Opened {
    /// The log.
    pub log: Log,
    /// What it holds of every region that it has heard of and that was not removed.
    pub regions: BTreeMap<RegionId, Recovered>,
    /// Regions with peers that were destroyed here. One can be in `regions` as well, with a newer
    /// peer.
    pub tombstones: BTreeMap<RegionId, Tombstone>,
    /// The identity that was written last.
    pub ident: Option<Bytes>,
    /// Up to where the log is durable.
    pub position: Position,
    /// Regions that lost something that was durable once, see [`Recovered::damage`].
    pub damage: BTreeMap<RegionId, Damage>,
    /// Places that cannot be read, of which nobody knows what was there. When there are any, a
    /// region that is nowhere in `regions` may have been there too: a vote of a peer that `data`
    /// does not know, or a tombstone.
    pub lost: Vec<Lost>,
}

/// What the log holds of one region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// What precedes the first entry that is there. The caller may know that it needs less than
    /// that: files go later than [`Log::compact`] says, and what it says is not kept by itself.
    pub start: EntryId,
    /// The last entry, or `start`.
    pub last: EntryId,
    /// As last written; all zeros when it never was.
    pub hard_state: HardState,
    /// What is missing.
    pub damage: Option<Damage>,
}

/// What a region lost that was durable once. It is remembered by the log until the region
/// restarts, is removed, or (when only entries are lost) replaces or compacts the entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The first entry that is lost; all after it may be. Reading it answers
    /// [`LogError::Damaged`](kiva_raft::LogError::Damaged).
    pub index: Index,
    /// Whether hard states may be lost too: a vote that was given and is not remembered. Such a
    /// replica must not vote, nor acknowledge an append, until it starts again from a snapshot.
    pub is_state_lost: bool,
}

/// A part of the log that cannot be read and was durable once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lost {
    /// The segment, counted from 1.
    pub segment: u32,
    /// The first byte.
    pub start: u64,
    /// The first byte behind it; `None` when the whole file is missing.
    pub end: Option<u64>,
}

/// What remains of destroyed peers: nothing that concerns them may bring them back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tombstone {
    /// Peers of the region with this id or a smaller one are gone from this store for good.
    pub peer_id_max: PeerId,
    /// The region's epoch when the last of them went.
    pub epoch: Epoch,
}

/// What [`Log::write`] appended, to be shown to [`Log::sync`].
#[must_use = "what is not synced is not durable, and nobody sees it"]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Written {
    end: Position,
}

impl Written {
    /// Where the log ended afterwards: durable once [`Log::position`] has reached it.
    pub fn end(&self) -> Position {
        self.end
    }
}

/// Counters of a log, and its size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogStatus {
    /// Files that hold something, the one being written included.
    pub segments: u64,
    /// Files that wait to be written.
    pub segments_prepared: u64,
    /// Bytes of all segments that were written.
    pub bytes: u64,
    /// Bytes of what is still needed, about.
    pub live_bytes: u64,
    /// Bytes of entries in memory.
    pub cached_bytes: u64,
    /// Regions with a handle or something written.
    pub regions: u64,
    /// Batches appended since it was opened.
    pub writes: u64,
    /// Bytes appended since it was opened.
    pub written_bytes: u64,
    /// Syncs since it was opened, those of new segments included.
    pub syncs: u64,
    /// Entries read from disk since it was opened.
    pub disk_reads: u64,
    /// Segments dropped since it was opened.
    pub segments_dropped: u64,
    /// Bytes of entries written again to free old segments, since it was opened.
    pub rewritten_bytes: u64,
    /// Whether a write or sync has failed, which is for good.
    pub is_poisoned: bool,
}

/// Why a log cannot be opened. Damage is no reason: it is reported by region.
#[derive(Debug, thiserror::Error)]
pub enum LogOpenError {
    /// The disk failed.
    #[error("the log cannot be read")]
    Disk(#[from] io::Error),
    /// What opening has to write failed.
    #[error("the log cannot be written to")]
    Write(#[from] LogWriteError),
    /// A newer version wrote this, and nothing was changed.
    #[error("{file} has format {format}, newer than {}", limits::LOG_FORMAT)]
    Newer {
        /// The file.
        file: FileName,
        /// Its format.
        format: u8,
    },
}

/// Why nothing was appended, or is not durable. All but [`TooLarge`](Self::TooLarge) are final:
/// whether the bytes are on the disk is unknown, and the log accepts nothing more.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogWriteError {
    /// More than [`limits::LOG_BATCH_SIZE_MAX`]. Nothing has happened.
    #[error("a batch of {size} bytes, of at most {}", limits::LOG_BATCH_SIZE_MAX)]
    TooLarge {
        /// Its size.
        size: usize,
    },
    /// There is no room on the disk.
    #[error("no room for the log")]
    Full(#[source] Arc<io::Error>),
    /// The disk failed.
    #[error("the log's disk failed")]
    Disk(#[source] Arc<io::Error>),
    /// An earlier write or sync failed, with this error.
    #[error("the log failed before")]
    Poisoned(#[source] Arc<io::Error>),
}

impl Log {
    /// Opens the log on `disk`, and makes one when there is none. The disk may hold other files;
    /// those whose names end in `.log` are the log's.
    ///
    /// What is found is durable when it returns: the torn end is cut, and the next record says so.
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<Opened, LogOpenError> {
        recover::open(disk, options)
    }

    /// The part of one region. Made on first use; all handles of a region are one.
    pub fn region(&self, id: RegionId) -> RegionLog {
        RegionLog::new(Arc::clone(&self.shared), id, self.shared.region(id))
    }

    /// Appends a batch, whole or not at all, behind all batches before. It is not durable, and
    /// nobody sees it, until [`sync`](Self::sync) has returned for it or for a later one.
    ///
    /// # Panics
    /// When entries leave a gap to those of their region.
    pub fn write(&self, batch: &LogBatch) -> Result<Written, LogWriteError> {
        self.shared.write(batch)
    }

    /// Makes durable what was written up to here, in one sync of the disk, and shows it to readers
    /// of the regions. Returns at once when another sync has done so.
    ///
    /// Two threads may sync at a time. Batches become visible in their order.
    pub fn sync(&self, written: &Written) -> Result<(), LogWriteError> {
        self.shared.sync(written.end)
    }

    /// Vouches for what was synced last, when nothing does yet: writes one record that says so, and
    /// syncs. For a log that has become idle; a bad record after that is damage instead of a torn
    /// end. Says whether there was anything to vouch for.
    pub fn mark(&self) -> Result<bool, LogWriteError> {
        self.shared.mark()
    }

    /// Up to where the log is durable.
    pub fn position(&self) -> Position {
        self.shared.durable()
    }

    /// Size and counters.
    pub fn status(&self) -> LogStatus {
        self.shared.status()
    }

    /// Entries of the region up to and including `upto` may go: what they did is durable elsewhere.
    /// Takes effect for readers at once. A crash forgets it until [`collect`](Self::collect) has
    /// freed files since, so whoever opens the log says it again. Indexes beyond the last one mean
    /// the last entry; what is compacted already stays so.
    pub fn compact(&self, region: RegionId, upto: Index) {
        self.shared.compact(region, upto);
    }

    /// Does one step of the work behind the scenes: prepares a segment, or frees the oldest one. To
    /// be called by a background thread, until there is nothing to do (`None`). Writes go on
    /// meanwhile.
    pub fn collect(&self) -> Result<Option<Collected>, LogWriteError> {
        self.shared.collect()
    }

    /// Drops what is kept in memory of a region that was removed ([`LogBatch::remove`],
    /// [`LogBatch::tombstone`]). Handles to it must not be used any more. Does nothing, and says
    /// so, while something is left of the region.
    pub fn forget(&self, region: RegionId) -> bool {
        self.shared.forget(region)
    }
}
