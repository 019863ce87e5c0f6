//! Prewrite: locks keys and leaves the new values beside the locks (Percolator §2.2).
//!
//! For each key, in the order of the request, first the lock, then the newest record:
//!
//! | on the key | the prewrite |
//! |---|---|
//! | a lock of another transaction | is refused; all such locks are collected |
//! | its own lock | has happened before: succeeds, rewrites nothing |
//! | a record of any kind at or above its start | conflicts |
//! | its own rollback record, or its flag | conflicts: a rolled back transaction stays dead |
//! | nothing of the kind | locks the key |
//!
//! Where one of these would refuse it, its own commit record says that this is a late repetition:
//! the whole request succeeds and writes nothing.
//!
//! A commit *at* the start timestamp conflicts too, although the transaction has read it. It can
//! only be a calculated timestamp that happens to coincide; and where a plain rollback found that
//! place taken, the conflict is what keeps its transaction dead (see [`mod@crate::rollback`]).
//!
//! Pessimistic transactions, async commit and commit in one phase are not served: asked for, they
//! are refused.

use std::collections::BTreeMap;

use bytes::Bytes;
use kiva_base::fault::{Assertion, ConflictReason, KeyError, LockKind};
use kiva_base::{EncodedKey, Key, Timestamp};
use kiva_engine::Snapshot;

use crate::limits::{SHORT_VALUE_SIZE_MAX, encode_key};
use crate::lock::Lock;
use crate::outcome::{Answer, Outcome, TxnError};
use crate::reader::{MvccReader, OwnRecord};
use crate::write::{Write, WriteKind};
use crate::writer::MvccWriter;

/// Asks to lock keys for a transaction, with what will be written to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prewrite {
    /// What will change; of several mutations of one key the last decides.
    pub mutations: Vec<Mutation>,
    /// The key that decides the transaction; need not be among the mutations.
    pub primary: Key,
    /// The transaction.
    pub start_ts: Timestamp,
    /// Milliseconds from the physical part of `start_ts` during which the locks are safe.
    pub lock_ttl_ms: u64,
    /// How many keys the transaction has, as the client says.
    pub txn_size: u64,
    /// The commit timestamp will be at least this; zero when nothing is promised.
    pub min_commit_ts: Timestamp,
    /// How hard assertions are checked.
    pub assertion_level: AssertionLevel,
    /// Checks locks only, and neither newer records nor existing values.
    pub skip_constraint_check: bool,
    /// Of pessimistic transactions, which are not served yet: nonzero.
    pub for_update_ts: Timestamp,
    /// Of pessimistic transactions: what to check, by position of the mutation.
    pub pessimistic_actions: Vec<PessimisticAction>,
    /// Asks for async commit, which is not served yet.
    pub use_async_commit: bool,
    /// Asks for a commit in one phase, which is not served yet.
    pub try_one_pc: bool,
}

/// What will happen to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// The key.
    pub key: Key,
    /// What will happen to it.
    pub op: Op,
    /// What the client believes about it.
    pub assertion: Assertion,
}

/// A kind of mutation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// It gets this value.
    Put(Bytes),
    /// Its value goes.
    Delete,
    /// Nothing changes; others are kept away until the transaction ends.
    Lock,
    /// It gets this value, and must not have one.
    Insert(Bytes),
    /// It must not have a value. Writes nothing.
    CheckNotExists,
}

/// How hard assertions are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AssertionLevel {
    /// Not at all.
    #[default]
    Off,
    /// Where it costs no extra read.
    Fast,
    /// Always.
    Strict,
}

/// What a prewrite of a pessimistic transaction checks on one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PessimisticAction {
    /// Nothing; also what optimistic clients send.
    #[default]
    Skip,
    /// That its own pessimistic lock is there.
    PessimisticCheck,
    /// What an optimistic prewrite checks.
    ConstraintCheck,
}

/// What a successful prewrite reports. Both timestamps are zero in plain two-phase commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PrewriteReply {
    /// The least commit timestamp of an async commit.
    pub min_commit_ts: Timestamp,
    /// The commit timestamp of a transaction that is already committed, in one phase.
    pub one_pc_commit_ts: Timestamp,
}

impl Prewrite {
    /// The keys to latch, in stored form.
    pub fn keys(&self) -> Vec<EncodedKey> {
        self.mutations.iter().map(|m| m.key.encode()).collect()
    }

    /// What max-ts must be raised to before the snapshot is taken: a mutation that looks for a
    /// value is a read.
    pub fn max_ts(&self) -> Option<Timestamp> {
        self.mutations
            .iter()
            .any(|m| matches!(m.op, Op::Insert(_) | Op::CheckNotExists))
            .then_some(self.start_ts)
            .and_then(crate::raises_max_ts)
    }
}

