//! The one place of a disk that lets time pass: the delay that measurements add to every sync.

#![expect(clippy::disallowed_methods, reason = "a measured sync takes as long as it is told to")]

use std::time::Duration;

/// Holds the calling thread, as a slow disk would. No delay, no call to the system.
pub(super) fn pause(delay: Duration) {
    if !delay.is_zero() {
        std::thread::sleep(delay);
    }
}
