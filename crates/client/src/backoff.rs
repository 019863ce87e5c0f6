//! How often, how long, and when to stop.
//!
//! One operation has one budget: a deadline and a number of attempts. Between attempts it sleeps 2,
//! 4, 8 … 200 milliseconds, each time between half and all of that, so that many clients that
//! were turned away together do not come back together. Where the refusal itself says where to go
//! instead, it does not sleep, a few times in a row.
//!
//! Nothing here waits or looks at a clock: [`Backoff::pause`] is told the time and answers how long
//! to sleep, or that the budget is spent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kiva_base::Moment;

use crate::error::{GaveUp, Obstacle};
use crate::limits::{
    ATTEMPTS_MAX, HINTS_IN_A_ROW, SLEEP_BUSY, SLEEP_BUSY_MAX, SLEEP_FIRST, SLEEP_MAX,
};

/// How soon another attempt makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// At once: something was achieved, and repeating it is how to go on.
    Progress,
    /// At once: the refusal said where to go. Only a few times in a row.
    Hint,
    /// When things have had time to change.
    Soon,
    /// When a store has had time to recover.
    Busy,
}

/// What is left of one operation's budget.
///
/// Invariants: `attempts` is at most [`ATTEMPTS_MAX`], `hints` at most [`HINTS_IN_A_ROW`].
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    started: Moment,
    deadline: Moment,
    attempts: u32,
    /// Sleeps so far; the next one doubles with each.
    sleeps: u32,
    hints: u32,
}

impl Backoff {
    /// The budget of an operation that begins now.
    pub(crate) fn new(now: Moment, timeout: Duration) -> Self {
        Self { started: now, deadline: now + timeout, attempts: 0, sleeps: 0, hints: 0 }
    }

    /// How much time is left.
    pub(crate) fn left(&self, now: Moment) -> Duration {
        self.deadline.since(now)
    }

    /// How many attempts failed.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// A part of the operation is done: the next one may be tried as often, within the same time.
    pub(crate) fn part_done(&mut self) {
        (self.attempts, self.sleeps, self.hints) = (0, 0, 0);
    }

    /// One more attempt failed: how long to sleep before the next, or that there is none. An
    /// attempt that could only begin after the deadline is not waited for.
    pub(crate) fn pause(
        &mut self,
        pace: Pace,
        now: Moment,
        jitter: &Jitter,
        last: Obstacle,
    ) -> Result<Duration, GaveUp> {
        self.attempts += 1;
        let sleep = match pace {
            Pace::Progress => Duration::ZERO,
            Pace::Hint if self.hints < HINTS_IN_A_ROW => {
                self.hints += 1;
                Duration::ZERO
            }
            Pace::Hint | Pace::Soon => self.next_sleep(SLEEP_FIRST, SLEEP_MAX, jitter),
            Pace::Busy => self.next_sleep(SLEEP_BUSY, SLEEP_BUSY_MAX, jitter),
        };
        if self.attempts >= ATTEMPTS_MAX || now + sleep >= self.deadline {
            return Err(GaveUp { attempts: self.attempts, waited: now.since(self.started), last });
        }
        Ok(sleep)
    }

    fn next_sleep(&mut self, first: Duration, longest: Duration, jitter: &Jitter) -> Duration {
        // Sixteen doublings are beyond the longest sleep.
        let full = first.saturating_mul(1 << self.sleeps.min(16)).min(longest);
        self.sleeps += 1;
        self.hints = 0;
        let half = full / 2;
        half + jitter.below(full - half)
    }
}

/// A small generator of random numbers that all operations of a client draw from: SplitMix64
/// (Steele, Lea and Flood, OOPSLA 2014), whose state is a counter, so that drawing needs no lock.
#[derive(Debug)]
pub(crate) struct Jitter(AtomicU64);

impl Jitter {
    /// Begins at `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    fn next(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A duration from zero to `limit`, the latter excluded unless it is zero.
    fn below(&self, limit: Duration) -> Duration {
        let micros = limit.as_micros() as u64;
        Duration::from_micros(self.next() % micros.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::after_start(Duration::from_millis(ms))
    }

    #[test]
    fn sleeps_double_up_to_their_limit() {
        let mut backoff = Backoff::new(at(0), Duration::from_secs(60));
        let jitter = Jitter::new(1);
        for full in [2, 4, 8, 16, 32, 64, 128, 200, 200] {
            let sleep = backoff
                .pause(Pace::Soon, at(0), &jitter, Obstacle::NoRegion)
                .expect("a minute is left");
            let full = Duration::from_millis(full);
            assert!(sleep >= full / 2 && sleep < full, "{sleep:?} of {full:?}");
        }
    }

    #[test]
    fn hints_are_followed_at_once_only_a_few_times_in_a_row() {
        let mut backoff = Backoff::new(at(0), Duration::from_secs(60));
        let jitter = Jitter::new(1);
        let mut pause = || {
            backoff.pause(Pace::Hint, at(0), &jitter, Obstacle::NoRegion).expect("a minute is left")
        };
        let slept: Vec<bool> = (0..8).map(|_| !pause().is_zero()).collect();
        assert_eq!(slept, [false, false, false, true, false, false, false, true]);
    }

    #[test]
    fn the_last_obstacle_is_told_when_the_time_is_over() {
        let mut backoff = Backoff::new(at(5), Duration::from_millis(10));
        let jitter = Jitter::new(1);
        let pause = backoff.pause(Pace::Soon, at(8), &jitter, Obstacle::NoRegion);
        assert!(pause.is_ok());
        let gave_up = backoff
            .pause(Pace::Busy, at(9), &jitter, Obstacle::NoLeader { region: 3 })
            .expect_err("the sleep would pass the deadline");
        assert_eq!(gave_up.attempts, 2);
        assert_eq!(gave_up.waited, Duration::from_millis(4));
        assert_eq!(gave_up.last, Obstacle::NoLeader { region: 3 });
    }

    #[test]
    fn attempts_are_bounded_even_when_each_makes_progress() {
        let mut backoff = Backoff::new(at(0), Duration::from_secs(60));
        let jitter = Jitter::new(1);
        let mut tries = 0;
        while backoff.pause(Pace::Progress, at(0), &jitter, Obstacle::NoRegion).is_ok() {
            tries += 1;
        }
        assert_eq!(tries + 1, ATTEMPTS_MAX);
    }

    #[test]
    fn the_same_seed_waits_alike() {
        let draw = |seed| {
            let jitter = Jitter::new(seed);
            [(); 4].map(|()| jitter.below(Duration::from_secs(1)))
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
