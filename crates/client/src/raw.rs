//! Keys and values without transactions.
//!
//! Each call is atomic for one key and linearizable. A call that names several keys goes to every
//! region concerned and is not atomic over them.
//!
//! **Lost answers.** Reads are repeated. A write is repeated only while it is certain that no
//! attempt was executed; once an answer is lost the caller gets [`RawError::Unknown`]. Writing a
//! value twice looks harmless, and is not:
//!
//! ```text
//!  we        put k=1 ──▶ slow link … … … … … … … … … … … … … … ──▶ k=1
//!  we        put k=1 again ──▶ k=1, answered
//!  another                              put k=2 ──▶ k=2, answered
//! ```
//!
//! The straggler overwrites a newer value that somebody was told is there. Whoever knows to be the
//! only writer of a key may repeat a put or a delete themselves; nobody may repeat a
//! [`Raw::compare_and_swap`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kiva_base::{Key, KeyRange};

use crate::core::{Core, Failure, Place, Repeat};
use crate::error::RawError;
use crate::keyspace::Codec;
use crate::region_cache::Route;
use crate::resolver::{wrong_reply, wrong_reply_to_write};
pub use crate::rpc::Checksum;
use crate::rpc::{Command, Direction, Reply, Span};
use crate::scan::{Extent, Pages, scan};
use crate::scatter::{Ragged, Refused, Scatter, scatter};

/// Reads and writes single keys. Cheap to clone.
#[derive(Clone)]
pub struct Raw {
    core: Arc<Core>,
    cf: Arc<str>,
    timeout: Duration,
    for_cas: bool,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvPair {
    /// The key, as the user writes it.
    pub key: Key,
    /// The value; empty is a value.
    pub value: Bytes,
}

/// How long a key will live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// For ever.
    Never,
    /// For this long, in whole seconds.
    Left(Duration),
}

/// What came of a compare-and-swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swap {
    /// Whether the new value is in place.
    pub swapped: bool,
    /// What was there before; `None` is absence.
    pub previous: Option<Bytes>,
}

impl Raw {
    /// The same, in another column family: `default`, `lock` or `write`.
    #[must_use]
    pub fn with_cf(mut self, cf: impl Into<Arc<str>>) -> Self {
        self.cf = cf.into();
        self
    }

    /// The same, with another time for one operation and all its repetitions.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same, with writes that serialise with [`Raw::compare_and_swap`] on the same keys, and
    /// batches that are atomic within a region. Costs the store a latch per key.
    #[must_use]
    pub fn atomic(mut self) -> Self {
        self.for_cas = true;
        self
    }

    /// The value of `key`, if there is one.
    pub async fn get(&self, key: impl Into<Key>) -> Result<Option<Bytes>, RawError> {
        let key = self.wire(key);
        let command = Command::RawGet { key: key.clone(), cf: self.cf.clone() };
        match self.read(&key, &command).await? {
            Reply::RawGet(value) => value.map_err(RawError::Refused),
            _ => Err(wrong_reply().into()),
        }
    }

