//! What a command may ask for at most, each with its reason.

use crate::error::Refusal;

/// Largest key of a user in bytes. Keys stand in every index block, in log entries and, three at a
/// time, in the entry of a split.
pub const KEY_SIZE_MAX: usize = 8 * 1024;

/// Largest value in bytes. One log entry has to hold it, and one answer has to carry it.
pub const VALUE_SIZE_MAX: usize = 6 * 1024 * 1024;

/// Largest batch that is proposed at once, in bytes. Bounds the memory that one slow replica pins.
pub const ENTRY_SIZE_MAX: usize = kiva_raftstore::limits::ENTRY_SIZE_MAX;

/// Most keys that one entry of a range deletion covers: the engine writes a tombstone for each.
pub const DELETE_RANGE_KEYS_MAX: usize = 10_000;

/// Keys of a batch get above which it is not answered on the thread it came in on: the others there
/// would wait behind it for as long as a scan.
pub const SHORT_BATCH_MAX: usize = 16;

/// Refuses a value above the limit.
pub(crate) fn check_value(value: &[u8]) -> Result<(), Refusal> {
    let size = value.len();
    if size > VALUE_SIZE_MAX { Err(Refusal::ValueTooLarge { size }) } else { Ok(()) }
}

const _: () = assert!(VALUE_SIZE_MAX + 2 * KEY_SIZE_MAX < ENTRY_SIZE_MAX);
// The memcomparable form is nine bytes for eight, and a version adds eight.
const _: () = assert!(KEY_SIZE_MAX / 8 * 9 + 17 < kiva_engine::limits::KEY_SIZE_MAX);
const _: () = assert!(VALUE_SIZE_MAX < kiva_engine::limits::VALUE_SIZE_MAX);
