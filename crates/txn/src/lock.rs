//! The lock record: what keeps a key for a transaction until its fate is known.
//!
//! ```text
//! lock family:  memcomparable(key)  →  lock
//!
//! lock = version(1) = 1
//!        kind(1)                    'P' put, 'D' delete, 'L' lock only, 'S' pessimistic
//!        flags(1)
//!        start_ts(8)                big-endian, like all timestamps inside records
//!        varint(ttl_ms) varint(txn_size)
//!        varint(length) primary     as the user wrote it
//!        [ length(1) value ]              flag 0x01: the short value of a put
//!        [ min_commit_ts(8) ]             flag 0x02: when it is not zero
//!        [ for_update_ts(8) ]             flag 0x04: when it is not zero
//!        [ varint(n) n × (varint(length) key) ]   flag 0x08: async commit, the secondaries
//!        [ varint(n) n × timestamp(8) ]           flag 0x10: rollbacks to remember, n > 0
//! ```

use bytes::Bytes;
use kiva_base::codec::{self, DecodeError};
use kiva_base::fault::LockKind;
use kiva_base::{Key, LockInfo, Timestamp};

use crate::record::{Fields, put_key, put_short_value, put_timestamp};

const VERSION: u8 = 1;

const HAS_SHORT_VALUE: u8 = 0x01;
const HAS_MIN_COMMIT_TS: u8 = 0x02;
const HAS_FOR_UPDATE_TS: u8 = 0x04;
const IS_ASYNC_COMMIT: u8 = 0x08;
const HAS_ROLLBACKS: u8 = 0x10;
const ALL_FLAGS: u8 =
    HAS_SHORT_VALUE | HAS_MIN_COMMIT_TS | HAS_FOR_UPDATE_TS | IS_ASYNC_COMMIT | HAS_ROLLBACKS;

/// A transaction's claim on a key (Percolator §2.2, the `lock` column).
///
/// Invariants:
/// - Only a put has a short value, and it has at most 255 bytes. A put without one has its value in
///   the default family at `start_ts`.
/// - Only an async commit has secondaries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// What will be written.
    pub kind: LockKind,
    /// The key that decides the transaction.
    pub primary: Key,
    /// The transaction.
    pub start_ts: Timestamp,
    /// Milliseconds from the physical part of `start_ts` during which nobody may roll it back
    /// unasked.
    pub ttl_ms: u64,
    /// How many keys the transaction has, as its client said.
    pub txn_size: u64,
    /// The value of a put, when it is short.
    pub short_value: Option<Bytes>,
    /// The commit timestamp will be at least this; zero when nothing is promised.
    pub min_commit_ts: Timestamp,
    /// Of pessimistic transactions: up to when conflicts were checked; zero for others.
    pub for_update_ts: Timestamp,
    /// Of an async commit: the other keys, on its primary only. `None` for ordinary commits.
    pub async_commit: Option<Vec<Key>>,
    /// Transactions that were rolled back on this key while it was locked, and whose timestamp a
    /// calculated commit timestamp might equal: the write record must then remember them.
    pub rollbacks: Vec<Timestamp>,
}

impl Lock {
    /// The bytes of the record.
    pub fn encode(&self) -> Vec<u8> {
        assert!(
            self.short_value.is_none() || self.kind == LockKind::Put,
            "a lock of kind {:?} has no value",
            self.kind
        );
        let mut flags = 0;
        let mut set = |flag, is_set| flags |= if is_set { flag } else { 0 };
        set(HAS_SHORT_VALUE, self.short_value.is_some());
        set(HAS_MIN_COMMIT_TS, !self.min_commit_ts.is_zero());
        set(HAS_FOR_UPDATE_TS, !self.for_update_ts.is_zero());
        set(IS_ASYNC_COMMIT, self.async_commit.is_some());
        set(HAS_ROLLBACKS, !self.rollbacks.is_empty());

        let mut out = vec![VERSION, kind_byte(self.kind), flags];
        put_timestamp(self.start_ts, &mut out);
        codec::encode_varint(self.ttl_ms, &mut out);
        codec::encode_varint(self.txn_size, &mut out);
        put_key(&self.primary, &mut out);
        if let Some(value) = &self.short_value {
            put_short_value(value, &mut out);
        }
        for ts in [self.min_commit_ts, self.for_update_ts] {
            if !ts.is_zero() {
                put_timestamp(ts, &mut out);
            }
        }
        if let Some(secondaries) = &self.async_commit {
            codec::encode_varint(secondaries.len() as u64, &mut out);
            secondaries.iter().for_each(|key| put_key(key, &mut out));
        }
        if !self.rollbacks.is_empty() {
            codec::encode_varint(self.rollbacks.len() as u64, &mut out);
            self.rollbacks.iter().for_each(|&ts| put_timestamp(ts, &mut out));
        }
        out
    }

