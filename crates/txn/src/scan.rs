//! Scan: the pairs of a range at a timestamp, in either order.

use kiva_base::{KeyRange, Timestamp};
use kiva_engine::{Order, Snapshot};

use crate::batch_get::Pair;
use crate::outcome::{Answer, TxnError};
use crate::read_rules::ReadRules;

/// Asks for the pairs of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// Which keys, in stored form and already clamped to the region.
    pub range: KeyRange,
    /// From which end.
    pub order: Order,
    /// Most pairs to return, locked ones counted.
    pub limit: usize,
    /// The newest versions committed at or below this are read; `MAX` reads the newest.
    pub version: Timestamp,
    /// Leaves values out, which spares reading the long ones.
    pub key_only: bool,
    /// Returns the first and then every n-th pair only; 0 and 1 return all.
    pub sample_step: usize,
    /// How locks are treated.
    pub rules: ReadRules,
}

impl Scan {
    /// What max-ts must be raised to before the snapshot is taken.
    pub fn max_ts(&self) -> Option<Timestamp> {
        crate::raises_max_ts(self.version)
    }
}

/// The pairs in the order asked for. Fewer than the limit mean that the range has no more. A
/// refusal of another kind than a lock refuses the whole request.
pub fn scan(view: &dyn Snapshot, request: &Scan) -> Result<Answer<Vec<Pair>>, TxnError> {
    let _ = (view, request);
    unimplemented!("the rules follow the formats")
}
