//! Point reads.

use bytes::Bytes;
use kiva_base::Key;
use kiva_base::api::{ApiVersion, KeyMode};
use kiva_engine::Cf;

use super::Pair;
use crate::command::{Command, Read, Touched, View};
use crate::error::{Error, Refusal};
use crate::limits::SHORT_BATCH_MAX;

/// Asks for one value: `None` when there is none; an empty value is a value.
#[derive(Debug)]
pub struct Get {
    /// Where.
    pub cf: Cf,
    /// Which key.
    pub key: Key,
}

/// Asks for the values of several keys; those without one are left out.
#[derive(Debug)]
pub struct BatchGet {
    /// Where.
    pub cf: Cf,
    /// Which keys, in the order of the answer.
    pub keys: Vec<Key>,
}

/// Asks for the seconds a key has left: zero when it never expires, `None` when it has no value.
#[derive(Debug)]
pub struct GetTtl {
    /// Where.
    pub cf: Cf,
    /// Which key.
    pub key: Key,
}

type Check<'a> = &'a mut dyn FnMut(Touched<'_>) -> Result<(), Error>;

impl Command for Get {
    type Reply = Option<Bytes>;
    const MODE: KeyMode = KeyMode::Raw;

    fn touches(&self, check: Check<'_>) -> Result<(), Error> {
        check(Touched::Key(&self.key))
    }
}

impl Read for Get {
    fn read(&self, view: &View<'_>) -> Result<Option<Bytes>, Error> {
        Ok(view.raw_value(self.cf, &self.key)?.map(|value| value.value))
    }
}

impl Command for BatchGet {
    type Reply = Vec<Pair>;
    const MODE: KeyMode = KeyMode::Raw;

    fn touches(&self, check: Check<'_>) -> Result<(), Error> {
        check(Touched::Keys(&self.keys))
    }
}

impl Read for BatchGet {
    fn is_long(&self) -> bool {
        self.keys.len() > SHORT_BATCH_MAX
    }

    fn read(&self, view: &View<'_>) -> Result<Vec<Pair>, Error> {
        let mut pairs = Vec::new();
        for key in &self.keys {
            if let Some(value) = view.raw_value(self.cf, key)? {
                pairs.push((key.clone(), value.value));
            }
        }
        Ok(pairs)
    }
}

impl Command for GetTtl {
    type Reply = Option<u64>;
    const MODE: KeyMode = KeyMode::Raw;

    fn touches(&self, check: Check<'_>) -> Result<(), Error> {
        check(Touched::Key(&self.key))
    }

    fn check(&self, api: ApiVersion) -> Result<(), Refusal> {
        if api.has_ttl() { Ok(()) } else { Err(Refusal::NoTtl { cluster: api }) }
    }
}

impl Read for GetTtl {
    fn read(&self, view: &View<'_>) -> Result<Option<u64>, Error> {
        Ok(view.raw_value(self.cf, &self.key)?.map(|value| value.ttl_s(view.now_s)))
    }
}
