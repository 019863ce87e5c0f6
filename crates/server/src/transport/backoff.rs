//! How long to wait before a store is tried again.

use std::time::Duration;

use crate::limits::{LINK_PAUSE_MAX, LINK_PAUSE_MIN};

/// Pauses that double up to a limit, each shortened at random so that stores which lost the same
/// one do not come back to it together.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    pause: Duration,
    /// SplitMix64.
    state: u64,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Self {
        Self { pause: LINK_PAUSE_MIN, state: seed }
    }

    /// It went well: the next pause is short again.
    pub(super) fn reset(&mut self) {
        self.pause = LINK_PAUSE_MIN;
    }

    /// The next pause: three quarters of what it may be, or up to all of it.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LINK_PAUSE_MAX);
        let quarter = pause / 4;
        // The upper half of 64 random bits, as a part of a quarter.
        let part = u32::try_from(self.draw() >> 32).unwrap_or(u32::MAX);
        pause - quarter.mul_f64(f64::from(part) / f64::from(u32::MAX))
    }

    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_start_again() {
        let mut backoff = Backoff::new(7);
        let pauses: Vec<_> = (0..20).map(|_| backoff.next()).collect();
        let is_within = |pause: Duration, full: Duration| pause <= full && pause >= full * 3 / 4;
        assert!(is_within(pauses[0], LINK_PAUSE_MIN));
        assert!(is_within(pauses[1], LINK_PAUSE_MIN * 2));
        assert!(pauses[10..].iter().all(|pause| is_within(*pause, LINK_PAUSE_MAX)));
        assert!(pauses[10..].windows(2).any(|pair| pair[0] != pair[1]), "{pauses:?}");
        backoff.reset();
        assert!(is_within(backoff.next(), LINK_PAUSE_MIN));
        let same: Vec<_> = (0..20).map(|_| backoff.next()).collect();
        let mut other = Backoff::new(8);
        other.reset();
        assert_ne!(same, (0..20).map(|_| other.next()).collect::<Vec<_>>());
    }
}
