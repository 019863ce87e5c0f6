//! What the engine takes at most.

/// Largest key in bytes, the family byte not counted: the library below counts in 16 bits.
pub const KEY_SIZE_MAX: usize = 64 * 1024 - 2;

/// Largest value in bytes. Bounds the memory that one record can ask for while it is decoded.
pub const VALUE_SIZE_MAX: usize = 64 * 1024 * 1024;

/// Size of a memtable where nothing else is asked for: about what one table of a merge has.
pub const MEMTABLE_BYTES: u64 = 64 * 1024 * 1024;

/// Where a merge begins its next table.
pub const TABLE_BYTES_TARGET: u64 = 64 * 1024 * 1024;

/// Tables of the topmost level at which they are merged into the next one.
pub const L0_TABLES_MERGED: u8 = 4;

/// The same while all of them together are small: merging rewrites what lies below their keys, and
/// a store that flushes a few scattered keys now and then would rewrite a level for them.
pub const L0_TABLES_MERGED_SMALL: u8 = 8;

/// Up to so many bytes the topmost level is small.
pub const L0_BYTES_SMALL: u64 = 16 * 1024 * 1024;

const _: () = assert!(L0_TABLES_MERGED < L0_TABLES_MERGED_SMALL);
const _: () = assert!((L0_TABLES_MERGED_SMALL as usize) < L0_RUNS_PRESSED);

/// Runs in the topmost level from which on [`Health::Pressed`](crate::Health::Pressed) is told:
/// more than wait for a merge in quiet times, and far from where writes wait.
pub const L0_RUNS_PRESSED: usize = 12;

/// Memtables that wait to be written from which on pressure is told: one more, and writes wait.
pub const SEALED_MEMTABLES_PRESSED: usize = 2;

/// Runs in the topmost level at which writes and flushes wait. Every read may have to look into
/// each of them, and the library's manifest counts them in one byte.
pub const L0_RUNS_FULL: usize = 28;

/// Memtables that wait to be written at which a write waits: they and the active one are the memory
/// that an engine takes beside its cache.
pub const SEALED_MEMTABLES_FULL: usize = 3;

const _: () = assert!(L0_RUNS_PRESSED < L0_RUNS_FULL && L0_RUNS_FULL < u8::MAX as usize);
const _: () = assert!(SEALED_MEMTABLES_PRESSED < SEALED_MEMTABLES_FULL);

/// Tables up to this size are read whole when an engine is opened; of larger ones only what is not
/// data. A directory of small tables opens at the speed of the disk, a large one at once.
pub const TABLE_BYTES_READ: u64 = 1024 * 1024;
