//! What is timed, as the clients see it: one enum, so that a call costs no more than a match.

use bytes::Bytes;
use kiva_base::{Key, KeyRange, Timestamp};
use kiva_client::{Client, KvPair, Options, Raw};

use super::grpc::{echo, etcd};
use super::value::Family;
use super::{Plan, TargetName};
use crate::exit::Failure;

/// A way to the system that is timed. A clone shares its connection.
#[derive(Clone)]
pub(crate) enum Target {
    /// A cluster of ours.
    Kiva {
        /// Transactions and timestamps.
        client: Client,
        /// Raw keys.
        raw: Raw,
    },
    /// etcd.
    Etcd(etcd::Etcd),
    /// A server that only answers.
    Echo(echo::Echo),
    /// A map in this process, some of whose writes may get lost.
    #[cfg(test)]
    Memory(std::sync::Arc<super::verify::tests::Memory>),
}

/// The ways that one thread has: its clients take them in turn.
///
/// Kiva's client deals its own connections to its callers, so there it is one.
pub(crate) async fn connect(plan: &Plan, thread: usize) -> Result<Vec<Target>, Failure> {
    let (count, timeout) = (plan.connections_of(thread), plan.connection.timeout);
    match plan.target {
        TargetName::Kiva => {
            let options =
                Options { wire: plan.wire, connections: count, ..plan.connection.options() };
            let client = plan.connection.connect(options).await?;
            let raw = client.raw();
            Ok(vec![Target::Kiva { client, raw }])
        }
        TargetName::Etcd => {
            let ways = etcd::connect(&plan.endpoints, count, timeout).await?;
            Ok(ways.into_iter().map(Target::Etcd).collect())
        }
        TargetName::Echo => {
            let ways = echo::connect(&plan.endpoints, count, timeout).await?;
            Ok(ways.into_iter().map(Target::Echo).collect())
        }
    }
}

/// What a plan refuses before it comes to this.
const NOT_SERVED: &str = "the plan refuses workloads that the target does not serve";

impl Target {
    /// The value of a raw key.
    pub(crate) async fn get(&self, key: Bytes) -> Result<Option<Bytes>, Failure> {
        match self {
            Self::Kiva { raw, .. } => Ok(raw.get(key).await?),
            Self::Etcd(etcd) => etcd.get(key).await,
            Self::Echo(echo) => echo.get(key).await.map(Some),
            #[cfg(test)]
            Self::Memory(memory) => Ok(memory.get(&key)),
        }
    }

    /// Gives a raw key a value.
    pub(crate) async fn put(&self, key: Bytes, value: Bytes) -> Result<(), Failure> {
        match self {
            Self::Kiva { raw, .. } => Ok(raw.put(key, value).await?),
            Self::Etcd(etcd) => etcd.put(key, value).await,
            Self::Echo(_) => Err(Failure::usage(NOT_SERVED)),
            #[cfg(test)]
            Self::Memory(memory) => {
                memory.put(key, value);
                Ok(())
            }
        }
    }

    /// Gives keys values in a transaction.
    pub(crate) async fn commit(&self, pairs: Vec<(Bytes, Bytes)>) -> Result<(), Failure> {
        match self {
            Self::Kiva { client, .. } => {
                let mut transaction = client.begin().await?;
                for (key, value) in pairs {
                    transaction.put(key, value);
                }
                transaction.commit().await?;
                Ok(())
            }
            #[cfg(test)]
            Self::Memory(memory) => {
                pairs.into_iter().for_each(|(key, value)| memory.put(key, value));
                Ok(())
            }
            Self::Etcd(_) | Self::Echo(_) => Err(Failure::usage(NOT_SERVED)),
        }
    }

    /// The first pairs of a range of raw keys.
    pub(crate) async fn scan(&self, range: KeyRange, limit: usize) -> Result<Vec<KvPair>, Failure> {
        match self {
            Self::Kiva { raw, .. } => Ok(raw.scan(range, limit).await?),
            #[cfg(test)]
            Self::Memory(memory) => Ok(memory.scan(&range, limit)),
            Self::Etcd(_) | Self::Echo(_) => Err(Failure::usage(NOT_SERVED)),
        }
    }

    /// A new timestamp.
    pub(crate) async fn timestamp(&self) -> Result<Timestamp, Failure> {
        match self {
            Self::Kiva { client, .. } => Ok(client.timestamp().await?),
            #[cfg(test)]
            Self::Memory(memory) => Ok(memory.timestamp()),
            Self::Etcd(_) | Self::Echo(_) => Err(Failure::usage(NOT_SERVED)),
        }
    }

    /// The values of keys, in their order.
    pub(crate) async fn get_many(
        &self,
        family: Family,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Bytes>>, Failure> {
        if let Self::Kiva { client, raw } = self {
            let asked = keys.iter().cloned().map(Key).collect();
            let found = match family {
                Family::Raw => raw.batch_get(asked).await?,
                Family::Txn => {
                    let snapshot = client.snapshot(client.timestamp().await?);
                    snapshot.batch_get(asked).await?
                }
            };
            // What was found is in the order asked for, with gaps.
            let mut found = found.into_iter().peekable();
            let value = |key: &Bytes| {
                let pair = found.next_if(|pair: &KvPair| pair.key.0 == *key);
                pair.map(|pair| pair.value)
            };
            return Ok(keys.iter().map(value).collect());
        }
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            values.push(self.get(key.clone()).await?);
        }
        Ok(values)
    }

    /// Gives raw keys values.
    pub(crate) async fn put_many(&self, pairs: Vec<(Bytes, Bytes)>) -> Result<(), Failure> {
        if let Self::Kiva { raw, .. } = self {
            let pair = |(key, value)| KvPair { key: Key(key), value };
            let pairs = pairs.into_iter().map(pair).collect();
            return Ok(raw.batch_put(pairs, std::time::Duration::ZERO).await?);
        }
        for (key, value) in pairs {
            self.put(key, value).await?;
        }
        Ok(())
    }
}
