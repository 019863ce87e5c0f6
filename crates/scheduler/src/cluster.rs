//! The stores as placement sees them: who can be relied on, and who has room.
//!
//! A [`Cluster`] is a value, built for one round of decisions from what stores report. It judges
//! peers by where they are:
//!
//! ```text
//!   store heard of ── 20 s ──▶ disconnected ── 30 min ──▶ down
//!     gets peers                gets none                 its peers are lost
//! ```
//!
//! How long a store may be silent before it is down is a matter of [`Policy`]; a disconnected store
//! usually comes back, and moving its data is dearer than waiting.

use std::collections::BTreeMap;
use std::time::Duration;

use kiva_base::{Peer, Region, StoreId};

use crate::limits::{STORE_DISCONNECTED, STORE_FULL_PERCENT};
use crate::regions::RegionReport;
use crate::store::{StoreState, StoreStats};

/// What of the scheduler's ways can be changed. Saved, and the same after a restart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Peers on a store that has been silent for longer are replaced. Not zero.
    pub store_down: Duration,
}

impl Default for Policy {
    /// Half an hour: machines are restarted within it, and disks are not filled for that.
    fn default() -> Self {
        Self { store_down: Duration::from_secs(30 * 60) }
    }
}

/// Whether a store is heard of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Health {
    /// It is.
    Up,
    /// Not for a while: nothing is placed there.
    Disconnected,
    /// Not for so long that its peers are replaced.
    Down,
}

impl Health {
    /// The health of a store that has been silent for this long.
    pub fn after(silent: Duration, policy: Policy) -> Self {
        if silent >= policy.store_down {
            Self::Down
        } else if silent >= STORE_DISCONNECTED {
            Self::Disconnected
        } else {
            Self::Up
        }
    }
}

/// What placement has to know of a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreCondition {
    /// Whether it takes part.
    pub state: StoreState,
    /// Whether it is heard of.
    pub health: Health,
    /// Its peers with smaller ids have forgotten what they promised. Zero when none has.
    pub lost_below: u64,
    /// How many peers it has, those on their way to it included.
    pub peers: usize,
    /// Bytes of their regions, roughly.
    pub size_bytes: u64,
    /// How many peers are on their way to it.
    pub arriving: usize,
    /// What it reports.
    pub stats: StoreStats,
}

impl StoreCondition {
    /// Whether it takes part and is heard of.
    pub fn is_sound(&self) -> bool {
        self.state == StoreState::Up && self.health == Health::Up
    }

    /// Whether it should get another peer.
    pub fn has_room(&self) -> bool {
        let StoreStats { capacity, available, .. } = self.stats;
        let is_full = available < capacity / 100 * STORE_FULL_PERCENT;
        self.is_sound() && !is_full && !self.stats.is_busy
    }
}

/// What is to be expected of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It stays.
    Sound,
    /// Its store is being emptied. It still does its part.
    Leaving,
    /// It is not heard of any more.
    Lost,
    /// Its store has lost what it promised to others. It must not count, and it is in the way of a
    /// new peer on that store.
    Forgetful,
}

/// The stores as they are now.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// How many peers a region should have.
    pub replicas: usize,
    /// The scheduler's ways.
    pub policy: Policy,
    /// All stores, tombstones too.
    pub stores: BTreeMap<StoreId, StoreCondition>,
}

impl Cluster {
    /// What is to be expected of a peer of this region.
    pub fn fate(&self, report: &RegionReport, peer: &Peer) -> Fate {
        let Some(store) = self.stores.get(&peer.store) else {
            return Fate::Lost;
        };
        let is_gone = matches!(store.state, StoreState::Tombstone | StoreState::Lost);
        if is_gone || store.health == Health::Down {
            return Fate::Lost;
        }
        if peer.id.get() < store.lost_below {
            return Fate::Forgetful;
        }
        // The store may live and this peer not.
        let down = report.down_seconds(peer.id).map(Duration::from_secs);
        if down.is_some_and(|down| down >= self.policy.store_down) {
            return Fate::Lost;
        }
        match store.state {
            StoreState::Offline => Fate::Leaving,
            _ => Fate::Sound,
        }
    }

    /// Whether this peer can be relied on right now: to lead, or to count when another goes.
    pub fn is_reliable(&self, report: &RegionReport, peer: &Peer) -> bool {
        let is_heard = self.stores.get(&peer.store).is_some_and(|s| s.health == Health::Up);
        let is_up_to_date = !report.is_pending(peer.id) && report.down_seconds(peer.id).is_none();
        let counts = matches!(self.fate(report, peer), Fate::Sound | Fate::Leaving);
        is_heard && is_up_to_date && counts
    }

    /// The store that should get the next peer of this region: one without a peer of it, with the
    /// fewest peers, then with the least data.
    pub fn target(&self, region: &Region) -> Option<StoreId> {
        let free = |id: &StoreId| region.peer_on(*id).is_none();
        self.stores
            .iter()
            .filter(|(id, store)| store.has_room() && free(id))
            .min_by_key(|(id, store)| (store.peers, store.size_bytes, **id))
            .map(|(&id, _)| id)
    }
}
