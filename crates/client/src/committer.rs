//! The order of prewrite, timestamp and commit across regions.

use kiva_base::Timestamp;
use kiva_base::clock::BoxFuture;

/// A committed transaction.
#[must_use = "give `secondaries` to whoever runs tasks"]
pub struct Committed {
    /// When its writes appear.
    pub commit_ts: Timestamp,
    /// Commits its other keys. Without it they stay locked until somebody meets them and asks the
    /// primary; nothing else depends on it.
    pub secondaries: BoxFuture<'static, ()>,
}
