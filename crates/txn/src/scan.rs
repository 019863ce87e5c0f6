//! Scan: the pairs of a range at a timestamp, in either order.

use bytes::Bytes;
use kiva_base::fault::{KeyError, LockKind};
use kiva_base::{EncodedKey, Key, KeyRange, Timestamp};
use kiva_engine::{Cf, Order, Snapshot};

use crate::batch_get::Pair;
use crate::cursor::Cursor;
use crate::limits::STEPS_BEFORE_SEEK;
use crate::outcome::{Answer, TxnError};
use crate::read_rules::{Meeting, ReadRules};
use crate::reader::{
    MvccReader, after_records, corrupt, decode_lock, decode_write, split_record_key,
};
use crate::write::{Write, WriteKind};

/// Asks for the pairs of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// Which keys, in stored form and already clamped to the region.
    pub range: KeyRange,
    /// From which end.
    pub order: Order,
    /// Most pairs to return, locked ones counted.
    pub limit: usize,
    /// The newest versions committed at or below this are read; `MAX` reads the newest.
    pub version: Timestamp,
    /// Leaves values out, which spares reading the long ones.
    pub key_only: bool,
    /// Returns the first and then every n-th pair only; 0 and 1 return all.
    pub sample_step: usize,
    /// How locks are treated.
    pub rules: ReadRules,
}

impl Scan {
    /// What max-ts must be raised to before the snapshot is taken.
    pub fn max_ts(&self) -> Option<Timestamp> {
        crate::raises_max_ts(self.version)
    }
}

/// The pairs in the order asked for. Fewer than the limit mean that the range has no more. A
/// refusal of another kind than a lock refuses the whole request.
pub fn scan(view: &dyn Snapshot, request: &Scan) -> Result<Answer<Vec<Pair>>, TxnError> {
    let mut scanner = Scanner::open(view, request)?;
    let mut pairs = Vec::new();
    let mut seen = 0;
    while pairs.len() < request.limit {
        match scanner.next()? {
            None => break,
            Some(Ok(pair)) => {
                let is_sampled = request.sample_step < 2 || seen % request.sample_step == 0;
                if is_sampled || matches!(pair, Pair::Locked(_)) {
                    pairs.push(pair);
                }
                seen += 1;
            }
            Some(Err(refusal)) => return Ok(Err(refusal)),
        }
    }
    Ok(Ok(pairs))
}

/// Walks over locks and records side by side: a key may have only one of the two.
struct Scanner<'a> {
    request: &'a Scan,
    reader: MvccReader<'a>,
    locks: Cursor<'a>,
    records: Cursor<'a>,
}

impl<'a> Scanner<'a> {
    fn open(view: &'a dyn Snapshot, request: &'a Scan) -> Result<Self, TxnError> {
        let open = |cf| Cursor::open(view, cf, &request.range, request.order);
        Ok(Self {
            request,
            reader: MvccReader::new(view),
            locks: open(Cf::Lock)?,
            records: open(Cf::Write)?,
        })
    }

    /// The next key that has something to show.
    fn next(&mut self) -> Result<Option<Answer<Pair>>, TxnError> {
        while let Some(encoded) = self.next_key()? {
            let key = encoded
                .decode()
                .map_err(|source| corrupt(Cf::Write, encoded.as_bytes(), source))?;
            let answer = self.read(&key, &encoded)?;
            self.leave(&encoded)?;
            match answer {
                Ok(None) => {}
                Ok(Some(value)) => return Ok(Some(Ok(Pair::Value { key, value }))),
                Err(KeyError::Locked(lock)) => return Ok(Some(Ok(Pair::Locked(lock)))),
                Err(refusal) => return Ok(Some(Err(refusal))),
            }
        }
        Ok(None)
    }

