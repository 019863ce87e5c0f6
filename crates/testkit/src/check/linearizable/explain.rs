//! A violation, for a person.

use std::fmt;

use super::{Reason, Violation};
use crate::check::history::{Operation, Outcome, shown};
use crate::check::{Answer, Value};
use crate::script::format_bytes;

/// Operations that ended before the witness and are shown with it.
const BEFORE_MAX: usize = 6;
/// Operations that speak of the value the witness saw, from each end of the history.
const RELATED_MAX: usize = 6;

/// What the answer of an operation says the key held; `None` when it says nothing.
fn seen(operation: &Operation) -> Option<Option<&Value>> {
    match &operation.outcome {
        Outcome::Answered(Answer::Got(value)) => Some(value.as_ref()),
        Outcome::Answered(Answer::Compared { previous, .. }) => Some(previous.as_ref()),
        Outcome::Answered(Answer::Done) | Outcome::Refused | Outcome::Unknown => None,
    }
}

/// Picks what a person has to see of a history to believe that it is wrong.
pub(super) fn violation(
    operations: &[&Operation],
    witness: &Operation,
    reason: Reason,
    possible: Vec<Option<Value>>,
) -> Box<Violation> {
    let end = witness.ended.map_or(u64::MAX, |(number, _)| number);
    let mut past: Vec<_> =
        operations.iter().filter(|o| o.ended.is_some_and(|(number, _)| number < end)).collect();
    past.sort_by_key(|operation| operation.ended);
    let recent = past.split_off(past.len().saturating_sub(BEFORE_MAX));
    let oldest_recent = recent.iter().map(|operation| operation.asked.0).min().unwrap_or(0);

    let value = seen(witness).flatten();
    let speaks_of_it = |operation: &Operation| {
        let writes_it = operation.action.writes().flatten() == value;
        value.is_some() && (writes_it || seen(operation).flatten() == value)
    };
    let related: Vec<_> = operations.iter().filter(|o| speaks_of_it(o)).collect();
    let is_shown = |operation: &Operation| {
        let is = |other: &&&&Operation| other.asked == operation.asked;
        let first = related.iter().take(RELATED_MAX).any(|o| is(&o));
        let last = related.iter().rev().take(RELATED_MAX).any(|o| is(&o));
        let overlaps = operation.asked.0 < end && operation.ended.is_none_or(|(n, _)| n >= end);
        // Most of what never ended, ended long ago in truth.
        let is_old = operation.ended.is_none() && operation.asked.0 < oldest_recent;
        first || last || recent.iter().any(|o| is(&o)) || (overlaps && !is_old)
    };
    let around = operations.iter().filter(|o| is_shown(o)).map(|&o| o.clone()).collect();
    let (key, witness) = (witness.key.clone(), witness.clone());
    Box::new(Violation { key, witness, reason, possible, around })
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = format_bytes(self.key.as_bytes());
        writeln!(f, "key {key}, marked operation: {}", self.reason)?;
        if !self.possible.is_empty() {
            let values: Vec<_> = self.possible.iter().map(|v| shown(v.as_ref())).collect();
            writeln!(f, "before it the key held: {}", values.join(", or "))?;
        }
        for operation in &self.around {
            let mark = if *operation == self.witness { "=>" } else { "  " };
            writeln!(f, "{mark} {operation}")?;
        }
        Ok(())
    }
}
