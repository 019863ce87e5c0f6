//! What a node is told when it starts.

use crate::flaw::Flaws;
use crate::id::{Index, NodeId};
use crate::limits::{ELECTION_TICKS_MAX, LEASE_MARGIN_TICKS};

/// Settings of one node. Those of the members of a group should agree on the first four fields
/// after `id`; nothing breaks while they do not, but leases are only as safe as the shortest
/// election timeout.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Who this node is.
    pub id: NodeId,
    /// Ticks between heartbeats of a leader. Default 2.
    pub heartbeat_ticks: u32,
    /// Shortest election timeout, in ticks; each is drawn from `election_ticks..2 *
    /// election_ticks` (Raft §5.2, §9.3). Default 10.
    pub election_ticks: u32,
    /// Whether a candidate asks if it would win before it raises its term (thesis §9.6). Default
    /// on.
    pub pre_vote: bool,
    /// Whether a leader without a quorum for an election timeout steps down, and voters that hear
    /// of a leader refuse others (thesis §4.2.3, §6.2). Default on.
    pub check_quorum: bool,
    /// How the leader serves reads. Default [`ReadMode::Confirm`].
    pub reads: ReadMode,
    /// Whether followers pass proposals on to the leader. Default off: the caller learns who
    /// leads and what became of its proposal.
    pub forward_proposals: bool,
    /// Whether followers are told of every commit at once, instead of with the next message or
    /// heartbeat. Costs a message per follower and round. Default off.
    pub eager_commit: bool,
    /// Who judges a change of members. Default [`ChangeCheck::Strict`].
    pub change_check: ChangeCheck,
    /// Largest payload of one entry, in bytes, not zero. Default 8 MiB.
    pub entry_bytes_max: usize,
    /// Bytes of entries in one append, not zero; at least one entry travels. Default 1 MiB.
    pub append_bytes_max: usize,
    /// Appends on their way to one follower, not zero. Default 256.
    pub inflight_messages_max: usize,
    /// Bytes of appends on their way to one follower; at least one append travels. Default 16 MiB.
    pub inflight_bytes_max: usize,
    /// Bytes of this leader's entries that are not committed yet; more are refused. One entry is
    /// always taken when nothing waits. Default 64 MiB.
    pub uncommitted_bytes_max: usize,
    /// Bytes of committed entries handed out by one [`Ready`](crate::Ready); at least one entry.
    /// Default 1 MiB.
    pub apply_bytes_max: usize,
    /// Bytes of committed entries handed out and not yet reported as applied; at least those of
    /// one `Ready`. Default 16 MiB.
    pub applying_bytes_max: usize,
    /// Bytes of entries kept in memory that the log store has already: what was just appended is
    /// sent and applied without reading it back. Zero reads all of it back. Default 1 MiB.
    pub tail_bytes_max: usize,
    /// Whether this node has never run before. One that has, and whose log is not empty, keeps out
    /// of the elections of others for an election timeout when reads are by lease: it may have
    /// promised a leader to, and has forgotten. Default off.
    pub is_first_start: bool,
    /// What the state machine has applied already, when that is more than the log store knows.
    pub applied: Index,
    /// Bugs on purpose; none, and none to be had, without the feature `seeded-bugs`.
    pub flaws: Flaws,
}

impl Config {
    /// The defaults for node `id`.
    pub const fn new(id: NodeId) -> Self {
        Self {
            id,
            heartbeat_ticks: 2,
            election_ticks: 10,
            pre_vote: true,
            check_quorum: true,
            reads: ReadMode::Confirm,
            forward_proposals: false,
            eager_commit: false,
            change_check: ChangeCheck::Strict,
            entry_bytes_max: 8 * 1024 * 1024,
            append_bytes_max: 1024 * 1024,
            inflight_messages_max: 256,
            inflight_bytes_max: 16 * 1024 * 1024,
            uncommitted_bytes_max: 64 * 1024 * 1024,
            apply_bytes_max: 1024 * 1024,
            applying_bytes_max: 16 * 1024 * 1024,
            tail_bytes_max: 1024 * 1024,
            is_first_start: false,
            applied: Index::ZERO,
            flaws: Flaws::NONE,
        }
    }

