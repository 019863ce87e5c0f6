//! Key to region to leader, as far as is known.
//!
//! What is here may be wrong at any moment; the epoch in every request lets stores notice, and
//! their refusals are how the cache learns. [`advice`] is the table of what each refusal teaches.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use kiva_base::{Moment, Peer, Region, RegionError, StoreId};

use crate::backoff::Pace;
use crate::rpc::Store;

/// Where commands for a range of keys go.
///
/// Invariants: `leader` is one of the region's peers, the one that leads or that may know who does;
/// `store` is the one it is on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) region: Region,
    pub(crate) leader: Peer,
    pub(crate) store: Arc<Store>,
}

/// All routes that are believed in.
///
/// Read-mostly locks: every operation reads, and only a refusal writes. None is held while anything
/// is waited for.
#[derive(Debug, Default)]
pub(crate) struct RegionCache {
    regions: RwLock<Regions>,
    stores: RwLock<BTreeMap<StoreId, Arc<Store>>>,
    /// Stores that gave no answer, and until when they are believed to be away.
    suspects: RwLock<BTreeMap<StoreId, Moment>>,
}

/// Routes by the first key of their region, in boundary form.
///
/// Invariant: no two of the regions overlap.
#[derive(Debug, Default)]
struct Regions {
    by_start: BTreeMap<Bytes, Arc<Route>>,
}

impl RegionCache {
    /// The route for a key in boundary form.
    pub(crate) fn find(&self, key: &[u8]) -> Option<Arc<Route>> {
        let regions = read(&self.regions);
        let below = (Bound::Unbounded, Bound::Included(key));
        let (_, route) = regions.by_start.range::<[u8], _>(below).next_back()?;
        route.region.contains(key).then(|| route.clone())
    }

    /// The route for the keys directly below `upper`, in boundary form; empty is unbounded.
    pub(crate) fn find_before(&self, upper: &[u8]) -> Option<Arc<Route>> {
        let regions = read(&self.regions);
        let (_, route) = match upper {
            [] => regions.by_start.last_key_value()?,
            _ => {
                let below = (Bound::Unbounded, Bound::Excluded(upper));
                regions.by_start.range::<[u8], _>(below).next_back()?
            }
        };
        ends_behind(&route.region, upper).then(|| route.clone())
    }

    /// Believes in a route from now on, and no longer in what overlaps it. `false` when something
    /// newer is known about a part of its range: then nothing changes.
    pub(crate) fn insert(&self, route: Arc<Route>) -> bool {
        let mut regions = write(&self.regions);
        let overlapping = regions.overlapping(&route.region);
        let is_stale = overlapping.iter().any(|known| {
            known.region.epoch.version > route.region.epoch.version
                || known.region.id == route.region.id
                    && route.region.epoch.is_stale_against(known.region.epoch)
        });
        if is_stale {
            return false;
        }
        for known in overlapping {
            regions.by_start.remove(known.region.range.start());
        }
        let start = route.region.range.start().clone();
        regions.by_start.insert(start, route);
        true
    }

    /// No longer believes in a route; what has taken its place meanwhile stays.
    pub(crate) fn forget(&self, route: &Arc<Route>) {
        let mut regions = write(&self.regions);
        let start = route.region.range.start();
        if regions.by_start.get(start).is_some_and(|known| Arc::ptr_eq(known, route)) {
            regions.by_start.remove(start);
        }
    }

    /// A store, if its address is known.
    pub(crate) fn store(&self, id: StoreId) -> Option<Arc<Store>> {
        read(&self.stores).get(&id).cloned()
    }

    /// Remembers a store. Routes to what was known of it before keep that until they fail.
    pub(crate) fn insert_store(&self, store: Store) -> Arc<Store> {
        let mut stores = write(&self.stores);
        match stores.get(&store.id) {
            Some(known) if **known == store => known.clone(),
            _ => {
                let store = Arc::new(store);
                stores.insert(store.id, store.clone());
                store
            }
        }
    }

