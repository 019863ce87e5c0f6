//! The ports: what the client asks of stores, of the scheduler and of whoever runs its tasks.
//!
//! Everything outside the client is behind three small traits and `kiva_base::Clock`, and all of
//! them speak the types of this file. `grpc` and `runtime` implement them for production; a test
//! or a simulator implements them over a map and a list of tasks.

mod placement;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kiva_base::clock::BoxFuture;
use kiva_base::codec::DecodeError;
use kiva_base::fault::LockInfo;
use kiva_base::{
    ClusterId, Epoch, KeyError, Peer, Region, RegionError, RegionId, StoreId, Timestamp,
};

use kiva_base::api::ApiVersion;

use crate::check::ReplicaDigest;

pub use placement::{
    Operator, OperatorKind, OperatorStatus, RegionDetail, StoreDetail, StoreDisk, StoreHealth,
};

/// The way to stores.
pub trait StorePort: Send + Sync {
    /// Sends one command to one store and waits for its answer, at most `timeout`.
    ///
    /// Never repeats anything: whether a repetition is harmless is known only to the caller. An
    /// error says whether the command can have been executed, see [`CallError`].
    fn call(
        &self,
        store: &Arc<Store>,
        context: &Context,
        command: &Command,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Reply, CallError>>;

    /// What the replica of a region on one store holds, for people who compare replicas; `None`
    /// when it has no data. Need not be served: stores of another make refuse it.
    fn digest(
        &self,
        _store: &Arc<Store>,
        _region: RegionId,
        _readable_at_ms: u64,
        _timeout: Duration,
    ) -> BoxFuture<'static, Result<Option<ReplicaDigest>, CallError>> {
        Box::pin(std::future::ready(Err(CallError::Unserved("Digest"))))
    }
}

/// The way to the scheduler. An implementation knows all members and finds the one that leads.
///
/// All of these may be repeated: none changes anything but [`SchedulerPort::advance_safe_point`],
/// which only moves forward, and [`SchedulerPort::add_operator`], which is refused while its first
/// attempt runs. What is asked for people only need not be served; a scheduler of another make, and
/// a port that does not mind people, refuses it.
pub trait SchedulerPort: Send + Sync {
    /// Draws `count` timestamps, at least one, and returns the **last**: the others lie directly
    /// below it.
    fn timestamps(&self, count: u32) -> SchedulerFuture<Timestamp>;
    /// The region that holds this key, which is in boundary form. `None` when there is none yet.
    fn region_by_key(&self, key: Bytes) -> SchedulerFuture<Option<RegionInfo>>;
    /// The region with this id.
    fn region_by_id(&self, id: RegionId) -> SchedulerFuture<Option<RegionInfo>>;
    /// Regions in key order from the one that holds `start` to the last that begins before `end`,
    /// at most `limit`. Keys are in boundary form; an empty `end` is unbounded.
    fn scan_regions(
        &self,
        start: Bytes,
        end: Bytes,
        limit: u32,
    ) -> SchedulerFuture<Vec<RegionInfo>>;
    /// The store with this id; `None` when there never was one or it is gone for good.
    fn store(&self, id: StoreId) -> SchedulerFuture<Option<Store>>;
    /// All stores that are not gone for good.
    fn stores(&self) -> SchedulerFuture<Vec<Store>>;
    /// The members of the scheduler.
    fn members(&self) -> SchedulerFuture<Members>;
    /// The id of the keyspace with this name.
    fn keyspace(&self, name: String) -> SchedulerFuture<u32>;
    /// The timestamp below which old versions may be gone.
    fn safe_point(&self) -> SchedulerFuture<Timestamp>;
    /// Moves the safe point to `to` unless it is already further; returns where it is.
    fn advance_safe_point(&self, to: Timestamp) -> SchedulerFuture<Timestamp>;
    /// All that is known of a region, for people.
    fn describe_region(&self, _: RegionId) -> SchedulerFuture<Option<RegionDetail>> {
        not_for_people()
    }
    /// All that is known of a store, for people; `None` when there never was one.
    fn describe_store(&self, _: StoreId) -> SchedulerFuture<Option<StoreDetail>> {
        not_for_people()
    }
    /// Begins an operator on a region and a store.
    fn add_operator(&self, _: OperatorKind, _: RegionId, _: StoreId) -> SchedulerFuture<Operator> {
        not_for_people()
    }
    /// The operators that run, and those that ended lately when `with_ended`.
    fn operators(&self, _with_ended: bool) -> SchedulerFuture<Vec<Operator>> {
        not_for_people()
    }
}