    /// The first field that makes no sense.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.heartbeat_ticks == 0 {
            return Err(ConfigError::NoHeartbeats);
        }
        if self.election_ticks <= self.heartbeat_ticks {
            return Err(ConfigError::ElectionTooShort {
                election: self.election_ticks,
                heartbeat: self.heartbeat_ticks,
            });
        }
        if self.election_ticks > ELECTION_TICKS_MAX {
            return Err(ConfigError::ElectionTooLong { election: self.election_ticks });
        }
        // Of the other limits zero means "one at a time", or "nothing" where that is of use.
        let limits = [
            ("entry_bytes_max", self.entry_bytes_max),
            ("append_bytes_max", self.append_bytes_max),
            ("inflight_messages_max", self.inflight_messages_max),
        ];
        if let Some((field, _)) = limits.into_iter().find(|(_, limit)| *limit == 0) {
            return Err(ConfigError::ZeroLimit { field });
        }
        if let ReadMode::Lease { ticks } = self.reads {
            if !self.check_quorum {
                return Err(ConfigError::LeaseWithoutCheckQuorum);
            }
            if ticks == 0 {
                return Err(ConfigError::ZeroLimit { field: "reads" });
            }
            if ticks.saturating_add(LEASE_MARGIN_TICKS) > self.election_ticks {
                return Err(ConfigError::LeaseTooLong {
                    lease: ticks,
                    election: self.election_ticks,
                });
            }
        }
        Ok(())
    }
}

/// How a leader makes sure that nobody has replaced it before it serves a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadMode {
    /// It asks a quorum, once for all waiting reads (thesis §6.4).
    Confirm,
    /// It trusts that a quorum it heard from will elect nobody for this many ticks (thesis
    /// §6.4.1), and asks when they have passed. Every member is to have this mode, for the leader
    /// rests on what its voters do.
    ///
    /// It rests on clocks too: a leader must be ticked at least `ticks / (election_ticks - 1)`
    /// times as fast as its followers, and missed ticks must be made up for before a read is
    /// asked for. (Minus one, because a follower's tick may come just after the message that it
    /// counts from.)
    Lease {
        /// How long a confirmation lasts, counted from when it was asked for. At least two less
        /// than the election timeout, and not zero.
        ticks: u32,
    },
}

/// Who judges a change of members.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeCheck {
    /// The node: one change at a time, and only one that its members allow.
    Strict,
    /// The driver. Changes are appended as they come and judged when they are applied.
    WhenApplied,
}

/// A setting that makes no sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// `heartbeat_ticks` is zero, so followers would never hear of an idle leader.
    #[error("heartbeat_ticks must not be zero")]
    NoHeartbeats,
    /// An election timeout that ends before the next heartbeat deposes every leader.
    #[error("election_ticks {election} must exceed heartbeat_ticks {heartbeat}")]
    ElectionTooShort {
        /// What was set.
        election: u32,
        /// What it must exceed.
        heartbeat: u32,
    },
    /// Twice this many ticks, the longest timeout that may be drawn, are too many to count.
    #[error("election_ticks {election} is too long")]
    ElectionTooLong {
        /// What was set.
        election: u32,
    },
    /// With a limit of zero nothing would ever be proposed, sent, or read.
    #[error("{field} must not be zero")]
    ZeroLimit {
        /// Which limit.
        field: &'static str,
    },
    /// A lease rests on voters that refuse others, which is what check-quorum makes them do.
    #[error("lease reads need check_quorum")]
    LeaseWithoutCheckQuorum,
    /// A lease that may outlast the leader it belongs to.
    #[error("a lease of {lease} ticks is too long for election_ticks {election}")]
    LeaseTooLong {
        /// What was set.
        lease: u32,
        /// The election timeout.
        election: u32,
    },
}
