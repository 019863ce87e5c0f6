//! What the scheduler knows of regions and stores beyond what clients need, and what it does about
//! them: for people.

use std::time::Duration;

use kiva_base::{Peer, RegionId, Term};

use super::{RegionInfo, Store};

/// All that is known of a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionDetail {
    /// Range, epoch, peers and leader.
    pub info: RegionInfo,
    /// In which term it is led. Zero when no leader has reported since the scheduler began.
    pub term: Term,
    /// Peers that the leader has not heard of, and for how long.
    pub down: Vec<(Peer, Duration)>,
    /// Peers that are far behind.
    pub pending: Vec<Peer>,
    /// Its size in bytes, roughly.
    pub size_bytes: u64,
    /// How many keys it has, roughly.
    pub keys: u64,
    /// What is being done with it, or was done last.
    pub operator: Option<Operator>,
}

/// Whether a store is heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreHealth {
    /// It is.
    Up,
    /// Not for a while: nothing is placed there.
    Disconnected,
    /// Not for so long that its peers are replaced.
    Down,
}

/// All that is known of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreDetail {
    /// The store.
    pub store: Store,
    /// Whether it is heard of.
    pub health: StoreHealth,
    /// Its disk; `None` when it has not reported since the scheduler began.
    pub disk: Option<StoreDisk>,
    /// How many regions have a peer there.
    pub peers: u64,
    /// How many are led from there.
    pub leaders: u64,
    /// How many have a peer there that is far behind.
    pub pending: u64,
    /// Bytes of the regions with a peer there, roughly.
    pub size_bytes: u64,
    /// How far its log was synced when it last said so.
    pub log_position: u64,
    /// Its peers with smaller ids have forgotten what they promised. Zero when none has.
    pub lost_below: u64,
}

/// What a store reports of its disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreDisk {
    /// Its size.
    pub capacity: u64,
    /// What is free.
    pub available: u64,
    /// What the store uses.
    pub used: u64,
}

/// What the scheduler can be asked to do with a region and a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OperatorKind {
    /// The region's peer on the store leads.
    TransferLeader,
    /// The store gets a peer that counts.
    AddPeer,
    /// The store's peer goes.
    RemovePeer,
}

/// How far an operator is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OperatorStatus {
    /// It goes on.
    Running,
    /// All is done.
    Success,
    /// It was given up after its time.
    Timeout,
    /// The region has changed otherwise.
    Cancelled,
    /// A more important one has come.
    Replaced,
}

/// A planned change of a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Of which region.
    pub region: RegionId,
    /// Why, in a word.
    pub description: String,
    /// How far it is.
    pub status: OperatorStatus,
    /// Its steps, for people.
    pub steps: Vec<String>,
    /// How many of them are done.
    pub done: usize,
    /// How long ago it began.
    pub age: Duration,
}