/// Locks every key, or none and says why: all the locks in the way, or one refusal of another kind.
pub fn prewrite(
    view: &dyn Snapshot,
    request: &Prewrite,
) -> Result<Outcome<Result<PrewriteReply, Vec<KeyError>>>, TxnError> {
    if let Err(refusal) = check_served(request) {
        return Ok(Outcome::refused(vec![refusal]));
    }
    // The last mutation of a key decides, in its place.
    let last_positions: BTreeMap<&Key, usize> = (request.mutations.iter().enumerate())
        .map(|(position, mutation)| (&mutation.key, position))
        .collect();
    let mut checker = Checker {
        request,
        reader: MvccReader::new(view),
        writer: MvccWriter::new(),
        min_commit_ts: Timestamp::ZERO,
        locked: Vec::new(),
        assertion_failed: None,
    };
    for (position, mutation) in request.mutations.iter().enumerate() {
        if last_positions[&mutation.key] != position {
            continue;
        }
        match checker.prewrite(mutation)? {
            Flow::GoOn => {}
            Flow::AlreadyCommitted => return Ok(Outcome::unchanged(Ok(PrewriteReply::default()))),
            Flow::Refuse(refusal) => return Ok(Outcome::refused(vec![refusal])),
        }
    }
    Ok(checker.finish())
}

/// Refuses what is not served yet.
fn check_served(request: &Prewrite) -> Answer<()> {
    let is_pessimistic = !request.for_update_ts.is_zero()
        || (request.pessimistic_actions.iter()).any(|&action| action != PessimisticAction::Skip);
    for (is_asked_for, what) in [
        (is_pessimistic, "pessimistic transactions"),
        (request.use_async_commit, "async commit"),
        (request.try_one_pc, "commit in one phase"),
    ] {
        if is_asked_for {
            return Err(KeyError::Abort(format!(
                "asked for {what}, not served yet: use optimistic two-phase commit"
            )));
        }
    }
    encode_key(&request.primary).map(|_| ())
}

/// One prewrite on its way through its keys.
struct Checker<'a> {
    request: &'a Prewrite,
    reader: MvccReader<'a>,
    writer: MvccWriter,
    /// Largest promise of async commit locks that are already there.
    min_commit_ts: Timestamp,
    /// Locks in the way, on all keys.
    locked: Vec<KeyError>,
    /// The first assertion that failed. Reported when nothing worse turns up.
    assertion_failed: Option<KeyError>,
}

/// What one key means to the whole request.
enum Flow {
    /// The next key decides.
    GoOn,
    /// The transaction is committed: the request is a late repetition.
    AlreadyCommitted,
    /// The only error to report.
    Refuse(KeyError),
}