fn not_for_people<T: Send + 'static>() -> SchedulerFuture<T> {
    let refusal = SchedulerCallError::Refused("this scheduler does not serve people".to_owned());
    Box::pin(std::future::ready(Err(refusal)))
}

/// What a call to the scheduler hands back.
pub type SchedulerFuture<T> = BoxFuture<'static, Result<T, SchedulerCallError>>;

/// Whoever polls what outlives a call: secondaries to commit, a round of timestamps.
pub trait Spawn: Send + Sync {
    /// Runs the task to its end, or drops it when the process ends.
    fn spawn(&self, task: BoxFuture<'static, ()>);
}

/// Why a store gave no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Refused: not executed, now or later.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// Never left this process, or was turned away unread: not executed, now or later.
    #[error("cannot reach the store: {0}")]
    Unsent(String),
    /// Sent, and no answer came: it may have been executed, and still may be.
    #[error("no answer from the store: {0}")]
    Lost(String),
    /// The store does not serve this call at all: not executed.
    #[error("the store does not serve {0}")]
    Unserved(&'static str),
    /// Turned away as a whole, such as a call that names another cluster: not executed.
    #[error("the store turns the call away: {0}")]
    TurnedAway(String),
    /// An answer came that means nothing. It may have been executed.
    #[error("the answer makes no sense: {0}")]
    Malformed(#[from] DecodeError),
}

/// Why the scheduler gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchedulerCallError {
    /// No member could be reached, or none that leads: worth another try.
    #[error("no member of the scheduler answers: {0}")]
    Unreachable(String),
    /// A correct answer that says no.
    #[error("the scheduler refuses: {0}")]
    Refused(String),
    /// An answer that means nothing.
    #[error("the scheduler's answer makes no sense: {0}")]
    Malformed(#[from] DecodeError),
}

/// A store as the scheduler knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Its id.
    pub id: StoreId,
    /// Where it serves clients, as `host:port` or a URL.
    pub address: String,
    /// Whether it is to be used.
    pub state: StoreState,
    /// The version it reported.
    pub version: String,
    /// Where it serves its status pages; empty when it did not say.
    pub status_address: String,
    /// Its labels, such as a zone.
    pub labels: Vec<(String, String)>,
}

/// Life of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreState {
    /// Serves.
    Up,
    /// Serves while it is being emptied.
    Offline,
    /// Gone for good.
    Tombstone,
}

/// A region as the scheduler knows it. Its bounds are in boundary form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionInfo {
    /// Range, epoch, peers.
    pub region: Region,
    /// Who leads; `None` when nobody is known to.
    pub leader: Option<Peer>,
}

/// The members of the scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    /// The cluster they serve.
    pub cluster: ClusterId,
    /// All of them.
    pub members: Vec<Member>,
    /// The id of the one that leads; `None` when nobody does.
    pub leader: Option<u64>,
}

/// One member of the scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
}

/// Where a command goes, and how it wants to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The region the client believes to be responsible.
    pub region: RegionId,
    /// Since which change.
    pub epoch: Epoch,
    /// The replica it believes to lead.
    pub peer: Peer,
    /// How keys of this cluster are written.
    pub api_version: ApiVersion,
    /// Of reads: transactions whose locks are to be passed by.
    pub resolved_locks: Vec<Timestamp>,
    /// Of prewrites: an earlier attempt may have been executed.
    pub is_retry: bool,
}

