//! Refusals: correct answers of the protocol that a client acts on.
//!
//! A refusal is not an error of this program. It says where to go instead ([`RegionError`]) or what
//! stands in the way ([`KeyError`]), and it says so about something that **did not and will not
//! happen**: what may or may not have happened is never a refusal.
//!
//! Keys in a [`RegionError`] are boundaries, in stored form; keys in a [`KeyError`] are the user's.

use bytes::Bytes;

use crate::id::{PeerId, RegionId, StoreId};
use crate::key::Key;
use crate::region::{Peer, Region};
use crate::timestamp::Timestamp;

/// Why a request to a region was not executed. Each variant tells the client where to go next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegionError {
    /// The peer here does not lead. `leader` only when it is certain: a wrong hint costs more
    /// than none.
    #[error("the peer of region {region} here does not lead")]
    NotLeader {
        /// The region asked for.
        region: RegionId,
        /// Who leads, if known for certain.
        leader: Option<Peer>,
    },
    /// No such region lives here: moved, merged away, destroyed or never heard of. The id is the
    /// number that was sent, which may be zero.
    #[error("region {region} is not on this store")]
    RegionNotFound {
        /// The region asked for.
        region: u64,
    },
    /// The region is here and not responsible for the key.
    #[error("a key of {} bytes lies outside region {region}", key.len())]
    KeyNotInRegion {
        /// The key, in stored form.
        key: Bytes,
        /// The region asked.
        region: RegionId,
        /// The region's first key.
        start: Bytes,
        /// The first key behind it; empty when there is none.
        end: Bytes,
    },
    /// The region's range or peers have changed since the client looked.
    #[error("the epoch of the request is not that of the region: it was split, merged or moved")]
    EpochNotMatch {
        /// The regions that now cover the asked-for one's keys, as far as this store knows.
        current: Vec<Region>,
    },
    /// Too much to do, or the deadline passed first.
    #[error("server is busy: {reason}")]
    ServerIsBusy {
        /// Shown to people; one client acts on the text [`DEADLINE_EXCEEDED`].
        reason: String,
    },
    /// The proposal was dropped by a change of term and will not be applied.
    #[error("the command is stale: the term has changed")]
    StaleCommand,
    /// The request was meant for another store.
    #[error("request for store {requested} came to store {actual}")]
    StoreNotMatch {
        /// Whom the client meant; the number that was sent, which may be zero.
        requested: u64,
        /// Who answered.
        actual: StoreId,
    },
    /// One proposal may not be this large.
    #[error(
        "an entry of {size} bytes for region {region} is above the limit of {limit}: send less"
    )]
    EntryTooLarge {
        /// The region it was for.
        region: RegionId,
        /// Its size in bytes.
        size: u64,
        /// The largest allowed.
        limit: u64,
    },
    /// The peer named was replaced by another on the same store.
    #[error("request for peer {requested}, the peer here is {actual}")]
    MismatchPeerId {
        /// Whom the client meant; the number that was sent, which may be zero.
        requested: u64,
        /// Who lives here.
        actual: PeerId,
    },
    /// The disk is full; reads and deletes still work.
    #[error("the disk of store {store} is full: {reason}")]
    DiskFull {
        /// The store.
        store: StoreId,
        /// Shown to people.
        reason: String,
    },
    /// Anything that has no better name, such as a store that is shutting down.
    #[error("{0}")]
    Other(String),
}

/// The reason that clients look for when a deadline passed before a request was executed.
pub const DEADLINE_EXCEEDED: &str = "deadline is exceeded";

