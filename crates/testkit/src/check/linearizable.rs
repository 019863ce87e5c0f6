//! Did keys behave like registers that everybody shares?
//!
//! A history is *linearizable* (Herlihy and Wing, 1990) when every operation can be given one
//! moment between its two ends at which it happened, so that each answer is right. Keys do not
//! depend on each other, so a history is linearizable when that of each key is, and the search is
//! done key by key.
//!
//! # The search
//!
//! Lowe's *just-in-time linearization* ("Testing for linearizability", 2017): go through the ends
//! of operations in the order of time, and keep every *configuration* that explains what was seen
//! so far: what the key holds, and which of the operations under way have happened. An operation
//! has to happen by the time it ends and may happen earlier; so nothing is decided before an end
//! forces it. When no configuration is left the operation that ended is the witness.
//!
//! ```text
//!  c1  |-- put 1 --|            at the end of put 1    {1}
//!  c2     |---- put 2 ----|     at the end of get      {1} again: put 2 has not happened yet
//!  c3            |- got 1 -|    at the end of put 2    {2}
//!  c4                        |- got 1 -|               nothing is left
//! ```
//!
//! # Outcomes that nobody knows
//!
//! A write whose outcome is unknown may happen at any time after it was asked for, so it stays
//! under way until the end, and a hundred of them would make 2^100 configurations. Three facts keep
//! the number small:
//!
//! - Nobody saw its value: then it need not have happened, because taking it out of any explanation
//!   leaves an explanation. It is forgotten.
//! - It is the only one that wrote its value, and somebody saw it: then it happened, before the
//!   first who saw it was told so. The same holds for writes that were acknowledged: their ends
//!   move forward.
//! - The rest, deletes for the most part, are interchangeable when they do the same. A
//!   configuration counts how many of each kind have happened, and of two that are otherwise equal
//!   the one with fewer can do whatever the other can.
//!
//! And two more for all: an operation that changes nothing happens as soon as what the key holds
//! permits it; and a value that only one operation wrote is not overwritten while somebody is still
//! to see it.
//!
//! Keys hold nothing in the beginning. Workloads should write each value once: then hardly anything
//! is left to search, and a violation names its culprit.

mod explain;
mod key;

use std::collections::BTreeMap;
use std::fmt;

use kiva_base::Key;

use super::history::Operation;

/// Comparisons of configurations of one key, at most. Workloads that write each value once need a
/// few per operation; beyond this, about a second, the checker gives up and says so.
pub const COMPARISONS_MAX: usize = 20_000_000;

/// Judges a history.
///
/// # Errors
///
/// The first key, in their order, for which there is no explanation.
pub fn linearizable(history: &[Operation]) -> Result<Checked, Box<Violation>> {
    let mut keys: BTreeMap<&Key, Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        keys.entry(&operation.key).or_default().push(operation);
    }
    let mut checked = Checked { keys: keys.len(), operations: history.len(), configurations: 0 };
    for operations in keys.values() {
        let most = key::check(operations)?;
        checked.configurations = checked.configurations.max(most);
    }
    Ok(checked)
}

/// What was looked at, when all is well.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Checked {
    /// How many keys.
    pub keys: usize,
    /// How many operations.
    pub operations: usize,
    /// The most configurations that any key had at one moment.
    pub configurations: usize,
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linearizable: {} operations on {} keys", self.operations, self.keys)
    }
}

/// Why a history is not linearizable, or why nobody can tell. Its text shows the operations that
/// matter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The key.
    pub key: Key,
    /// The operation that nothing explains.
    pub witness: Operation,
    /// What is wrong with it.
    pub reason: Reason,
    /// What the key may have held before it ended.
    pub possible: Vec<Option<super::Value>>,
    /// The operations around it and those that speak of what it saw, in the order they began.
    pub around: Vec<Operation>,
}

/// What is wrong with an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Nobody asked for what it saw.
    NeverWritten,
    /// All who asked for what it saw were refused.
    WasRefused,
    /// It saw what nobody had asked for yet.
    NotYetWritten,
    /// Its answer does not go with the question.
    Contradiction,
    /// It fits into no order.
    NoOrder,
    /// The search took more than [`COMPARISONS_MAX`], or more operations were under way than it has
    /// room for.
    GaveUp,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NeverWritten => "nobody wrote what it saw",
            Self::WasRefused => "what it saw was refused to all who asked for it",
            Self::NotYetWritten => "it saw what nobody had asked for yet",
            Self::Contradiction => "its answer does not go with the question",
            Self::NoOrder => "it fits into no order",
            Self::GaveUp => "too many orders are possible to try them all",
        })
    }
}

impl std::error::Error for Violation {}
