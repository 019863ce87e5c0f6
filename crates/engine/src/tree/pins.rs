//! Which moment is the newest that can be read, and which older ones are being read.
//!
//! A moment is a sequence number: it sees every operation with a smaller one. The library keeps the
//! states of the tree (which memtables, which tables) with the number at which each began, and
//! serves a moment from the last state that began before it. It lets states and old versions of
//! keys go below a number that we give it, the horizon.
//!
//! ```text
//! numbers    1   2   3   4   5   6   7   8   9
//!                    └ pinned    └ visible   └ of a batch that is being inserted
//!                    └ horizon
//! ```
//!
//! Invariants:
//! - `visible` is only moved by whoever holds the writer's lock, so no batch is ever cut by it, and
//!   it never moves back.
//! - The horizon is at or below `visible` and every pinned moment, and never moves back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lsm_tree::SeqNo;

/// The moments of one engine.
pub(super) struct Pins {
    visible: AtomicU64,
    /// How many readers each moment has. A plain mutex: it is held for one step in a small map.
    pinned: Mutex<BTreeMap<SeqNo, usize>>,
}

impl Pins {
    /// Everything below `visible` can be read.
    pub(super) fn new(visible: SeqNo) -> Self {
        Self { visible: AtomicU64::new(visible), pinned: Mutex::default() }
    }

    /// The newest moment, unpinned: for whoever holds the writer's lock.
    pub(super) fn visible(&self) -> SeqNo {
        self.visible.load(Ordering::Acquire)
    }

    /// Makes everything below `number` readable. For whoever holds the writer's lock.
    pub(super) fn publish(&self, number: SeqNo) {
        let before = self.visible.swap(number, Ordering::AcqRel);
        debug_assert!(before <= number, "the newest moment went from {before} back to {number}");
    }

    /// Pins the newest moment.
    pub(super) fn pin(&self) -> SeqNo {
        let mut pinned = self.lock();
        // Under the lock: the horizon cannot pass a moment that is about to be pinned.
        let moment = self.visible();
        *pinned.entry(moment).or_default() += 1;
        moment
    }

    /// Lets go what [`pin`](Self::pin) has given.
    pub(super) fn unpin(&self, moment: SeqNo) {
        let mut pinned = self.lock();
        if let Some(readers) = pinned.get_mut(&moment) {
            *readers -= 1;
            if *readers == 0 {
                pinned.remove(&moment);
            }
        }
    }

    /// Nobody reads below this, now or later.
    pub(super) fn horizon(&self) -> SeqNo {
        let pinned = self.lock();
        let visible = self.visible();
        pinned.first_key_value().map_or(visible, |(oldest, _)| visible.min(*oldest))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SeqNo, usize>> {
        // Every step leaves the map whole.
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_horizon_waits_for_the_oldest_reader() {
        let pins = Pins::new(1);
        assert_eq!(pins.horizon(), 1);
        let old = pins.pin();
        pins.publish(5);
        let (first, second) = (pins.pin(), pins.pin());
        pins.publish(9);
        assert_eq!((old, first, second), (1, 5, 5));
        assert_eq!(pins.horizon(), 1);
        pins.unpin(old);
        pins.unpin(first);
        assert_eq!(pins.horizon(), 5);
        pins.unpin(second);
        assert_eq!(pins.horizon(), 9);
    }
}
