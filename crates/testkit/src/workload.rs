//! What clients do, with an invariant that shows from outside.
//!
//! A workload is several clients and a verdict on what they were told. It knows the cluster as
//! [`KvClient`], whose answers it awaits, and time as a [`Clock`]; so the same workload runs on the
//! simulated cluster, where the executor polls its clients, and on real processes, where a runtime
//! does.
//!
//! | workload | its clients | must hold |
//! |---|---|---|
//! | [`register`] | read and change a few keys in every way | every key is linearizable |
//! | [`append`] | write lists of their own and read them back | each list is complete, in order |
//!
//! # A run
//!
//! 1. Every [`Workload::client`] is started. Faults begin.
//! 2. Faults end, [`Workload::stop`] is called, and every client comes to its end. A client whose
//!    host is thrown away instead leaves unknown outcomes behind.
//! 3. [`Workload::verify`] reads everything back, as often as it takes. A cluster that works makes
//!    it end soon: that is the check for liveness, and the world's to make.
//! 4. [`Workload::verdict`].

pub mod append;
pub mod register;

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use kiva_base::clock::BoxFuture;
use kiva_base::{Clock, Key};

pub use append::Append;
pub use register::Register;

use crate::check::Value;
use crate::sim::Rng;

/// Between two attempts of something that has to succeed in the end.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// A cluster, as those see it who use raw keys. Every answer comes in bounded time.
pub trait KvClient: Send + Sync {
    /// What a key holds.
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Value>, Failed>>;

    /// From now on it holds this.
    fn put(&self, key: Key, value: Value) -> BoxFuture<'_, Result<(), Failed>>;

    /// From now on it holds nothing.
    fn delete(&self, key: Key) -> BoxFuture<'_, Result<(), Failed>>;

    /// If it holds `expected`, it holds `new` from now on.
    fn compare_and_swap(
        &self,
        key: Key,
        expected: Option<Value>,
        new: Value,
    ) -> BoxFuture<'_, Result<Swap, Failed>>;

    /// The first pairs of a range, in the order of their keys.
    fn scan(
        &self,
        range: Range<Key>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Key, Value)>, Failed>>;
}

/// What a compare-and-swap found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Swap {
    /// Whether the key holds the new value now.
    pub swapped: bool,
    /// What it held before.
    pub previous: Option<Value>,
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failed {
    /// It did not happen and never will.
    Refused,
    /// Nobody knows whether it happened, or whether it still will.
    Unknown,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "it did not happen",
            Self::Unknown => "nobody knows whether it happened",
        })
    }
}

impl Error for Failed {}

/// What one client works with.
#[derive(Clone)]
pub struct Client {
    /// Which client of the workload, from zero.
    pub number: u64,
    /// The cluster.
    pub kv: Arc<dyn KvClient>,
    /// The client's clock.
    pub clock: Arc<dyn Clock>,
    /// The client's choices.
    pub rng: Rng,
}

impl Client {
    /// Asks until there is an answer.
    async fn insist<T, F>(&self, ask: impl Fn() -> F) -> T
    where
        F: Future<Output = Result<T, Failed>>,
    {
        loop {
            match ask().await {
                Ok(answer) => return answer,
                Err(Failed::Refused | Failed::Unknown) => self.clock.sleep(RETRY_PAUSE).await,
            }
        }
    }
}

/// Several clients and a verdict on what they were told.
pub trait Workload: Send + Sync {
    /// Its name on a command line.
    fn name(&self) -> &'static str;

    /// How many clients it wants.
    fn clients(&self) -> u64;

    /// What one client does until it has done its share or is told to stop.
    fn client(&self, client: Client) -> BoxFuture<'static, ()>;

    /// Clients come to their end after what they are doing.
    fn stop(&self);

    /// Whether something is wrong already, so that the rest of the run has nothing to add.
    fn has_failed(&self) -> bool;

    /// Reads everything back when all clients have come to their end. Goes on until it has.
    fn verify(&self, client: Client) -> BoxFuture<'static, ()>;

    /// Whether all that was seen is as it must be, and how much that is.
    fn verdict(&self) -> Result<String, Box<dyn Error>>;
}
