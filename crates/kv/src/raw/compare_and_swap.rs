//! Compare-and-swap.

use bytes::Bytes;
use kiva_base::api::{ApiVersion, KeyMode};
use kiva_base::{EncodedKey, Key};
use kiva_engine::{Cf, WriteBatch};
use kiva_txn::Outcome;

use super::value::RawValue;
use super::{check_ttl, stored_keys};
use crate::command::{Command, Touched, View, Write};
use crate::error::{Error, Refusal};
use crate::limits::check_value;

/// Gives a key a new value if its value is the expected one.
#[derive(Debug)]
pub struct CompareAndSwap {
    /// Where.
    pub cf: Cf,
    /// Which key.
    pub key: Key,
    /// What it must hold; `None`: nothing. An expired value is nothing.
    pub expected: Option<Bytes>,
    /// Its new value.
    pub value: Bytes,
    /// Seconds the new value lives; zero for ever.
    pub ttl_s: u64,
}

/// Whether the value was swapped, and what was there before in either case.
#[derive(Debug, PartialEq, Eq)]
pub struct SwapReply {
    /// Whether the key now holds the new value.
    pub succeeded: bool,
    /// What it held before.
    pub previous: Option<Bytes>,
}

impl Command for CompareAndSwap {
    type Reply = SwapReply;
    const MODE: KeyMode = KeyMode::Raw;

    fn touches(
        &self,
        check: &mut dyn FnMut(Touched<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        check(Touched::Key(&self.key))
    }

    fn check(&self, api: ApiVersion) -> Result<(), Refusal> {
        check_value(&self.value)?;
        check_ttl(api, self.ttl_s)
    }
}

impl Write for CompareAndSwap {
    fn latches(&self, api: ApiVersion) -> Vec<EncodedKey> {
        stored_keys(api, [&self.key])
    }

    fn decide(&self, view: &View<'_>) -> Result<Outcome<SwapReply>, Error> {
        let previous = view.raw_value(self.cf, &self.key)?.map(|value| value.value);
        let succeeded = previous == self.expected;
        let mut batch = WriteBatch::new();
        if succeeded {
            let record = RawValue::new(self.value.clone(), self.ttl_s, view.now_s);
            let key = view.api.stored(KeyMode::Raw, &self.key);
            batch.put(self.cf, key.as_bytes(), &record.encode(view.api));
        }
        Ok(Outcome { batch, reply: SwapReply { succeeded, previous } })
    }
}
