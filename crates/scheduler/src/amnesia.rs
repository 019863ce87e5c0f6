//! Stores that come back with less than they had.
//!
//! A store promises: a vote, an acknowledgement. Promises are in its log, on its disk. When the
//! disk is replaced by an older copy, or emptied with only the id kept, the store does not know
//! that it ever promised, and would vote twice in one term or let a committed entry be forgotten.
//! It cannot find out by itself, so it tells the scheduler how far its log is synced, and at its
//! start how far it still is:
//!
//! ```text
//!   log ends at  0 ──▶ 700 ──▶ 900   crash   found: 900   nothing is lost
//!                                    crash   found: 400   peers below id 31 have forgotten
//! ```
//!
//! Peers are told apart by their ids. They come from one sequence ([`id`](crate::id)), so an id
//! drawn at the start that found too little separates every peer that was there from every peer
//! that will be placed there later. The bound only rises.
//!
//! Not noticed is what was lost after the last report. Reports come every ten seconds, and
//! promises of these seconds have usually been outdated by others.

use kiva_base::StoreId;

/// What is known of a store's log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoreLog {
    /// How much of it is synced: a number that only grows while nothing is lost.
    pub position: u64,
    /// Peers of the store with smaller ids have forgotten what they promised.
    pub lost_below: u64,
}

/// What a store says of its log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogReport {
    /// The store.
    pub store: StoreId,
    /// How much of its log is synced.
    pub position: u64,
    /// Whether it has just begun.
    pub is_start: bool,
}

impl StoreLog {
    /// Whether the store has lost some of its log since it last reported.
    pub fn is_lost_by(self, report: LogReport) -> bool {
        report.is_start && report.position < self.position
    }

    /// What is known after a report. `fresh` is an id that nobody has yet: needed when something
    /// was lost.
    pub fn after(self, report: LogReport, fresh: u64) -> Self {
        if self.is_lost_by(report) {
            return Self { position: report.position, lost_below: fresh.max(self.lost_below) };
        }
        // A report may be overtaken by a later one.
        Self { position: self.position.max(report.position), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(position: u64, is_start: bool) -> LogReport {
        LogReport { store: StoreId::new(1).unwrap(), position, is_start }
    }

    #[test]
    fn a_log_that_grows_has_lost_nothing() {
        let mut log = StoreLog::default();
        for (position, is_start) in [(0, true), (7, false), (9, false), (8, false), (9, true)] {
            log = log.after(report(position, is_start), 99);
        }
        assert_eq!(log, StoreLog { position: 9, lost_below: 0 });
    }

    #[test]
    fn a_start_that_finds_less_bounds_the_peers_that_have_forgotten() {
        let log = StoreLog { position: 9, lost_below: 0 }.after(report(4, true), 31);
        assert_eq!(log, StoreLog { position: 4, lost_below: 31 });
        // What is lost stays lost, however far the log gets.
        let log = log.after(report(50, false), 77).after(report(50, true), 78);
        assert_eq!(log, StoreLog { position: 50, lost_below: 31 });
        // An empty directory under a known id is the same, once more.
        assert_eq!(log.after(report(0, true), 90), StoreLog { position: 0, lost_below: 90 });
    }
}