impl Checker<'_> {
    fn prewrite(&mut self, mutation: &Mutation) -> Result<Flow, TxnError> {
        let start_ts = self.request.start_ts;
        let key = match encode_key(&mutation.key) {
            Ok(key) => key,
            Err(refusal) => return Ok(Flow::Refuse(refusal)),
        };
        match self.reader.lock(&key)? {
            None => {}
            Some(lock) if lock.start_ts != start_ts => {
                return self.refuse_unless_committed(&key, |checker| {
                    let info = Box::new(lock.info(&mutation.key));
                    checker.locked.push(KeyError::Locked(info));
                    Flow::GoOn
                });
            }
            Some(lock) if lock.kind == LockKind::Pessimistic => {
                return Ok(Flow::Refuse(KeyError::Abort(format!(
                    "the transaction of {start_ts} holds a pessimistic lock on a key and \
                     prewrites it as an optimistic one"
                ))));
            }
            Some(lock) => {
                if lock.async_commit.is_some() {
                    self.min_commit_ts = self.min_commit_ts.max(lock.min_commit_ts);
                }
                return Ok(Flow::GoOn);
            }
        }

        let checks_records = !self.request.skip_constraint_check;
        let newest = match checks_records {
            true => self.reader.newest_record(&key)?,
            false => None,
        };
        if let Some(conflict) = self.conflict(&mutation.key, newest.as_ref()) {
            return self.refuse_unless_committed(&key, |_| Flow::Refuse(conflict));
        }
        let must_be_absent = matches!(mutation.op, Op::Insert(_) | Op::CheckNotExists);
        let has_assertion = mutation.assertion != Assertion::None
            && match self.request.assertion_level {
                AssertionLevel::Off => false,
                AssertionLevel::Fast => checks_records,
                AssertionLevel::Strict => true,
            };
        if (must_be_absent && checks_records) || has_assertion {
            let data = match newest {
                Some((commit_ts, write)) if write.is_data() => Some((commit_ts, write)),
                _ => self.reader.newest_data(&key, Timestamp::MAX)?,
            };
            let exists = matches!(&data, Some((_, write)) if write.kind == WriteKind::Put);
            if must_be_absent && checks_records && exists {
                return Ok(Flow::Refuse(KeyError::AlreadyExist { key: mutation.key.clone() }));
            }
            let holds = match mutation.assertion {
                Assertion::None => true,
                Assertion::Exist => exists,
                Assertion::NotExist => !exists,
            };
            if has_assertion && !holds {
                return self.on_assertion_failed(mutation, &key, data);
            }
        }
        self.lock(mutation, &key);
        Ok(Flow::GoOn)
    }

    /// Why the newest record of a key refuses this transaction, if it does.
    fn conflict(&self, key: &Key, newest: Option<&(Timestamp, Write)>) -> Option<KeyError> {
        let start_ts = self.request.start_ts;
        let (commit_ts, write) = newest.filter(|(commit_ts, _)| *commit_ts >= start_ts)?;
        let is_own_rollback = *commit_ts == start_ts
            && (write.kind == WriteKind::Rollback || write.is_rolled_back_too);
        Some(KeyError::Conflict {
            start_ts,
            conflict_start_ts: write.start_ts,
            conflict_commit_ts: *commit_ts,
            key: key.clone(),
            primary: self.request.primary.clone(),
            reason: if is_own_rollback {
                ConflictReason::SelfRolledBack
            } else {
                ConflictReason::Optimistic
            },
        })
    }

    /// Looks for the transaction's own commit record before it is refused.
    fn refuse_unless_committed(
        &mut self,
        key: &EncodedKey,
        refuse: impl FnOnce(&mut Self) -> Flow,
    ) -> Result<Flow, TxnError> {
        Ok(match self.reader.own_record(key, self.request.start_ts)? {
            OwnRecord::Committed { .. } => Flow::AlreadyCommitted,
            OwnRecord::RolledBack | OwnRecord::Nothing => refuse(self),
        })
    }

    /// A conflict explains a failed assertion better than the assertion itself. It can only turn up
    /// here where records were not looked at before.
    fn on_assertion_failed(
        &mut self,
        mutation: &Mutation,
        key: &EncodedKey,
        data: Option<(Timestamp, Write)>,
    ) -> Result<Flow, TxnError> {
        if self.request.skip_constraint_check {
            let newest = self.reader.newest_record(key)?;
            if let Some(conflict) = self.conflict(&mutation.key, newest.as_ref()) {
                return self.refuse_unless_committed(key, |_| Flow::Refuse(conflict));
            }
        }
        let (existing_commit_ts, existing_start_ts) =
            data.map(|(commit_ts, write)| (commit_ts, write.start_ts)).unwrap_or_default();
        self.assertion_failed.get_or_insert_with(|| KeyError::AssertionFailed {
            start_ts: self.request.start_ts,
            key: mutation.key.clone(),
            assertion: mutation.assertion,
            existing_start_ts,
            existing_commit_ts,
        });
        Ok(Flow::GoOn)
    }

    fn lock(&mut self, mutation: &Mutation, key: &EncodedKey) {
        let request = self.request;
        let (kind, value) = match &mutation.op {
            Op::Put(value) | Op::Insert(value) => (LockKind::Put, Some(value)),
            Op::Delete => (LockKind::Delete, None),
            Op::Lock => (LockKind::Lock, None),
            Op::CheckNotExists => return,
        };
        let short_value = value.filter(|value| value.len() <= SHORT_VALUE_SIZE_MAX);
        if let (Some(value), None) = (value, short_value) {
            self.writer.put_value(key, request.start_ts, value);
        }
        let lock = Lock {
            kind,
            primary: request.primary.clone(),
            start_ts: request.start_ts,
            ttl_ms: request.lock_ttl_ms,
            txn_size: request.txn_size,
            short_value: short_value.cloned(),
            min_commit_ts: request.min_commit_ts,
            for_update_ts: Timestamp::ZERO,
            async_commit: None,
            rollbacks: Vec::new(),
        };
        self.writer.put_lock(key, &lock);
    }

    fn finish(self) -> Outcome<Result<PrewriteReply, Vec<KeyError>>> {
        if let Some(refusal) = self.assertion_failed {
            return Outcome::refused(vec![refusal]);
        }
        if !self.locked.is_empty() {
            return Outcome::refused(self.locked);
        }
        Outcome {
            batch: self.writer.into_batch(),
            reply: Ok(PrewriteReply {
                min_commit_ts: self.min_commit_ts,
                one_pc_commit_ts: Timestamp::ZERO,
            }),
        }
    }
}
