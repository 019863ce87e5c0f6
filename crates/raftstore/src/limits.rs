//! Bounds of this crate, each with its reason.

/// Largest command in one log entry, in bytes. Bounds the memory that one slow follower can pin,
/// and what a round of merged writes gathers.
pub const ENTRY_SIZE_MAX: usize = 8 * 1024 * 1024;

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

/// Longest name of a file, in bytes. Room for two numbers of twenty digits and what they stand for.
pub const FILE_NAME_SIZE_MAX: usize = 64;
