//! [`MvccReader`]: what one snapshot says about a key's lock, records and values.
//!
//! The write family sorts a key's records newest first, so "the newest at or below `ts`" is the
//! first record of a range. A record of a transaction is found by its **start** timestamp, which is
//! in the record; where the search begins does not matter, and it ends at that timestamp, because a
//! transaction commits after it starts.

use bytes::Bytes;
use kiva_base::{EncodedKey, Key, KeyRange, Timestamp, codec};
use kiva_engine::{Cf, Iter, Order, Snapshot};

use crate::lock::Lock;
use crate::outcome::TxnError;
use crate::write::{Write, WriteKind};

/// Looks things up in one snapshot.
#[derive(Clone, Copy)]
pub struct MvccReader<'a> {
    view: &'a dyn Snapshot,
}

/// What a transaction left on a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnRecord {
    /// A commit record.
    Committed {
        /// When its write appeared.
        commit_ts: Timestamp,
    },
    /// A rollback record, or a flag on somebody's commit record in its place.
    RolledBack,
    /// Neither.
    Nothing,
}

impl<'a> MvccReader<'a> {
    /// Reads from this snapshot.
    pub fn new(view: &'a dyn Snapshot) -> Self {
        Self { view }
    }

    /// The snapshot.
    pub fn view(&self) -> &'a dyn Snapshot {
        self.view
    }

    /// Who holds the key.
    pub fn lock(&self, key: &EncodedKey) -> Result<Option<Lock>, TxnError> {
        self.view
            .get(Cf::Lock, key.as_bytes())?
            .map(|record| decode_lock(key.as_bytes(), &record))
            .transpose()
    }

    /// The lock of this transaction on the key. A foreign one counts as none.
    pub fn own_lock(
        &self,
        key: &EncodedKey,
        start_ts: Timestamp,
    ) -> Result<Option<Lock>, TxnError> {
        Ok(self.lock(key)?.filter(|lock| lock.start_ts == start_ts))
    }

    /// The records of the key at or below `from`, newest first.
    pub fn records(&self, key: &EncodedKey, from: Timestamp) -> Records {
        let range = KeyRange::new(key.at(from), after_records(key))
            .expect("the first record of a key is not behind its last");
        Records { iter: self.view.iter(Cf::Write, &range, Order::Forward) }
    }

    /// The newest record of any kind.
    pub fn newest_record(&self, key: &EncodedKey) -> Result<Option<(Timestamp, Write)>, TxnError> {
        self.records(key, Timestamp::MAX).next()
    }

    /// The newest put or delete at or below `at`.
    pub fn newest_data(
        &self,
        key: &EncodedKey,
        at: Timestamp,
    ) -> Result<Option<(Timestamp, Write)>, TxnError> {
        let mut records = self.records(key, at);
        while let Some((commit_ts, write)) = records.next()? {
            if write.is_data() {
                return Ok(Some((commit_ts, write)));
            }
        }
        Ok(None)
    }

    /// The record at exactly this timestamp.
    pub fn record_at(
        &self,
        key: &EncodedKey,
        commit_ts: Timestamp,
    ) -> Result<Option<Write>, TxnError> {
        let record_key = key.at(commit_ts);
        self.view
            .get(Cf::Write, &record_key)?
            .map(|record| decode_write(&record_key, &record))
            .transpose()
    }

    /// What the transaction of `start_ts` left on the key, however many newer records lie on top.
    pub fn own_record(&self, key: &EncodedKey, start_ts: Timestamp) -> Result<OwnRecord, TxnError> {
        let mut records = self.records(key, Timestamp::MAX);
        while let Some((commit_ts, write)) = records.next()? {
            if commit_ts < start_ts {
                break;
            }
            if write.start_ts == start_ts {
                return Ok(match write.kind {
                    WriteKind::Rollback => OwnRecord::RolledBack,
                    _ => OwnRecord::Committed { commit_ts },
                });
            }
            if commit_ts == start_ts && write.is_rolled_back_too {
                return Ok(OwnRecord::RolledBack);
            }
        }
        Ok(OwnRecord::Nothing)
    }

    /// The value that the transaction of `start_ts` left in the default family.
    pub fn long_value(
        &self,
        key: &EncodedKey,
        start_ts: Timestamp,
    ) -> Result<Option<Bytes>, TxnError> {
        Ok(self.view.get(Cf::Default, &key.at(start_ts))?)
    }

    /// The value that a write record stands for; `None` for anything but a put.
    pub fn value_of_write(
        &self,
        key: &EncodedKey,
        write: &Write,
    ) -> Result<Option<Bytes>, TxnError> {
        if write.has_long_value() {
            self.expect_long_value(key, write.start_ts).map(Some)
        } else {
            Ok(write.short_value.clone())
        }
    }

    /// The value that a lock will write; `None` for anything but a put.
    pub fn value_of_lock(&self, key: &EncodedKey, lock: &Lock) -> Result<Option<Bytes>, TxnError> {
        if lock.has_long_value() {
            self.expect_long_value(key, lock.start_ts).map(Some)
        } else {
            Ok(lock.short_value.clone())
        }
    }

    fn expect_long_value(&self, key: &EncodedKey, start_ts: Timestamp) -> Result<Bytes, TxnError> {
        self.long_value(key, start_ts)?
            .ok_or_else(|| TxnError::MissingValue { key: key.clone(), start_ts })
    }
}

/// The records of one key, newest first.
pub struct Records {
    iter: Box<dyn Iter>,
}

impl Records {
    /// The next record and its timestamp.
    #[expect(
        clippy::should_implement_trait,
        reason = "a fallible step, as the engine's iterators have it"
    )]
    pub fn next(&mut self) -> Result<Option<(Timestamp, Write)>, TxnError> {
        let Some((key, record)) = self.iter.next()? else {
            return Ok(None);
        };
        let (_, commit_ts) = split_record_key(Cf::Write, &key)?;
        Ok(Some((commit_ts, decode_write(&key, &record)?)))
    }
}

/// The first key behind all records (and values) of `key`.
pub(crate) fn after_records(key: &EncodedKey) -> Vec<u8> {
    let mut end = key.at(Timestamp::ZERO);
    end.push(0);
    end
}

pub(crate) fn decode_lock(key: &[u8], record: &Bytes) -> Result<Lock, TxnError> {
    Lock::decode(record).map_err(|source| corrupt(Cf::Lock, key, source))
}

pub(crate) fn decode_write(key: &[u8], record: &Bytes) -> Result<Write, TxnError> {
    Write::decode(record).map_err(|source| corrupt(Cf::Write, key, source))
}

/// The user key that a key of the lock family stands for.
pub(crate) fn decode_lock_key(key: &Bytes) -> Result<Key, TxnError> {
    EncodedKey(key.clone()).decode().map_err(|source| corrupt(Cf::Lock, key, source))
}

/// Splits the key of a record or value into the key it belongs to, in stored form, and its
/// timestamp.
pub(crate) fn split_record_key(cf: Cf, key: &[u8]) -> Result<(&[u8], Timestamp), TxnError> {
    codec::split_timestamp_desc(key).map_err(|source| corrupt(cf, key, source))
}

pub(crate) fn corrupt(cf: Cf, key: &[u8], source: codec::DecodeError) -> TxnError {
    TxnError::Corrupt { cf, key: EncodedKey(Bytes::copy_from_slice(key)), source }
}
