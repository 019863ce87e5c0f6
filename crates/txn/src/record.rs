//! What lock and write records have in common: how their fields are written and read back.
//!
//! A record begins with the version of its format and ends with its last field: bytes left over,
//! unknown flags and values that nobody writes are errors, so that one record has one encoding.

use bytes::{Buf, Bytes};
use kiva_base::codec::{self, DecodeError};
use kiva_base::{Key, Timestamp};

use crate::limits::SHORT_VALUE_SIZE_MAX;

/// Reads the fields of one record in order. Byte strings share the record's buffer.
pub(crate) struct Fields {
    rest: Bytes,
}

impl Fields {
    pub(crate) fn new(record: &Bytes) -> Self {
        Self { rest: record.clone() }
    }

    pub(crate) fn byte(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        let [byte, ..] = self.rest[..] else {
            return Err(DecodeError::Truncated(field));
        };
        self.rest.advance(1);
        Ok(byte)
    }

    pub(crate) fn varint(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let (value, after) = codec::decode_varint(&self.rest).map_err(|error| match error {
            DecodeError::Truncated(_) => DecodeError::Truncated(field),
            DecodeError::Malformed(_) => DecodeError::Malformed(field),
        })?;
        let size = self.rest.len() - after.len();
        // A longer form of the same number would be a second encoding of the same record.
        if size > 1 && self.rest[size - 1] == 0 {
            return Err(DecodeError::Malformed(field));
        }
        self.rest.advance(size);
        Ok(value)
    }

    pub(crate) fn timestamp(&mut self, field: &'static str) -> Result<Timestamp, DecodeError> {
        let Some(bytes) = self.rest.first_chunk() else {
            return Err(DecodeError::Truncated(field));
        };
        let ts = Timestamp(u64::from_be_bytes(*bytes));
        self.rest.advance(size_of::<u64>());
        Ok(ts)
    }

    pub(crate) fn key(&mut self, field: &'static str) -> Result<Key, DecodeError> {
        let len = self.varint(field)?;
        self.take(len, field).map(Key)
    }

    pub(crate) fn short_value(&mut self) -> Result<Bytes, DecodeError> {
        let len = self.byte("a short value")?;
        self.take(u64::from(len), "a short value")
    }

    /// A count of things that take at least one byte each, so that a false one is noticed before
    /// anything is allocated for it.
    pub(crate) fn count(&mut self, field: &'static str) -> Result<usize, DecodeError> {
        let count = self.varint(field)?;
        match usize::try_from(count) {
            Ok(count) if count <= self.rest.len() => Ok(count),
            _ => Err(DecodeError::Truncated(field)),
        }
    }

    pub(crate) fn finish(self, record: &'static str) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Malformed(record)) }
    }

    fn take(&mut self, len: u64, field: &'static str) -> Result<Bytes, DecodeError> {
        match usize::try_from(len) {
            Ok(len) if len <= self.rest.len() => Ok(self.rest.split_to(len)),
            _ => Err(DecodeError::Truncated(field)),
        }
    }
}

pub(crate) fn put_timestamp(ts: Timestamp, out: &mut Vec<u8>) {
    out.extend_from_slice(&ts.0.to_be_bytes());
}

pub(crate) fn put_key(key: &Key, out: &mut Vec<u8>) {
    codec::encode_varint(key.as_bytes().len() as u64, out);
    out.extend_from_slice(key.as_bytes());
}

pub(crate) fn put_short_value(value: &[u8], out: &mut Vec<u8>) {
    assert!(value.len() <= SHORT_VALUE_SIZE_MAX, "a value of {} bytes is not short", value.len());
    out.push(value.len() as u8);
    out.extend_from_slice(value);
}
