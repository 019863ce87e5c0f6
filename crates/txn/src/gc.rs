//! Garbage collection: which records below the safe point nobody can need.
//!
//! The safe point is a timestamp below which nobody reads any more and no lock is left. Of one key:
//!
//! ```text
//!         newer ◀──────────────────────────────────────────────▶ older
//!
//! records      put 60   lock 55  │  rollback 48   put 40   delete 30   put 20
//!                        safe point 50
//! verdict      keep     keep     │  drop          keep     drop        drop
//! ```
//!
//! Everything above stays. At or below, the newest put stays, because a read at the safe point sees
//! it. If a delete is newer still, such a read sees nothing, which is also what it sees once the
//! delete and all that lies under it are gone. Records that change no value go; the flag of a
//! rollback goes with the commit record that carries it.
//!
//! Whoever removes must take a value before the record that points to it, and what is older before
//! what is newer: a read between the two steps must not find an old version uncovered.

use kiva_base::Timestamp;

use crate::write::{Write, WriteKind};

/// Judges the records of one key, handed to it newest first. For the next key, make another.
#[derive(Debug, Clone)]
pub struct KeyGc {
    safe_point: Timestamp,
    /// The newest put or delete at or below the safe point was seen: it hides all that follows.
    is_hidden: bool,
}

/// What may happen to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Somebody may read it.
    Keep,
    /// It may go.
    DropRecord,
    /// It may go, and its value in the default family before it.
    DropRecordAndValue,
}

impl KeyGc {
    /// For the records of one key.
    pub fn new(safe_point: Timestamp) -> Self {
        Self { safe_point, is_hidden: false }
    }

    /// The verdict on the next older record of the key.
    pub fn judge(&mut self, commit_ts: Timestamp, write: &Write) -> Verdict {
        if commit_ts > self.safe_point {
            return Verdict::Keep;
        }
        let was_hidden = self.is_hidden;
        self.is_hidden |= write.is_data();
        if write.kind == WriteKind::Put && !was_hidden {
            Verdict::Keep
        } else if write.has_long_value() {
            Verdict::DropRecordAndValue
        } else {
            Verdict::DropRecord
        }
    }
}

#[cfg(test)]
mod tests;
