//! What the mode of a cluster lets through: which requests, and which keys of them.

use bytes::Bytes;
use kiva_base::api::{ApiVersion, KeyMode};
use kiva_base::{EncodedKey, KeyRange, codec};

use crate::error::Refusal;
use crate::limits::KEY_SIZE_MAX;

/// What is let into a cluster of one mode from a request of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    /// The mode of the cluster.
    pub cluster: ApiVersion,
    /// How the request is marked.
    pub requested: ApiVersion,
    /// Raw or transactional.
    pub mode: KeyMode,
}

impl Gate {
    /// Refuses a request that the cluster does not take at all.
    pub fn check_request(self) -> Result<(), Refusal> {
        let Self { cluster, requested, mode } = self;
        let fits = match cluster {
            ApiVersion::V1 => requested == ApiVersion::V1,
            ApiVersion::V1Ttl => requested == ApiVersion::V1 && mode == KeyMode::Raw,
            ApiVersion::V2 => {
                requested == ApiVersion::V2 || (requested == ApiVersion::V1 && mode == KeyMode::Txn)
            }
        };
        if fits { Ok(()) } else { Err(Refusal::ApiVersion { cluster, requested, mode }) }
    }

    /// Refuses a key that is too long or has the wrong prefix.
    pub fn check_key(self, key: &[u8]) -> Result<(), Refusal> {
        let size = match self.mode {
            KeyMode::Raw => key.len(),
            KeyMode::Txn => codec::encoded_len(key.len()),
        };
        if size > KEY_SIZE_MAX {
            return Err(Refusal::KeyTooLarge { size });
        }
        if self.allows_first(key.first().copied()) { Ok(()) } else { Err(self.wrong_prefix()) }
    }

    /// Refuses a range whose bounds are too long, or that leaves the prefix of its mode.
    pub fn check_range(self, start: &[u8], end: &[u8]) -> Result<(), Refusal> {
        let size = start.len().max(end.len());
        if size > KEY_SIZE_MAX {
            return Err(Refusal::KeyTooLarge { size });
        }
        if self.cluster != ApiVersion::V2 {
            return Ok(());
        }
        let first = start.first().copied();
        let inside = end.first().copied() == first
            || first.is_some_and(|first| end == [first.saturating_add(1)]);
        if inside && self.allows_first(first) { Ok(()) } else { Err(self.wrong_prefix()) }
    }

    /// Like [`Gate::check_range`], for a range in the stored form of transactions.
    pub fn check_stored_range(self, range: &KeyRange) -> Result<(), Refusal> {
        // A bound that does not decode has no prefix, and is refused where one is needed.
        let bound = |bound: &Bytes| EncodedKey(bound.clone()).decode().unwrap_or_default();
        let (start, end) = (bound(range.start()), bound(range.end()));
        self.check_range(start.as_bytes(), end.as_bytes())
    }

    fn allows_first(self, first: Option<u8>) -> bool {
        match (self.cluster, self.requested, self.mode) {
            (ApiVersion::V2, ApiVersion::V2, KeyMode::Raw) => first == Some(b'r'),
            (ApiVersion::V2, ApiVersion::V2, KeyMode::Txn) => first == Some(b'x'),
            (ApiVersion::V2, ..) => matches!(first, Some(b'm' | b't')),
            _ => true,
        }
    }

    fn wrong_prefix(self) -> Refusal {
        Refusal::KeyPrefix { requested: self.requested, mode: self.mode }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ApiVersion::{V1, V1Ttl, V2};
    use KeyMode::{Raw, Txn};

    fn gate(cluster: ApiVersion, requested: ApiVersion, mode: KeyMode) -> Gate {
        Gate { cluster, requested, mode }
    }

    #[test]
    fn each_mode_takes_its_own_requests() {
        let taken =
            |cluster, requested, mode| gate(cluster, requested, mode).check_request().is_ok();
        assert!(taken(V1, V1, Raw) && taken(V1, V1, Txn));
        assert!(!taken(V1, V2, Raw) && !taken(V1, V1Ttl, Raw));
        assert!(taken(V1Ttl, V1, Raw));
        assert!(!taken(V1Ttl, V1, Txn) && !taken(V1Ttl, V1Ttl, Raw));
        assert!(taken(V2, V2, Raw) && taken(V2, V2, Txn) && taken(V2, V1, Txn));
        assert!(!taken(V2, V1, Raw));
    }

    #[test]
    fn version_two_keys_begin_with_their_mode() {
        let raw = gate(V2, V2, Raw);
        assert!(raw.check_key(b"rabc").is_ok());
        assert!(raw.check_key(b"xabc").is_err());
        assert!(raw.check_key(b"").is_err());
        assert!(gate(V2, V1, Txn).check_key(b"t").is_ok());
        assert!(gate(V2, V1, Txn).check_key(b"x").is_err());
        let txn = gate(V2, V2, Txn);
        assert!(txn.check_range(b"x\0\0\0", b"x\0\0\x01").is_ok());
        assert!(txn.check_range(b"x\0\0\0", b"y").is_ok());
        assert!(txn.check_range(b"x\0\0\0", b"ya").is_err());
        assert!(txn.check_range(b"x\0\0\0", b"").is_err());
    }

    #[test]
    fn transactional_keys_are_measured_as_encoded() {
        let key = vec![b'k'; 7_300];
        assert!(gate(V1, V1, Raw).check_key(&key).is_ok());
        let refusal = gate(V1, V1, Txn).check_key(&key);
        assert_eq!(refusal, Err(Refusal::KeyTooLarge { size: 8_217 }));
    }
}
