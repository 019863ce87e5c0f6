//! What can be chosen about replication on a store.

use std::time::Duration;

use crate::flaw::Flaws;

/// Settings of all peers of a store. Those of consensus must agree in a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// The clock of every peer. Default 50 ms: a lost leader must be replaced within 1.5 s.
    pub tick: Duration,
    /// Ticks between heartbeats of a leader. Default 2.
    pub heartbeat_ticks: u32,
    /// Shortest election timeout, in ticks; each is drawn from once to twice this. Default 10.
    pub election_ticks: u32,
    /// How long a leader reads without asking, in ticks. Default 8, two less than the shortest
    /// election timeout.
    pub lease_ticks: u32,
    /// Ticks between two looks at the length of the log. Default 200: ten seconds.
    pub compact_ticks: u64,
    /// Applied entries that are kept for followers that are behind; who is behind further gets a
    /// snapshot. Default 128,000.
    pub log_entries_max: u64,
    /// Ticks between two reports of a region that does not change. Default 1,200: a minute.
    pub report_ticks: u64,
    /// Ticks without a leader after which a peer asks the scheduler whether it still exists.
    /// Default 6,000: five minutes.
    pub doubt_ticks: u64,
    /// What random election timeouts are drawn from.
    pub seed: u64,
    /// Bugs that were put in on purpose: none.
    pub flaws: Flaws,
}

impl Options {
    /// The defaults, with randomness from `seed`.
    pub const fn new(seed: u64) -> Self {
        Self {
            tick: Duration::from_millis(50),
            heartbeat_ticks: 2,
            election_ticks: 10,
            lease_ticks: 8,
            compact_ticks: 200,
            log_entries_max: 128_000,
            report_ticks: 1_200,
            doubt_ticks: 6_000,
            seed,
            flaws: Flaws::NONE,
        }
    }
}
