//! What can be told to a caller when an operation gave no result.
//!
//! One enum per family of operations. In each of them "it did not happen" and "nobody knows" are
//! different variants, and [`is_unknown`](RawError::is_unknown) tells them apart. An operation that
//! ran out of time carries a [`GaveUp`] with the last thing that stood in its way.

use std::time::Duration;

use kiva_base::codec::DecodeError;
use kiva_base::fault::LockInfo;
use kiva_base::{KeyError, RegionError, Timestamp};

use crate::rpc::{CallError, SchedulerCallError};

/// An operation that was repeated until its budget was spent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("gave up after {attempts} attempts in {} ms: {last}", waited.as_millis())]
pub struct GaveUp {
    /// How often it was tried.
    pub attempts: u32,
    /// For how long.
    pub waited: Duration,
    /// What stood in its way the last time.
    pub last: Obstacle,
}

/// What makes an operation wait and try again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// A store refused because of its region, did not answer, or could not be reached.
    #[error(transparent)]
    Call(Box<CallError>),
    /// The scheduler did not answer.
    #[error(transparent)]
    Scheduler(#[from] SchedulerCallError),
    /// No region holds the key yet: the cluster has no store so far.
    #[error("the scheduler knows no region for the key; start a store, or wait for one")]
    NoRegion,
    /// Nobody is known to lead the region.
    #[error("region {region} has no leader; see whether a majority of its stores is up")]
    NoLeader {
        /// The region.
        region: u64,
    },
    /// The store that leads the region is unknown to the scheduler.
    #[error("store {store} is unknown to the scheduler")]
    NoStore {
        /// The store.
        store: u64,
    },
    /// Another transaction that may still be alive holds a key.
    #[error("a key is locked by the transaction of {}, which may be alive", .0.start_ts)]
    Locked(Box<LockInfo>),
    /// A key refuses.
    #[error(transparent)]
    Refused(Box<KeyError>),
    /// Prewritten locks promised a reader more than the commit timestamp drawn.
    #[error("readers pushed the commit timestamp")]
    CommitTsPushed,
}

impl From<CallError> for Obstacle {
    fn from(error: CallError) -> Self {
        Self::Call(Box::new(error))
    }
}

