//! The only source of "now", and of waiting.
//!
//! Code that decides takes a time as an argument; code that waits takes a [`Clock`]. Production
//! hands in one made by a `runtime` module, the simulator one that it moves itself.

use std::future::Future;
use std::ops::{Add, Sub};
use std::pin::Pin;
use std::time::Duration;

/// A future on the heap that any thread may poll.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A point on a clock that never goes back. Only differences mean anything.
///
/// A type of our own, because a simulator cannot make a `std::time::Instant`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Moment(Duration);

impl Moment {
    /// The moment this long after the clock began.
    pub const fn after_start(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// How long after the clock began.
    pub const fn elapsed(self) -> Duration {
        self.0
    }

    /// How long after `earlier`; zero when it is the later one.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

impl Sub for Moment {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// The only source of "now", and of waiting.
pub trait Clock: Send + Sync {
    /// Never goes back, and counts the time a machine was suspended.
    fn now(&self) -> Moment;
    /// Unix milliseconds; may jump either way. For TTL and timestamps, never for leases.
    fn wall_ms(&self) -> u64;
    /// Ready once `duration` has passed.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}
