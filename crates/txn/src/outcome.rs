//! What a rule comes to: a batch and a reply, a refusal, or a failure.
//!
//! Three kinds of bad news have three places. A **refusal** ([`KeyError`]) is an answer of the
//! protocol and part of the reply. A **failure** ([`TxnError`]) means that storage did not answer,
//! or answered with bytes that nobody here has written. A contradiction panics.

use kiva_base::codec::DecodeError;
use kiva_base::fault::KeyError;
use kiva_base::{EncodedKey, Timestamp};
use kiva_engine::{Cf, EngineError, WriteBatch};

/// What a command decided on: the batch to replicate, and what to tell the client once it is
/// applied. An empty batch needs no replication; the reply holds at once.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a reply without its batch promises what never happens"]
pub struct Outcome<R> {
    /// Puts and deletes that happen together. Empty whenever the reply is a refusal.
    pub batch: WriteBatch,
    /// The answer.
    pub reply: R,
}

impl<R> Outcome<R> {
    /// Changes nothing.
    pub(crate) fn unchanged(reply: R) -> Self {
        Self { batch: WriteBatch::new(), reply }
    }
}

impl<T, E> Outcome<Result<T, E>> {
    /// Refuses, and changes nothing.
    pub(crate) fn refused(error: E) -> Self {
        Self::unchanged(Err(error))
    }
}

/// The answer to a command that is executed or refused as a whole.
pub type Answer<T> = Result<T, KeyError>;

/// Why a rule could not be followed to its end. Never a refusal: a client is told that the store
/// failed, and nothing was decided.
#[derive(Debug, thiserror::Error)]
pub enum TxnError {
    /// Storage failed.
    #[error("reading failed: {0}")]
    Engine(#[from] EngineError),
    /// A record or the key of one is not what this crate writes.
    #[error("a record of family {} is corrupt: {source}", cf.name())]
    Corrupt {
        /// Where it lies.
        cf: Cf,
        /// Under which key, its timestamp included.
        key: EncodedKey,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// A lock or write record says that its value lies in the default family, and it does not.
    #[error("the value written by transaction {start_ts} is missing")]
    MissingValue {
        /// Of which key.
        key: EncodedKey,
        /// Who wrote it.
        start_ts: Timestamp,
    },
}
