//! The newest entries of all regions in memory, within one budget.

use std::collections::BTreeMap;

use super::store::Region;

/// Who has entries in memory, in the order in which they came. The entries are with the regions.
#[derive(Default)]
pub(super) struct Cache {
    budget: usize,
    used: usize,
    /// By ticket; tickets grow.
    runs: BTreeMap<u64, (Region, usize)>,
    next: u64,
}

impl Cache {
    pub(super) fn new(budget: usize) -> Self {
        Self { budget, ..Self::default() }
    }

    /// Bytes in memory.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Takes a run of so many bytes in. `None` when it alone is more than the budget.
    pub(super) fn admit(&mut self, region: &Region, bytes: usize) -> Option<u64> {
        if bytes > self.budget {
            return None;
        }
        let ticket = self.next;
        self.next += 1;
        self.used += bytes;
        self.runs.insert(ticket, (Region::clone(region), bytes));
        Some(ticket)
    }

    /// Somebody dropped this run.
    pub(super) fn release(&mut self, ticket: u64) {
        if let Some((_, bytes)) = self.runs.remove(&ticket) {
            self.used -= bytes;
        }
    }

    /// The oldest run, while there are more than fit. Its region is to drop it.
    pub(super) fn evict(&mut self) -> Option<(Region, u64)> {
        if self.used <= self.budget {
            return None;
        }
        let (ticket, (region, bytes)) = self.runs.pop_first()?;
        self.used -= bytes;
        Some((region, ticket))
    }
}