    /// Forgets where a store is, and the routes that go there. What was learned since stays: of
    /// many callers that fail together, the late ones do not undo what the first one did.
    pub(crate) fn forget_store(&self, store: &Arc<Store>) {
        let mut stores = write(&self.stores);
        if stores.get(&store.id).is_some_and(|known| Arc::ptr_eq(known, store)) {
            stores.remove(&store.id);
        }
        drop(stores);
        write(&self.regions).by_start.retain(|_, route| !Arc::ptr_eq(&route.store, store));
    }

    /// Believes until then that a store is away.
    pub(crate) fn suspect(&self, store: StoreId, until: Moment) {
        write(&self.suspects).insert(store, until);
    }

    /// Whether a store is believed to be away at `now`.
    pub(crate) fn is_suspect(&self, store: StoreId, now: Moment) -> bool {
        read(&self.suspects).get(&store).is_some_and(|until| now < *until)
    }

    /// Whom to ask in a region that was last led by `leader`: that one, or, while its store is
    /// believed to be away, the others in turn, who know sooner than anybody who leads now.
    pub(crate) fn whom_to_ask(
        &self,
        region: &Region,
        leader: Peer,
        now: Moment,
        turn: u32,
    ) -> Peer {
        if !self.is_suspect(leader.store, now) {
            return leader;
        }
        let is_there = |peer: &&Peer| !self.is_suspect(peer.store, now);
        let others: Vec<_> = region.peers.iter().filter(is_there).copied().collect();
        let chosen = (turn as usize).checked_rem(others.len()).and_then(|turn| others.get(turn));
        chosen.copied().unwrap_or(leader)
    }
}

impl Regions {
    fn overlapping(&self, region: &Region) -> Vec<Arc<Route>> {
        let (start, end) = (region.range.start(), region.range.end());
        let upper = match end.is_empty() {
            true => Bound::Unbounded,
            false => Bound::Excluded(&end[..]),
        };
        let mut found = Vec::new();
        for (_, route) in self.by_start.range::<[u8], _>((Bound::Unbounded, upper)).rev() {
            // Known regions do not overlap, so the first that ends before this one begins is
            // followed by more of its kind.
            if !route.region.range.end().is_empty() && route.region.range.end() <= start {
                break;
            }
            found.push(route.clone());
        }
        found
    }
}

/// Whether the region holds the keys directly below `upper`, given that it begins below it.
fn ends_behind(region: &Region, upper: &[u8]) -> bool {
    let end = &region.range.end()[..];
    end.is_empty() || !upper.is_empty() && end >= upper
}

/// A thread that panicked while it held one of these locks left whole routes behind.
fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// See [`read`].
fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// What a refusal teaches.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Advice<'a> {
    /// This peer leads: go there.
    Follow(Peer),
    /// These regions are there now, and whoever answered leads them: go on without sleeping.
    Install(&'a [Region]),
    /// The route is wrong: ask the scheduler, at this pace.
    Forget(Pace),
    /// The route is wrong and the store may be another: ask about both, at this pace.
    ForgetStore(Pace),
    /// The route is right and the store has no room: come back later.
    Wait(Pace),
    /// The command itself is at fault: do not repeat it.
    Stop,
}

/// What each refusal teaches about the route.
pub(crate) fn advice(error: &RegionError) -> Advice<'_> {
    match error {
        RegionError::NotLeader { leader: Some(leader), .. } => Advice::Follow(*leader),
        RegionError::NotLeader { leader: None, .. } => Advice::Forget(Pace::Soon),
        RegionError::EpochNotMatch { current } if current.is_empty() => Advice::Forget(Pace::Hint),
        RegionError::EpochNotMatch { current } => Advice::Install(current),
        RegionError::RegionNotFound { .. }
        | RegionError::MismatchPeerId { .. }
        | RegionError::StaleCommand => Advice::Forget(Pace::Soon),
        RegionError::KeyNotInRegion { .. }
        | RegionError::StoreNotMatch { .. }
        | RegionError::Other(_) => Advice::ForgetStore(Pace::Soon),
        RegionError::ServerIsBusy { .. } | RegionError::DiskFull { .. } => Advice::Wait(Pace::Busy),
        RegionError::EntryTooLarge { .. } => Advice::Stop,
    }
}

