//! A client of Kiva, and of TiKV, whose protocol it speaks.
//!
//! ## The rooms
//!
//! ```text
//!   Transaction ─ Snapshot      Raw      Scheduler        what a user holds
//!        │            │          │           │
//!    committer     resolver   scan, scatter  │            the order of things over many regions
//!        └────────────┴────┬─────┘           │
//!                        core ───────────────┤            one command finds its region
//!           region_cache ─ backoff ─ tso ────┘
//!                          │
//!                     rpc: the ports, in our own types
//!                          │
//!               wire ─ grpc ─ runtime                     protobuf, sockets, tasks
//! ```
//!
//! Only the last row knows of an async runtime or of protobuf. Everything above waits for `std`
//! futures and the ports, draws its randomness from [`Options::seed`] and its time from a
//! `Clock`, so that one thread with a seeded scheduler can run it: [`Client::over`].
//!
//! ## What an error says
//!
//! "It did not happen" and "nobody knows" are different variants, see [`error`]. Nothing is
//! repeated behind a caller's back that would turn the second into "done": a raw write whose
//! answer is lost is not sent again ([`raw`]), and a commit is, because stores know it by its
//! timestamp ([`committer`]).
//!
//! ## Not here
//!
//! Pessimistic transactions, async commit and one-phase commit: every transaction is optimistic
//! and takes two phases. Reads from followers. TLS.
//!
//! ## An example
//!
//! ```no_run
//! use kiva_client::{Client, Options};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(["127.0.0.1:2379"], Options::default()).await?;
//!
//! let mut txn = client.begin().await?;
//! let visits = match txn.get("visits").await? {
//!     Some(value) => String::from_utf8(value.to_vec())?.parse()?,
//!     None => 0_u64,
//! };
//! txn.put("visits", (visits + 1).to_string());
//! match txn.commit().await {
//!     Ok(_) => println!("visit {}", visits + 1),
//!     Err(error) if error.is_unknown() => println!("may be committed: {error}"),
//!     Err(error) => println!("not committed: {error}"),
//! }
//! # Ok(())
//! # }
//! ```

pub mod transaction;

pub mod committer;
pub mod resolver;

pub mod raw;
pub mod snapshot;

mod scan;
mod scatter;

mod core;

pub mod check;

mod backoff;
mod region_cache;
mod tso;

pub mod error;
pub mod keyspace;
pub mod limits;
pub mod options;
pub mod rpc;
pub mod scheduler;

mod grpc;
mod runtime;
mod wire;

use std::sync::Arc;

use kiva_base::Timestamp;

pub use self::core::Ports;
pub use error::{
    AlreadyWritten, CommitError, ConnectError, GaveUp, Obstacle, RawError, ReadError,
    SchedulerError,
};
pub use kiva_base::api::{ApiVersion, KeyMode};
pub use options::{Options, Wire};
pub use raw::{Checksum, KvPair, Raw, Swap, Ttl};
pub use scheduler::Scheduler;
pub use snapshot::Snapshot;
pub use transaction::Transaction;

use self::core::Core;

/// A connection to a cluster. Cheap to clone: clones share connections, routes and timestamps.
#[derive(Clone)]
pub struct Client {
    core: Arc<Core>,
}

impl Client {
    /// Connects to the cluster whose schedulers are at these addresses, `host:port` or URLs; one
    /// that answers is enough, and the others are learned from it.
    ///
    /// Must be called within a tokio runtime, which then runs the client's tasks.
    pub async fn connect<A: Into<String>>(
        addresses: impl IntoIterator<Item = A>,
        options: Options,
    ) -> Result<Self, ConnectError> {
        let addresses = addresses.into_iter().map(Into::into).collect();
        let ports = runtime::ports(addresses, &options)?;
        // Finds out now, and not at the first read, whether anybody is there.
        Scheduler::new(Arc::new(Core::new(ports.clone(), &options, 0))).members().await?;
        Self::over(ports, options).await
    }

    /// The same over other ports: a simulator's, or direct calls within one process.
    ///
    /// Asks the scheduler for the keyspace under API version 2, and for nothing otherwise.
    pub async fn over(ports: Ports, options: Options) -> Result<Self, ConnectError> {
        let mut core = Core::new(ports.clone(), &options, 0);
        if options.api_version == ApiVersion::V2 {
            let mut trial = core.trial(options.timeout);
            let name = &options.keyspace;
            let id = core
                .ask(&mut trial, |scheduler| scheduler.keyspace(name.clone()))
                .await
                .map_err(SchedulerError::from)?;
            core = Core::new(ports, &options, id);
        }
        Ok(Self { core: Arc::new(core) })
    }

    /// Reads and writes without transactions.
    pub fn raw(&self) -> Raw {
        Raw::new(self.core.clone())
    }

    /// Begins a transaction at a new timestamp.
    pub async fn begin(&self) -> Result<Transaction, SchedulerError> {
        Ok(self.begin_at(self.timestamp().await?))
    }

    /// Begins a transaction at a timestamp that this client has just drawn. Its locks live for a
    /// time counted from the timestamp, so with an old one they are dead at birth.
    pub fn begin_at(&self, start_ts: Timestamp) -> Transaction {
        Transaction::new(self.snapshot(start_ts))
    }

    /// The data as of `version`. Take it from [`Client::timestamp`]; one from the future would
    /// miss writes that are yet to come.
    pub fn snapshot(&self, version: Timestamp) -> Snapshot {
        Snapshot::new(self.core.clone(), version)
    }

    /// A new timestamp, above all that any client got before the call.
    pub async fn timestamp(&self) -> Result<Timestamp, SchedulerError> {
        let mut trial = self.core.trial(self.core.timeout);
        Ok(self.core.timestamp(&mut trial).await?)
    }

    /// What the scheduler knows.
    pub fn scheduler(&self) -> Scheduler {
        Scheduler::new(self.core.clone())
    }
}