/// What a lock says to somebody who meets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockInfo {
    /// The key that decides the transaction.
    pub primary: Key,
    /// The transaction.
    pub start_ts: Timestamp,
    /// The locked key.
    pub key: Key,
    /// Milliseconds from the physical part of `start_ts` during which nobody may roll it back
    /// unasked. Zero inside an error means "resolve now, do not wait".
    pub ttl_ms: u64,
    /// How many keys the transaction has, as its client said.
    pub txn_size: u64,
    /// What the lock stands for.
    pub kind: LockKind,
    /// Of pessimistic locks: the timestamp up to which conflicts were checked.
    pub for_update_ts: Timestamp,
    /// The transaction counts as committed once all its locks are there.
    pub use_async_commit: bool,
    /// The commit timestamp is at least this; zero when nothing is promised.
    pub min_commit_ts: Timestamp,
    /// Of the primary of an async commit: the other keys.
    pub secondaries: Vec<Key>,
}

/// What a lock stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockKind {
    /// A value will be written.
    Put,
    /// The key will be deleted.
    Delete,
    /// Nothing will change: the key is only protected against others.
    Lock,
    /// Held by a pessimistic transaction that has not said yet what it will write.
    Pessimistic,
}

/// Why a key refuses a transactional command. Keys are the user's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Somebody's lock is in the way: resolve it, then try again.
    #[error("key is locked by the transaction of {}", .0.start_ts)]
    Locked(Box<LockInfo>),
    /// Somebody committed after this transaction began.
    #[error("write conflict: {reason:?} at {conflict_start_ts}, committed {conflict_commit_ts}")]
    Conflict {
        /// The transaction that is refused.
        start_ts: Timestamp,
        /// The transaction in its way.
        conflict_start_ts: Timestamp,
        /// When that one committed.
        conflict_commit_ts: Timestamp,
        /// The key they met on.
        key: Key,
        /// The refused transaction's primary.
        primary: Key,
        /// Which rule refused.
        reason: ConflictReason,
    },
    /// An insert found a value.
    #[error("key already exists")]
    AlreadyExist {
        /// The key.
        key: Key,
    },
    /// The commit timestamp is below what a reader was promised: take a new one, try again.
    #[error("commit timestamp {attempted_commit_ts} is below {min_commit_ts}")]
    CommitTsExpired {
        /// The transaction.
        start_ts: Timestamp,
        /// What it asked for.
        attempted_commit_ts: Timestamp,
        /// The key whose lock promised more.
        key: Key,
        /// The least that is possible.
        min_commit_ts: Timestamp,
    },
    /// Neither a lock nor a record of the transaction is on its primary.
    #[error("transaction {start_ts} is not found")]
    TxnNotFound {
        /// The transaction.
        start_ts: Timestamp,
        /// Where it was looked for.
        primary: Key,
    },
    /// The lock asked about names another key as its primary.
    #[error("the lock names another primary")]
    PrimaryMismatch(Box<LockInfo>),
    /// A commit found neither its lock nor its record: it was rolled back, or never prewritten.
    #[error("transaction lock not found, retry the transaction")]
    TxnLockNotFound {
        /// The key.
        key: Key,
    },
    /// The state of the key contradicts what the client asserted about it.
    #[error("assertion {assertion:?} failed")]
    AssertionFailed {
        /// The transaction.
        start_ts: Timestamp,
        /// The key.
        key: Key,
        /// What was asserted.
        assertion: Assertion,
        /// The start of the transaction that wrote what is there; zero when nothing is.
        existing_start_ts: Timestamp,
        /// Its commit.
        existing_commit_ts: Timestamp,
    },
    /// The transaction is doomed, for the reason given to people.
    #[error("{0}")]
    Abort(String),
}

/// Which rule refused a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConflictReason {
    /// A newer record, met by an optimistic prewrite.
    Optimistic,
    /// A newer record, met by a pessimistic lock.
    PessimisticRetry,
    /// The transaction itself was rolled back.
    SelfRolledBack,
    /// A newer record, met by a read that checks for them.
    RcCheckTs,
    /// A newer record, met by a postponed uniqueness check.
    LazyUniquenessCheck,
}

/// What a client claims about a key before it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Assertion {
    /// Nothing.
    #[default]
    None,
    /// It has a value.
    Exist,
    /// It has none.
    NotExist,
}
