//! How long a run takes in the real world: a figure for people, of which no run knows.
#![expect(clippy::disallowed_methods, reason = "the figure is about real time")]

use std::time::{Duration, Instant};

/// Runs something, and says how long that took.
pub(crate) fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = run();
    (result, start.elapsed())
}
