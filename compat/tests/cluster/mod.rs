//! A cluster for each test, with clients of both kinds, connected as their users connect them.

#![allow(dead_code, reason = "each test target uses its part")]

use std::time::Duration;

pub use kiva_compat::{ApiVersion, Playground};
use tikv_client::{
    Backoff, CheckLevel, Config, Error, Key, KvPair, ProtoKeyError, RawClient, RetryOptions,
    TransactionClient, TransactionOptions, Value,
};

/// A cluster of its own for one test, and how to reach it.
pub struct Cluster {
    playground: Playground,
}

impl Cluster {
    /// Starts a cluster and waits until it serves.
    pub fn start(api: ApiVersion) -> Cluster {
        Cluster { playground: Playground::start(api).expect("a playground starts") }
    }

    /// How the cluster encodes keys.
    pub fn api(&self) -> ApiVersion {
        self.playground.api()
    }

    /// What is handed to a client to find the cluster.
    pub fn schedulers(&self) -> Vec<String> {
        self.playground.schedulers()
    }

    /// What a user of this cluster configures. Two seconds, the client's own patience with a call,
    /// are little for a debug build on a machine that runs many tests at once.
    pub fn config(&self) -> Config {
        let config = Config::default().with_timeout(Duration::from_secs(10));
        match self.api() {
            ApiVersion::V1 | ApiVersion::V1Ttl => config,
            ApiVersion::V2 => config.with_default_keyspace(),
        }
    }

    /// A new raw client with connections of its own.
    pub async fn raw(&self) -> RawClient {
        RawClient::new_with_config(self.schedulers(), self.config()).await.expect("it connects")
    }

    /// A new transactional client with connections of its own.
    pub async fn txn(&self) -> TransactionClient {
        TransactionClient::new_with_config(self.schedulers(), self.config())
            .await
            .expect("it connects")
    }

    /// A power cut, after which every client has to connect again.
    pub fn kill_and_restart(&mut self) {
        self.playground.kill_and_restart().expect("it starts again");
    }
}

/// Declares each function as two tests, one against a cluster of either API version.
macro_rules! on_v1_and_v2 {
    ($($claim:ident),+ $(,)?) => {$(
        mod $claim {
            use crate::cluster::{ApiVersion, Cluster};

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn v1() {
                super::$claim(&Cluster::start(ApiVersion::V1)).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn v2() {
                super::$claim(&Cluster::start(ApiVersion::V2)).await;
            }
        }
    )+};
}
pub(crate) use on_v1_and_v2;

/// Optimistic, two phases, and more patient with other people's locks than the client's default of
/// 1.5 seconds: longer than the three seconds that a lock of a dead client lives.
pub fn patient() -> TransactionOptions {
    TransactionOptions::new_optimistic()
        .retry_options(RetryOptions {
            lock_backoff: Backoff::no_jitter_backoff(2, 200, 150),
            ..RetryOptions::default_optimistic()
        })
        .drop_check(CheckLevel::None)
}

/// Commits these pairs in one optimistic transaction.
pub async fn commit(client: &TransactionClient, pairs: impl IntoIterator<Item = (Key, Value)>) {
    let mut txn = client.begin_with_options(patient()).await.expect("it begins");
    for (key, value) in pairs {
        txn.put(key, value).await.expect("buffered");
    }
    txn.commit().await.expect("nobody else writes these keys");
}

/// The newest committed value.
pub async fn latest(client: &TransactionClient, key: impl Into<Key>) -> Option<Value> {
    let now = client.current_timestamp().await.expect("a timestamp");
    client.snapshot(now, patient()).get(key).await.expect("it reads")
}

/// A key that sorts by its number.
pub fn key(number: usize) -> Key {
    format!("key-{number:06}").into()
}

/// A value that tells whose it is, of a length that varies.
pub fn value(number: usize) -> Value {
    format!("value-{number}-{}", "x".repeat(number % 100)).into_bytes()
}

/// Numbered pairs in the order of their keys.
pub fn pairs(numbers: std::ops::Range<usize>) -> Vec<(Key, Value)> {
    numbers.map(|number| (key(number), value(number))).collect()
}

/// Pairs as the client returns them, in the form of [`pairs`].
pub fn plain(found: impl IntoIterator<Item = KvPair>) -> Vec<(Key, Value)> {
    found.into_iter().map(|pair| (pair.0, pair.1)).collect()
}

/// The errors of single keys inside whatever the client wrapped them in.
pub fn key_errors(error: &Error) -> Vec<&ProtoKeyError> {
    match error {
        Error::KeyError(error) => vec![error],
        Error::ExtractedErrors(errors) | Error::MultipleKeyErrors(errors) => {
            errors.iter().flat_map(key_errors).collect()
        }
        Error::UndeterminedError(error) => key_errors(error),
        Error::PessimisticLockError { inner, .. } => key_errors(inner),
        _ => Vec::new(),
    }
}

/// Whether a commit lost against another, as opposed to failing in a way nobody should see.
pub fn is_conflict(error: &Error) -> bool {
    let errors = key_errors(error);
    !errors.is_empty() && errors.iter().all(|error| error.conflict.is_some())
}