    /// The pairs that exist among `keys`, in the order asked for. A key named twice comes twice.
    pub async fn batch_get(&self, keys: Vec<Key>) -> Result<Vec<KvPair>, RawError> {
        let wire: Vec<Bytes> = keys.iter().map(|key| self.core.raw.wire(key)).collect();
        let command = BatchGet { cf: &self.cf };
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

    /// How long `key` will live; `None` when it is absent.
    pub async fn get_ttl(&self, key: impl Into<Key>) -> Result<Option<Ttl>, RawError> {
        let key = self.wire(key);
        let command = Command::RawGetTtl { key: key.clone(), cf: self.cf.clone() };
        let Reply::RawGetTtl(ttl) = self.read(&key, &command).await? else {
            return Err(wrong_reply().into());
        };
        Ok(ttl.map_err(RawError::Refused)?.map(|secs| match secs {
            0 => Ttl::Never,
            secs => Ttl::Left(Duration::from_secs(secs)),
        }))
    }

    /// Gives `key` a value, for ever.
    pub async fn put(&self, key: impl Into<Key>, value: impl Into<Bytes>) -> Result<(), RawError> {
        self.put_with_ttl(key, value, Duration::ZERO).await
    }

    /// Gives `key` a value for `ttl`, rounded up to whole seconds; zero is for ever.
    pub async fn put_with_ttl(
        &self,
        key: impl Into<Key>,
        value: impl Into<Bytes>,
        ttl: Duration,
    ) -> Result<(), RawError> {
        let key = self.wire(key);
        let command = Command::RawPut {
            key: key.clone(),
            value: value.into(),
            cf: self.cf.clone(),
            ttl_secs: whole_seconds(ttl),
            for_cas: self.for_cas,
        };
        self.write(&key, &command).await
    }

    /// Gives keys values for `ttl`; zero is for ever. Atomic for each key, not for all.
    pub async fn batch_put(&self, pairs: Vec<KvPair>, ttl: Duration) -> Result<(), RawError> {
        let command =
            BatchPut { cf: &self.cf, ttl_secs: whole_seconds(ttl), for_cas: self.for_cas };
        let pairs =
            pairs.into_iter().map(|pair| (self.core.raw.wire(&pair.key), pair.value)).collect();
        self.write_many(&command, pairs).await
    }

    /// Removes `key`; absence is success.
    pub async fn delete(&self, key: impl Into<Key>) -> Result<(), RawError> {
        let key = self.wire(key);
        let command =
            Command::RawDelete { key: key.clone(), cf: self.cf.clone(), for_cas: self.for_cas };
        self.write(&key, &command).await
    }

    /// Removes keys. Atomic for each key, not for all.
    pub async fn batch_delete(&self, keys: Vec<Key>) -> Result<(), RawError> {
        let command = BatchDelete { cf: &self.cf, for_cas: self.for_cas };
        let keys = keys.iter().map(|key| self.core.raw.wire(key)).collect();
        self.write_many(&command, keys).await
    }

    /// Removes all keys of `range`, region by region from the lowest on.
    pub async fn delete_range(&self, range: KeyRange) -> Result<(), RawError> {
        let make = |start, end| Command::RawDeleteRange { start, end, cf: self.cf.clone() };
        let mut done = 0;
        let deleted = self
            .each_region(range, Repeat::UnlessLost, make, |reply| match reply {
                Reply::RawWritten(written) => {
                    written.map_err(RawError::Refused)?;
                    done += 1;
                    Ok(())
                }
                _ => Err(wrong_reply_to_write().into()),
            })
            .await;
        match deleted {
            Err(source) if done > 0 => {
                Err(RawError::Partial { done, total: done + 1, source: Box::new(source) })
            }
            outcome => outcome,
        }
    }

    /// The first `limit` pairs of `range`, lowest key first. The pages of a scan are read one
    /// after another, so they show different moments.
    pub async fn scan(&self, range: KeyRange, limit: usize) -> Result<Vec<KvPair>, RawError> {
        self.pairs(range, limit, Direction::Forward).await
    }

    /// The last `limit` pairs of `range`, highest key first.
    pub async fn scan_reverse(
        &self,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<KvPair>, RawError> {
        self.pairs(range, limit, Direction::Backward).await
    }

    /// The first `limit` keys of `range`.
    pub async fn scan_keys(&self, range: KeyRange, limit: usize) -> Result<Vec<Key>, RawError> {
        self.keys(range, limit, Direction::Forward).await
    }

    /// The last `limit` keys of `range`, highest first.
    pub async fn scan_keys_reverse(
        &self,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<Key>, RawError> {
        self.keys(range, limit, Direction::Backward).await
    }

    /// The first `each_limit` pairs of each range, in the order of the ranges. One scan after
    /// another, each with the full time.
    pub async fn batch_scan(
        &self,
        ranges: Vec<KeyRange>,
        each_limit: usize,
    ) -> Result<Vec<Vec<KvPair>>, RawError> {
        let mut all = Vec::with_capacity(ranges.len());
        for range in ranges {
            all.push(self.scan(range, each_limit).await?);
        }
        Ok(all)
    }

    /// Gives `key` the value `value` if it has `previous`, where `None` is absence. `ttl` of zero
    /// is for ever.
    ///
    /// Never repeated after an answer may have been lost, [`RawError::Unknown`] then: a second
    /// attempt would find the first one's value and say "not swapped" about a swap that happened.
    pub async fn compare_and_swap(
        &self,
        key: impl Into<Key>,
        previous: Option<Bytes>,
        value: impl Into<Bytes>,
        ttl: Duration,
    ) -> Result<Swap, RawError> {
        let key = self.wire(key);
        let command = Command::RawCompareAndSwap {
            key: key.clone(),
            previous,
            value: value.into(),
            cf: self.cf.clone(),
            ttl_secs: whole_seconds(ttl),
        };
        let reply = self.send(&key, &command, Repeat::UnlessLost).await?;
        let Reply::RawCompareAndSwap(swap) = reply else {
            return Err(wrong_reply_to_write().into());
        };
        let (swapped, previous) = swap.map_err(RawError::Refused)?;
        Ok(Swap { swapped, previous })
    }

    /// A digest of all pairs of `range` in the default column family. Under API version 2 it
    /// covers the keys with their prefix.
    pub async fn checksum(&self, range: KeyRange) -> Result<Checksum, RawError> {
        let make = |start, end| Command::RawChecksum { start, end };
        let mut total = Checksum::default();
        self.each_region(range, Repeat::Always, make, |reply| match reply {
            Reply::RawChecksum(part) => {
                let part = part.map_err(RawError::Refused)?;
                total.crc64_xor ^= part.crc64_xor;
                total.pairs += part.pairs;
                total.bytes += part.bytes;
                Ok(())
            }
            _ => Err(wrong_reply().into()),
        })
        .await?;
        Ok(total)
    }
}

impl Raw {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        let timeout = core.timeout;
        Self { core, cf: "".into(), timeout, for_cas: false }
    }

    fn wire(&self, key: impl Into<Key>) -> Bytes {
        self.core.raw.wire(&key.into())
    }

    async fn send(&self, key: &Bytes, command: &Command, repeat: Repeat) -> Result<Reply, Failure> {
        let mut trial = self.core.trial(self.timeout);
        self.core.at_key(&self.core.raw, key, command, repeat, &mut trial).await
    }

    async fn read(&self, key: &Bytes, command: &Command) -> Result<Reply, Failure> {
        self.send(key, command, Repeat::Always).await
    }

    async fn write(&self, key: &Bytes, command: &Command) -> Result<(), RawError> {
        match self.send(key, command, Repeat::UnlessLost).await? {
            Reply::RawWritten(written) => written.map_err(RawError::Refused),
            _ => Err(wrong_reply_to_write().into()),
        }
    }

    async fn write_many<S>(&self, command: &S, items: Vec<S::Item>) -> Result<(), RawError>
    where
        S: Scatter<Answer = (), Error = RawError>,
    {
        let total = items.len();
        let trial = self.core.trial(self.timeout);
        match scatter(&self.core, command, items, trial).await {
            Ok(_) => Ok(()),
            Err(Ragged { done: 0, error, .. }) => Err(error),
            Err(Ragged { done, error, .. }) => {
                Err(RawError::Partial { done, total, source: Box::new(error) })
            }
        }
    }

    /// Sends a command to the part of `range` in each region, from the lowest on.
    async fn each_region(
        &self,
        range: KeyRange,
        repeat: Repeat,
        make: impl Fn(Bytes, Bytes) -> Command,
        mut accept: impl FnMut(Reply) -> Result<(), RawError>,
    ) -> Result<(), RawError> {
        let core = &self.core;
        let mut trial = core.trial(self.timeout);
        let mut left = self.extent(&range, usize::MAX, Direction::Forward);
        while !left.is_done() {
            let bound = core.raw.boundary(&left.lower);
            let part = |route: &Route| {
                let part = left.within(&core.raw, route)?;
                Ok(Cow::Owned(make(part.lower, part.upper)))
            };
            let (route, reply) =
                core.at(&core.raw, Place::Key(&bound), part, repeat, &mut trial).await?;
            accept(reply)?;
            trial.backoff.part_done();
            left.pass_region(&core.raw, &route)?;
        }
        Ok(())
    }

    fn extent(&self, range: &KeyRange, limit: usize, direction: Direction) -> Extent {
        let (lower, upper) = self.core.raw.wire_range(range);
        // Equal bounds hold nothing; two empty ones hold everything.
        let limit = if range.is_empty() { 0 } else { limit };
        Extent { lower, upper, limit, direction }
    }

    async fn pairs(
        &self,
        range: KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<KvPair>, RawError> {
        let found = self.pages(range, limit, direction, false).await?;
        let pair = |(key, value)| {
            let key = self.core.raw.user(key)?;
            Ok(KvPair { key, value })
        };
        found.into_iter().map(pair).collect()
    }

    async fn keys(
        &self,
        range: KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<Key>, RawError> {
        let found = self.pages(range, limit, direction, true).await?;
        let key = |(key, _)| Ok(self.core.raw.user(key)?);
        found.into_iter().map(key).collect()
    }

    async fn pages(
        &self,
        range: KeyRange,
        limit: usize,
        direction: Direction,
        key_only: bool,
    ) -> Result<Vec<(Bytes, Bytes)>, RawError> {
        let pages = Scan { cf: &self.cf, key_only };
        let extent = self.extent(&range, limit, direction);
        scan(&self.core, &pages, extent, self.timeout).await
    }
}

/// A TTL as the protocol has it. Rounded up, so that nothing vanishes early or stays for ever.
fn whole_seconds(ttl: Duration) -> u64 {
    ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)
}

struct BatchGet<'a> {
    cf: &'a Arc<str>,
}

impl Scatter for BatchGet<'_> {
    type Item = Bytes;
    type Answer = Vec<(Bytes, Bytes)>;
    type Error = RawError;

    fn codec<'a>(&self, core: &'a Core) -> &'a Codec {
        &core.raw
    }

    fn repeat(&self) -> Repeat {
        Repeat::Always
    }

    fn command(&self, keys: &[Bytes]) -> Command {
        Command::RawBatchGet { keys: keys.to_vec(), cf: self.cf.clone() }
    }

    fn accept(&self, reply: Reply) -> Result<Self::Answer, Refused<RawError>> {
        match reply {
            Reply::RawBatchGet(pairs) => {
                pairs.map_err(|why| Refused::Failed(RawError::Refused(why)))
            }
            _ => Err(Refused::Failed(wrong_reply().into())),
        }
    }
}

