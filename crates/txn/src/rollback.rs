//! Rollback: removes the locks of a transaction and leaves records that keep it dead.
//!
//! A rolled back transaction may still have a prewrite on its way. The rollback record at its start
//! timestamp is what that prewrite runs into, so one is left even where no lock was found.
//!
//! **Collapsing.** A key that many transactions fail on would gather one record for each. A newer
//! rollback takes the place of the next older one: the prewrite of the older transaction then runs
//! into the newer record, which conflicts with it by its timestamp. A *protected* record stays,
//! because it is the only trace of a transaction's fate, on its primary.
//!
//! **Overlap.** If somebody has committed at exactly the start timestamp, the place is taken. The
//! commit record stays and a protected rollback becomes a flag on it; a plain one is not needed,
//! because the record in its place conflicts just as well.

use std::collections::BTreeSet;

use kiva_base::fault::KeyError;
use kiva_base::{EncodedKey, Key, Timestamp};
use kiva_engine::Snapshot;

use crate::limits::encode_key;
use crate::lock::Lock;
use crate::outcome::{Answer, Outcome, TxnError};
use crate::reader::{MvccReader, OwnRecord};
use crate::write::{Write, WriteKind};
use crate::writer::MvccWriter;

/// Asks to roll keys of a transaction back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollback {
    /// Which keys; one that comes twice is rolled back once.
    pub keys: Vec<Key>,
    /// The transaction.
    pub start_ts: Timestamp,
}

impl Rollback {
    /// The keys to latch, in stored form.
    pub fn keys(&self) -> Vec<EncodedKey> {
        self.keys.iter().map(Key::encode).collect()
    }

    /// Rollbacks raise nothing.
    pub fn max_ts(&self) -> Option<Timestamp> {
        None
    }
}

/// Rolls every key back, or none. Refused when one of them is committed.
pub fn rollback(view: &dyn Snapshot, request: &Rollback) -> Result<Outcome<Answer<()>>, TxnError> {
    let reader = MvccReader::new(view);
    let mut writer = MvccWriter::new();
    for key in request.keys.iter().collect::<BTreeSet<_>>() {
        if let Err(refusal) = roll_back_key(&reader, &mut writer, key, request.start_ts)? {
            return Ok(Outcome::refused(refusal));
        }
    }
    Ok(Outcome { batch: writer.into_batch(), reply: Ok(()) })
}

/// Rolls one key back, which must not come twice in a batch.
pub(crate) fn roll_back_key(
    reader: &MvccReader<'_>,
    writer: &mut MvccWriter,
    key: &Key,
    start_ts: Timestamp,
) -> Result<Answer<()>, TxnError> {
    let encoded = match encode_key(key) {
        Ok(encoded) => encoded,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let lock = reader.lock(&encoded)?;
    if let Some(lock) = lock.as_ref().filter(|lock| lock.start_ts == start_ts) {
        let protection = Protection::of_primary(lock, key);
        roll_back_lock(reader, writer, &encoded, lock, protection)?;
        return Ok(Ok(()));
    }
    Ok(match reader.own_record(&encoded, start_ts)? {
        OwnRecord::Committed { commit_ts } => Err(KeyError::Abort(format!(
            "the transaction of {start_ts} is committed at {commit_ts}, it cannot be rolled back"
        ))),
        OwnRecord::RolledBack => Ok(()),
        OwnRecord::Nothing => {
            leave_record(reader, writer, &encoded, start_ts, Protection::Plain)?;
            Ok(())
        }
    })
}

/// Whether a newer rollback may take a record's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protection {
    /// It may.
    Plain,
    /// It must not.
    Protected,
}

impl Protection {
    /// That of a record which is left where `lock` was: the primary's decides the transaction.
    pub(crate) fn of_primary(lock: &Lock, key: &Key) -> Self {
        if lock.primary == *key { Self::Protected } else { Self::Plain }
    }
}

/// Removes the transaction's own lock and its value, and leaves a record.
pub(crate) fn roll_back_lock(
    reader: &MvccReader<'_>,
    writer: &mut MvccWriter,
    key: &EncodedKey,
    lock: &Lock,
    protection: Protection,
) -> Result<(), TxnError> {
    writer.delete_lock(key);
    if lock.has_long_value() {
        writer.delete_value(key, lock.start_ts);
    }
    leave_record(reader, writer, key, lock.start_ts, protection)
}

/// Leaves a protected record of a transaction that has neither lock nor record on the key. `lock`
/// is somebody else's, if the key has one.
pub(crate) fn roll_back_missing(
    reader: &MvccReader<'_>,
    writer: &mut MvccWriter,
    key: &EncodedKey,
    start_ts: Timestamp,
    lock: Option<Lock>,
) -> Result<(), TxnError> {
    // An async commit calculates its timestamp, so it may still come to equal `start_ts`. Its lock
    // takes a note, and its commit turns the note into a flag.
    if let Some(mut lock) = lock
        && lock.async_commit.is_some()
        && lock.min_commit_ts <= start_ts
        && !lock.rollbacks.contains(&start_ts)
    {
        lock.rollbacks.push(start_ts);
        writer.put_lock(key, &lock);
    }
    leave_record(reader, writer, key, start_ts, Protection::Protected)
}

fn leave_record(
    reader: &MvccReader<'_>,
    writer: &mut MvccWriter,
    key: &EncodedKey,
    start_ts: Timestamp,
    protection: Protection,
) -> Result<(), TxnError> {
    let is_protected = protection == Protection::Protected;
    if let Some(mut other) = reader.record_at(key, start_ts)?
        && other.kind != WriteKind::Rollback
    {
        if is_protected {
            other.is_rolled_back_too = true;
            writer.put_write(key, start_ts, &other);
        }
        // No record left, none collapsed: a repetition would find another one each time.
        return Ok(());
    }
    writer.put_write(key, start_ts, &Write::rollback(start_ts, is_protected));
    if let Some((older_ts, older)) = reader.records(key, start_ts.prev()).next()?
        && older_ts < start_ts
        && older.is_collapsible()
    {
        writer.delete_write(key, older_ts);
    }
    Ok(())
}
