//! What may vanish in compaction. The rules come from above when the engine is opened.

use crate::Cf;

/// What becomes of one pair that a compaction meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Stays.
    Keep,
    /// Is deleted, with a tombstone in its place: an older version below must not come back.
    Remove,
}

/// Judges pairs one at a time. It never sees deletes or the versions in other tables, and is not
/// asked when a table only moves, so it may only name what nobody could read any more.
pub trait Filter: Send + Sync {
    /// What becomes of this pair.
    fn judge(&self, cf: Cf, key: &[u8], value: &[u8]) -> Verdict;
}