    /// The key that comes first among those with a lock and those with a record.
    fn next_key(&self) -> Result<Option<EncodedKey>, TxnError> {
        let locked = self.locks.current().map(|(key, _)| key.clone());
        let recorded = match self.records.current() {
            None => None,
            Some((key, _)) => {
                let (user_key, _) = split_record_key(Cf::Write, key)?;
                Some(key.slice_ref(user_key))
            }
        };
        let first = match (locked, recorded, self.request.order) {
            (Some(a), Some(b), Order::Forward) => Some(a.min(b)),
            (Some(a), Some(b), Order::Reverse) => Some(a.max(b)),
            (a, b, _) => a.or(b),
        };
        Ok(first.map(EncodedKey))
    }

    /// The value of the key both cursors are at, or will be.
    fn read(&mut self, key: &Key, encoded: &EncodedKey) -> Result<Answer<Option<Bytes>>, TxnError> {
        let (rules, version) = (&self.request.rules, self.request.version);
        if let Some((locked, record)) = self.locks.current()
            && locked == encoded.as_bytes()
        {
            let lock = decode_lock(locked, record)?;
            match rules.meet(key, &lock, version) {
                Meeting::Pass => {}
                Meeting::ReadThrough if self.request.key_only => {
                    let has_value = lock.kind == LockKind::Put;
                    return Ok(Ok(has_value.then(Bytes::new)));
                }
                Meeting::ReadThrough => {
                    return Ok(Ok(self.reader.value_of_lock(encoded, &lock)?));
                }
                Meeting::Blocked(refusal) => return Ok(Err(refusal)),
            }
        }
        if let Err(refusal) = rules.check_records(&self.reader, key, encoded, version)? {
            return Ok(Err(refusal));
        }
        let write = match self.request.order {
            Order::Forward => self.newest_data_forward(encoded)?,
            Order::Reverse => self.newest_data_reverse(encoded)?,
        };
        Ok(Ok(match write {
            Some(write) if self.request.key_only => (write.kind == WriteKind::Put).then(Bytes::new),
            Some(write) => self.reader.value_of_write(encoded, &write)?,
            None => None,
        }))
    }

    /// The newest put or delete of the key at or below the version, met newest first.
    fn newest_data_forward(&mut self, key: &EncodedKey) -> Result<Option<Write>, TxnError> {
        self.skip_to_version(key)?;
        while let Some((_, write)) = self.record_of(key)? {
            if write.is_data() {
                return Ok(Some(write));
            }
            self.records.advance()?;
        }
        Ok(None)
    }

    /// Passes records of the key that are too new. Those of a later key stay where they are.
    fn skip_to_version(&mut self, key: &EncodedKey) -> Result<(), TxnError> {
        self.records.seek(&key.at(self.request.version))
    }

    /// The same, met oldest first: the last one before the version counts. A key with many records
    /// is asked from its other end instead.
    fn newest_data_reverse(&mut self, key: &EncodedKey) -> Result<Option<Write>, TxnError> {
        let mut newest = None;
        for _ in 0..STEPS_BEFORE_SEEK {
            match self.record_of(key)? {
                Some((commit_ts, write)) if commit_ts <= self.request.version => {
                    if write.is_data() {
                        newest = Some(write);
                    }
                    self.records.advance()?;
                }
                _ => return Ok(newest),
            }
        }
        let found = self.reader.newest_data(key, self.request.version)?;
        Ok(found.map(|(_, write)| write))
    }

    /// The current record, if it is one of `key`.
    fn record_of(&self, key: &EncodedKey) -> Result<Option<(Timestamp, Write)>, TxnError> {
        let Some((record_key, record)) = self.records.current() else {
            return Ok(None);
        };
        let (user_key, commit_ts) = split_record_key(Cf::Write, record_key)?;
        if user_key != key.as_bytes() {
            return Ok(None);
        }
        Ok(Some((commit_ts, decode_write(record_key, record)?)))
    }

    /// Takes both cursors behind the key, whatever is left of its records.
    fn leave(&mut self, key: &EncodedKey) -> Result<(), TxnError> {
        let end = match self.request.order {
            Order::Forward => after_records(key),
            // All records of a key begin with it, so the key itself is before them.
            Order::Reverse => key.as_bytes().to_vec(),
        };
        self.records.seek(&end)?;
        self.locks.seek(&end)
    }
}
