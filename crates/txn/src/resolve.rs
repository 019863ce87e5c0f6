//! Resolve: finishes locks of transactions whose fate is known.
//!
//! A client that names keys sends one [`Resolve`]. One that asks for a whole region is answered
//! when no lock is left, which may be a hundred thousand locks away; so the executor loops:
//!
//! ```text
//! rest = the region's range
//! while rest is not None:
//!     found = find_locks(read view without latches, { fates, rest })
//!     if found.resolve names locks: execute it like any other command, latches first
//!     rest = found.rest
//! ```
//!
//! Between finding and latching others may have finished a lock. That is what
//! [`Resolve::skip_unknown`] is for.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kiva_base::{EncodedKey, Key, KeyRange, Timestamp};
use kiva_engine::{Cf, Order, Snapshot};

use crate::commit::{check_order, commit_key};
use crate::limits::{RESOLVE_KEY_BYTES_MAX, RESOLVE_LOCKS_EXAMINED_MAX, RESOLVE_LOCKS_MAX};
use crate::outcome::{Answer, Outcome, TxnError};
use crate::reader::{MvccReader, OwnRecord, decode_lock, decode_lock_key};
use crate::rollback::roll_back_key;
use crate::writer::MvccWriter;

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Its primary is committed at this timestamp.
    Committed(Timestamp),
    /// Its primary is rolled back.
    RolledBack,
}

impl Fate {
    /// The wire's form: a commit timestamp, zero for rolled back.
    pub fn from_commit_version(commit_version: Timestamp) -> Self {
        if commit_version.is_zero() { Self::RolledBack } else { Self::Committed(commit_version) }
    }
}

/// Asks to finish known locks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolve {
    /// Which keys, and whose locks on them.
    pub locks: Vec<KnownLock>,
    /// A key with neither lock nor record of the transaction is passed over. Otherwise it is
    /// answered as in commit (refused) and rollback (a record is left).
    pub skip_unknown: bool,
}

/// A lock to finish, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownLock {
    /// The locked key.
    pub key: Key,
    /// The transaction.
    pub start_ts: Timestamp,
    /// How it ended.
    pub fate: Fate,
}

impl Resolve {
    /// The form in which a client names the keys of one transaction.
    pub fn keys_of(start_ts: Timestamp, fate: Fate, keys: impl IntoIterator<Item = Key>) -> Self {
        let known = |key| KnownLock { key, start_ts, fate };
        Self { locks: keys.into_iter().map(known).collect(), skip_unknown: false }
    }

    /// The keys to latch, in stored form.
    pub fn keys(&self) -> Vec<EncodedKey> {
        self.locks.iter().map(|lock| lock.key.encode()).collect()
    }

    /// Resolving raises nothing.
    pub fn max_ts(&self) -> Option<Timestamp> {
        None
    }
}

/// Finishes every lock named, or none.
pub fn resolve(view: &dyn Snapshot, request: &Resolve) -> Result<Outcome<Answer<()>>, TxnError> {
    let reader = MvccReader::new(view);
    let mut writer = MvccWriter::new();
    let mut seen = BTreeSet::new();
    for lock in &request.locks {
        if !seen.insert((&lock.key, lock.start_ts)) {
            continue;
        }
        if request.skip_unknown && is_unknown(&reader, lock)? {
            continue;
        }
        let resolved = match lock.fate {
            Fate::Committed(commit_ts) => {
                commit_key(&reader, &mut writer, &lock.key, lock.start_ts, commit_ts)?
            }
            Fate::RolledBack => roll_back_key(&reader, &mut writer, &lock.key, lock.start_ts)?,
        };
        if let Err(refusal) = resolved {
            return Ok(Outcome::refused(refusal));
        }
    }
    Ok(Outcome { batch: writer.into_batch(), reply: Ok(()) })
}

/// Whether the transaction has neither lock nor record on the key.
fn is_unknown(reader: &MvccReader<'_>, lock: &KnownLock) -> Result<bool, TxnError> {
    let encoded = lock.key.encode();
    Ok(reader.own_lock(&encoded, lock.start_ts)?.is_none()
        && reader.own_record(&encoded, lock.start_ts)? == OwnRecord::Nothing)
}

/// Asks which locks of known transactions a range holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindLocks {
    /// The transactions, and how they ended.
    pub fates: BTreeMap<Timestamp, Fate>,
    /// Where to look, in stored form.
    pub range: KeyRange,
}

/// What [`find_locks`] found, bounded in number and bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLocks {
    /// The command that finishes them; names no locks when none were found so far.
    pub resolve: Resolve,
    /// Where to go on; `None` when the whole range has been looked at.
    pub rest: Option<KeyRange>,
}

/// The first locks of these transactions in the range. Refused when a commit timestamp is not above
/// its start. Needs no latches.
pub fn find_locks(
    view: &dyn Snapshot,
    request: &FindLocks,
) -> Result<Answer<FoundLocks>, TxnError> {
    for (&start_ts, fate) in &request.fates {
        if let Fate::Committed(commit_ts) = *fate
            && let Err(refusal) = check_order(start_ts, commit_ts)
        {
            return Ok(Err(refusal));
        }
    }
    let mut locks = Vec::new();
    let mut key_bytes = 0;
    let mut iter = view.iter(Cf::Lock, &request.range, Order::Forward);
    for _ in 0..RESOLVE_LOCKS_EXAMINED_MAX {
        let Some((encoded, record)) = iter.next()? else {
            return Ok(Ok(FoundLocks::new(locks, None)));
        };
        let start_ts = decode_lock(&encoded, &record)?.start_ts;
        if let Some(&fate) = request.fates.get(&start_ts) {
            if locks.len() == RESOLVE_LOCKS_MAX || key_bytes >= RESOLVE_KEY_BYTES_MAX {
                let rest = from_key(encoded, &request.range);
                return Ok(Ok(FoundLocks::new(locks, Some(rest))));
            }
            key_bytes += encoded.len();
            locks.push(KnownLock { key: decode_lock_key(&encoded)?, start_ts, fate });
        }
    }
    let rest = iter.next()?.map(|(key, _)| from_key(key, &request.range));
    Ok(Ok(FoundLocks::new(locks, rest)))
}

impl FoundLocks {
    fn new(locks: Vec<KnownLock>, rest: Option<KeyRange>) -> Self {
        Self { resolve: Resolve { locks, skip_unknown: true }, rest }
    }
}

/// What `range` holds from `key`, one of its own, on.
fn from_key(key: Bytes, range: &KeyRange) -> KeyRange {
    KeyRange::new(key, range.end().clone()).expect("a key of the range is before its end")
}