/// What a store is asked to do. Keys are in wire form: prefixed under API version 2, not encoded.
///
/// Of the raw commands: `cf` is a column family, empty for the default; `for_cas` marks writes
/// that must serialise with compare-and-swap; `ttl_secs` of zero is for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "fields are named as in the protocol, and the variants say what they do"
)]
pub enum Command {
    /// Reads one raw key.
    RawGet { key: Bytes, cf: Arc<str> },
    /// Reads raw keys.
    RawBatchGet { keys: Vec<Bytes>, cf: Arc<str> },
    /// Asks how long a raw key will live.
    RawGetTtl { key: Bytes, cf: Arc<str> },
    /// Writes one raw key.
    RawPut { key: Bytes, value: Bytes, cf: Arc<str>, ttl_secs: u64, for_cas: bool },
    /// Writes raw keys, all with one TTL.
    RawBatchPut { pairs: Vec<(Bytes, Bytes)>, cf: Arc<str>, ttl_secs: u64, for_cas: bool },
    /// Removes one raw key.
    RawDelete { key: Bytes, cf: Arc<str>, for_cas: bool },
    /// Removes raw keys.
    RawBatchDelete { keys: Vec<Bytes>, cf: Arc<str>, for_cas: bool },
    /// Removes a range inside the region.
    RawDeleteRange { start: Bytes, end: Bytes, cf: Arc<str> },
    /// Reads raw pairs in order.
    RawScan { span: Span, key_only: bool, cf: Arc<str> },
    /// Writes a raw key if its value is `previous`; `None` is absence.
    RawCompareAndSwap {
        key: Bytes,
        previous: Option<Bytes>,
        value: Bytes,
        cf: Arc<str>,
        ttl_secs: u64,
    },
    /// Digests the raw pairs of a range inside the region.
    RawChecksum { start: Bytes, end: Bytes },
    /// Reads one key at a timestamp.
    Get { key: Bytes, version: Timestamp },
    /// Reads keys at a timestamp.
    BatchGet { keys: Vec<Bytes>, version: Timestamp },
    /// Reads pairs in order at a timestamp.
    Scan { span: Span, key_only: bool, version: Timestamp },
    /// Locks keys and leaves their new values with the locks.
    Prewrite(Prewrite),
    /// Turns locks into commit records.
    Commit { start_ts: Timestamp, keys: Vec<Bytes>, commit_ts: Timestamp },
    /// Removes locks and makes sure that a late prewrite fails.
    Rollback { start_ts: Timestamp, keys: Vec<Bytes> },
    /// Asks a primary what became of its transaction, and rolls it back when its time is over.
    CheckStatus {
        primary: Bytes,
        lock_ts: Timestamp,
        caller_start_ts: Timestamp,
        current_ts: Timestamp,
        rollback_if_not_exist: bool,
    },
    /// Finishes a transaction in this region: its locks on `keys`, or all when that is empty.
    Resolve { start_ts: Timestamp, commit_ts: Option<Timestamp>, keys: Vec<Bytes> },
    /// Keeps a primary lock alive until `ttl_ms` after its start.
    Heartbeat { primary: Bytes, start_ts: Timestamp, ttl_ms: u64 },
    /// Lists locks with a start timestamp at or below `max_ts`.
    ScanLock { max_ts: Timestamp, start: Bytes, end: Bytes, limit: u32 },
}

impl Command {
    /// The name on the wire, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RawGet { .. } => "RawGet",
            Self::RawBatchGet { .. } => "RawBatchGet",
            Self::RawGetTtl { .. } => "RawGetKeyTTL",
            Self::RawPut { .. } => "RawPut",
            Self::RawBatchPut { .. } => "RawBatchPut",
            Self::RawDelete { .. } => "RawDelete",
            Self::RawBatchDelete { .. } => "RawBatchDelete",
            Self::RawDeleteRange { .. } => "RawDeleteRange",
            Self::RawScan { .. } => "RawScan",
            Self::RawCompareAndSwap { .. } => "RawCompareAndSwap",
            Self::RawChecksum { .. } => "RawChecksum",
            Self::Get { .. } => "KvGet",
            Self::BatchGet { .. } => "KvBatchGet",
            Self::Scan { .. } => "KvScan",
            Self::Prewrite(_) => "KvPrewrite",
            Self::Commit { .. } => "KvCommit",
            Self::Rollback { .. } => "KvBatchRollback",
            Self::CheckStatus { .. } => "KvCheckTxnStatus",
            Self::Resolve { .. } => "KvResolveLock",
            Self::Heartbeat { .. } => "KvTxnHeartBeat",
            Self::ScanLock { .. } => "KvScanLock",
        }
    }
}