struct BatchPut<'a> {
    cf: &'a Arc<str>,
    ttl_secs: u64,
    for_cas: bool,
}

impl Scatter for BatchPut<'_> {
    type Item = (Bytes, Bytes);
    type Answer = ();
    type Error = RawError;

    fn codec<'a>(&self, core: &'a Core) -> &'a Codec {
        &core.raw
    }

    fn repeat(&self) -> Repeat {
        Repeat::UnlessLost
    }

    fn command(&self, pairs: &[(Bytes, Bytes)]) -> Command {
        Command::RawBatchPut {
            pairs: pairs.to_vec(),
            cf: self.cf.clone(),
            ttl_secs: self.ttl_secs,
            for_cas: self.for_cas,
        }
    }

    fn accept(&self, reply: Reply) -> Result<(), Refused<RawError>> {
        written(reply)
    }
}

struct BatchDelete<'a> {
    cf: &'a Arc<str>,
    for_cas: bool,
}

impl Scatter for BatchDelete<'_> {
    type Item = Bytes;
    type Answer = ();
    type Error = RawError;

    fn codec<'a>(&self, core: &'a Core) -> &'a Codec {
        &core.raw
    }

    fn repeat(&self) -> Repeat {
        Repeat::UnlessLost
    }

    fn command(&self, keys: &[Bytes]) -> Command {
        Command::RawBatchDelete { keys: keys.to_vec(), cf: self.cf.clone(), for_cas: self.for_cas }
    }

    fn accept(&self, reply: Reply) -> Result<(), Refused<RawError>> {
        written(reply)
    }
}

fn written(reply: Reply) -> Result<(), Refused<RawError>> {
    match reply {
        Reply::RawWritten(written) => {
            written.map_err(|why| Refused::Failed(RawError::Refused(why)))
        }
        _ => Err(Refused::Failed(wrong_reply_to_write().into())),
    }
}

struct Scan<'a> {
    cf: &'a Arc<str>,
    key_only: bool,
}

impl Pages for Scan<'_> {
    type Error = RawError;

    fn codec<'a>(&self, core: &'a Core) -> &'a Codec {
        &core.raw
    }

    fn command(&self, span: Span) -> Command {
        Command::RawScan { span, key_only: self.key_only, cf: self.cf.clone() }
    }

    fn accept(&self, reply: Reply) -> Result<Vec<(Bytes, Bytes)>, Refused<RawError>> {
        match reply {
            Reply::RawScan(pairs) => pairs.map_err(|why| Refused::Failed(RawError::Refused(why))),
            _ => Err(Refused::Failed(wrong_reply().into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_never_rounds_down() {
        assert_eq!(whole_seconds(Duration::ZERO), 0);
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_secs(2)), 2);
        assert_eq!(whole_seconds(Duration::from_millis(2_001)), 3);
    }
}
