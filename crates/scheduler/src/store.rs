//! What the scheduler knows of a store.

use std::time::Duration;

use kiva_base::{Moment, StoreId};

use crate::cluster::{Health, Policy};

/// A storage process, as it introduced itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Store {
    /// Its id, given by the scheduler.
    pub id: StoreId,
    /// Where clients reach it.
    pub address: String,
    /// Where other stores reach it; empty when at `address`.
    pub peer_address: String,
    /// Where its HTTP status page is; empty when there is none.
    pub status_address: String,
    /// Whether it takes part.
    pub state: StoreState,
    /// Where it stands and what it is made of, as names and values.
    pub labels: Vec<(String, String)>,
    /// A semantic version. Some clients choose their ways by it.
    pub version: String,
    /// When its process began, in Unix seconds.
    pub start_timestamp: i64,
}

/// Whether a store takes part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum StoreState {
    /// It does.
    #[default]
    Up,
    /// It is being emptied, and still serves.
    Offline,
    /// Another store has come to its address while it was silent, so its directory is gone. It
    /// must not come back, and is a tombstone when the last of its peers is replaced.
    Lost,
    /// It is gone for good, and its id with it.
    Tombstone,
}

impl StoreState {
    /// The state for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "Up",
            Self::Offline => "Offline",
            Self::Lost => "Lost",
            Self::Tombstone => "Tombstone",
        }
    }
}

/// What a store reports about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoreStats {
    /// Bytes of its disk.
    pub capacity: u64,
    /// Bytes that are free.
    pub available: u64,
    /// Bytes that it uses.
    pub used: u64,
    /// How many regions have a peer on it.
    pub region_count: u32,
    /// Whether it asks to be spared.
    pub is_busy: bool,
}

/// A store and what is known of its health, which no disk remembers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreView {
    /// The store.
    pub store: Store,
    /// When it was last heard of, in Unix milliseconds; 0 when not since the scheduler began.
    pub last_heartbeat_ms: u64,
    /// The same on the clock that silence is measured by.
    pub last_heard: Option<Moment>,
    /// What it reported then.
    pub stats: StoreStats,
}

impl StoreView {
    /// For how long it has not been heard of at `now`, counted from `opened` where it has not been
    /// heard of since.
    pub fn silent(&self, opened: Moment, now: Moment) -> Duration {
        now.since(self.last_heard.unwrap_or(opened))
    }

    /// Whether it is heard of at `now`.
    pub fn health(&self, opened: Moment, now: Moment, policy: Policy) -> Health {
        Health::after(self.silent(opened, now), policy)
    }
}
