//! The timestamp oracle: a counter that follows the clock and never goes back.
//!
//! A timestamp is a time in milliseconds and a counter within it. All timestamps of one request
//! share the millisecond, so that a client needs only the last one and the count.
//!
//! **Across restarts** they rise because of a *window*: a time that is on the disk before anything
//! below it is handed out. A restarted oracle begins at the end of the window it finds.
//!
//! ```text
//!            handed out        promised             ahead
//!   ────────────────────────┼───────────────┼──────────────▶ time
//!                           last            window end, on the disk
//!                                           └ a restart begins here
//! ```
//!
//! **The clock is not trusted.** Time to live is measured by the physical part, so it has to move
//! like time: at the calendar's pace when the calendar is near, at half speed while the calendar is
//! behind (it was set back), and at double speed while it is far ahead (it was set wrong). So a
//! clock that jumps back freezes nothing, and one that jumps a year ahead expires no locks and
//! leaves no lasting mark once somebody corrects it. At a start there is nothing to compare with,
//! and the calendar counts.
//!
//! What is always true:
//!
//! - Every timestamp is larger than all handed out before, by this process or an earlier one.
//! - Every timestamp is below a window end that was saved before.

use std::time::Duration;

use kiva_base::{Moment, Timestamp};

use crate::limits::{AHEAD_MAX, FOLLOW_MAX, WALL_MAX_MS, WINDOW};

/// The oracle. Pure: it is told the time, and told when a window was saved.
///
/// Invariants: `last` is below `window_end_ms`, or nothing was handed out yet; neither goes back.
#[derive(Debug)]
pub struct Oracle {
    pace: Pace,
    /// The last timestamp that is used up.
    last: Timestamp,
    /// No timestamp of this millisecond or a later one is handed out.
    window_end_ms: u64,
    /// Whether any were handed out since the window last moved.
    is_used: bool,
}

impl Oracle {
    /// An oracle after a start: `window_end_ms` is what was last saved, 0 if nothing was.
    ///
    /// It hands out nothing before a new window is saved.
    pub fn new(window_end_ms: u64, now: Moment, wall_ms: u64) -> Self {
        Self {
            pace: Pace::new(window_end_ms.max(wall_ms.min(WALL_MAX_MS)), now),
            last: Timestamp::new(window_end_ms, 0).prev(),
            window_end_ms,
            is_used: true,
        }
    }

    /// The last of `count` consecutive timestamps that nobody else gets, or `None` when the window
    /// ends before them. `count` is 1 to [`TIMESTAMPS_MAX`](crate::limits::TIMESTAMPS_MAX).
    pub fn allocate(&mut self, count: u32, now: Moment, wall_ms: u64) -> Option<Timestamp> {
        let count = u64::from(count);
        debug_assert!((1..=Timestamp::PER_MS).contains(&count));
        self.pace.advance(now, wall_ms);
        let mut physical_ms = self.physical_ms();
        let used = if physical_ms == self.last.physical_ms() { self.last.logical() + 1 } else { 0 };
        let mut last_logical = used + count - 1;
        if last_logical >= Timestamp::PER_MS {
            physical_ms += 1;
            last_logical = count - 1;
        }
        if physical_ms >= self.window_end_ms {
            return None;
        }
        let last = Timestamp::new(physical_ms, last_logical);
        assert!(last > self.last, "timestamps went from {} to {last}", self.last);
        self.last = last;
        self.is_used = true;
        Some(last)
    }

    /// The window end to save next; `None` when it would be further ahead of the clock than
    /// [`AHEAD_MAX`], because more are asked for than time brings.
    pub fn next_window(&mut self, now: Moment, wall_ms: u64) -> Option<u64> {
        self.pace.advance(now, wall_ms);
        let physical_ms = self.physical_ms();
        let ahead_ms = physical_ms - self.pace.physical_ms();
        (ahead_ms <= millis(AHEAD_MAX))
            .then(|| self.window_end_ms.max(physical_ms + 1 + millis(WINDOW)))
    }

    /// Whether a new window should be saved before somebody has to wait for it: half of this one
    /// is over, and somebody uses it.
    pub fn is_window_due(&mut self, now: Moment, wall_ms: u64) -> bool {
        self.pace.advance(now, wall_ms);
        self.is_used && self.physical_ms() + millis(WINDOW) / 2 >= self.window_end_ms
    }

    /// A window is on the disk.
    pub fn on_saved(&mut self, window_end_ms: u64) {
        let before = self.window_end_ms;
        assert!(window_end_ms >= before, "window went from {before} to {window_end_ms}");
        self.window_end_ms = window_end_ms;
        self.is_used = false;
    }

    fn physical_ms(&self) -> u64 {
        self.pace.physical_ms().max(self.last.physical_ms())
    }
}

/// A clock of our own that follows the calendar without its jumps.
///
/// Invariant: it never goes back, and never moves faster than twice real time for longer than it
/// takes to make up [`FOLLOW_MAX`].
#[derive(Debug)]
struct Pace {
    physical: Duration,
    at: Moment,
}

impl Pace {
    fn new(physical_ms: u64, now: Moment) -> Self {
        Self { physical: Duration::from_millis(physical_ms), at: now }
    }

    fn physical_ms(&self) -> u64 {
        millis(self.physical)
    }

