//! A client of Kiva, and of TiKV, whose protocol it speaks.
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

pub mod committer;
mod core;
pub mod error;
pub mod keyspace;
pub mod limits;
pub mod options;
pub mod raw;
pub mod rpc;
pub mod scheduler;
pub mod snapshot;
pub mod transaction;

pub use error::{
    AlreadyWritten, CommitError, ConnectError, GaveUp, Obstacle, RawError, ReadError,
    SchedulerError,
};
pub use keyspace::{ApiVersion, Mode};
use kiva_base::Timestamp;
pub use options::{Options, Wire};
pub use raw::{Checksum, KvPair, Raw, Swap, Ttl};
pub use scheduler::Scheduler;
pub use snapshot::Snapshot;
use std::sync::Arc;
pub use transaction::Transaction;

/// A connection to a cluster. Cheap to clone: clones share connections, routes and timestamps.
#[derive(Clone)]
pub struct Client {
    core: Arc<core::Core>,
}

impl Client {
    /// Connects to the cluster whose schedulers are at these addresses, `host:port` or URLs; one
    /// that answers is enough. Needs a tokio runtime.
    pub async fn connect<A: Into<String>>(
        addresses: impl IntoIterator<Item = A>,
        options: Options,
    ) -> Result<Self, ConnectError> {
        todo!()
    }

    /// Reads and writes without transactions.
    pub fn raw(&self) -> Raw {
        todo!()
    }

    /// Begins a transaction at a new timestamp.
    pub async fn begin(&self) -> Result<Transaction, SchedulerError> {
        todo!()
    }

    /// Begins a transaction at a timestamp that this client drew before.
    pub fn begin_at(&self, start_ts: Timestamp) -> Transaction {
        todo!()
    }

    /// The data as of `version`. Take it from [`Client::timestamp`]; one from the future would
    /// miss writes that are yet to come.
    pub fn snapshot(&self, version: Timestamp) -> Snapshot {
        todo!()
    }

    /// A new timestamp, above all that any client got before the call.
    pub async fn timestamp(&self) -> Result<Timestamp, SchedulerError> {
        todo!()
    }

    /// What the scheduler knows.
    pub fn scheduler(&self) -> Scheduler {
        todo!()
    }
}
