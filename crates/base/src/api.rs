//! API versions: which requests a cluster takes, and how their keys are stored.
//!
//! The mode is chosen when the cluster is born and never changes.
//!
//! | mode | takes | raw keys are stored | raw values carry a TTL |
//! |---|---|---|---|
//! | 1 | requests marked V1 | as they are | no |
//! | 1ttl | requests marked V1, raw only | as they are | yes |
//! | 2 | see below | memcomparable | yes |
//!
//! Mode 2 takes requests marked V2 whose keys begin with `r` (raw) or `x` (transactional), and
//! transactional requests marked V1 whose keys begin with `m` or `t`.
//!
//! Transactional keys are stored in their memcomparable form in every mode, so a version 1 cluster
//! that serves both kinds keeps them in one key space, and it is its users who keep them apart.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use crate::codec::DecodeError;
use crate::key::{EncodedKey, Key, KeyRange, after_prefix};

/// The mode of a cluster, and how a client marks its requests.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ApiVersion {
    /// Raw or transactional, no TTL. What every client uses unless told otherwise.
    #[default]
    V1,
    /// Raw with TTL.
    V1Ttl,
    /// Keyspaces, raw and transactional side by side, TTL.
    V2,
}

/// What kind of command a key belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KeyMode {
    /// Raw: one value per key.
    Raw,
    /// Transactional: versions, locks and records per key.
    Txn,
}

/// A name that is none of `1`, `1ttl` and `2`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown API version {0:?}: it is 1, 1ttl or 2")]
pub struct UnknownApiVersion(pub String);

impl ApiVersion {
    /// Whether raw values carry the time they expire at.
    pub const fn has_ttl(self) -> bool {
        matches!(self, Self::V1Ttl | Self::V2)
    }

    /// The stored form of a user's key.
    pub fn stored(self, mode: KeyMode, key: &Key) -> EncodedKey {
        match (self, mode) {
            (Self::V1 | Self::V1Ttl, KeyMode::Raw) => key.as_stored(),
            _ => key.encode(),
        }
    }

    /// The stored form of a user's range; an empty bound stays unbounded. `None` when it runs
    /// backwards.
    pub fn stored_range(self, mode: KeyMode, start: &Key, end: &Key) -> Option<KeyRange> {
        let bound = |key: &Key| match key.as_bytes() {
            [] => Default::default(),
            _ => self.stored(mode, key).0,
        };
        KeyRange::new(bound(start), bound(end))
    }

    /// All stored keys of raw data. In modes 1 and 1ttl that is everything.
    pub fn raw_range(self) -> KeyRange {
        match self {
            Self::V1 | Self::V1Ttl => KeyRange::ALL,
            Self::V2 => KeyRange::new(&b"r"[..], after_prefix(b"r")).expect("r is below s"),
        }
    }

    /// The user's key of a stored raw key.
    pub fn raw_user_key(self, stored: &Bytes) -> Result<Key, DecodeError> {
        match self {
            Self::V1 | Self::V1Ttl => Ok(Key(stored.clone())),
            Self::V2 => EncodedKey(stored.clone()).decode(),
        }
    }
}

impl FromStr for ApiVersion {
    type Err = UnknownApiVersion;

    fn from_str(name: &str) -> Result<Self, UnknownApiVersion> {
        match name {
            "1" => Ok(Self::V1),
            "1ttl" => Ok(Self::V1Ttl),
            "2" => Ok(Self::V2),
            _ => Err(UnknownApiVersion(name.to_owned())),
        }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "1",
            Self::V1Ttl => "1ttl",
            Self::V2 => "2",
        })
    }
}

impl fmt::Display for KeyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Txn => "transactional",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_printed() {
        for api in [ApiVersion::V1, ApiVersion::V1Ttl, ApiVersion::V2] {
            assert_eq!(api.to_string().parse(), Ok(api));
        }
        assert!("3".parse::<ApiVersion>().is_err());
    }

    #[test]
    fn raw_keys_are_stored_as_they_are_until_version_two() {
        let key = Key::from("rk");
        for api in [ApiVersion::V1, ApiVersion::V1Ttl] {
            assert_eq!(api.stored(KeyMode::Raw, &key), key.as_stored());
            assert_eq!(api.stored(KeyMode::Txn, &key), key.encode());
            assert_eq!(api.raw_user_key(&key.0), Ok(key.clone()));
        }
        let stored = ApiVersion::V2.stored(KeyMode::Raw, &key);
        assert_eq!(stored, key.encode());
        assert_eq!(ApiVersion::V2.raw_user_key(&stored.0), Ok(key));
    }

    #[test]
    fn an_empty_bound_stays_unbounded() {
        let empty = Key::default();
        for mode in [KeyMode::Raw, KeyMode::Txn] {
            let range = ApiVersion::V2.stored_range(mode, &empty, &empty);
            assert_eq!(range, Some(KeyRange::ALL));
        }
    }
}
