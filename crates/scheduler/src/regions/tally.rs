//! What each store has of the regions: counted as reports come, so that nobody counts again.

use std::collections::BTreeMap;

use kiva_base::StoreId;

use super::RegionReport;

/// What one store has of the regions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoreTally {
    /// Regions with a peer here.
    pub peers: usize,
    /// Regions that are led from here.
    pub leaders: usize,
    /// Regions whose peer here is far behind.
    pub pending: usize,
    /// Bytes of the regions with a peer here, roughly.
    pub size_bytes: u64,
}

impl StoreTally {
    /// Regions with a peer here that is led from elsewhere.
    pub fn followers(&self) -> usize {
        self.peers - self.leaders
    }
}

/// The tallies of all stores.
///
/// Invariants: equal to a recount over the regions; no entry is all zeros.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Tallies {
    stores: BTreeMap<StoreId, StoreTally>,
}

impl Tallies {
    pub(super) fn of(&self, store: StoreId) -> StoreTally {
        self.stores.get(&store).copied().unwrap_or_default()
    }

    pub(super) fn add(&mut self, report: &RegionReport) {
        self.each(report, |tally, parts| {
            tally.peers += parts.peers;
            tally.leaders += parts.leaders;
            tally.pending += parts.pending;
            tally.size_bytes = tally.size_bytes.saturating_add(parts.size_bytes);
        });
    }

    pub(super) fn remove(&mut self, report: &RegionReport) {
        self.each(report, |tally, parts| {
            tally.peers -= parts.peers;
            tally.leaders -= parts.leaders;
            tally.pending -= parts.pending;
            tally.size_bytes = tally.size_bytes.saturating_sub(parts.size_bytes);
        });
        self.stores.retain(|_, tally| *tally != StoreTally::default());
    }

    fn each(&mut self, report: &RegionReport, change: impl Fn(&mut StoreTally, StoreTally)) {
        for peer in &report.region.peers {
            let parts = StoreTally {
                peers: 1,
                leaders: usize::from(report.leader.is_some_and(|leader| leader.id == peer.id)),
                pending: usize::from(report.is_pending(peer.id)),
                size_bytes: report.size_bytes,
            };
            change(self.stores.entry(peer.store).or_default(), parts);
        }
    }
}
