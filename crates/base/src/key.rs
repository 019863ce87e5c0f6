//! Keys as users write them, keys as they are stored, and ranges of the latter.

use std::fmt;

use bytes::Bytes;

use crate::codec::{self, DecodeError};
use crate::timestamp::Timestamp;

/// A key as the user wrote it. Under API version 2 it includes the mode byte and the keyspace.
///
/// `Debug` prints only the length: keys are data of the user, and stay out of logs. What must show
/// them (a script, `ctl`) asks for [`Key::escaped`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key(pub Bytes);

impl Key {
    /// The stored form of a transactional key, and of every key under API version 2:
    /// memcomparable, so that a version can follow.
    pub fn encode(&self) -> EncodedKey {
        let mut out = Vec::with_capacity(codec::encoded_len(self.0.len()));
        codec::encode_bytes(&self.0, &mut out);
        EncodedKey(out.into())
    }

    /// The stored form of a raw key under API versions 1 and 1ttl: the same bytes.
    pub fn as_stored(&self) -> EncodedKey {
        EncodedKey(self.0.clone())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key for a person to read: printable ASCII as it is, the rest as `\xNN`.
    pub fn escaped(&self) -> String {
        self.0.escape_ascii().to_string()
    }
}

impl<T: Into<Bytes>> From<T> for Key {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

/// A key as it is stored and as region boundaries are written: memcomparable for transactional
/// data and under API version 2, the user's own bytes for raw data under versions 1 and 1ttl.
///
/// Invariant: two encoded keys of one cluster sort like the user keys they stand for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EncodedKey(pub Bytes);

impl EncodedKey {
    /// The user key, when this is the memcomparable form of one and nothing follows it.
    pub fn decode(&self) -> Result<Key, DecodeError> {
        match codec::decode_bytes(&self.0)? {
            (key, []) => Ok(Key(key.into())),
            _ => Err(DecodeError::Malformed("what follows an encoded key")),
        }
    }

    /// The key of the version at `ts`: newer versions sort first.
    pub fn at(&self, ts: Timestamp) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.len() + codec::TIMESTAMP_SIZE);
        out.extend_from_slice(&self.0);
        codec::encode_timestamp_desc(ts, &mut out);
        out
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for EncodedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodedKey({} bytes)", self.0.len())
    }
}

/// A half-open range of stored keys, `start..end`. An empty `end` is unbounded.
///
/// Invariant: `end` is empty or not below `start`. A range whose bounds are equal holds nothing.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct KeyRange {
    start: Bytes,
    end: Bytes,
}

impl KeyRange {
    /// Everything.
    pub const ALL: Self = Self { start: Bytes::new(), end: Bytes::new() };

    /// `start..end`; `None` when `end` is given and below `start`.
    pub fn new(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Option<Self> {
        let (start, end) = (start.into(), end.into());
        (end.is_empty() || start <= end).then_some(Self { start, end })
    }

    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start = prefix.into();
        let end = after_prefix(&start);
        Self { start, end }
    }

    /// The first key that may be inside.
    pub fn start(&self) -> &Bytes {
        &self.start
    }

    /// The first key behind the range; empty when there is none.
    pub fn end(&self) -> &Bytes {
        &self.end
    }

    /// Whether `key` lies inside.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && (self.end.is_empty() || key < &self.end[..])
    }

    /// Whether no key lies inside.
    pub fn is_empty(&self) -> bool {
        !self.end.is_empty() && self.start == self.end
    }

    /// What both ranges hold. Empty, at the larger of the two starts, when they do not overlap.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let start = self.start.clone().max(other.start.clone());
        let end = match (self.end.is_empty(), other.end.is_empty()) {
            (true, _) => other.end.clone(),
            (_, true) => self.end.clone(),
            _ => self.end.clone().min(other.end.clone()),
        };
        if !end.is_empty() && end < start {
            return Self { start: start.clone(), end: if start.is_empty() { end } else { start } };
        }
        Self { start, end }
    }

    /// Whether some key lies in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        !self.intersect(other).is_empty()
    }
}

/// The first key behind all keys that begin with `prefix`; empty when there is none.
pub fn after_prefix(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xFF {
            end.push(last + 1);
            break;
        }
    }
    end.into()
}

impl fmt::Debug for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end =
            if self.end.is_empty() { "∞".into() } else { format!("{} bytes", self.end.len()) };
        write!(f, "KeyRange({} bytes..{end})", self.start.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &'static str, end: &'static str) -> KeyRange {
        KeyRange::new(start, end).expect("test ranges run forward")
    }

    #[test]
    fn an_empty_end_is_unbounded() {
        assert!(range("b", "").contains(b"\xFF\xFF"));
        assert!(!range("b", "").contains(b"a"));
        assert!(range("b", "c").contains(b"b"));
        assert!(!range("b", "c").contains(b"c"));
        assert!(KeyRange::new("c", "b").is_none());
        assert!(range("b", "b").is_empty());
        assert!(!KeyRange::ALL.is_empty());
    }

    #[test]
    fn an_intersection_holds_what_both_hold() {
        assert_eq!(range("a", "c").intersect(&range("b", "")), range("b", "c"));
        assert_eq!(range("a", "").intersect(&range("b", "")), range("b", ""));
        assert!(range("a", "b").intersect(&range("b", "c")).is_empty());
        assert!(range("a", "b").intersect(&range("c", "d")).is_empty());
        assert!(!range("a", "c").overlaps(&range("c", "")));
        assert!(range("a", "c").overlaps(&KeyRange::ALL));
    }

    #[test]
    fn a_prefix_ends_before_the_next_string() {
        assert_eq!(KeyRange::prefix("ab"), range("ab", "ac"));
        assert_eq!(after_prefix(b"a\xFF\xFF"), "b");
        assert_eq!(after_prefix(b"\xFF\xFF"), "");
    }

    #[test]
    fn keys_stay_out_of_debug_output() {
        assert_eq!(format!("{:?}", Key::from("secret")), "Key(6 bytes)");
        assert_eq!(format!("{:?}", Key::from("secret").encode()), "EncodedKey(9 bytes)");
        assert!(!format!("{:?}", range("secret", "tea")).contains("secret"));
    }

    #[test]
    fn a_version_follows_its_key_newest_first() {
        let key = Key::from("k").encode();
        assert!(key.at(Timestamp(9)) < key.at(Timestamp(8)));
        assert_eq!(
            codec::split_timestamp_desc(&key.at(Timestamp(9))),
            Ok((key.as_bytes(), Timestamp(9)))
        );
        assert_eq!(key.decode(), Ok(Key::from("k")));
        assert!(EncodedKey(key.at(Timestamp(9)).into()).decode().is_err());
    }
}
