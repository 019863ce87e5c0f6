//! The record of a raw value, and what a compaction may remove of it.
//!
//! ```text
//! mode 1         value
//! modes 1ttl, 2  0 value                        never expires
//!                1 expiry(8, big-endian) value  gone from this Unix second on
//! ```
//!
//! The expiry is decided once, by the store that proposes the write, so that all replicas hold the
//! same bytes. A value is gone for every command as soon as the clock reaches it; a compaction
//! reclaims the space some time later.

use std::sync::Arc;

use bytes::Bytes;
use kiva_base::Clock;
use kiva_base::api::ApiVersion;
use kiva_base::codec::DecodeError;
use kiva_engine::{Cf, Filter, Verdict};

const NEVER: u8 = 0;
const EXPIRES: u8 = 1;
const EXPIRY_SIZE: usize = 8;

/// A raw value as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawValue {
    /// What the user stored.
    pub value: Bytes,
    /// The Unix second at which it is gone; zero when it never is.
    pub expiry_s: u64,
}

impl RawValue {
    /// A value that lives `ttl_s` seconds from `now_s`; zero lives for ever.
    pub fn new(value: Bytes, ttl_s: u64, now_s: u64) -> Self {
        let expiry_s = if ttl_s == 0 { 0 } else { now_s.saturating_add(ttl_s) };
        Self { value, expiry_s }
    }

    /// Whether it is gone at `now_s`.
    pub fn is_expired(&self, now_s: u64) -> bool {
        self.expiry_s != 0 && self.expiry_s <= now_s
    }

    /// Seconds it has left at `now_s`; zero when it never expires.
    pub fn ttl_s(&self, now_s: u64) -> u64 {
        self.expiry_s.saturating_sub(now_s)
    }

    /// The stored bytes.
    pub fn encode(&self, api: ApiVersion) -> Bytes {
        if !api.has_ttl() {
            return self.value.clone();
        }
        let mut bytes = Vec::with_capacity(1 + EXPIRY_SIZE + self.value.len());
        if self.expiry_s == 0 {
            bytes.push(NEVER);
        } else {
            bytes.push(EXPIRES);
            bytes.extend_from_slice(&self.expiry_s.to_be_bytes());
        }
        bytes.extend_from_slice(&self.value);
        bytes.into()
    }

    /// The record that these bytes hold; the value shares them.
    pub fn decode(api: ApiVersion, bytes: &Bytes) -> Result<Self, DecodeError> {
        if !api.has_ttl() {
            return Ok(Self { value: bytes.clone(), expiry_s: 0 });
        }
        let expiry_s = decode_expiry(bytes)?;
        let header = if expiry_s == 0 { 1 } else { 1 + EXPIRY_SIZE };
        Ok(Self { value: bytes.slice(header..), expiry_s })
    }
}

fn decode_expiry(bytes: &[u8]) -> Result<u64, DecodeError> {
    match bytes {
        [NEVER, ..] => Ok(0),
        [EXPIRES, rest @ ..] => {
            match rest.first_chunk::<EXPIRY_SIZE>().map(|b| u64::from_be_bytes(*b)) {
                Some(0) => Err(DecodeError::Malformed("the expiry of a raw value")),
                Some(expiry_s) => Ok(expiry_s),
                None => Err(DecodeError::Truncated("the expiry of a raw value")),
            }
        }
        [] => Err(DecodeError::Truncated("a raw value")),
        _ => Err(DecodeError::Malformed("the kind of a raw value")),
    }
}

/// Removes expired raw values in compactions.
///
/// A value that cannot be decoded stays: a filter must never be the one to destroy evidence.
pub struct TtlFilter {
    api: ApiVersion,
    clock: Arc<dyn Clock>,
}

impl TtlFilter {
    /// The filter of a cluster of this mode; `None` when its raw values carry no TTL.
    pub fn new(api: ApiVersion, clock: Arc<dyn Clock>) -> Option<Self> {
        api.has_ttl().then_some(Self { api, clock })
    }
}

impl Filter for TtlFilter {
    fn judge(&self, cf: Cf, key: &[u8], value: &[u8]) -> Verdict {
        // In mode 1ttl every family a client can name holds raw values; in mode 2 only this one,
        // beside the values of transactions.
        let is_raw = match self.api {
            ApiVersion::V1 => false,
            ApiVersion::V1Ttl => cf != Cf::Local,
            ApiVersion::V2 => cf == Cf::Default && key.first() == Some(&b'r'),
        };
        let now_s = self.clock.wall_ms() / 1_000;
        match is_raw.then(|| decode_expiry(value)) {
            Some(Ok(expiry_s)) if expiry_s != 0 && expiry_s <= now_s => Verdict::Remove,
            _ => Verdict::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was() {
        for api in [ApiVersion::V1Ttl, ApiVersion::V2] {
            for (ttl_s, now_s) in [(0, 5), (7, 5), (u64::MAX, 5)] {
                for value in ["", "v"] {
                    let record = RawValue::new(value.into(), ttl_s, now_s);
                    assert_eq!(RawValue::decode(api, &record.encode(api)), Ok(record));
                }
            }
        }
        let plain = RawValue::new("\x01plain".into(), 0, 5);
        assert_eq!(plain.encode(ApiVersion::V1), "\x01plain");
        assert_eq!(RawValue::decode(ApiVersion::V1, &"\x01plain".into()), Ok(plain));
    }

    #[test]
    fn a_value_is_gone_when_the_clock_reaches_its_expiry() {
        let record = RawValue::new("v".into(), 10, 100);
        assert!(!record.is_expired(109) && record.is_expired(110));
        assert_eq!(record.ttl_s(103), 7);
        assert!(!RawValue::new("v".into(), 0, 100).is_expired(u64::MAX));
    }

    #[test]
    fn damaged_records_are_errors() {
        for bytes in ["", "\x01", "\x01\0\0\0\0\0\0\0", "\x01\0\0\0\0\0\0\0\0", "\x02"] {
            assert!(RawValue::decode(ApiVersion::V2, &bytes.into()).is_err(), "{bytes:?}");
        }
    }
}
