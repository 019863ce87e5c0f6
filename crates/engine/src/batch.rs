//! [`WriteBatch`]: puts, deletes and range deletes as plain data, which is its own encoding.
//!
//! A batch is decided on in `txn` or `kv`, travels in a log entry and is applied, all in one shape.
//! It owns its bytes; what reads it gets slices of them.
//!
//! ```text
//! batch  = op*
//! op     = kind(1) cf(1) varint(key length) key  [ varint(length) value or end key ]
//! kind   = 1 put, 2 delete, 3 delete range (key is its start; an empty end is unbounded)
//! ```
//!
//! Operations take effect in their order: the last one on a key decides.

use bytes::Bytes;
use kiva_base::KeyRange;
use kiva_base::codec;

use crate::limits::{KEY_SIZE_MAX, VALUE_SIZE_MAX};
use crate::{Cf, EngineError};

const PUT: u8 = 1;
const DELETE: u8 = 2;
const DELETE_RANGE: u8 = 3;

/// Puts, deletes and range deletes that happen together.
///
/// Invariant: `bytes` decodes to `count` operations within the limits of the engine.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct WriteBatch {
    bytes: Vec<u8>,
    count: usize,
}

/// One operation of a batch, borrowed from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op<'a> {
    /// The key has this value.
    Put {
        /// Where.
        cf: Cf,
        /// Which key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// The key has no value.
    Delete {
        /// Where.
        cf: Cf,
        /// Which key.
        key: &'a [u8],
    },
    /// No key in `start..end` has a value.
    DeleteRange {
        /// Where.
        cf: Cf,
        /// The first key.
        start: &'a [u8],
        /// The first key behind; empty is unbounded.
        end: &'a [u8],
    },
}

impl WriteBatch {
    /// Without operations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a put.
    pub fn put(&mut self, cf: Cf, key: &[u8], value: &[u8]) {
        self.push(PUT, cf, key);
        self.push_bytes(value);
    }

    /// Adds a delete; deleting what is not there is fine.
    pub fn delete(&mut self, cf: Cf, key: &[u8]) {
        self.push(DELETE, cf, key);
    }

    /// Adds the deletion of a range.
    pub fn delete_range(&mut self, cf: Cf, range: &KeyRange) {
        self.push(DELETE_RANGE, cf, range.start());
        self.push_bytes(range.end());
    }

    /// Adds the operations of another batch behind its own.
    pub fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.count += other.count;
    }

    /// Adds the operations that these bytes encode, checked to the last one. When they are
    /// refused the batch is as it was.
    pub fn extend_encoded(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        self.count += count_checked(bytes)?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Takes all operations out; the memory stays for the next ones.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many operations it has.
    pub fn len(&self) -> usize {
        self.count
    }

    /// How many bytes it has.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The encoding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The batch that these bytes encode, checked to the last operation.
    pub fn decode(bytes: &Bytes) -> Result<Self, EngineError> {
        let count = count_checked(bytes)?;
        Ok(Self { bytes: bytes.to_vec(), count })
    }

    /// The operations in their order.
    pub fn ops(&self) -> impl Iterator<Item = Op<'_>> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (op, after) = decode_op(rest).expect("the bytes of a batch are checked or our own");
            rest = after;
            Some(op)
        })
    }

    /// Whether an engine takes it: every key and value within the limits.
    pub fn check(&self) -> Result<(), EngineError> {
        self.ops().try_for_each(|op| op.check())
    }

    fn push(&mut self, kind: u8, cf: Cf, key: &[u8]) {
        self.bytes.push(kind);
        self.bytes.push(cf.byte());
        self.push_bytes(key);
        self.count += 1;
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        codec::encode_varint(bytes.len() as u64, &mut self.bytes);
        self.bytes.extend_from_slice(bytes);
    }
}

impl Op<'_> {
    fn check(self) -> Result<(), EngineError> {
        match self {
            Op::Put { key, value, .. } => check_pair(key, value),
            Op::Delete { key, .. } => check_pair(key, &[]),
            Op::DeleteRange { start, end, .. } => {
                check_pair(start, &[])?;
                check_pair(end, &[])
            }
        }
    }
}

/// How many operations these bytes encode, each within the limits.
fn count_checked(bytes: &[u8]) -> Result<usize, EngineError> {
    let mut rest = bytes;
    let mut count = 0;
    while !rest.is_empty() {
        let (op, after) = decode_op(rest)?;
        op.check()?;
        rest = after;
        count += 1;
    }
    Ok(count)
}

