//! Bounds of this crate, each with its reason.

use std::time::Duration;

/// Largest command in one log entry, in bytes. Bounds the memory that one slow follower can pin,
/// and what a round of merged writes gathers.
pub const ENTRY_SIZE_MAX: usize = 8 * 1024 * 1024;

/// What an entry adds to the largest command: kind, version, length.
pub const ENTRY_OVERHEAD: usize = 32;

/// Bytes of requests and envelopes that wait for one store loop; more are refused or dropped. Eight
/// entries of the largest size, so that the bound is met by load and never by one request.
pub const MAILBOX_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where a round stops merging writes into one entry, in bytes. Far below [`ENTRY_SIZE_MAX`]: an
/// entry is the unit in which a follower catches up, and nothing is saved beyond this.
pub const MERGED_WRITES_MAX: usize = 256 * 1024;

/// Where one batch for the engine ends, in bytes. A batch is one critical section of its writer.
pub const APPLY_BATCH_MAX: usize = 1024 * 1024;

/// Ticks that a loop makes up for after a pause. Twice the shortest election timeout: whatever
/// they would lead to has happened by then, and every lease has ended.
pub const LATE_TICKS_MAX: u32 = 20;

/// Ticks after which a waiter is told that nobody knows: 10 s of 50 ms, longer than clients wait.
pub const PROPOSAL_TICKS_MAX: u64 = 200;

const _: () = assert!(MERGED_WRITES_MAX < ENTRY_SIZE_MAX);
const _: () = assert!(ENTRY_SIZE_MAX < MAILBOX_BYTES_MAX);

/// Longest name of a file, in bytes. Room for three numbers of twenty digits and what they stand
/// for; every file system takes 255.
pub const FILE_NAME_SIZE_MAX: usize = 80;

/// Payload of a chunk of a snapshot, in bytes. Both sides hold one or two, and a sync, a checksum
/// and a message are all cheap beside so much.
pub const SNAPSHOT_CHUNK_SIZE: usize = 1024 * 1024;

/// Largest payload of a chunk that is taken, in bytes. The first one holds a region's record, with
/// its two bounds of at most 64 KiB each, and one message of 4 MiB holds any.
pub const SNAPSHOT_CHUNK_SIZE_MAX: usize = 2 * SNAPSHOT_CHUNK_SIZE;

/// What is written of a snapshot before it is synced, in bytes. Were it synced at its end only, the
/// disk would be busy with it for so long that the log waits.
pub const SNAPSHOT_SYNC_BYTES: u64 = 8 * 1024 * 1024;

/// Largest batch in which a snapshot is installed or a range cleared, in bytes. What is larger is
/// ingested: tables of its own are not worth while for less, and a batch is held in memory.
pub const SNAPSHOT_BATCH_MAX: usize = 4 * 1024 * 1024;

/// How long a snapshot that nobody has installed is kept. Its log goes on without it meanwhile: by
/// then the leader would send a newer one.
pub const SNAPSHOT_KEPT_MAX: Duration = Duration::from_secs(3600);

/// How long nothing may arrive of a snapshot before it is given up, on either side. Longer than any
/// sync and any wait for the rate limit.
pub const SNAPSHOT_STALL_MAX: Duration = Duration::from_secs(30);

/// How many snapshots a store sends at once. Each pins a view of the engine and is built while it
/// is sent, so more of them would only finish later, all together.
pub const SNAPSHOTS_SENDING_MAX: usize = 4;

/// How many snapshots a store receives at once. Two senders at their limit.
pub const SNAPSHOTS_RECEIVING_MAX: usize = 8;

const _: () = assert!(SNAPSHOT_CHUNK_SIZE <= SNAPSHOT_CHUNK_SIZE_MAX);
const _: () = assert!(SNAPSHOT_CHUNK_SIZE_MAX < 4 * 1024 * 1024);

/// How long `data` may go without a flush while the log grows. [`FLUSH_LOG_BYTES`] bounds how much
/// a restart replays; this is for a store that is nearly idle, and seldom, because a small flush
/// of scattered keys has much rewritten in the end.
pub const FLUSH_INTERVAL: Duration = Duration::from_secs(600);

/// How often it is looked whether a flush is due.
pub const FLUSH_LOOK: Duration = Duration::from_secs(1);

/// How far the log may grow before `data` is flushed, in bytes. A segment's worth: that is what can
/// be dropped at once.
pub const FLUSH_LOG_BYTES: u64 = 64 * 1024 * 1024;

/// Syncs of the log on their way at once. A second one brings a third more of them per second where
/// the disk has to be waited for; a third adds little.
pub const SYNCS_MAX: usize = 2;

/// How long a store that stops goes on replicating what it was already asked to write.
pub const STOP_GRACE: Duration = Duration::from_millis(500);

/// Size of a file of the log, in bytes. A file is what is dropped at once, and what a store that
/// opens its log reads in full: a fraction of a second.
pub const SEGMENT_SIZE: u64 = 64 * 1024 * 1024;

/// Smallest size of a file of the log, in bytes; for tests. A page of the system.
pub const SEGMENT_SIZE_MIN: u64 = 4096;

/// Bytes of entries of all regions that stay in memory after they were written. What a follower is
/// behind by when it was gone for a few seconds at full speed.
pub const LOG_CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Largest batch of the log, in bytes. Sizes and offsets in a segment have 30 and 32 bits; far more
/// than the loops gather for one round.
pub const LOG_BATCH_SIZE_MAX: usize = (1 << 30) - 1;

/// Format of the log's files, see `docs/formats.md`.
pub const LOG_FORMAT: u8 = 1;

/// Prepared files of the log that are kept at hand: one is enough for a log that is written at full
/// speed while the next is made, and a second one saves making it when two are dropped in a row.
pub const SEGMENTS_PREPARED_MAX: usize = 2;

/// Bytes of entries that are written again at once. Writers wait that long.
pub const LOG_REWRITE_BYTES: usize = 1024 * 1024;

const _: () = assert!(ENTRY_SIZE_MAX < LOG_BATCH_SIZE_MAX);
const _: () = assert!(LOG_BATCH_SIZE_MAX < 1 << 30);
