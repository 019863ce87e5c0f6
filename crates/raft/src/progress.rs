//! What the leader believes about each follower's log, and how fast it may send.

use crate::id::Index;

/// How a follower is being sent entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProgressState {
    /// It is not known what the follower has: one append at a time, until one is accepted.
    Probe,
    /// The follower accepts: appends follow each other without waiting, up to the window.
    Replicate,
    /// What the follower needs is no longer in the log: it gets this snapshot, and nothing else
    /// meanwhile.
    Snapshot {
        /// The snapshot's last index.
        index: Index,
    },
}
