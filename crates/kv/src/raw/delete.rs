//! Deletes, one or many.

use kiva_base::api::{ApiVersion, KeyMode};
use kiva_base::{EncodedKey, Key};
use kiva_engine::{Cf, WriteBatch};
use kiva_txn::Outcome;

use super::stored_keys;
use crate::command::{Command, Touched, View, Write};
use crate::error::Error;

/// Takes keys' values away, all or none. A key without one is fine.
#[derive(Debug)]
pub struct Delete {
    /// Where.
    pub cf: Cf,
    /// Which keys.
    pub keys: Vec<Key>,
}

impl Command for Delete {
    type Reply = ();
    const MODE: KeyMode = KeyMode::Raw;

    fn touches(
        &self,
        check: &mut dyn FnMut(Touched<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        check(Touched::Keys(&self.keys))
    }
}

impl Write for Delete {
    fn latches(&self, api: ApiVersion) -> Vec<EncodedKey> {
        stored_keys(api, &self.keys)
    }

    fn decide(&self, view: &View<'_>) -> Result<Outcome<()>, Error> {
        let mut batch = WriteBatch::new();
        for key in &self.keys {
            batch.delete(self.cf, view.api.stored(KeyMode::Raw, key).as_bytes());
        }
        Ok(Outcome { batch, reply: () })
    }
}
