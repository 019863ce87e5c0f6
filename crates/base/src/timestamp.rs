//! Timestamps of transactions, as the scheduler's oracle hands them out.

use std::fmt;

/// Bits of a timestamp below the physical part.
pub const LOGICAL_BITS: u32 = 18;

const LOGICAL_MASK: u64 = (1 << LOGICAL_BITS) - 1;

/// A point in the order of transactions: Unix milliseconds, then a counter of 18 bits.
///
/// Whole timestamps are compared everywhere but in one place: whether a lock's time to live is
/// over is a question about the physical parts only ([`Timestamp::physical_ms`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Before every transaction. On the wire: "none".
    pub const ZERO: Self = Self(0);
    /// After every transaction: "the newest committed value", and never a max-ts.
    pub const MAX: Self = Self(u64::MAX);
    /// How many timestamps share a millisecond.
    pub const PER_MS: u64 = 1 << LOGICAL_BITS;

    /// The timestamp of `physical_ms` Unix milliseconds and the counter `logical`, which must be
    /// below [`Timestamp::PER_MS`]; what is above overflows into the physical part.
    pub const fn new(physical_ms: u64, logical: u64) -> Self {
        Self((physical_ms << LOGICAL_BITS) + logical)
    }

    /// Unix milliseconds.
    pub const fn physical_ms(self) -> u64 {
        self.0 >> LOGICAL_BITS
    }

    /// The counter within the millisecond.
    pub const fn logical(self) -> u64 {
        self.0 & LOGICAL_MASK
    }

    /// Whether this is [`Timestamp::ZERO`], the wire's "none".
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The next one; [`Timestamp::MAX`] stays.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The one before; [`Timestamp::ZERO`] stays.
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_physical_part_is_above_eighteen_bits() {
        let ts = Timestamp::new(3, 5);
        assert_eq!(ts.0, 3 * 262_144 + 5);
        assert_eq!((ts.physical_ms(), ts.logical()), (3, 5));
        assert_eq!(Timestamp::new(3, Timestamp::PER_MS - 1).next(), Timestamp::new(4, 0));
        assert_eq!(Timestamp::MAX.next(), Timestamp::MAX);
    }
}
