//! Why a command has no reply.
//!
//! Three kinds that nobody may confuse: it was not executed ([`Error::Region`],
//! [`Error::Refused`]), nobody knows ([`Error::Unknown`]), and this store is failing
//! ([`Error::Failed`]).

use kiva_base::RegionError;
use kiva_base::api::{ApiVersion, KeyMode};
use kiva_base::codec::DecodeError;
use kiva_engine::EngineError;
use kiva_raftstore::proposal::ProposeError;
use kiva_txn::TxnError;

use crate::limits::{KEY_SIZE_MAX, VALUE_SIZE_MAX};

/// Why a command has no reply.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not executed, now or later: ask elsewhere.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// Not executed, and asking again would not help.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It was proposed; whether it was applied is unknown.
    #[error("the outcome of the write is unknown: it may or may not be applied")]
    Unknown,
    /// Storage failed while reading; nothing was proposed.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// What failed while a command read.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A record of a transaction that nobody could have written.
    #[error(transparent)]
    Txn(#[from] TxnError),
    /// A raw value or key that nobody could have written.
    #[error("a stored raw pair is damaged: {0}")]
    Raw(#[from] DecodeError),
}

impl From<ProposeError> for Error {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Refused(refusal) => Self::Region(refusal),
            ProposeError::Unknown => Self::Unknown,
        }
    }
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<TxnError> for Error {
    fn from(error: TxnError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Self::Failed(error.into())
    }
}

/// A command that asks for what cannot be. Each sentence names the limit or the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The key is too long, in the form that counts: encoded for transactions.
    #[error("a key of {size} bytes is above the limit of {KEY_SIZE_MAX} bytes")]
    KeyTooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// The value is too long.
    #[error("a value of {size} bytes is above the limit of {VALUE_SIZE_MAX} bytes")]
    ValueTooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// The cluster does not take such requests.
    #[error(
        "a cluster of API version {cluster} takes no {mode} request marked as version {requested}"
    )]
    ApiVersion {
        /// The mode of the cluster.
        cluster: ApiVersion,
        /// How the request was marked.
        requested: ApiVersion,
        /// What kind it was.
        mode: KeyMode,
    },
    /// A key of a version 2 cluster without the prefix of its mode.
    #[error(
        "in a cluster of API version 2 the keys of a {mode} request marked as API version \
         {requested} begin with {}", prefixes(*requested, *mode)
    )]
    KeyPrefix {
        /// How the request was marked.
        requested: ApiVersion,
        /// What kind it was.
        mode: KeyMode,
    },
    /// A column family that does not exist, or that this mode does not offer.
    #[error("unknown column family {name:?}: {allowed}")]
    UnknownFamily {
        /// As sent, cut to a few bytes and escaped.
        name: String,
        /// What would be right.
        allowed: &'static str,
    },
    /// TTL on a cluster that keeps none.
    #[error("a cluster of API version {cluster} keeps no TTL; API versions 1ttl and 2 do")]
    NoTtl {
        /// The mode of the cluster.
        cluster: ApiVersion,
    },
    /// A number of TTLs that fits neither all pairs nor each.
    #[error("{ttls} TTLs for {pairs} pairs: send none, one for all, or one for each")]
    TtlCount {
        /// How many were sent.
        ttls: usize,
        /// For how many pairs.
        pairs: usize,
    },
    /// A range that cannot hold anything in the direction asked for.
    #[error("the {position}th range is empty or runs against the direction of the scan")]
    BackwardRange {
        /// Which one, from 0.
        position: usize,
    },
    /// A checksum that is not served.
    #[error("unknown checksum algorithm {0}: only 0, CRC-64/XZ, is served")]
    UnknownChecksum(i32),
    /// A raw coprocessor plug-in.
    #[error("no raw coprocessor plug-in is installed")]
    NoPlugin,
}

fn prefixes(requested: ApiVersion, mode: KeyMode) -> &'static str {
    match (requested, mode) {
        (ApiVersion::V2, KeyMode::Raw) => "'r'",
        (ApiVersion::V2, KeyMode::Txn) => "'x'",
        _ => "'m' or 't'",
    }
}
