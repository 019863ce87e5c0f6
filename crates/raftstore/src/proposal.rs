//! Waiters, and the entry they wait for.
//!
//! A proposal is remembered under the (term, index) of its entry and answered exactly once:
//! applied, refused, or unknown. It is *refused* when an entry of another term is applied at its
//! index, and *unknown* when this peer can no longer find out in reasonable time.

use std::collections::VecDeque;
use std::fmt;

use futures_channel::oneshot;
use kiva_base::{RegionError, Term};
use kiva_engine::WriteBatch;
use kiva_raft::{EntryId, Index};

use crate::flaw::{Flaw, Flaws};

/// What belongs to a proposal and not to its proposer: latches, memory locks. Dropped when the
/// proposal is applied, or can never be.
pub type Guard = Box<dyn Send>;

/// Why a proposal was not applied.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProposeError {
    /// It did not happen and will not.
    #[error(transparent)]
    Refused(#[from] RegionError),
    /// It may have happened, or may happen yet.
    #[error("the outcome of the proposal is unknown")]
    Unknown,
}

/// Told once.
pub type Waiter = oneshot::Sender<Result<(), ProposeError>>;

/// A write on its way into an entry.
pub struct Write {
    /// The term of the view it was decided on; in a later one it is refused.
    pub term: Term,
    /// The version of the range it was decided under.
    pub version: u64,
    /// What is to be written.
    pub batch: WriteBatch,
    /// Released when it is applied, or can never be.
    pub guard: Guard,
    /// Who waits.
    pub waiter: Waiter,
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { term, version, batch, .. } = self;
        write!(f, "Write {{ term: {term}, version: {version}, {batch:?} }}")
    }
}

/// What is left of a write once it is in an entry.
pub struct Promise {
    /// `None` once the waiter was told that the outcome is unknown. The guard stays.
    waiter: Option<Waiter>,
    guard: Guard,
}

impl Promise {
    pub(crate) fn new(waiter: Waiter, guard: Guard) -> Self {
        Self { waiter: Some(waiter), guard }
    }

    /// Releases what the proposal held, then tells who waits: what they do next finds it released.
    pub fn resolve(self, outcome: Result<(), ProposeError>) {
        drop(self.guard);
        if let Some(waiter) = self.waiter {
            // Who hung up is not told.
            let _ = waiter.send(outcome);
        }
    }

    fn give_up(&mut self, outcome: ProposeError) {
        if let Some(waiter) = self.waiter.take() {
            let _ = waiter.send(Err(outcome));
        }
    }
}

/// The promises of one entry, in the order of its batches.
pub type Promises = Vec<Promise>;

/// The entries of one peer that somebody waits for.
///
/// Invariants:
/// - Indexes ascend strictly, terms ascend.
/// - Everything is of a term in which this peer led.
#[derive(Default)]
pub(crate) struct Proposals {
    queue: VecDeque<Pending>,
    flaws: Flaws,
}

struct Pending {
    entry: EntryId,
    /// In ticks of this peer.
    born: u64,
    promises: Promises,
}

impl Proposals {
    pub(crate) fn new(flaws: Flaws) -> Self {
        Self { queue: VecDeque::new(), flaws }
    }

    pub(crate) fn push(&mut self, entry: EntryId, born: u64, promises: Promises) {
        // A leader of a later term may have replaced entries that somebody still waits for.
        while let Some(last) = self.queue.back()
            && last.entry.index >= entry.index
        {
            assert!(
                last.entry.term < entry.term,
                "an entry {entry} of this leader replaces {}",
                last.entry
            );
            let replaced = self.queue.pop_back().expect("looked at above");
            refuse(replaced.promises);
        }
        self.queue.push_back(Pending { entry, born, promises });
    }

    /// The promises of a committed entry. Those of older ones, and of one of another term at the
    /// same index, were replaced: they are refused. So are all of an earlier term behind it: terms
    /// ascend in a log, and every log to come has this entry. A deposed leader has nothing else to
    /// learn it by when nobody writes any more.
    pub(crate) fn take(&mut self, committed: EntryId) -> Promises {
        while let Some(first) = self.queue.front() {
            let by_index = self.flaws.has(Flaw::WaiterByIndex);
            if first.entry == committed || (by_index && first.entry.index == committed.index) {
                let found = self.queue.pop_front().expect("looked at above");
                return found.promises;
            }
            let is_open =
                first.entry.term >= committed.term || self.flaws.has(Flaw::DeposedWaitForEver);
            if first.entry.index > committed.index && is_open {
                break;
            }
            let replaced = self.queue.pop_front().expect("looked at above");
            refuse(replaced.promises);
        }
        Promises::new()
    }

    /// Everything up to `index` was decided without this peer seeing how: by a snapshot.
    pub(crate) fn skip(&mut self, index: Index) {
        while self.queue.front().is_some_and(|first| first.entry.index <= index) {
            let skipped = self.queue.pop_front().expect("looked at above");
            skipped.promises.into_iter().for_each(|promise| {
                promise.resolve(Err(ProposeError::Unknown));
            });
        }
    }

