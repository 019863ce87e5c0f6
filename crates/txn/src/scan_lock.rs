//! Scan lock: lists locks, for those who clean up.

use kiva_base::{KeyRange, LockInfo, Timestamp};
use kiva_engine::{Cf, Order, Snapshot};

use crate::outcome::TxnError;
use crate::reader::{decode_lock, decode_lock_key};

/// Asks for the locks of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanLock {
    /// Locks of transactions that began at or below this.
    pub max_version: Timestamp,
    /// Which keys, in stored form and already clamped to the region.
    pub range: KeyRange,
    /// Most locks to return.
    pub limit: usize,
}

impl ScanLock {
    /// What max-ts must be raised to before the snapshot is taken.
    pub fn max_ts(&self) -> Option<Timestamp> {
        crate::raises_max_ts(self.max_version)
    }
}

/// The locks of every kind in key order. Fewer than the limit mean that there are no more.
pub fn scan_lock(view: &dyn Snapshot, request: &ScanLock) -> Result<Vec<LockInfo>, TxnError> {
    let mut locks = Vec::new();
    let mut iter = view.iter(Cf::Lock, &request.range, Order::Forward);
    while locks.len() < request.limit
        && let Some((key, record)) = iter.next()?
    {
        let lock = decode_lock(&key, &record)?;
        if lock.start_ts <= request.max_version {
            locks.push(lock.info(&decode_lock_key(&key)?));
        }
    }
    Ok(locks)
}
