//! What keys must hold in the end, as their only writer knows it.

use std::collections::BTreeMap;

/// The writes of one client: what was acknowledged, and what nobody knows.
#[derive(Debug, Default)]
pub(crate) struct Expectations {
    keys: BTreeMap<u64, Expectation>,
}

/// What one key may hold.
///
/// A write that nobody answered may have happened, or may happen still: its value is possible from
/// then on, even above later ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Expectation {
    acknowledged: Option<u64>,
    unknown: Vec<u64>,
}

impl Expectations {
    /// The write `sequence` to key `index` was acknowledged.
    pub(crate) fn acknowledge(&mut self, index: u64, sequence: u64) {
        self.keys.entry(index).or_default().acknowledged = Some(sequence);
    }

    /// Nobody knows whether it happened.
    pub(crate) fn doubt(&mut self, index: u64, sequence: u64) {
        self.keys.entry(index).or_default().unknown.push(sequence);
    }

    /// Everything, key by key.
    pub(crate) fn into_keys(self) -> impl Iterator<Item = (u64, Expectation)> {
        self.keys.into_iter()
    }
}

impl Expectation {
    /// Whether a key may hold `found`: the number of the write that left its value, `None` when it
    /// has no value.
    pub(crate) fn allows(&self, found: Option<u64>) -> bool {
        match (found, self.acknowledged) {
            (Some(found), Some(acknowledged)) => {
                found == acknowledged || self.unknown.contains(&found)
            }
            // Acknowledged and gone.
            (None, Some(_)) => false,
            // Nothing was acknowledged: what was there before may still be.
            (_, None) => true,
        }
    }

    /// What must be there, for people.
    pub(crate) fn describe(&self) -> String {
        let unknown = match self.unknown.len() {
            0 => String::new(),
            count => format!(" or one of {count} writes without an answer"),
        };
        match self.acknowledged {
            Some(sequence) => format!("write {sequence}{unknown}"),
            None => "anything".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(expectations: Expectations) -> Expectation {
        expectations.into_keys().next().expect("one key").1
    }

    #[test]
    fn the_last_acknowledged_write_must_be_there() {
        let mut writes = Expectations::default();
        writes.acknowledge(1, 10);
        writes.acknowledge(1, 11);
        let key = only(writes);
        assert!(key.allows(Some(11)));
        assert!(!key.allows(Some(10)), "an older value is a lost write");
        assert!(!key.allows(None));
        assert!(!key.allows(Some(12)), "nobody wrote this");
    }

    #[test]
    fn a_write_without_an_answer_may_be_there_or_not() {
        let mut writes = Expectations::default();
        writes.acknowledge(1, 10);
        writes.doubt(1, 11);
        writes.acknowledge(1, 12);
        let key = only(writes);
        assert!(key.allows(Some(12)) && key.allows(Some(11)));
        assert!(!key.allows(Some(10)));

        let mut writes = Expectations::default();
        writes.doubt(1, 5);
        assert!(only(writes).allows(None));
    }
}
