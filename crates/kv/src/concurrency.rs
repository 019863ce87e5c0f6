//! Max-ts: the largest timestamp that any read has used here.
//!
//! A read raises it **before** it takes its snapshot. Whoever calculates a commit timestamp later
//! goes above it, so that no such read can have missed the commit. Nothing depends on it yet but
//! the order in which reads do things, which is the part that is hard to add afterwards.

use std::sync::atomic::{AtomicU64, Ordering};

use kiva_base::Timestamp;

/// The largest timestamp read at. Starts at zero and only grows.
#[derive(Debug, Default)]
pub struct MaxTs(AtomicU64);

impl MaxTs {
    /// Notes a read at `ts`. [`Timestamp::MAX`] means "the newest" and raises nothing.
    pub fn raise(&self, ts: Timestamp) {
        if ts != Timestamp::MAX {
            // Sequentially consistent: the raise must not move behind the snapshot that follows.
            self.0.fetch_max(ts.0, Ordering::SeqCst);
        }
    }

    /// The largest so far.
    pub fn get(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_the_newest_raises_nothing() {
        let max_ts = MaxTs::default();
        max_ts.raise(Timestamp(7));
        max_ts.raise(Timestamp::MAX);
        max_ts.raise(Timestamp(3));
        assert_eq!(max_ts.get(), Timestamp(7));
    }
}
