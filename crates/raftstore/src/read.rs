//! What a reader on any thread may know of a region, and when it may read without asking.
//!
//! A leader inside its lease reads locally. The order on any thread, which makes that safe:
//!
//! 1. look at the [`Standing`]: range, epoch, term, and that an entry of this term is applied
//! 2. take the engine's snapshot
//! 3. look at the lease, then at the standing once more
//!
//! A lease that is valid at 3 was valid at 2, so the snapshot holds all that any leader had
//! acknowledged by then. The lease ends before a transfer begins: [`Slot::end_lease`] comes before
//! the message that asks the target to campaign leaves.
//!
//! **Lease and clock.** Consensus counts a lease in ticks, and a tick of this store has a nominal
//! moment: the store's first tick plus so many intervals. Ticks may be late, never early, so a
//! lease that ends at the nominal moment of its last tick ends too early rather than too late.
//! Followers promise in ticks too, and make up for late ticks before they step the next message;
//! the two ticks between the longest lease and the shortest election timeout cover the tick that
//! is under way on either side and clocks that differ by a tenth (Ongaro's thesis §6.4.1).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use kiva_base::{Moment, Peer, Region, Term};

/// A peer as readers and proposers see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The region as applied here.
    pub region: Arc<Region>,
    /// The peer that lives here.
    pub peer: Peer,
    /// Its term.
    pub term: Term,
    /// Who leads in this term, when it is known.
    pub leader: Option<Peer>,
    /// Whether it leads and has applied an entry of its own term, so that what its predecessors
    /// acknowledged is applied too.
    pub is_settled: bool,
}

impl Standing {
    /// Whether the peer here leads.
    pub fn is_leader(&self) -> bool {
        self.leader.is_some_and(|leader| leader.id == self.peer.id)
    }
}

/// Where the loop of a region tells everybody about it.
#[derive(Debug)]
pub struct Slot {
    /// Replaced by the loop when something changes, read by every request.
    standing: RwLock<Arc<Standing>>,
    /// Nanoseconds after the clock's start; zero without a lease. Alone because it moves with
    /// every tick while the rest stays.
    lease_end: AtomicU64,
}

impl Slot {
    /// Without a lease.
    pub(crate) fn new(standing: Standing) -> Self {
        Self { standing: RwLock::new(Arc::new(standing)), lease_end: AtomicU64::new(0) }
    }

    /// As it is now.
    pub fn standing(&self) -> Arc<Standing> {
        self.standing.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the leader here may answer at `now` without asking anybody, under a standing that
    /// was taken before.
    pub fn holds_lease(&self, standing: &Arc<Standing>, now: Moment) -> bool {
        let end = self.lease_end.load(Ordering::SeqCst);
        let is_running = now < Moment::after_start(Duration::from_nanos(end));
        is_running
            && standing.is_settled
            && Arc::ptr_eq(standing, &self.standing.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn change(&self, standing: Standing) {
        if !standing.is_settled {
            self.end_lease();
        }
        *self.standing.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(standing);
    }

    pub(crate) fn extend_lease(&self, end: Moment) {
        let nanos = u64::try_from(end.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.lease_end.store(nanos, Ordering::SeqCst);
    }

    pub(crate) fn end_lease(&self) {
        self.lease_end.store(0, Ordering::SeqCst);
    }
}
