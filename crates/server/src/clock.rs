//! The clock of a real process.

use std::time::Duration;

use kiva_base::clock::BoxFuture;
use kiva_base::{Clock, Moment};
use rustix::time::{ClockId, clock_gettime};

/// The system's time: `CLOCK_BOOTTIME` where there is one, because a lease must also run out while
/// the machine sleeps, and the calendar for timestamps and TTL.
///
/// [`Clock::sleep`] must be polled inside a tokio runtime.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// Counts suspended time.
#[cfg(any(target_os = "linux", target_os = "android"))]
const STEADY: ClockId = ClockId::Boottime;
/// The nearest that other systems offer: on some of them it stands still during suspension.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const STEADY: ClockId = ClockId::Monotonic;

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment::after_start(read(STEADY))
    }

    fn wall_ms(&self) -> u64 {
        u64::try_from(read(ClockId::Realtime).as_millis()).unwrap_or(u64::MAX)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async move { tokio::time::sleep(duration).await })
    }
}

/// A time before 1970 reads as 1970.
fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steady_clock_never_goes_back() {
        let readings: Vec<_> = (0..1_000).map(|_| SystemClock.now()).collect();
        assert!(readings.is_sorted());
    }

    #[test]
    fn the_calendar_is_past_the_year_this_was_written_in() {
        assert!(SystemClock.wall_ms() > 1_700_000_000_000);
    }
}
