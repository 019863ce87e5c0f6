//! Ids for stores, regions and peers: one sequence for all of them, never used twice.
//!
//! Ids below `end` are promised on the disk; a restart begins at `end` and so skips what was left
//! of the range.

use crate::limits::IDS_BATCH;

/// The sequence. Pure: it is told when a range was saved.
///
/// Invariant: `1 <= next <= end`, and ids at or above `end` were never handed out.
#[derive(Debug)]
pub struct Ids {
    next: u64,
    end: u64,
}

impl Ids {
    /// The sequence after a start: `end` is what was last saved, 0 if nothing was.
    pub fn new(end: u64) -> Self {
        // Zero names nothing.
        let end = end.max(1);
        Self { next: end, end }
    }

    /// The last of `count` consecutive ids, or `None` when the range that was saved does not hold
    /// them.
    pub fn allocate(&mut self, count: u32) -> Option<u64> {
        let next = self.next + u64::from(count);
        (next <= self.end).then(|| {
            self.next = next;
            next - 1
        })
    }

    /// The end to save so that `count` ids can be allocated.
    pub fn next_end(&self, count: u32) -> u64 {
        self.end.max(self.next + u64::from(count)) + IDS_BATCH
    }

    /// How many can be allocated before a range has to be saved.
    pub fn left(&self) -> u64 {
        self.end - self.next
    }

    /// A range that ends at `end` is on the disk.
    pub fn on_saved(&mut self, end: u64) {
        assert!(end >= self.end, "the end of ids went from {} to {end}", self.end);
        self.end = end;
    }

    /// Whether this id was handed out, by this process or, possibly, by an earlier one.
    pub fn is_allocated(&self, id: u64) -> bool {
        (1..self.next).contains(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_begin_at_one_and_are_consecutive() {
        let mut ids = Ids::new(0);
        assert_eq!(ids.allocate(1), None);
        ids.on_saved(ids.next_end(1));
        assert_eq!(ids.allocate(1), Some(1));
        assert_eq!(ids.allocate(3), Some(4));
        assert!(ids.is_allocated(4) && !ids.is_allocated(5) && !ids.is_allocated(0));
    }

    #[test]
    fn a_restart_skips_what_was_left() {
        let mut ids = Ids::new(0);
        let end = ids.next_end(1);
        ids.on_saved(end);
        let last = ids.allocate(1).unwrap();
        let mut ids = Ids::new(end);
        assert_eq!(ids.allocate(1), None);
        ids.on_saved(ids.next_end(1));
        assert_eq!(ids.allocate(1), Some(end));
        assert!(end > last);
    }
}
