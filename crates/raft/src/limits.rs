//! Bounds, with the reason for each. Those that depend on the use are in
//! [`Config`](crate::Config).

/// Most members of one half of a configuration, learners apart. A commit sorts this many numbers
/// on the stack; groups beyond nine are slower than any fault they survive is likely.
pub const VOTERS_MAX: usize = 31;

/// Most learners of a group: each costs the leader a copy of the log's traffic.
pub const LEARNERS_MAX: usize = 64;

/// Most reads that wait for one confirmation. More are refused, so that a leader without a quorum
/// does not collect them for ever.
pub const READS_WAITING_MAX: usize = 65_536;

/// Largest difference between a lease and the election timeout, in ticks, that is too small: a
/// leader's tick may start just before, and a follower's just after, the message that renews it.
pub const LEASE_MARGIN_TICKS: u32 = 2;

/// Longest election timeout, in ticks: the longest that is drawn is nearly twice as long.
pub const ELECTION_TICKS_MAX: u32 = u32::MAX / 2;
