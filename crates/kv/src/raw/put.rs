//! Puts, one or many.

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

/// Gives keys new values, all or none. Of two pairs with one key the later one decides.
#[derive(Debug)]
pub struct Put {
    /// Where.
    pub cf: Cf,
    /// What.
    pub pairs: Vec<PutPair>,
}

/// One put.
#[derive(Debug)]
pub struct PutPair {
    /// Which key.
    pub key: Key,
    /// Its new value.
    pub value: Bytes,
    /// Seconds it lives; zero for ever.
    pub ttl_s: u64,
}

impl Put {
    /// A put of pairs whose lives the wire gives as none, one for all, or one for each.
    pub fn with_ttls(cf: Cf, pairs: Vec<(Key, Bytes)>, ttls: &[u64]) -> Result<Self, Refusal> {
        let ttl_at = match ttls {
            [] => |_: &[u64], _| 0,
            [_] => |ttls: &[u64], _| ttls[0],
            each if each.len() == pairs.len() => |ttls: &[u64], position: usize| ttls[position],
            _ => {
                return Err(Refusal::TtlCount { ttls: ttls.len(), pairs: pairs.len() });
            }
        };
        let pairs = pairs.into_iter().enumerate().map(|(position, (key, value))| PutPair {
            key,
            value,
            ttl_s: ttl_at(ttls, position),
        });
        Ok(Self { cf, pairs: pairs.collect() })
    }
}

impl Command for Put {
    type Reply = ();
    const MODE: KeyMode = KeyMode::Raw;

    fn touches(
        &self,
        check: &mut dyn FnMut(Touched<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.pairs.iter().try_for_each(|pair| check(Touched::Key(&pair.key)))
    }

    fn check(&self, api: ApiVersion) -> Result<(), Refusal> {
        self.pairs.iter().try_for_each(|pair| {
            check_value(&pair.value)?;
            check_ttl(api, pair.ttl_s)
        })
    }
}

impl Write for Put {
    fn latches(&self, api: ApiVersion) -> Vec<EncodedKey> {
        stored_keys(api, self.pairs.iter().map(|pair| &pair.key))
    }

    fn decide(&self, view: &View<'_>) -> Result<Outcome<()>, Error> {
        let mut batch = WriteBatch::new();
        for PutPair { key, value, ttl_s } in &self.pairs {
            let record = RawValue::new(value.clone(), *ttl_s, view.now_s).encode(view.api);
            batch.put(self.cf, view.api.stored(KeyMode::Raw, key).as_bytes(), &record);
        }
        Ok(Outcome { batch, reply: () })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_are_none_one_for_all_or_one_for_each() {
        let pairs = || vec![("a".into(), "1".into()), ("b".into(), "2".into())];
        let lives = |ttls: &[u64]| {
            let put = Put::with_ttls(Cf::Default, pairs(), ttls)?;
            Ok(put.pairs.iter().map(|pair| pair.ttl_s).collect::<Vec<_>>())
        };
        assert_eq!(lives(&[]), Ok(vec![0, 0]));
        assert_eq!(lives(&[7]), Ok(vec![7, 7]));
        assert_eq!(lives(&[7, 8]), Ok(vec![7, 8]));
        assert_eq!(lives(&[7, 8, 9]), Err(Refusal::TtlCount { ttls: 3, pairs: 2 }));
    }
}
