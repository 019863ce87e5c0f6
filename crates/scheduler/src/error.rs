//! Why the scheduler did not do what it was asked.

use kiva_base::StoreId;
use kiva_engine::EngineError;

use crate::limits::{IDS_MAX, SERVICE_NAME_MAX, TIMESTAMPS_MAX};
use crate::operator::Unfit;
use crate::regions::StaleReport;
use crate::settings::SettingsMismatch;
use crate::wire::WireError;

/// A correct answer that is not what was hoped for. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No store has created the cluster yet.
    #[error("the cluster is not bootstrapped: no store has joined yet")]
    NotBootstrapped,
    /// Another store was first. The one that asked should join instead.
    #[error("the cluster is already bootstrapped")]
    AlreadyBootstrapped,
    /// The first region has to be all keys, on the first store.
    #[error("the first region {0}")]
    NotFirstRegion(&'static str),
    /// No store has this id. Clients look for this text.
    #[error("invalid store ID {0}, not found")]
    StoreNotFound(u64),
    /// The store is gone for good and must not come back under its id.
    #[error("store {0} is a tombstone: begin with an empty directory to join again")]
    StoreTombstone(StoreId),
    /// Two stores cannot have one address.
    #[error("address {address} is that of store {other}")]
    AddressTaken {
        /// The address.
        address: String,
        /// Whose it is.
        other: StoreId,
    },
    /// An id that was made up could be given to somebody else later.
    #[error("{what} {id} was never given out: ask for ids first")]
    IdNotAllocated {
        /// "store", "region" or "peer".
        what: &'static str,
        /// The id.
        id: u64,
    },
    /// A report that is older than what is known.
    #[error(transparent)]
    Stale(#[from] StaleReport),
    /// More than the limit, or none.
    #[error("{count} timestamps were asked for, and 1 to {TIMESTAMPS_MAX} can be had at a time")]
    TimestampCount {
        /// How many were asked for.
        count: u32,
    },
    /// More timestamps are asked for than time brings.
    #[error("timestamps are asked for faster than time brings them: ask for fewer at a time")]
    TooFast,
    /// More than the limit.
    #[error("{count} ids were asked for, and at most {IDS_MAX} can be had at a time")]
    IdCount {
        /// How many were asked for.
        count: u32,
    },
    /// The collector's hold is what others are measured by.
    #[error("the service gc_worker holds the safe point for ever, with a TTL of {}", i64::MAX)]
    CollectorStays,
    /// A name without an end, or without a beginning.
    #[error("the name of a service has {size} bytes, and may have 1 to {SERVICE_NAME_MAX}")]
    ServiceName {
        /// The size of this one.
        size: usize,
    },
    /// An operator that cannot be.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// A message that cannot be what it claims to be.
    #[error(transparent)]
    Malformed(#[from] WireError),
}

/// Why the scheduler did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The disk failed. Nobody knows whether the change is on it, and no other will be made.
    #[error("the scheduler cannot save: {0}")]
    Failed(#[from] EngineError),
}

impl From<StaleReport> for Error {
    fn from(stale: StaleReport) -> Self {
        Self::Refused(stale.into())
    }
}

/// Why a scheduler did not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Something was asked for that the cluster was not born with.
    #[error(transparent)]
    Settings(#[from] SettingsMismatch),
    /// A record cannot be read.
    #[error("the scheduler's record `{key}` is damaged: {reason}")]
    Damaged {
        /// Its key, for people.
        key: String,
        /// What is wrong.
        reason: String,
    },
}