/// Why a raw operation gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RawError {
    /// The store refuses and says why: a limit, an unknown column family, a TTL on a cluster
    /// without them. Not executed; repeating it is of no use.
    #[error("refused: {0}")]
    Refused(String),
    /// The region refuses for good, such as a write too large for one entry. Not executed.
    #[error("refused by the region: {0}")]
    Region(RegionError),
    /// The store does not serve this call. Not executed.
    #[error("the store does not serve {0}; it is older than this client")]
    Unserved(&'static str),
    /// Not executed, and there was no more time.
    #[error(transparent)]
    GaveUp(#[from] GaveUp),
    /// Not executed: the scheduler refuses to say where the keys are.
    #[error(transparent)]
    Scheduler(SchedulerError),
    /// A write was sent and no answer came: it may have been executed, or may be later. Read the
    /// keys to find out.
    #[error("nobody knows whether the write happened: {last}; read the keys to find out")]
    Unknown {
        /// What went wrong with the answer.
        last: CallError,
    },
    /// A write over several regions, of which some are written and this one failed. What is said
    /// about the effect holds for the failed rest only.
    #[error("{done} of {total} keys are written; of the rest: {source}")]
    Partial {
        /// Keys (of a range: regions) known to be written.
        done: usize,
        /// How many there are, as far as is known.
        total: usize,
        /// Why the rest is not, or whether nobody knows.
        source: Box<RawError>,
    },
    /// An answer to a read that means nothing.
    #[error("an answer makes no sense: {0}")]
    Malformed(#[from] DecodeError),
}

impl RawError {
    /// Whether the operation, or part of it, may have happened or still may.
    pub fn is_unknown(&self) -> bool {
        match self {
            // Nobody knows about the write itself.
            Self::Unknown { .. } => true,
            // Some of it did happen; the rest is as its own error says.
            Self::Partial { source, .. } => source.is_unknown(),
            // Answers that said no, calls that never left, and reads, which change nothing.
            Self::Refused(_)
            | Self::Region(_)
            | Self::Unserved(_)
            | Self::GaveUp(_)
            | Self::Scheduler(_)
            | Self::Malformed(_) => false,
        }
    }

    /// Whether the same call may succeed later, without anybody changing anything but time.
    /// Not for [`RawError::Unknown`]: whether to repeat that is the caller's decision.
    pub fn is_retryable(&self) -> bool {
        match self {
            // The cluster was not ready in time.
            Self::GaveUp(_) => true,
            Self::Partial { source, .. } => source.is_retryable(),
            Self::Refused(_)
            | Self::Region(_)
            | Self::Unserved(_)
            | Self::Scheduler(_)
            | Self::Unknown { .. }
            | Self::Malformed(_) => false,
        }
    }
}

/// Why a transactional read gave no result. A read changes nothing that a user can see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The store refuses and says why. Repeating it is of no use.
    #[error("refused: {0}")]
    Refused(KeyError),
    /// The region refuses for good.
    #[error("refused by the region: {0}")]
    Region(RegionError),
    /// The store does not serve this call.
    #[error("the store does not serve {0}; it is older than this client")]
    Unserved(&'static str),
    /// There was no more time. Reading again may succeed.
    #[error(transparent)]
    GaveUp(#[from] GaveUp),
    /// The scheduler refuses.
    #[error(transparent)]
    Scheduler(SchedulerError),
    /// An answer that means nothing, or a region boundary that is no transactional key.
    #[error("an answer makes no sense: {0}; is this a cluster of raw keys?")]
    Malformed(#[from] DecodeError),
}

impl ReadError {
    /// Whether the same read may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            // The cluster was not ready, or a writer not done, in time.
            Self::GaveUp(_) => true,
            Self::Refused(_)
            | Self::Region(_)
            | Self::Unserved(_)
            | Self::Scheduler(_)
            | Self::Malformed(_) => false,
        }
    }
}

/// Why a transaction is not known to be committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Another transaction wrote one of the keys after this one began. Not committed: begin
    /// again and read again.
    #[error("write conflict, begin the transaction again: {0}")]
    Conflict(KeyError),
    /// An inserted key has a value already. Not committed.
    #[error("a key to insert exists already")]
    AlreadyExists(kiva_base::Key),
    /// Somebody found the transaction dead and rolled it back, because its locks had outlived
    /// their time. Not committed: begin again.
    #[error("rolled back by another client, begin the transaction again: {0}")]
    RolledBack(KeyError),
    /// The store refuses and says why. Not committed; repeating it is of no use.
    #[error("refused: {0}")]
    Refused(KeyError),
    /// The region refuses for good, such as a write too large for one entry. Not committed.
    #[error("refused by the region: {0}")]
    Region(RegionError),
    /// The store does not serve this call. Not committed.
    #[error("the store does not serve {0}; it is older than this client")]
    Unserved(&'static str),
    /// Not committed, and there was no more time. Begin again.
    #[error(transparent)]
    GaveUp(#[from] GaveUp),
    /// Not committed: the scheduler refuses.
    #[error(transparent)]
    Scheduler(SchedulerError),
    /// The commit of the primary was sent and no answer came: the transaction may be committed or
    /// not. A read of any of its keys settles it, once its locks have outlived their time.
    #[error("nobody knows whether transaction {start_ts} is committed: {last}; read its keys")]
    Undetermined {
        /// The transaction.
        start_ts: Timestamp,
        /// What went wrong the last time.
        last: Obstacle,
    },
    /// An answer that means nothing, before the commit was sent. Not committed.
    #[error("an answer makes no sense: {0}; is this a cluster of raw keys?")]
    Malformed(#[from] DecodeError),
}

impl CommitError {
    /// Whether the transaction may be committed after all.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Undetermined { .. })
    }

    /// Whether the same work may succeed in a new transaction.
    pub fn is_retryable(&self) -> bool {
        match self {
            // Others were faster, or the cluster was not ready; none of it is in the data.
            Self::Conflict(_) | Self::RolledBack(_) | Self::GaveUp(_) => true,
            // The same again gives the same again.
            Self::AlreadyExists(_)
            | Self::Refused(_)
            | Self::Region(_)
            | Self::Unserved(_)
            | Self::Scheduler(_)
            | Self::Malformed(_) => false,
            // It may have happened already.
            Self::Undetermined { .. } => false,
        }
    }
}

/// Why the scheduler gave no answer in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchedulerError {
    /// The scheduler says no.
    #[error("the scheduler refuses: {0}")]
    Refused(String),
    /// There was no more time.
    #[error(transparent)]
    GaveUp(#[from] GaveUp),
    /// An answer that means nothing.
    #[error("the scheduler's answer makes no sense: {0}")]
    Malformed(#[from] DecodeError),
    /// The scheduler handed out a timestamp that is not above an earlier one. Nothing that
    /// depends on the order of transactions can be trusted: stop, and look at the scheduler.
    #[error("the scheduler's timestamp {got} is not above {last}, which it gave before")]
    WentBack {
        /// The largest timestamp seen so far.
        last: Timestamp,
        /// The first of the new ones.
        got: Timestamp,
    },
}

impl SchedulerError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            // No member answered in time.
            Self::GaveUp(_) => true,
            Self::Refused(_) | Self::Malformed(_) | Self::WentBack { .. } => false,
        }
    }
}

/// Why there is no client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No address was given.
    #[error("no address of a scheduler was given")]
    NoAddress,
    /// An address is none.
    #[error("{address} is not an address: {reason}; write host:port")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No scheduler answered in time, or it knows no such keyspace.
    #[error(transparent)]
    Scheduler(#[from] SchedulerError),
}

/// An insert of a key that the same transaction has given a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the transaction itself has written this key")]
pub struct AlreadyWritten;