/// A piece of a scan.
///
/// Forward it covers `lower..upper` from the lowest key up, backward the same keys from the
/// highest down. An empty bound is unbounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The first key that may be inside.
    pub lower: Bytes,
    /// The first key behind.
    pub upper: Bytes,
    /// How many pairs at most.
    pub limit: u32,
    /// From which end.
    pub direction: Direction,
}

/// From which end a scan begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Lowest key first.
    Forward,
    /// Highest key first.
    Backward,
}

/// One request of the first phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prewrite {
    /// What is to become of which key.
    pub mutations: Vec<Mutation>,
    /// The key that decides the transaction.
    pub primary: Bytes,
    /// The transaction.
    pub start_ts: Timestamp,
    /// How long after the start nobody may roll it back unasked.
    pub lock_ttl_ms: u64,
    /// Keys in the whole transaction.
    pub txn_size: u64,
    /// The commit timestamp will be at least this.
    pub min_commit_ts: Timestamp,
}

/// What is to become of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// The key.
    pub key: Bytes,
    /// The change.
    pub change: Change,
}

impl Mutation {
    /// Bytes of key and value.
    pub fn size(&self) -> usize {
        self.key.len()
            + match &self.change {
                Change::Put(value) | Change::Insert(value) => value.len(),
                Change::Delete | Change::Lock | Change::CheckNotExists => 0,
            }
    }
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It gets this value.
    Put(Bytes),
    /// It gets this value, and must have had none.
    Insert(Bytes),
    /// It loses its value.
    Delete,
    /// It stays, and nobody else may change it meanwhile.
    Lock,
    /// It stays, and must have no value.
    CheckNotExists,
}

/// What a store answers. Variants are named like the commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The value, if there is one.
    RawGet(Result<Option<Bytes>, String>),
    /// The pairs that exist.
    RawBatchGet(Result<Vec<(Bytes, Bytes)>, String>),
    /// Whole seconds left if the key exists; zero is for ever.
    RawGetTtl(Result<Option<u64>, String>),
    /// Of all raw writes without a result.
    RawWritten(Result<(), String>),
    /// Pairs in scan order; fewer than asked for means that the region has no more.
    RawScan(Result<Vec<(Bytes, Bytes)>, String>),
    /// Whether it was swapped, and what was there before.
    RawCompareAndSwap(Result<(bool, Option<Bytes>), String>),
    /// Digest, pairs, bytes.
    RawChecksum(Result<Checksum, String>),
    /// The value, if there is one.
    Get(Result<Option<Bytes>, KeyError>),
    /// Pairs that exist, and keys that cannot be read yet.
    Pairs(Result<Vec<Pair>, KeyError>),
    /// What stands in the way; nothing was locked unless this is empty.
    Prewrite(Vec<KeyError>),
    /// Committed, or why not.
    Commit(Result<(), KeyError>),
    /// Rolled back, or why not.
    Rollback(Result<(), KeyError>),
    /// What became of the transaction.
    CheckStatus(Result<TxnStatus, KeyError>),
    /// Finished, or why not.
    Resolve(Result<(), KeyError>),
    /// The TTL that holds now, in milliseconds.
    Heartbeat(Result<u64, KeyError>),
    /// The locks, in key order.
    ScanLock(Result<Vec<LockInfo>, KeyError>),
}

/// A pair, or why its key cannot be read.
pub type Pair = Result<(Bytes, Bytes), KeyError>;

/// A digest of pairs that does not depend on how they are spread over regions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checksum {
    /// The exclusive or, over all pairs, of the CRC-64/XZ of key and value.
    pub crc64_xor: u64,
    /// How many pairs.
    pub pairs: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// What became of a transaction, as its primary tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnStatus {
    /// Its writes appear at this timestamp.
    Committed(Timestamp),
    /// It will never write anything.
    RolledBack,
    /// Its client may still be there.
    Alive {
        /// Milliseconds from its start during which nobody may roll it back unasked.
        ttl_ms: u64,
        /// It will commit above the caller's timestamp, so the caller may read past its locks.
        min_commit_ts_pushed: bool,
    },
}
