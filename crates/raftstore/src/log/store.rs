//! What all handles of a log share.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use kiva_base::RegionId;
use kiva_raft::Index;

use super::cache::Cache;
use super::index::{Effects, RegionIndex};
use super::segment::{Segment, Spares};
use super::writer::{Syncer, Writer};
use super::{LogStatus, LogWriteError, Options, Position, Tombstone};
use crate::disk::Disk;

/// One region, shared by whoever reads it. A plain mutex: it is held for moments, never across I/O.
pub(super) type Region = Arc<Mutex<RegionIndex>>;

/// What all handles of a log share.
///
/// Locks are taken in this order: `collector`, `publisher`, `writer`, `spares`; and any one of the
/// others inside, of which a region may take `cache`. I/O is done under the first four only.
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) options: Options,
    /// The end of the log. Held for a write to the disk.
    pub(super) writer: Mutex<Writer>,
    /// One handle for each sync that may be on its way, because a handle hears of an error once.
    pub(super) syncers: [Mutex<Syncer>; 2],
    /// The position up to which the log is durable.
    pub(super) durable: AtomicU64,
    /// Held while durable batches are shown to readers, so that they are in their order.
    pub(super) publisher: Mutex<()>,
    pub(super) regions: RwLock<BTreeMap<RegionId, Region>>,
    pub(super) segments: RwLock<BTreeMap<u32, Arc<Segment>>>,
    pub(super) spares: Mutex<Spares>,
    pub(super) cache: Mutex<Cache>,
    pub(super) facts: Mutex<Facts>,
    /// All segments up to this one are gone.
    pub(super) dropped: AtomicU32,
    /// Held by whoever frees segments.
    pub(super) collector: Mutex<()>,
    /// The first failure.
    pub(super) poison: OnceLock<Arc<io::Error>>,
    pub(super) counted: Counted,
}

/// What the log knows besides the logs of regions, and in which segment it is written.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) ident: Option<(Bytes, u32)>,
    pub(super) tombstones: BTreeMap<RegionId, (Tombstone, u32)>,
    /// How often any of this was written.
    pub(super) count: u64,
}

/// Counters since the log was opened.
#[derive(Default)]
pub(super) struct Counted {
    pub(super) writes: AtomicU64,
    pub(super) written_bytes: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) disk_reads: AtomicU64,
    pub(super) segments_dropped: AtomicU64,
    pub(super) rewritten_bytes: AtomicU64,
}

impl Counted {
    pub(super) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

/// Locks what a panic elsewhere leaves as it was between two calls.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The region, made when it is not there.
    pub(super) fn region(&self, id: RegionId) -> Region {
        let regions = self.regions.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(region) = regions.get(&id) {
            return Region::clone(region);
        }
        drop(regions);
        let mut regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        Region::clone(regions.entry(id).or_default())
    }

    /// All regions there are.
    pub(super) fn all_regions(&self) -> Vec<(RegionId, Region)> {
        let regions = self.regions.read().unwrap_or_else(PoisonError::into_inner);
        regions.iter().map(|(id, region)| (*id, Region::clone(region))).collect()
    }

    /// The segment, while it is needed.
    pub(super) fn segment(&self, number: u32) -> Option<Arc<Segment>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    /// All segments that are needed, oldest first.
    pub(super) fn all_segments(&self) -> Vec<Arc<Segment>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments.values().cloned().collect()
    }

    /// Up to where the log is durable.
    pub(super) fn durable(&self) -> Position {
        Position(self.durable.load(Ordering::Acquire))
    }

    /// Changes a region, and then what all regions share.
    pub(super) fn change(
        &self,
        region: &Region,
        change: impl FnOnce(&mut RegionIndex, &mut Effects),
    ) {
        let mut effects = Effects::default();
        change(&mut lock(region), &mut effects);
        self.settle(&effects);
    }

    /// Notes what changes meant for all regions.
    pub(super) fn settle(&self, effects: &Effects) {
        let mut live = effects.all_live().peekable();
        if live.peek().is_some() {
            let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
            for (number, bytes) in live {
                if let Some(segment) = segments.get(&number) {
                    segment.add_live(bytes);
                }
            }
        }
        let mut uncached = effects.all_uncached().peekable();
        if uncached.peek().is_some() {
            let mut cache = lock(&self.cache);
            uncached.for_each(|ticket| cache.release(ticket));
        }
    }

    /// Drops what is more than fits from memory.
    pub(super) fn evict(&self) {
        loop {
            let evicted = lock(&self.cache).evict();
            let Some((region, ticket)) = evicted else { return };
            lock(&region).uncache(ticket);
        }
    }

    pub(super) fn compact(&self, region: RegionId, upto: Index) {
        let region = self.region(region);
        self.change(&region, |region, effects| region.compact(upto, effects));
    }

    /// Forgets a region of which the log knows nothing.
    pub(super) fn forget_unknown(&self, id: RegionId) {
        self.regions.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    pub(super) fn forget(&self, id: RegionId) -> bool {
        // Under the writer's lock nothing new of the region can be on its way.
        let mut writer = lock(&self.writer);
        let mut regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        let is_removed = |region: &Region| !lock(region).is_known();
        if !writer.is_known(id) && regions.get(&id).is_none_or(is_removed) {
            writer.forget(id);
            regions.remove(&id);
            return true;
        }
        false
    }

    /// Refuses when something failed before.
    pub(super) fn check(&self) -> Result<(), LogWriteError> {
        match self.poison.get() {
            Some(error) => Err(LogWriteError::Poisoned(Arc::clone(error))),
            None => Ok(()),
        }
    }

    /// Remembers the first failure.
    pub(super) fn fail(&self, error: io::Error) -> LogWriteError {
        let error = Arc::new(error);
        // Whoever comes second has another error to report, and the first one stays.
        let _ = self.poison.set(Arc::clone(&error));
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => LogWriteError::Full(error),
            _ => LogWriteError::Disk(error),
        }
    }

    pub(super) fn status(&self) -> LogStatus {
        let segments = self.all_segments();
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LogStatus {
            segments: segments.len() as u64,
            segments_prepared: lock(&self.spares).ready.len() as u64,
            bytes: segments.iter().map(|segment| get(&segment.used)).sum(),
            live_bytes: segments.iter().map(|segment| segment.live()).sum(),
            cached_bytes: lock(&self.cache).used() as u64,
            regions: self.regions.read().unwrap_or_else(PoisonError::into_inner).len() as u64,
            writes: get(&self.counted.writes),
            written_bytes: get(&self.counted.written_bytes),
            syncs: get(&self.counted.syncs),
            disk_reads: get(&self.counted.disk_reads),
            segments_dropped: get(&self.counted.segments_dropped),
            rewritten_bytes: get(&self.counted.rewritten_bytes),
            is_poisoned: self.poison.get().is_some(),
        }
    }
}
