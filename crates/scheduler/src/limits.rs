//! What the scheduler gives at most, each with the reason for its value.

use std::time::Duration;

use kiva_base::Timestamp;

/// How far ahead of now timestamps are promised to the disk. A restart skips at most this much, and
/// an idle disk is not asked at all; a busy one once per half of it.
pub const WINDOW: Duration = Duration::from_secs(3);

/// How far the oracle runs ahead of its clock when more timestamps are asked for than a
/// millisecond has. Beyond it they are refused: locks would seem to expire early.
pub const AHEAD_MAX: Duration = Duration::from_secs(10);

/// A clock that is ahead of the oracle by no more than this is followed at once: it was corrected.
/// One that is further ahead was set wrong, now or before, and is approached at double speed.
pub const FOLLOW_MAX: Duration = Duration::from_secs(1);

/// Most timestamps of one request: those of one millisecond, because they share it.
pub const TIMESTAMPS_MAX: u32 = Timestamp::PER_MS as u32;

/// The latest time that a clock is believed, in Unix milliseconds: beyond the year 3000 half the
/// range of timestamps is used up.
pub const WALL_MAX_MS: u64 = 1 << 45;

/// How many ids are promised to the disk at a time. A restart skips what is left of them.
pub const IDS_BATCH: u64 = 1_000;

/// Most ids of one request. A region that is cut into hundreds of pieces needs some thousand.
pub const IDS_MAX: u32 = 100_000;

/// Most regions that one round of the keeper saves. The next round goes on, so a cluster that
/// starts with many regions does not hold the disk for long.
pub const REGIONS_SAVED_MAX: usize = 1_000;

/// How often the keeper looks for something to save.
pub const KEEPER_INTERVAL: Duration = Duration::from_millis(500);

/// Longest name of a service that holds the safe point back, in bytes. It is part of a key.
pub const SERVICE_NAME_MAX: usize = 1_024;

const _: () = assert!(KEEPER_INTERVAL.as_millis() * 3 <= WINDOW.as_millis());
const _: () = assert!(TIMESTAMPS_MAX as u64 == Timestamp::PER_MS);
