//! The write record: what a finished transaction left on a key.
//!
//! ```text
//! write family:  memcomparable(key) !commit_ts(8)  →  write
//!
//! write = version(1) = 1
//!         kind(1)             'P' put, 'D' delete, 'L' lock only, 'R' rollback
//!         flags(1)
//!         start_ts(8)         big-endian
//!         [ length(1) value ] flag 0x01: the short value of a put
//!
//! flags:  0x02  rolled back too: the transaction that began at this record's own timestamp
//!               is rolled back on this key
//!         0x04  protected: a rollback that must not be collapsed
//! ```
//!
//! A rollback lies at the start timestamp of its transaction: it has no commit timestamp. So a
//! commit record and a rollback record may want one place; the commit record then takes it and the
//! flag says the rest.

use bytes::Bytes;
use kiva_base::Timestamp;
use kiva_base::codec::DecodeError;
use kiva_base::fault::LockKind;

use crate::lock::Lock;
use crate::record::{Fields, put_short_value, put_timestamp};

const VERSION: u8 = 1;

const HAS_SHORT_VALUE: u8 = 0x01;
const IS_ROLLED_BACK_TOO: u8 = 0x02;
const IS_PROTECTED: u8 = 0x04;

/// What a finished transaction left on a key (Percolator §2.2, the `write` column).
///
/// Invariants:
/// - Only a put has a short value, and it has at most 255 bytes. A put without one has its value in
///   the default family at `start_ts`.
/// - Only a rollback is protected, and a rollback is never rolled back too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// What it did.
    pub kind: WriteKind,
    /// The transaction.
    pub start_ts: Timestamp,
    /// The value of a put, when it is short.
    pub short_value: Option<Bytes>,
    /// The transaction that began at this record's commit timestamp is rolled back on this key.
    pub is_rolled_back_too: bool,
    /// Of a rollback: it must not be collapsed into a newer one.
    pub is_protected: bool,
}

/// What a finished transaction did to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WriteKind {
    /// Gave it a value.
    Put,
    /// Took its value.
    Delete,
    /// Only kept others away.
    Lock,
    /// Nothing, and never will.
    Rollback,
}

impl Write {
    /// What committing `lock` leaves. `None` for a pessimistic lock, which leaves nothing.
    pub fn of_lock(lock: &Lock) -> Option<Self> {
        let kind = match lock.kind {
            LockKind::Put => WriteKind::Put,
            LockKind::Delete => WriteKind::Delete,
            LockKind::Lock => WriteKind::Lock,
            LockKind::Pessimistic => return None,
        };
        Some(Self {
            kind,
            start_ts: lock.start_ts,
            short_value: lock.short_value.clone(),
            is_rolled_back_too: false,
            is_protected: false,
        })
    }

    /// What rolling back the transaction of `start_ts` leaves.
    pub fn rollback(start_ts: Timestamp, is_protected: bool) -> Self {
        Self {
            kind: WriteKind::Rollback,
            start_ts,
            short_value: None,
            is_rolled_back_too: false,
            is_protected,
        }
    }

    /// Whether it changes what a read sees.
    pub fn is_data(&self) -> bool {
        matches!(self.kind, WriteKind::Put | WriteKind::Delete)
    }

    /// Whether its value lies in the default family.
    pub fn has_long_value(&self) -> bool {
        self.kind == WriteKind::Put && self.short_value.is_none()
    }

    /// Whether a newer rollback on the same key may take its place.
    pub fn is_collapsible(&self) -> bool {
        self.kind == WriteKind::Rollback && !self.is_protected
    }

    /// The bytes of the record.
    pub fn encode(&self) -> Vec<u8> {
        assert!(
            self.short_value.is_none() || self.kind == WriteKind::Put,
            "a write of kind {:?} has no value",
            self.kind
        );
        let mut flags = 0;
        let mut set = |flag, is_set| flags |= if is_set { flag } else { 0 };
        set(HAS_SHORT_VALUE, self.short_value.is_some());
        set(IS_ROLLED_BACK_TOO, self.is_rolled_back_too);
        set(IS_PROTECTED, self.is_protected);
        assert!(
            flags & allowed_flags(self.kind) == flags,
            "flags {flags:#04x} do not go with {:?}",
            self.kind
        );

        let mut out = vec![VERSION, kind_byte(self.kind), flags];
        put_timestamp(self.start_ts, &mut out);
        if let Some(value) = &self.short_value {
            put_short_value(value, &mut out);
        }
        out
    }

    /// The write record that these bytes are.
    pub fn decode(record: &Bytes) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(record);
        if fields.byte("the version of a write record")? != VERSION {
            return Err(DecodeError::Malformed("the version of a write record"));
        }
        let kind = kind_from_byte(fields.byte("the kind of a write record")?)?;
        let flags = fields.byte("the flags of a write record")?;
        if flags & !allowed_flags(kind) != 0 {
            return Err(DecodeError::Malformed("the flags of a write record"));
        }
        let start_ts = fields.timestamp("the start of a write record")?;
        let short_value =
            (flags & HAS_SHORT_VALUE != 0).then(|| fields.short_value()).transpose()?;
        fields.finish("what follows a write record")?;
        Ok(Self {
            kind,
            start_ts,
            short_value,
            is_rolled_back_too: flags & IS_ROLLED_BACK_TOO != 0,
            is_protected: flags & IS_PROTECTED != 0,
        })
    }
}

const fn allowed_flags(kind: WriteKind) -> u8 {
    match kind {
        WriteKind::Put => HAS_SHORT_VALUE | IS_ROLLED_BACK_TOO,
        WriteKind::Delete | WriteKind::Lock => IS_ROLLED_BACK_TOO,
        WriteKind::Rollback => IS_PROTECTED,
    }
}

const fn kind_byte(kind: WriteKind) -> u8 {
    match kind {
        WriteKind::Put => b'P',
        WriteKind::Delete => b'D',
        WriteKind::Lock => b'L',
        WriteKind::Rollback => b'R',
    }
}

const fn kind_from_byte(byte: u8) -> Result<WriteKind, DecodeError> {
    match byte {
        b'P' => Ok(WriteKind::Put),
        b'D' => Ok(WriteKind::Delete),
        b'L' => Ok(WriteKind::Lock),
        b'R' => Ok(WriteKind::Rollback),
        _ => Err(DecodeError::Malformed("the kind of a write record")),
    }
}

#[cfg(test)]
mod tests;
