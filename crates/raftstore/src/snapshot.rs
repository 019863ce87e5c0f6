//! Snapshots of regions: built from a view of the engine, sent in chunks, kept as files, installed
//! at one moment.
//!
//! ```text
//!   leader                                         follower
//!   engine::Snapshot ─▶ Builder ──chunk──▶ … ──▶ Receiver ─▶ file ─▶ install ─▶ engine
//!                        (one chunk at a time)     (Folder)          (one ingestion or batch)
//! ```
//!
//! A snapshot is **one sorted stream** over the families `default`, `lock` and `write`, cut into
//! [`Chunk`]s that say which snapshot they are of, which number they have, and what their checksum
//! is. The first one has the [`Meta`], the last the [`Totals`]. On the wire and in a file they are
//! the same bytes (`docs/formats.md`).
//!
//! What is always true:
//!
//! - The sender holds one chunk and one pair, and pins its view of the engine. Nothing is written
//!   on its side.
//! - A file has its final name only when all of it is durable and belongs together: every chunk
//!   once, in order, from one sender. Anything else is removed, at once or at the next start.
//! - A file that somebody holds is not removed.
//! - [`install`] changes everything or nothing, and what was damaged on the disk meanwhile is
//!   noticed before anything changes.
//!
//! What is deliberately not here: who needs a snapshot and when (consensus), the connection it
//! travels on (the transport), and threads. [`Slots`] and [`Throttle`] say how many may travel at
//! once and how fast; whoever carries chunks asks them.
//!
//! Raft §7; thesis §5.1.

mod build;
mod chunk;
mod folder;
mod install;
mod read;
mod receive;
mod slots;
mod throttle;

use std::fmt;

use bytes::Bytes;
use kiva_base::{KeyRange, RegionId};
use kiva_engine::Cf;
use kiva_raft::EntryId;

pub use build::Builder;
pub use chunk::{Chunk, ChunkError, Kind};
pub use folder::{Folder, Listed, Received};
pub use install::{Wrote, clear, install, subtract};
pub use read::Pairs;
pub use receive::{Begun, ReceiveError, Receiver};
pub use slots::Slots;
pub use throttle::Throttle;

/// The families that travel. `local` is about the store that it lies on.
const FAMILIES: [Cf; 3] = [Cf::Default, Cf::Lock, Cf::Write];

/// Which snapshot. Two of the same name hold the same state, though maybe not the same bytes: what
/// nobody can read any more goes at different times on different stores.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Id {
    /// Whose state.
    pub region: RegionId,
    /// The last entry whose effect it holds.
    pub last: EntryId,
}

impl fmt::Display for Id {
    /// Region, term and index, as in `7-3-17`; so are files called.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.region, self.last.term, self.last.index)
    }
}

/// What a snapshot is of: the first thing that is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Meta {
    /// Which snapshot.
    pub id: Id,
    /// The keys that it covers: what lies in the range and not in the snapshot does not exist.
    pub range: KeyRange,
    /// What else the receiver has to know, in an encoding of those who talk to each other.
    pub record: Bytes,
}

/// What a snapshot adds up to: the last thing that is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Chunks, the first and the last included.
    pub chunks: u32,
    /// Keys with a value.
    pub pairs: u64,
    /// Bytes of the pairs as they are encoded.
    pub bytes: u64,
    /// The CRC-32 of the checksums of all chunks before the last, each as four bytes. Chunks of two
    /// senders that fit each other in name and number still do not add up.
    pub digest: u32,
}

#[cfg(test)]
mod tests;
