//! Which locks a read must stop at.

use std::collections::BTreeSet;

use kiva_base::Timestamp;

/// How a read treats the locks and records it meets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadRules {
    /// How isolated it is from others.
    pub isolation: Isolation,
    /// Transactions whose locks it ignores: known to be rolled back, or to commit later.
    pub resolved_locks: BTreeSet<Timestamp>,
    /// Transactions whose locks it reads through: known to be committed.
    pub committed_locks: BTreeSet<Timestamp>,
}

/// How isolated a read is from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Isolation {
    /// Snapshot isolation: stops at locks that may commit below its timestamp.
    #[default]
    Snapshot,
    /// Read committed: ignores locks.
    ReadCommitted,
    /// Read committed, and refused where anything is or may be newer than its timestamp.
    ReadCommittedCheckTs,
}