    /// Tells those that wait since before `born` that nobody knows. Their entries may be applied
    /// yet, so what they hold stays held.
    pub(crate) fn give_up(&mut self, born: u64) {
        let outcome = match self.flaws.has(Flaw::GivenUpIsRefused) {
            true => ProposeError::Refused(RegionError::StaleCommand),
            false => ProposeError::Unknown,
        };
        let old = self.queue.iter_mut().take_while(|pending| pending.born < born);
        old.flat_map(|pending| &mut pending.promises).for_each(|promise| {
            promise.give_up(outcome.clone());
        });
    }

    /// The peer is gone, and with it every way to find out.
    pub(crate) fn abandon(&mut self) {
        self.skip(Index::MAX);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

fn refuse(promises: Promises) {
    for promise in promises {
        promise.resolve(Err(RegionError::StaleCommand.into()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A promise, what its waiter hears, and a count of who holds its guard.
    struct Watched {
        answer: oneshot::Receiver<Result<(), ProposeError>>,
        held: Arc<()>,
    }

    impl Watched {
        fn heard(&mut self) -> Option<Result<(), ProposeError>> {
            self.answer.try_recv().expect("the promise is not dropped without an answer")
        }

        fn is_held(&self) -> bool {
            Arc::strong_count(&self.held) > 1
        }
    }

    fn promise() -> (Promise, Watched) {
        let (waiter, answer) = oneshot::channel();
        let held = Arc::new(());
        (Promise::new(waiter, Box::new(held.clone())), Watched { answer, held })
    }

    fn id(term: u64, index: u64) -> EntryId {
        EntryId::new(kiva_raft::Term(term), Index(index))
    }

    const STALE: Result<(), ProposeError> = Err(ProposeError::Refused(RegionError::StaleCommand));

    /// Covers 2B-stale-command: nobody gets the answer of the entry that took the place of theirs.
    #[test]
    fn an_entry_of_another_term_refuses_those_it_replaced() {
        let mut proposals = Proposals::default();
        let (replaced, mut first) = promise();
        let (later, mut second) = promise();
        proposals.push(id(3, 7), 0, vec![replaced]);
        proposals.push(id(3, 8), 0, vec![later]);
        assert!(proposals.take(id(4, 7)).is_empty());
        assert_eq!(first.heard(), Some(STALE));
        assert_eq!(second.heard(), Some(STALE), "no log has term 3 behind term 4");
        assert!(proposals.is_empty());
    }

    #[test]
    fn the_entry_itself_hands_its_promises_over_and_refuses_older_ones() {
        let mut proposals = Proposals::default();
        let (lost, mut first) = promise();
        let (kept, mut second) = promise();
        proposals.push(id(3, 7), 0, vec![lost]);
        proposals.push(id(3, 9), 0, vec![kept]);
        let taken = proposals.take(id(3, 9));
        assert_eq!(first.heard(), Some(STALE), "index 7 was decided before");
        assert_eq!((taken.len(), second.heard(), second.is_held()), (1, None, true));
        taken.into_iter().for_each(|promise| promise.resolve(Ok(())));
        assert_eq!((second.heard(), second.is_held()), (Some(Ok(())), false));
    }

    #[test]
    fn a_leader_again_refuses_what_its_new_entries_replace() {
        let mut proposals = Proposals::default();
        let (replaced, mut first) = promise();
        proposals.push(id(3, 7), 0, vec![replaced]);
        let (newer, mut second) = promise();
        proposals.push(id(5, 7), 0, vec![newer]);
        assert_eq!((first.heard(), first.is_held()), (Some(STALE), false));
        assert_eq!(second.heard(), None);
    }

    /// The latch stays: the entry may be applied yet, and the next on its keys must see it.
    #[test]
    fn who_waits_too_long_is_told_that_nobody_knows_and_keeps_its_latch() {
        let mut proposals = Proposals::default();
        let (old, mut first) = promise();
        let (young, mut second) = promise();
        proposals.push(id(3, 7), 10, vec![old]);
        proposals.push(id(3, 8), 20, vec![young]);
        proposals.give_up(20);
        assert_eq!((first.heard(), first.is_held()), (Some(Err(ProposeError::Unknown)), true));
        assert_eq!(second.heard(), None);
        let taken = proposals.take(id(3, 7));
        taken.into_iter().for_each(|promise| promise.resolve(Ok(())));
        assert!(!first.is_held(), "told once, released when it is applied");
    }

    #[test]
    fn what_a_snapshot_decided_is_unknown() {
        let mut proposals = Proposals::default();
        let (covered, mut first) = promise();
        let (after, mut second) = promise();
        proposals.push(id(3, 7), 0, vec![covered]);
        proposals.push(id(3, 8), 0, vec![after]);
        proposals.skip(Index(7));
        assert_eq!(first.heard(), Some(Err(ProposeError::Unknown)));
        assert_eq!(second.heard(), None);
        proposals.abandon();
        assert_eq!(second.heard(), Some(Err(ProposeError::Unknown)));
    }
}