    /// The lock that these bytes are.
    pub fn decode(record: &Bytes) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(record);
        if fields.byte("the version of a lock")? != VERSION {
            return Err(DecodeError::Malformed("the version of a lock"));
        }
        let kind = kind_from_byte(fields.byte("the kind of a lock")?)?;
        let flags = fields.byte("the flags of a lock")?;
        if flags & !ALL_FLAGS != 0 || (flags & HAS_SHORT_VALUE != 0 && kind != LockKind::Put) {
            return Err(DecodeError::Malformed("the flags of a lock"));
        }
        let has = |flag| flags & flag != 0;
        let start_ts = fields.timestamp("the start of a lock")?;
        let ttl_ms = fields.varint("the TTL of a lock")?;
        let txn_size = fields.varint("the size of a lock's transaction")?;
        let primary = fields.key("the primary of a lock")?;
        let short_value = has(HAS_SHORT_VALUE).then(|| fields.short_value()).transpose()?;
        let mut optional_timestamp = |is_there: bool, field| match is_there {
            false => Ok(Timestamp::ZERO),
            true => match fields.timestamp(field)? {
                Timestamp::ZERO => Err(DecodeError::Malformed(field)),
                ts => Ok(ts),
            },
        };
        let min_commit_ts = optional_timestamp(has(HAS_MIN_COMMIT_TS), "a least commit")?;
        let for_update_ts = optional_timestamp(has(HAS_FOR_UPDATE_TS), "a for-update timestamp")?;
        let async_commit = has(IS_ASYNC_COMMIT)
            .then(|| {
                let count = fields.count("the secondaries of a lock")?;
                (0..count)
                    .map(|_| fields.key("a secondary of a lock"))
                    .collect::<Result<Vec<_>, _>>()
            })
            .transpose()?;
        let rollbacks = match has(HAS_ROLLBACKS) {
            false => Vec::new(),
            true => {
                let count = fields.count("the rollbacks of a lock")?;
                if count == 0 {
                    return Err(DecodeError::Malformed("the rollbacks of a lock"));
                }
                (0..count)
                    .map(|_| fields.timestamp("a rollback of a lock"))
                    .collect::<Result<Vec<_>, _>>()?
            }
        };
        fields.finish("what follows a lock")?;
        Ok(Self {
            kind,
            primary,
            start_ts,
            ttl_ms,
            txn_size,
            short_value,
            min_commit_ts,
            for_update_ts,
            async_commit,
            rollbacks,
        })
    }

    /// What this lock on `key` says to somebody who meets it.
    pub fn info(&self, key: &Key) -> LockInfo {
        LockInfo {
            primary: self.primary.clone(),
            start_ts: self.start_ts,
            key: key.clone(),
            ttl_ms: self.ttl_ms,
            txn_size: self.txn_size,
            kind: self.kind,
            for_update_ts: self.for_update_ts,
            use_async_commit: self.async_commit.is_some(),
            min_commit_ts: self.min_commit_ts,
            secondaries: self.async_commit.clone().unwrap_or_default(),
        }
    }

    /// Whether its time is over at `now`. Only physical parts count, and the last millisecond still
    /// belongs to the lock. Not an answer about async commits, which no TTL ends.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.start_ts.physical_ms().saturating_add(self.ttl_ms) < now.physical_ms()
    }

    /// Whether its value lies in the default family.
    pub fn has_long_value(&self) -> bool {
        self.kind == LockKind::Put && self.short_value.is_none()
    }
}

const fn kind_byte(kind: LockKind) -> u8 {
    match kind {
        LockKind::Put => b'P',
        LockKind::Delete => b'D',
        LockKind::Lock => b'L',
        LockKind::Pessimistic => b'S',
    }
}

const fn kind_from_byte(byte: u8) -> Result<LockKind, DecodeError> {
    match byte {
        b'P' => Ok(LockKind::Put),
        b'D' => Ok(LockKind::Delete),
        b'L' => Ok(LockKind::Lock),
        b'S' => Ok(LockKind::Pessimistic),
        _ => Err(DecodeError::Malformed("the kind of a lock")),
    }
}

#[cfg(test)]
mod tests;
