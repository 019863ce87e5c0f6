//! Every bound of the client, with its reason.

use std::time::Duration;

/// How long one operation may take unless told otherwise. Leaders change within 1.5 s; the rest
/// is room for a store that restarts.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one call to a store may take. A call that waits longer has most likely lost its
/// store, and the operation still has time to ask another.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How often one operation is tried. With the sleeps below the deadline comes first; this bounds
/// attempts that do not sleep.
pub const ATTEMPTS_MAX: u32 = 100;
/// The first sleep after a refusal. A change of leader or a split is often over by then.
pub const SLEEP_FIRST: Duration = Duration::from_millis(2);
/// The longest sleep. An operation notices within this time that its obstacle is gone, and a
/// leader that is lost should not be missed for much longer than an election takes.
pub const SLEEP_MAX: Duration = Duration::from_millis(200);
/// The first sleep when a store says that it is busy or full: coming back at once adds to it.
pub const SLEEP_BUSY: Duration = Duration::from_millis(100);
/// The longest sleep then.
pub const SLEEP_BUSY_MAX: Duration = Duration::from_millis(500);
/// Hints followed in a row without sleeping. Two peers that name each other would otherwise burn
/// all attempts in milliseconds.
pub const HINTS_IN_A_ROW: u32 = 3;

/// How long a store that gave no answer is believed to be away: as long as the others need, at
/// most, to elect a leader that answers. Until then its word is not waited for where another
/// replica can be asked.
pub const SUSPECT_FOR: Duration = Duration::from_secs(1);

/// Connections per store unless told otherwise: two for each of the two cores that a small
/// server has, so that dealing them out by chance rarely leaves one idle.
pub const CONNECTIONS: usize = 4;
/// Largest message taken from a store, in bytes. A page of a scan can hold `SCAN_PAGE` values.
pub const MESSAGE_SIZE_MAX: usize = 64 * 1024 * 1024;
/// Commands in one message of a batch stream. What gathers beyond goes into the next.
pub const BATCH_COMMANDS_MAX: usize = 128;
/// Commands on their way over one batch stream. More wait for a place.
pub const BATCH_IN_FLIGHT_MAX: usize = 4_096;

/// Regions asked at once by one operation.
pub const REGIONS_AT_ONCE: usize = 16;
/// Bytes of keys and values in one request of a batch. Latches are held and a log entry grows for
/// as long as it takes.
pub const BATCH_SIZE_MAX: usize = 64 * 1024;
/// Keys in one request of a batch, for the same reason.
pub const BATCH_KEYS_MAX: usize = 1_024;
/// Pairs in one page of a scan. Values of 4 KiB then stay near 4 MiB, which is what stores of
/// other makes put into a message.
pub const SCAN_PAGE: u32 = 1_024;
/// Regions listed by one call to the scheduler.
pub const REGIONS_PAGE: u32 = 1_024;

/// Timestamps drawn by one call. The logical part has room for 2^18 in a millisecond.
pub const TIMESTAMPS_PER_CALL: usize = 10_000;

/// The shortest life of a lock. A client that lives renews it long before; one that died blocks
/// others for this long.
pub const LOCK_TTL: Duration = Duration::from_secs(3);
/// How often a commit in progress renews its primary lock: three times within its life.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Keys below which the locks of a dead transaction are settled one by one. Above, one request
/// settles all that are in the region.
pub const RESOLVE_LITE_MAX: u64 = 16;
/// Transactions whose end is remembered. Their locks are then settled without asking again.
pub const SETTLED_MAX: usize = 2_048;

const _: () = assert!(HEARTBEAT_INTERVAL.as_millis() * 3 <= LOCK_TTL.as_millis());
const _: () = assert!(CALL_TIMEOUT.as_millis() < OPERATION_TIMEOUT.as_millis());
const _: () = assert!(TIMESTAMPS_PER_CALL < kiva_base::Timestamp::PER_MS as usize);
