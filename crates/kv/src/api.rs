//! API versions: which requests a cluster takes, and how their keys are stored.
//!
//! The mode is chosen when the cluster is born and never changes.
//!
//! | mode | takes | raw keys are stored | raw values carry a TTL |
//! |---|---|---|---|
//! | 1 | requests marked V1 | as they are | no |
//! | 1ttl | requests marked V1, raw only | as they are | yes |
//! | 2 | requests marked V2, keys beginning `r` (raw) or `x` (transactional); marked V1, transactional keys beginning `m` or `t` | memcomparable | yes |
//!
//! Transactional keys are stored in their memcomparable form in every mode, so a version 1 cluster
//! that serves both kinds keeps them in one key space, and it is its users who keep them apart.

use std::fmt;

use kiva_base::key::after_prefix;
use kiva_base::{EncodedKey, Key, KeyRange};

use crate::error::Refusal;
use crate::limits::KEY_SIZE_MAX;

/// The mode of a cluster, and how a client marks its requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyMode {
    /// Raw: one value per key.
    Raw,
    /// Transactional: versions, locks and records per key.
    Txn,
}

impl ApiVersion {
    /// Whether raw values carry the time they expire at.
    pub const fn has_ttl(self) -> bool {
        matches!(self, Self::V1Ttl | Self::V2)
    }

    /// Refuses a command of this kind, marked with `requested`, on a cluster of this mode.
    /// Keys are looked at by [`ApiVersion::check_key`].
    pub fn check_request(self, requested: Self, mode: KeyMode) -> Result<(), Refusal> {
        let fits = match self {
            Self::V1 => requested == Self::V1,
            Self::V1Ttl => requested == Self::V1 && mode == KeyMode::Raw,
            Self::V2 => requested == Self::V2 || (requested == Self::V1 && mode == KeyMode::Txn),
        };
        if fits { Ok(()) } else { Err(Refusal::ApiVersion { cluster: self, requested, mode }) }
    }

    /// Refuses a key that is too long or has the wrong prefix.
    pub fn check_key(self, requested: Self, mode: KeyMode, key: &[u8]) -> Result<(), Refusal> {
        let size = match mode {
            KeyMode::Raw => key.len(),
            KeyMode::Txn => kiva_base::codec::encoded_len(key.len()),
        };
        if size > KEY_SIZE_MAX {
            return Err(Refusal::KeyTooLarge { size });
        }
        if self.allows_first(requested, mode, key.first().copied()) {
            return Ok(());
        }
        Err(Refusal::KeyPrefix { requested, mode })
    }

    /// Refuses a range whose bounds are too long, or that leaves the prefix of its mode.
    pub fn check_range(
        self,
        requested: Self,
        mode: KeyMode,
        start: &[u8],
        end: &[u8],
    ) -> Result<(), Refusal> {
        if start.len().max(end.len()) > KEY_SIZE_MAX {
            return Err(Refusal::KeyTooLarge { size: start.len().max(end.len()) });
        }
        if self != Self::V2 {
            return Ok(());
        }
        let first = start.first().copied();
        let inside = end.first().copied() == first
            || first.is_some_and(|first| end == [first.saturating_add(1)]);
        if inside && self.allows_first(requested, mode, first) {
            return Ok(());
        }
        Err(Refusal::KeyPrefix { requested, mode })
    }

    /// Like [`ApiVersion::check_range`], for a range in the stored form of transactions.
    pub fn check_stored_range(
        self,
        requested: Self,
        mode: KeyMode,
        range: &KeyRange,
    ) -> Result<(), Refusal> {
        let bound = |bound: &bytes::Bytes| EncodedKey(bound.clone()).decode().unwrap_or_default();
        let (start, end) = (bound(range.start()), bound(range.end()));
        self.check_range(requested, mode, start.as_bytes(), end.as_bytes())
    }

    fn allows_first(self, requested: Self, mode: KeyMode, first: Option<u8>) -> bool {
        match (self, requested, mode) {
            (Self::V2, Self::V2, KeyMode::Raw) => first == Some(b'r'),
            (Self::V2, Self::V2, KeyMode::Txn) => first == Some(b'x'),
            (Self::V2, ..) => matches!(first, Some(b'm' | b't')),
            _ => true,
        }
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
    pub fn raw_user_key(self, stored: &bytes::Bytes) -> Result<Key, kiva_base::codec::DecodeError> {
        match self {
            Self::V1 | Self::V1Ttl => Ok(Key(stored.clone())),
            Self::V2 => EncodedKey(stored.clone()).decode(),
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
    use ApiVersion::{V1, V1Ttl, V2};
    use KeyMode::{Raw, Txn};

    #[test]
    fn each_mode_takes_its_own_requests() {
        let taken =
            |cluster: ApiVersion, requested, mode| cluster.check_request(requested, mode).is_ok();
        assert!(taken(V1, V1, Raw) && taken(V1, V1, Txn));
        assert!(!taken(V1, V2, Raw) && !taken(V1, V1Ttl, Raw));
        assert!(taken(V1Ttl, V1, Raw));
        assert!(!taken(V1Ttl, V1, Txn) && !taken(V1Ttl, V1Ttl, Raw));
        assert!(taken(V2, V2, Raw) && taken(V2, V2, Txn) && taken(V2, V1, Txn));
        assert!(!taken(V2, V1, Raw));
    }

    #[test]
    fn version_two_keys_begin_with_their_mode() {
        assert!(V2.check_key(V2, Raw, b"rabc").is_ok());
        assert!(V2.check_key(V2, Raw, b"xabc").is_err());
        assert!(V2.check_key(V2, Raw, b"").is_err());
        assert!(V2.check_key(V1, Txn, b"t").is_ok());
        assert!(V2.check_key(V1, Txn, b"x").is_err());
        assert!(V2.check_range(V2, Txn, b"x\0\0\0", b"x\0\0\x01").is_ok());
        assert!(V2.check_range(V2, Txn, b"x\0\0\0", b"y").is_ok());
        assert!(V2.check_range(V2, Txn, b"x\0\0\0", b"ya").is_err());
        assert!(V2.check_range(V2, Txn, b"x\0\0\0", b"").is_err());
    }

    #[test]
    fn transactional_keys_are_measured_as_encoded() {
        let key = vec![b'k'; 7_300];
        assert!(V1.check_key(V1, Raw, &key).is_ok());
        assert!(matches!(V1.check_key(V1, Txn, &key), Err(Refusal::KeyTooLarge { size: 8_217 })));
    }
}
