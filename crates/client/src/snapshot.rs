//! Reads at a timestamp.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kiva_base::fault::LockInfo;
use kiva_base::{Key, KeyError, KeyRange, Timestamp};

use crate::core::{Core, Repeat};
use crate::error::ReadError;
use crate::keyspace::Codec;
use crate::raw::KvPair;
use crate::resolver::{settle, wrong_reply};
use crate::rpc::{Command, Direction, Reply, Span};
use crate::scan::{Extent, Pages, scan};
use crate::scatter::{Refused, Scatter, scatter};

/// The data as of one timestamp. Cheap to clone.
///
/// Locks of other transactions that may turn out to lie in its past are settled, or waited for,
/// before anything is answered; see [`crate::resolver`].
#[derive(Clone)]
pub struct Snapshot {
    core: Arc<Core>,
    version: Timestamp,
    timeout: Duration,
}

impl Snapshot {
    /// The timestamp.
    pub fn version(&self) -> Timestamp {
        self.version
    }

    /// The same, with another time for one operation and all its repetitions.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The value of `key`, if it had one.
    pub async fn get(&self, key: impl Into<Key>) -> Result<Option<Bytes>, ReadError> {
        let core = &self.core;
        let key = core.txn.wire(&key.into());
        let command = Command::Get { key: key.clone(), version: self.version };
        let mut trial = core.trial(self.timeout);
        loop {
            let reply = core.at_key(&core.txn, &key, &command, Repeat::Always, &mut trial).await?;
            match reply {
                Reply::Get(Ok(value)) => return Ok(value),
                Reply::Get(Err(KeyError::Locked(lock))) => {
                    settle(core, vec![*lock], self.version, &mut trial).await?;
                }
                Reply::Get(Err(error)) => return Err(ReadError::Refused(error)),
                _ => return Err(wrong_reply().into()),
            }
        }
    }

    /// The pairs that existed among `keys`, in the order asked for. A key named twice comes twice.
    pub async fn batch_get(&self, keys: Vec<Key>) -> Result<Vec<KvPair>, ReadError> {
        let codec = &self.core.txn;
        let wire: Vec<Bytes> = keys.iter().map(|key| codec.wire(key)).collect();
        let command = BatchGet { version: self.version };
        let trial = self.core.trial(self.timeout);
        let answers = scatter(&self.core, &command, wire.clone(), trial)
            .await
            .map_err(|ragged| ragged.error)?;
        let found: BTreeMap<Bytes, Bytes> = answers.into_iter().flatten().collect();
        let pair = |(key, wire): (Key, Bytes)| {
            let value = found.get(&wire)?.clone();
            Some(KvPair { key, value })
        };
        Ok(keys.into_iter().zip(wire).filter_map(pair).collect())
    }

    /// The first `limit` pairs of `range`, lowest key first.
    pub async fn scan(&self, range: KeyRange, limit: usize) -> Result<Vec<KvPair>, ReadError> {
        self.pairs(range, limit, Direction::Forward).await
    }

    /// The last `limit` pairs of `range`, highest key first.
    pub async fn scan_reverse(
        &self,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<KvPair>, ReadError> {
        self.pairs(range, limit, Direction::Backward).await
    }

    /// The first `limit` keys of `range`, lowest first.
    pub async fn scan_keys(&self, range: KeyRange, limit: usize) -> Result<Vec<Key>, ReadError> {
        let found = self.pages(range, limit, Direction::Forward, true).await?;
        let key = |(key, _)| Ok(self.core.txn.user(key)?);
        found.into_iter().map(key).collect()
    }
}

impl Snapshot {
    pub(crate) fn new(core: Arc<Core>, version: Timestamp) -> Self {
        let timeout = core.timeout;
        Self { core, version, timeout }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) async fn pairs(
        &self,
        range: KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<KvPair>, ReadError> {
        let found = self.pages(range, limit, direction, false).await?;
        let pair = |(key, value)| {
            let key = self.core.txn.user(key)?;
            Ok(KvPair { key, value })
        };
        found.into_iter().map(pair).collect()
    }

    async fn pages(
        &self,
        range: KeyRange,
        limit: usize,
        direction: Direction,
        key_only: bool,
    ) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        let pages = Scan { version: self.version, key_only };
        let (lower, upper) = self.core.txn.wire_range(&range);
        let extent = Extent {
            lower,
            upper,
            // Equal bounds hold nothing; two empty ones hold everything.
            limit: if range.is_empty() { 0 } else { limit },
            direction,
        };
        scan(&self.core, &pages, extent, self.timeout).await
    }
}

struct BatchGet {
    version: Timestamp,
}

impl Scatter for BatchGet {
    type Item = Bytes;
    type Answer = Vec<(Bytes, Bytes)>;
    type Error = ReadError;

    fn codec<'a>(&self, core: &'a Core) -> &'a Codec {
        &core.txn
    }

    fn repeat(&self) -> Repeat {
        Repeat::Always
    }

    fn command(&self, keys: &[Bytes]) -> Command {
        Command::BatchGet { keys: keys.to_vec(), version: self.version }
    }

    fn accept(&self, reply: Reply) -> Result<Self::Answer, Refused<ReadError>> {
        readable(reply)
    }

    fn reads_at(&self) -> Timestamp {
        self.version
    }
}

struct Scan {
    version: Timestamp,
    key_only: bool,
}

impl Pages for Scan {
    type Error = ReadError;

    fn codec<'a>(&self, core: &'a Core) -> &'a Codec {
        &core.txn
    }

    fn command(&self, span: Span) -> Command {
        Command::Scan { span, key_only: self.key_only, version: self.version }
    }

    fn accept(&self, reply: Reply) -> Result<Vec<(Bytes, Bytes)>, Refused<ReadError>> {
        readable(reply)
    }

    fn reads_at(&self) -> Timestamp {
        self.version
    }
}

/// The pairs of a reply if all can be read, else the locks to settle first, all at once.
fn readable(reply: Reply) -> Result<Vec<(Bytes, Bytes)>, Refused<ReadError>> {
    let Reply::Pairs(pairs) = reply else {
        return Err(Refused::Failed(wrong_reply().into()));
    };
    let mut locks: Vec<LockInfo> = Vec::new();
    let mut found = Vec::new();
    let mut refuse = |error| match error {
        KeyError::Locked(lock) => {
            locks.push(*lock);
            Ok(())
        }
        error => Err(Refused::Failed(ReadError::Refused(error))),
    };
    match pairs {
        Ok(pairs) => {
            for pair in pairs {
                match pair {
                    Ok(pair) => found.push(pair),
                    Err(error) => refuse(error)?,
                }
            }
        }
        Err(error) => refuse(error)?,
    }
    match locks.is_empty() {
        true => Ok(found),
        false => Err(Refused::Locked(locks)),
    }
}
