//! The only wait of this crate. The library has its threads; we have none.
#![expect(
    clippy::disallowed_methods,
    reason = "a writer waits for disk threads, which no simulator drives"
)]

use std::time::Duration;

/// Lets the threads that write and merge tables get on.
pub(super) fn pause() {
    std::thread::sleep(Duration::from_millis(1));
}
