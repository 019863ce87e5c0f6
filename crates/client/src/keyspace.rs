//! Which bytes stand for a user's key: on the wire, and in region boundaries.
//!
//! | | in requests | in boundaries |
//! |---|---|---|
//! | raw, versions 1 and 1ttl | as it is | as it is |
//! | transactional, version 1 | as it is | memcomparable |
//! | version 2 | mode byte, keyspace, key | memcomparable of that |
//!
//! The mode byte is `r` for raw and `x` for transactional keys; the keyspace is three bytes, big
//! end first. So one version 2 cluster holds both kinds, and many keyspaces, without their meeting.

use bytes::{BufMut, Bytes, BytesMut};
use kiva_base::api::{ApiVersion, KeyMode};
use kiva_base::codec::{self, DecodeError};
use kiva_base::key::after_prefix;
use kiva_base::{Key, KeyRange};

/// How the keys of one mode are written.
///
/// Invariant: user keys, wire keys and boundaries sort alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Codec {
    api_version: ApiVersion,
    /// Empty but under version 2.
    prefix: Bytes,
    /// Whether boundaries are memcomparable.
    encoded: bool,
}

impl Codec {
    /// For a cluster of this version and, under version 2, a keyspace below 2^24.
    pub(crate) fn new(api_version: ApiVersion, mode: KeyMode, keyspace: u32) -> Self {
        let byte = match mode {
            KeyMode::Raw => b'r',
            KeyMode::Txn => b'x',
        };
        let prefix = match api_version {
            ApiVersion::V1 | ApiVersion::V1Ttl => Bytes::new(),
            ApiVersion::V2 => {
                let [_, high, middle, low] = keyspace.to_be_bytes();
                Bytes::copy_from_slice(&[byte, high, middle, low])
            }
        };
        let encoded = mode == KeyMode::Txn || api_version == ApiVersion::V2;
        Self { api_version, prefix, encoded }
    }

    /// What goes into the context of a request.
    pub(crate) fn api_version(&self) -> ApiVersion {
        self.api_version
    }

    /// The key as it goes into a request.
    pub(crate) fn wire(&self, key: &Key) -> Bytes {
        if self.prefix.is_empty() {
            return key.0.clone();
        }
        let mut out = BytesMut::with_capacity(self.prefix.len() + key.0.len());
        out.put_slice(&self.prefix);
        out.put_slice(&key.0);
        out.freeze()
    }

    /// The range as it goes into a request: never leaves the keyspace.
    pub(crate) fn wire_range(&self, range: &KeyRange) -> (Bytes, Bytes) {
        if self.prefix.is_empty() {
            return (range.start().clone(), range.end().clone());
        }
        let end = match range.end().is_empty() {
            true => after_prefix(&self.prefix),
            false => self.wire(&Key(range.end().clone())),
        };
        (self.wire(&Key(range.start().clone())), end)
    }

    /// The user's key in a wire key that came back.
    pub(crate) fn user(&self, wire: Bytes) -> Result<Key, DecodeError> {
        match wire.starts_with(&self.prefix) {
            true => Ok(Key(wire.slice(self.prefix.len()..))),
            false => Err(DecodeError::Malformed("the keyspace of a key")),
        }
    }

    /// Where a wire key lies among regions. The empty key lies before all of them.
    pub(crate) fn boundary(&self, wire: &Bytes) -> Bytes {
        if !self.encoded || wire.is_empty() {
            return wire.clone();
        }
        let mut out = Vec::with_capacity(codec::encoded_len(wire.len()));
        codec::encode_bytes(wire, &mut out);
        out.into()
    }

    /// The wire key at a region's boundary; an empty one is unbounded and stays empty.
    pub(crate) fn boundary_to_wire(&self, boundary: &Bytes) -> Result<Bytes, DecodeError> {
        if !self.encoded || boundary.is_empty() {
            return Ok(boundary.clone());
        }
        match codec::decode_bytes(boundary)? {
            (key, []) => Ok(key.into()),
            _ => Err(DecodeError::Malformed("a region boundary")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_one_leaves_keys_alone_and_encodes_transactional_boundaries() {
        let raw = Codec::new(ApiVersion::V1, KeyMode::Raw, 7);
        let txn = Codec::new(ApiVersion::V1, KeyMode::Txn, 7);
        let key = Key::from("k");
        assert_eq!(raw.wire(&key), "k");
        assert_eq!(raw.boundary(&raw.wire(&key)), "k");
        assert_eq!(txn.wire(&key), "k");
        assert_eq!(txn.boundary(&txn.wire(&key)), key.encode().0);
        assert_eq!(txn.boundary(&Bytes::new()), "");
        assert!(txn.boundary_to_wire(&Bytes::from_static(b"k")).is_err());
    }

    #[test]
    fn version_two_keeps_every_key_and_range_in_its_keyspace() {
        let codec = Codec::new(ApiVersion::V2, KeyMode::Raw, 0x01_02_FF);
        let wire = codec.wire(&Key::from("k"));
        assert_eq!(wire, &b"r\x01\x02\xFFk"[..]);
        assert_eq!(codec.user(wire.clone()), Ok(Key::from("k")));
        assert_eq!(codec.boundary_to_wire(&codec.boundary(&wire)), Ok(wire));
        assert!(codec.user(Bytes::from_static(b"r\x01\x02\xFEk")).is_err());
        let (start, end) = codec.wire_range(&KeyRange::ALL);
        assert_eq!((&start[..], &end[..]), (&b"r\x01\x02\xFF"[..], &b"r\x01\x03"[..]));
        let last = Codec::new(ApiVersion::V2, KeyMode::Txn, 0xFF_FF_FF);
        assert_eq!(last.wire_range(&KeyRange::ALL).1, "y");
    }
}