/// Whether an engine takes this key and value.
pub(crate) fn check_pair(key: &[u8], value: &[u8]) -> Result<(), EngineError> {
    check_size("a key", key, KEY_SIZE_MAX)?;
    check_size("a value", value, VALUE_SIZE_MAX)
}

fn check_size(what: &'static str, bytes: &[u8], limit: usize) -> Result<(), EngineError> {
    let size = bytes.len();
    if size > limit { Err(EngineError::TooLarge { what, size, limit }) } else { Ok(()) }
}

fn decode_op(bytes: &[u8]) -> Result<(Op<'_>, &[u8]), EngineError> {
    let [kind, cf, rest @ ..] = bytes else {
        return Err(EngineError::Malformed("an operation is cut off"));
    };
    let cf = Cf::from_byte(*cf).ok_or(EngineError::Malformed("unknown column family"))?;
    let (key, rest) = decode_slice(rest)?;
    match *kind {
        PUT => {
            let (value, rest) = decode_slice(rest)?;
            Ok((Op::Put { cf, key, value }, rest))
        }
        DELETE => Ok((Op::Delete { cf, key }, rest)),
        DELETE_RANGE => {
            let (end, rest) = decode_slice(rest)?;
            Ok((Op::DeleteRange { cf, start: key, end }, rest))
        }
        _ => Err(EngineError::Malformed("unknown kind of operation")),
    }
}

fn decode_slice(bytes: &[u8]) -> Result<(&[u8], &[u8]), EngineError> {
    let (len, rest) =
        codec::decode_varint(bytes).map_err(|_| EngineError::Malformed("a length is cut off"))?;
    usize::try_from(len)
        .ok()
        .and_then(|len| rest.split_at_checked(len))
        .ok_or(EngineError::Malformed("a length runs past the end"))
}

impl std::fmt::Debug for WriteBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WriteBatch({} operations, {} bytes)", self.count, self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_its_encoding() {
        let mut batch = WriteBatch::new();
        batch.put(Cf::Default, b"k", b"v");
        batch.delete(Cf::Lock, b"");
        batch.delete_range(Cf::Write, &KeyRange::new("a", "b").expect("runs forward"));
        let decoded = WriteBatch::decode(&Bytes::copy_from_slice(batch.as_bytes())).unwrap();
        assert_eq!(decoded, batch);
        assert_eq!(
            decoded.ops().collect::<Vec<_>>(),
            [
                Op::Put { cf: Cf::Default, key: b"k", value: b"v" },
                Op::Delete { cf: Cf::Lock, key: b"" },
                Op::DeleteRange { cf: Cf::Write, start: b"a", end: b"b" },
            ]
        );
    }

    #[test]
    fn a_refused_extension_changes_nothing() {
        let mut batch = WriteBatch::new();
        batch.put(Cf::Default, b"key", b"value");
        let encoded = batch.as_bytes().to_vec();
        batch.extend_encoded(&encoded).unwrap();
        assert_eq!(batch.len(), 2);
        let before = batch.clone();
        assert!(batch.extend_encoded(&encoded[..encoded.len() - 1]).is_err());
        assert_eq!(batch, before);
        batch.clear();
        assert_eq!(batch, WriteBatch::new());
    }

    #[test]
    fn cut_bytes_are_refused_or_a_shorter_batch() {
        let mut batch = WriteBatch::new();
        batch.put(Cf::Default, b"key", b"value");
        batch.put(Cf::Write, b"key", b"value");
        for len in 0..batch.size() {
            let cut = Bytes::copy_from_slice(&batch.as_bytes()[..len]);
            match WriteBatch::decode(&cut) {
                Ok(decoded) => assert!(len == 0 || len == batch.size() / 2, "{decoded:?}"),
                Err(error) => assert!(matches!(error, EngineError::Malformed(_)), "{error}"),
            }
        }
    }

    #[test]
    fn a_key_beyond_the_limit_is_named() {
        let mut batch = WriteBatch::new();
        batch.put(Cf::Default, &vec![b'k'; KEY_SIZE_MAX + 1], b"");
        let error = batch.check().expect_err("too long").to_string();
        assert_eq!(error, "a key has 65535 bytes, the limit is 65534");
    }
}
