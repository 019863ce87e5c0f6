//! What a command tells the executor: its keys, its timestamp, and how it decides.
//!
//! A command is plain data, decoded by a service. It either looks ([`Read`]) or decides what to
//! write ([`Write`]); both are functions of a [`View`], without waiting and without effects.

use kiva_base::api::{ApiVersion, KeyMode};
use kiva_base::{EncodedKey, Epoch, Key, KeyRange, Moment, Timestamp};
use kiva_engine::Snapshot;
use kiva_raftstore::router::Header;
use kiva_txn::Outcome;

use crate::error::{Error, Refusal};

/// Which region a client means, and what it believes about it. Numbers are as sent: they may name
/// nothing that exists.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// The region.
    pub region: u64,
    /// Its epoch when the client last looked.
    pub epoch: Option<Epoch>,
    /// The peer it talks to.
    pub peer: u64,
    /// The store it believes to talk to.
    pub store: u64,
    /// The term it believes in; zero when it has no opinion.
    pub term: u64,
    /// When the client stops waiting.
    pub deadline: Option<Moment>,
    /// How the request is marked.
    pub api: ApiVersion,
    /// Whether a read may be served by a follower, once the leader has confirmed.
    pub replica_read: bool,
}

impl Target {
    /// What replication has to know of it.
    pub(crate) fn header(&self, by_any_replica: bool) -> Header {
        Header {
            store: self.store,
            region: self.region,
            peer: self.peer,
            term: self.term,
            epoch: self.epoch,
            by_any_replica,
        }
    }
}

/// What a command sees: one moment of one region.
pub struct View<'a> {
    /// The data, all of it durable.
    pub snapshot: &'a dyn Snapshot,
    /// The stored keys that the region is responsible for.
    pub range: &'a KeyRange,
    /// The mode of the cluster.
    pub api: ApiVersion,
    /// Unix seconds, for TTL.
    pub now_s: u64,
}

/// What a command touches, in the form the user sent. Checked against mode, limits and region.
#[derive(Debug, Clone, Copy)]
pub enum Touched<'a> {
    /// These keys: each has to lie in the region.
    Keys(&'a [Key]),
    /// One key.
    Key(&'a Key),
    /// What of this range lies in the region; an empty bound is unbounded.
    Range(&'a Key, &'a Key),
    /// What of this range, whose bounds are in stored form, lies in the region.
    Stored(&'a KeyRange),
    /// Whatever is in the region; no check of mode applies.
    Region,
}

/// What every command says about itself.
pub trait Command: Send + 'static {
    /// What it answers.
    type Reply: Send + 'static;

    /// Raw or transactional.
    const MODE: KeyMode;

    /// What it touches, to be checked before anything else. Called with each part in turn.
    fn touches(&self, check: &mut dyn FnMut(Touched<'_>) -> Result<(), Error>)
    -> Result<(), Error>;

    /// The timestamp that max-ts must reach before the view is taken.
    fn max_ts(&self) -> Option<Timestamp> {
        None
    }

    /// Refuses what needs neither keys nor a view to be refused.
    fn check(&self, _api: ApiVersion) -> Result<(), Refusal> {
        Ok(())
    }
}

/// A command that only looks.
pub trait Read: Command {
    /// Whether it may take long enough that others should not wait behind it on one thread.
    fn is_long(&self) -> bool {
        false
    }

    /// The answer.
    fn read(&self, view: &View<'_>) -> Result<Self::Reply, Error>;
}

/// A command that decides what to write.
pub trait Write: Command {
    /// The stored keys it must be alone on from its view until its batch is applied.
    fn latches(&self, api: ApiVersion) -> Vec<EncodedKey>;

    /// What to write, and the reply to give once it is applied.
    fn decide(&self, view: &View<'_>) -> Result<Outcome<Self::Reply>, Error>;
}
