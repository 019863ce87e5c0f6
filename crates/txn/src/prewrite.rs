//! Prewrite: locks keys and leaves the new values beside the locks.

use bytes::Bytes;
use kiva_base::fault::{Assertion, KeyError};
use kiva_base::{EncodedKey, Key, Timestamp};
use kiva_engine::Snapshot;

use crate::outcome::{Outcome, TxnError};

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
    let _ = (view, request);
    unimplemented!("the rules follow the formats")
}
