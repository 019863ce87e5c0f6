//! Commands without transactions: one value per key and column family.
//!
//! Every one of them claims its keys, plain puts too: a compare-and-swap is only linearizable when
//! nothing can be written between its look and its effect.

pub mod checksum;
pub mod compare_and_swap;
pub mod delete;
pub mod delete_range;
pub mod family;
pub mod get;
pub mod put;
pub mod scan;
pub mod value;

pub use checksum::{Checksum, ChecksumReply};
pub use compare_and_swap::{CompareAndSwap, SwapReply};
pub use delete::Delete;
pub use delete_range::DeleteRange;
pub use family::family;
pub use get::{BatchGet, Get, GetTtl};
pub use put::{Put, PutPair};
pub use scan::{BatchScan, Scan};
pub use value::{RawValue, TtlFilter};

use bytes::Bytes;
use kiva_base::api::{ApiVersion, KeyMode};
use kiva_base::{EncodedKey, Key};
use kiva_engine::Cf;

use crate::command::View;
use crate::error::{Error, Refusal};

/// A key and its value. The value is empty where only keys were asked for.
pub type Pair = (Key, Bytes);

impl View<'_> {
    /// The raw value of `key`, unless it has expired.
    fn raw_value(&self, cf: Cf, key: &Key) -> Result<Option<RawValue>, Error> {
        let stored = self.api.stored(KeyMode::Raw, key);
        let Some(bytes) = self.snapshot.get(cf, stored.as_bytes())? else {
            return Ok(None);
        };
        let value = RawValue::decode(self.api, &bytes)?;
        Ok((!value.is_expired(self.now_s)).then_some(value))
    }
}

fn stored_keys<'a>(api: ApiVersion, keys: impl IntoIterator<Item = &'a Key>) -> Vec<EncodedKey> {
    keys.into_iter().map(|key| api.stored(KeyMode::Raw, key)).collect()
}

fn check_ttl(api: ApiVersion, ttl_s: u64) -> Result<(), Refusal> {
    if ttl_s > 0 && !api.has_ttl() { Err(Refusal::NoTtl { cluster: api }) } else { Ok(()) }
}