#[cfg(test)]
mod tests {
    use kiva_base::{Epoch, KeyRange, PeerId, PeerRole, RegionId};

    use super::*;
    use crate::rpc::StoreState;

    fn route(id: u64, start: &'static str, end: &'static str, version: u64) -> Arc<Route> {
        let store = StoreId::new(1).expect("not zero");
        let leader = Peer { id: PeerId::new(id).expect("not zero"), store, role: PeerRole::Voter };
        Arc::new(Route {
            region: Region {
                id: RegionId::new(id).expect("not zero"),
                range: KeyRange::new(start, end).expect("test ranges run forward"),
                epoch: Epoch { conf_ver: 1, version },
                peers: vec![leader],
            },
            leader,
            store: Arc::new(Store {
                id: store,
                address: "s1".into(),
                state: StoreState::Up,
                version: String::new(),
                status_address: String::new(),
                labels: vec![],
            }),
        })
    }

    fn id(route: Option<Arc<Route>>) -> Option<u64> {
        route.map(|route| route.region.id.get())
    }

    #[test]
    fn a_key_is_found_in_the_region_that_holds_it() {
        let cache = RegionCache::default();
        assert!(cache.insert(route(1, "", "b", 1)));
        assert!(cache.insert(route(2, "d", "", 1)));
        assert_eq!(id(cache.find(b"a")), Some(1));
        assert_eq!(id(cache.find(b"b")), None);
        assert_eq!(id(cache.find(b"d")), Some(2));
    }

    #[test]
    fn the_keys_below_a_bound_are_found_in_the_region_that_ends_there() {
        let cache = RegionCache::default();
        assert!(cache.insert(route(1, "", "b", 1)));
        assert!(cache.insert(route(2, "b", "d", 1)));
        assert_eq!(id(cache.find_before(b"b")), Some(1));
        assert_eq!(id(cache.find_before(b"b\0")), Some(2));
        assert_eq!(id(cache.find_before(b"d")), Some(2));
        assert_eq!(id(cache.find_before(b"e")), None);
        assert_eq!(id(cache.find_before(b"")), None);
        assert!(cache.insert(route(3, "d", "", 1)));
        assert_eq!(id(cache.find_before(b"")), Some(3));
    }

    #[test]
    fn what_is_newer_replaces_all_it_overlaps_and_what_is_older_changes_nothing() {
        let cache = RegionCache::default();
        assert!(cache.insert(route(1, "a", "z", 1)));
        assert!(cache.insert(route(1, "a", "m", 2)));
        assert_eq!(id(cache.find(b"n")), None);
        assert!(!cache.insert(route(1, "a", "z", 1)));
        assert!(cache.insert(route(2, "m", "z", 2)));
        assert!(cache.insert(route(1, "a", "z", 3)));
        assert_eq!(id(cache.find(b"n")), Some(1));
    }

    #[test]
    fn a_late_refusal_does_not_drop_what_was_learned_since() {
        let cache = RegionCache::default();
        let old = route(1, "", "", 1);
        assert!(cache.insert(old.clone()));
        assert!(cache.insert(route(1, "", "", 2)));
        cache.forget(&old);
        assert_eq!(id(cache.find(b"a")), Some(1));
    }

    #[test]
    fn a_forgotten_store_takes_its_routes_along() {
        let cache = RegionCache::default();
        let known = route(1, "", "", 1);
        let store = cache.insert_store((*known.store).clone());
        let known = Arc::new(Route {
            region: known.region.clone(),
            leader: known.leader,
            store: store.clone(),
        });
        assert!(cache.insert(known));
        cache.forget_store(&store);
        assert_eq!(id(cache.find(b"a")), None);
        assert_eq!(cache.store(store.id), None);
    }
}
