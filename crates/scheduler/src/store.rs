//! What the scheduler knows of a store.

use kiva_base::StoreId;

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
    /// It is gone for good, and its id with it.
    Tombstone,
}

impl StoreState {
    /// The state for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "Up",
            Self::Offline => "Offline",
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
    /// What it reported then.
    pub stats: StoreStats,
}
