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

/// The keeper reserves more ids when fewer are left: placement takes them without waiting.
pub const IDS_LOW: u64 = 100;

/// Most ids of one request. A region that is cut into hundreds of pieces needs some thousand.
pub const IDS_MAX: u32 = 100_000;

/// Most regions that one round of the keeper saves. The next round goes on, so a cluster that
/// starts with many regions does not hold the disk for long.
pub const REGIONS_SAVED_MAX: usize = 1_000;

/// How often the keeper looks for something to save.
pub const KEEPER_INTERVAL: Duration = Duration::from_millis(500);

/// Longest name of a service that holds the safe point back, in bytes. It is part of a key.
pub const SERVICE_NAME_MAX: usize = 1_024;

/// How long a store may be silent before nothing is placed there: two of its reports are missing.
pub const STORE_DISCONNECTED: Duration = Duration::from_secs(20);

/// A store whose disk has less than this many percent free gets no more peers: those that it has
/// grow, and a full disk refuses writes.
pub const STORE_FULL_PERCENT: u64 = 5;

/// Most operators that checks have running at a time. Each costs a snapshot.
pub const CHECK_OPERATORS_MAX: usize = 64;

/// Most peers that are on their way to one store at a time: their snapshots share its disk.
pub const ARRIVING_MAX: usize = 8;

/// Most regions that one round of the patrol looks at. The next round goes on.
pub const PATROL_REGIONS_MAX: usize = 4_096;

/// How long another peer may take to lead. It takes an election at most.
pub const TRANSFER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a change of peers may take. A snapshot of a region of full size, at the rate that
/// snapshots are held to, takes a minute or two.
pub const CHANGE_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// After how long a step that is done at once is repeated: the message was lost.
pub const RESEND_FAST: Duration = Duration::from_secs(2);

/// After how long a step that moves data is repeated.
pub const RESEND_SLOW: Duration = Duration::from_secs(5);

/// How long it is remembered how an operator ended.
pub const FINISHED_KEPT: Duration = Duration::from_secs(10 * 60);

/// How many ends of operators are remembered.
pub const FINISHED_MAX: usize = 1_024;

/// Checks begin when this many percent of the regions of every store have been reported since the
/// scheduler began: what the disk remembers is older than what leaders know.
pub const REPORTED_PERCENT: usize = 80;

/// Checks begin after this long at the latest: some leaders may never report.
pub const REPORTED_WAIT: Duration = Duration::from_secs(5 * 60);

const _: () = assert!(TRANSFER_TIMEOUT.as_millis() > 2 * RESEND_FAST.as_millis());
const _: () = assert!(IDS_LOW < IDS_BATCH);
const _: () = assert!(KEEPER_INTERVAL.as_millis() * 3 <= WINDOW.as_millis());
const _: () = assert!(TIMESTAMPS_MAX as u64 == Timestamp::PER_MS);
