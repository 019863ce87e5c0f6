//! What the rounds cost, as a table.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::fault::{Fault, Round};

/// The longest times without a success, by fault.
#[derive(Default)]
pub(crate) struct Table {
    rows: BTreeMap<(Fault, &'static str), Vec<Duration>>,
}

impl Table {
    pub(crate) fn add(&mut self, fault: Fault, round: &Round) {
        for (what, gap) in [("anybody", round.gap), ("unluckiest writer", round.gap_of_one)] {
            self.rows.entry((fault, what)).or_default().push(gap);
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "milliseconds without a successful write, by fault of the leader's store")?;
        writeln!(f)?;
        writeln!(f, "| fault | who | rounds | p50 | p90 | p99 | max |")?;
        writeln!(f, "|---|---|---:|---:|---:|---:|---:|")?;
        for ((fault, what), gaps) in &self.rows {
            let mut gaps = gaps.clone();
            gaps.sort();
            // The smallest that so many in a hundred do not exceed.
            let at = |percent: usize| gaps[(gaps.len() * percent).div_ceil(100) - 1].as_millis();
            let (p50, p90, p99, max) = (at(50), at(90), at(99), at(100));
            let rounds = gaps.len();
            writeln!(f, "| {fault} | {what} | {rounds} | {p50} | {p90} | {p99} | {max} |")?;
        }
        Ok(())
    }
}
