//! [`Throttle`]: how fast, as arithmetic on moments.

use std::num::NonZeroU64;
use std::time::Duration;

use kiva_base::Moment;

/// How much of the rate may be saved up while nothing is sent.
const BURST: Duration = Duration::from_millis(100);

/// Bytes per second, over all that are told to it.
///
/// Whoever wants to send asks when it may. What is granted counts at once, so several that ask are
/// served one after the other, and what was not used for a while is good for a burst of a tenth of
/// a second.
#[derive(Clone, Debug)]
pub struct Throttle {
    rate: Option<NonZeroU64>,
    /// When all that was granted has been sent, at the rate.
    busy_until: Moment,
}

impl Throttle {
    /// So many bytes per second; no limit when there is none.
    pub fn new(bytes_per_second: Option<NonZeroU64>) -> Self {
        Self { rate: bytes_per_second, busy_until: Moment::default() }
    }

    /// Grants `bytes`, and says from when on they may be sent: `now`, or later.
    pub fn grant(&mut self, bytes: u64, now: Moment) -> Moment {
        let Some(rate) = self.rate else {
            return now;
        };
        let saved = Moment::after_start(now.elapsed().saturating_sub(BURST));
        let begin = self.busy_until.max(saved);
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.get());
        // Beyond five hundred years it makes no difference.
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.busy_until = begin + takes;
        begin.max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::after_start(Duration::from_millis(ms))
    }

    fn throttle(rate: u64) -> Throttle {
        Throttle::new(NonZeroU64::new(rate))
    }

    /// Covers OPT-snap-rate for what is sent: the rate holds over any time, from a burst of a tenth
    /// of a second on.
    #[test]
    fn the_rate_holds_whoever_asks_and_whenever() {
        let mut throttle = throttle(1_000_000);
        let start = at(5_000);
        let mut sent = Vec::new();
        let mut now = start;
        for _ in 0..100 {
            now = throttle.grant(50_000, now);
            sent.push(now);
        }
        // Two fit into the burst, and then one every fifty milliseconds.
        assert_eq!(sent[..4], [start, start, start, at(5_050)]);
        assert_eq!(*sent.last().expect("not empty"), at(5_000 + 97 * 50));
    }

    #[test]
    fn what_was_not_used_is_saved_up_for_a_tenth_of_a_second_only() {
        let mut throttle = throttle(1_000);
        assert_eq!(throttle.grant(1_000, at(10_000)), at(10_000));
        assert_eq!(throttle.grant(1_000, at(10_000)), at(10_900));
        assert_eq!(throttle.grant(1, at(60_000)), at(60_000));
        assert_eq!(throttle.grant(200, at(60_000)), at(60_000));
        assert_eq!(throttle.grant(1, at(60_000)), at(60_101));
    }

    #[test]
    fn no_rate_is_no_limit_and_no_number_is_too_large() {
        let mut free = Throttle::new(None);
        assert_eq!(free.grant(u64::MAX, at(7)), at(7));
        assert_eq!(free.grant(u64::MAX, at(7)), at(7));
        let mut slow = throttle(1);
        slow.grant(u64::MAX, at(7));
        slow.grant(u64::MAX, at(7));
        assert!(slow.grant(1, at(7)) > at(1 << 40));
    }
}
