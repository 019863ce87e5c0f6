//! [`Slots`]: how many at once, and who is next.

use std::collections::{BTreeSet, VecDeque};

/// Places for work that is worth doing a few at a time; the rest waits in the order it came.
///
/// Nobody is in it twice, so with one entry per region or peer it is as bounded as they are.
///
/// Invariants:
/// - At most `count` are at work; somebody waits only while that many are.
/// - Nobody is at work and waiting, or waiting twice.
#[derive(Clone, Debug)]
pub struct Slots<T> {
    count: usize,
    working: BTreeSet<T>,
    waiting: VecDeque<T>,
}

impl<T: Ord + Clone> Slots<T> {
    /// Room for `count`.
    ///
    /// # Panics
    /// When that is none, because everybody would wait for ever.
    pub fn new(count: usize) -> Self {
        assert!(count > 0, "work without a place for it");
        Self { count, working: BTreeSet::new(), waiting: VecDeque::new() }
    }

    /// Whether `who` may begin, or has begun. Otherwise it waits, and [`leave`](Self::leave) names
    /// it when it is its turn.
    pub fn enter(&mut self, who: T) -> bool {
        if self.working.contains(&who) {
            return true;
        }
        if self.waiting.contains(&who) {
            return false;
        }
        if self.working.len() < self.count {
            self.working.insert(who);
            return true;
        }
        self.waiting.push_back(who);
        false
    }

    /// `who` has ended, or does not want to begin any more. Says who may begin now.
    #[must_use = "whoever it is does not hear of it otherwise"]
    pub fn leave(&mut self, who: &T) -> Option<T> {
        self.waiting.retain(|waiting| waiting != who);
        if !self.working.remove(who) {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.working.insert(next.clone());
        Some(next)
    }

    /// How many are at work.
    pub fn working(&self) -> usize {
        self.working.len()
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers OPT-snap-limits for those who ask a store: never more than the limit at once, and
    /// everybody gets a turn, in order.
    #[test]
    fn fifty_at_once_take_turns() {
        let mut slots = Slots::new(4);
        let mut working: VecDeque<u32> = (0..50).filter(|who| slots.enter(*who)).collect();
        assert_eq!((slots.working(), slots.waiting()), (4, 46));
        let mut finished = Vec::new();
        while let Some(who) = working.pop_front() {
            assert!(slots.working() <= 4);
            finished.push(who);
            working.extend(slots.leave(&who));
        }
        assert_eq!(finished, (0..50).collect::<Vec<_>>());
        assert_eq!((slots.working(), slots.waiting()), (0, 0));
    }

    #[test]
    fn nobody_counts_twice() {
        let mut slots = Slots::new(1);
        assert!(slots.enter('a') && slots.enter('a'));
        assert!(!slots.enter('b') && !slots.enter('b'));
        assert_eq!(slots.waiting(), 1);
        assert_eq!(slots.leave(&'a'), Some('b'));
        assert_eq!(slots.leave(&'a'), None);
        assert_eq!(slots.leave(&'b'), None);
    }

    #[test]
    fn who_gives_up_waiting_frees_no_place() {
        let mut slots = Slots::new(1);
        assert!(slots.enter('a') && !slots.enter('b') && !slots.enter('c'));
        assert_eq!(slots.leave(&'b'), None);
        assert_eq!(slots.leave(&'a'), Some('c'));
    }
}