    fn advance(&mut self, now: Moment, wall_ms: u64) {
        let elapsed = now.since(self.at);
        // In steps of a millisecond: nobody sees smaller ones, and halves of them add up.
        if elapsed < Duration::from_millis(1) {
            return;
        }
        let wall = Duration::from_millis(wall_ms.min(WALL_MAX_MS));
        let expected = self.physical + elapsed;
        self.physical = if wall <= expected {
            wall.max(self.physical + elapsed / 2)
        } else if wall - expected <= FOLLOW_MAX {
            wall
        } else {
            expected + elapsed
        };
        self.at = now;
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::TIMESTAMPS_MAX;

    const START: u64 = 1_000_000;

    fn at(ms: u64) -> Moment {
        Moment::after_start(Duration::from_millis(ms))
    }

    /// An oracle that began at `START` with a saved window, at moment zero.
    fn oracle() -> Oracle {
        let mut oracle = Oracle::new(0, at(0), START);
        let end = oracle.next_window(at(0), START).unwrap();
        oracle.on_saved(end);
        oracle
    }

    #[test]
    fn nothing_is_handed_out_before_a_window_is_saved() {
        let mut oracle = Oracle::new(0, at(0), START);
        assert_eq!(oracle.allocate(1, at(0), START), None);
        let end = oracle.next_window(at(0), START).unwrap();
        assert_eq!(oracle.allocate(1, at(0), START), None);
        oracle.on_saved(end);
        let first = Timestamp::new(START, 0);
        assert_eq!(oracle.allocate(1, at(0), START), Some(first));
    }

    #[test]
    fn the_last_of_a_batch_is_returned_and_all_share_the_millisecond() {
        let mut oracle = oracle();
        let mut take = |count| oracle.allocate(count, at(0), START).unwrap();
        assert_eq!(take(10), Timestamp::new(START, 9));
        assert_eq!(take(TIMESTAMPS_MAX - 10), Timestamp::new(START, (1 << 18) - 1));
        assert_eq!(take(1), Timestamp::new(START + 1, 0));
        // A batch that does not fit into what is left of a millisecond takes the next one whole.
        assert_eq!(take(TIMESTAMPS_MAX), Timestamp::new(START + 2, (1 << 18) - 1));
    }

    #[test]
    fn an_overflowing_counter_stops_at_the_window() {
        let mut oracle = oracle();
        let taken = std::iter::from_fn(|| oracle.allocate(TIMESTAMPS_MAX, at(0), START)).count();
        assert_eq!(taken as u64, millis(WINDOW) + 1);
        let end = oracle.window_end_ms;
        assert_eq!(oracle.last.physical_ms(), end - 1);
        let next = oracle.next_window(at(0), START).unwrap();
        oracle.on_saved(next);
        assert!(oracle.allocate(1, at(0), START).unwrap().physical_ms() >= end);
    }

    #[test]
    fn the_oracle_does_not_run_away_from_its_clock() {
        let mut oracle = oracle();
        while let Some(end) = oracle.next_window(at(0), START) {
            oracle.on_saved(end);
            while oracle.allocate(TIMESTAMPS_MAX, at(0), START).is_some() {}
        }
        let ahead = oracle.last.physical_ms() - START;
        assert!(ahead > millis(AHEAD_MAX) && ahead <= millis(AHEAD_MAX + WINDOW) + 1, "{ahead}");
        // Time brings new ones.
        assert!(oracle.next_window(at(5_000), START + 5_000).is_some());
    }

    #[test]
    fn a_restart_begins_at_the_end_of_the_window() {
        let mut before = oracle();
        let last = before.allocate(1, at(0), START).unwrap();
        let end = before.window_end_ms;
        // The clock of the new process is an hour behind.
        let wall = START.saturating_sub(3_600_000);
        let mut after = Oracle::new(end, at(0), wall);
        assert_eq!(after.allocate(1, at(0), wall), None);
        let next = after.next_window(at(0), wall).unwrap();
        after.on_saved(next);
        let first = after.allocate(1, at(0), wall).unwrap();
        assert!(first > last);
        assert_eq!(first, Timestamp::new(end, 0));
    }

    #[test]
    fn a_clock_that_is_set_back_slows_time_and_does_not_stop_it() {
        let mut pace = Pace::new(START, at(0));
        pace.advance(at(1_000), START - 60_000);
        assert_eq!(pace.physical_ms(), START + 500);
        // Two minutes later the calendar has caught up.
        pace.advance(at(121_000), START + 60_000);
        assert_eq!(pace.physical_ms(), START + 60_500);
        pace.advance(at(122_000), START + 61_000);
        assert_eq!(pace.physical_ms(), START + 61_000);
    }

    #[test]
    fn a_clock_that_jumps_ahead_is_approached_and_not_believed() {
        let year = 365 * 86_400_000;
        let mut pace = Pace::new(START, at(0));
        pace.advance(at(1_000), START + 1_000 + year);
        assert_eq!(pace.physical_ms(), START + 2_000);
        // A small correction is followed at once.
        pace.advance(at(2_000), START + 3_800);
        assert_eq!(pace.physical_ms(), START + 3_800);
    }

    #[test]
    fn polls_within_a_millisecond_do_not_lose_time() {
        let mut pace = Pace::new(START, at(0));
        for step in 1..=30_000_u64 {
            let now = Moment::after_start(Duration::from_micros(step * 100));
            pace.advance(now, 0);
        }
        assert_eq!(pace.physical_ms(), START + 1_500);
    }

    #[test]
    fn an_absurd_clock_is_cut_at_a_start() {
        let oracle = Oracle::new(0, at(0), u64::MAX);
        assert_eq!(oracle.pace.physical_ms(), WALL_MAX_MS);
    }

    #[test]
    fn an_idle_oracle_asks_for_no_window() {
        let mut oracle = oracle();
        assert!(!oracle.is_window_due(at(60_000), START + 60_000));
        let mut oracle = self::oracle();
        oracle.allocate(1, at(0), START).unwrap();
        assert!(!oracle.is_window_due(at(1_000), START + 1_000));
        assert!(oracle.is_window_due(at(2_000), START + 2_000));
    }
}
