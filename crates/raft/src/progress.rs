//! What the leader believes about each follower's log, and how fast it may send.
//!
//! ```text
//!            accepted                    what it needs is compacted
//!   Probe ─────────────▶ Replicate   any ───────────────────────────▶ Snapshot
//!     ▲                      │                                          │
//!     └──────────────────────┴──────────────────────────────────────────┘
//!       refused, unreachable          acknowledged, or reported as sent or failed
//! ```

use std::collections::VecDeque;

use crate::id::{EntryId, Index, NodeId};
use crate::message::Round;
use crate::quorum::Halves;

/// How a follower is being sent entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProgressState {
    /// It is not known what the follower has: one append at a time, until one is accepted.
    Probe,
    /// The follower accepts: appends follow each other without waiting, up to the window.
    Replicate,
    /// What the follower needs is no longer in the log: it gets this snapshot, and nothing else
    /// meanwhile.
    Snapshot {
        /// The snapshot's last index.
        index: Index,
    },
}

/// What the leader believes about one member's log.
///
/// Invariants:
/// - `matched < next`.
/// - `matched` never falls within a term: what is durable stays (Raft §5.3).
/// - In `Probe` and `Snapshot` nothing is in the window.
/// - In `Replicate` the entries of `matched + 1..next` are on their way, or lost.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) id: NodeId,
    /// Where its copy counts; nowhere for a learner.
    pub(crate) halves: Halves,
    /// Highest index known to be on its disk and equal to ours. Zero when nothing is known.
    pub(crate) matched: Index,
    /// Index of the next entry to send.
    pub(crate) next: Index,
    pub(crate) state: ProgressState,
    /// In `Probe`: an append is on its way, or was sent since the last sign of life.
    pub(crate) is_probing: bool,
    /// It answered a heartbeat and lacks something: an append goes out even when the window is
    /// full or there is nothing new, because what it lacks may have been lost.
    pub(crate) is_poked: bool,
    /// The log store did not have what it needs at hand.
    pub(crate) awaits_log: bool,
    /// Whether it was heard of since the last check of the quorum.
    pub(crate) is_active: bool,
    /// It is to hear of the commit index without waiting.
    pub(crate) is_owed_commit: bool,
    /// The commit index it will have once what was sent arrives.
    pub(crate) commit_told: Index,
    /// The newest confirmation round it answered.
    pub(crate) answered: Round,
    pub(crate) window: Window,
}

impl Progress {
    /// A member of whom nothing is known: probed from the end of the log, because most followers
    /// have everything.
    pub(crate) fn new(id: NodeId, halves: Halves, last: Index) -> Self {
        Self {
            id,
            halves,
            matched: Index::ZERO,
            next: last.next(),
            state: ProgressState::Probe,
            is_probing: false,
            is_poked: false,
            awaits_log: false,
            // A new member gets an election timeout to answer before it counts as lost.
            is_active: true,
            is_owed_commit: false,
            commit_told: Index::ZERO,
            answered: Round::ZERO,
            window: Window::default(),
        }
    }

    /// Everything up to `matched` is durable there. `first` looks up the oldest entry of our log.
    pub(crate) fn accept(&mut self, matched: Index, first: impl FnOnce() -> Index) {
        let news = matched > self.matched;
        self.matched = self.matched.max(matched);
        self.next = self.next.max(matched.next());
        match self.state {
            // A repeated acknowledgement of what is known already ends the probing too: the
            // follower is alive and agrees.
            ProgressState::Probe if news || matched == self.matched => self.replicate(),
            ProgressState::Probe => {}
            ProgressState::Replicate => self.window.free_to(matched),
            // Whether by this snapshot or by an earlier one, it is within our log again (after
            // etcd's library, where waiting for this very snapshot once stranded followers).
            ProgressState::Snapshot { .. } if self.matched.next() >= first() => self.replicate(),
            ProgressState::Snapshot { .. } => {}
        }
        self.assert_invariants();
    }

    /// The follower does not have the entry at `rejected`; it may agree up to `agreed`. Returns
    /// whether that is news.
    pub(crate) fn reject(&mut self, rejected: Index, agreed: Index) -> bool {
        match self.state {
            ProgressState::Replicate => {
                // What it holds it cannot lack: this is an answer from before.
                if rejected <= self.matched {
                    return false;
                }
                self.probe_from(self.matched.next().max(agreed.next().min(rejected)));
            }
            ProgressState::Probe => {
                if rejected != self.next.previous() {
                    return false;
                }
                self.probe_from(agreed.next().min(rejected));
            }
            ProgressState::Snapshot { .. } => return false,
        }
        self.assert_invariants();
        true
    }

    /// Begins to probe at `next`, or after what it is known to have.
    pub(crate) fn probe_from(&mut self, next: Index) {
        self.state = ProgressState::Probe;
        self.next = next.max(self.matched.next());
        self.is_probing = false;
        self.window.clear();
    }

    fn replicate(&mut self) {
        self.state = ProgressState::Replicate;
        self.next = self.matched.next();
        self.is_probing = false;
        self.window.clear();
    }

    /// A snapshot that ends at `index` is on its way.
    pub(crate) fn await_snapshot(&mut self, index: Index) {
        self.state = ProgressState::Snapshot { index };
        self.next = index.next().max(self.matched.next());
        self.is_probing = false;
        self.window.clear();
    }

    /// An append was sent whose last entry, or predecessor when it has none, is `last`.
    pub(crate) fn sent(&mut self, last: EntryId, count: usize, bytes: usize, commit: Index) {
        self.is_poked = false;
        self.is_owed_commit = false;
        self.commit_told = self.commit_told.max(commit.min(last.index));
        match self.state {
            ProgressState::Probe => self.is_probing = true,
            ProgressState::Replicate if count > 0 => {
                self.next = last.index.next();
                self.window.push(last.index, bytes);
            }
            ProgressState::Replicate => {}
            ProgressState::Snapshot { .. } => {
                unreachable!("nothing is appended while a snapshot is on its way")
            }
        }
    }

    /// It answered a heartbeat, so what it lacks may be sent again (`OPT-flow-heartbeat` of the
    /// scenarios: acknowledgements, too, are lost).
    pub(crate) fn revive(&mut self, last: Index) {
        self.is_probing = false;
        self.awaits_log = false;
        if self.matched < last {
            self.is_poked = true;
        }
    }

    /// Checked where the fields change.
    fn assert_invariants(&self) {
        assert!(
            self.matched < self.next,
            "node {} has {} and is to be sent {} next",
            self.id,
            self.matched,
            self.next
        );
        assert!(
            self.state == ProgressState::Replicate || self.window.count() == 0,
            "node {} has {} appends on their way in {:?}",
            self.id,
            self.window.count(),
            self.state
        );
    }
}

/// Appends on their way to one follower, oldest first.
///
/// Invariants:
/// - Last indexes rise.
/// - `bytes` is the sum over the appends.
#[derive(Debug, Default)]
pub(crate) struct Window {
    appends: VecDeque<(Index, usize)>,
    bytes: usize,
}

impl Window {
    /// Whether another append would exceed a limit. One append fits whatever its size.
    pub(crate) fn is_full(&self, messages_max: usize, bytes_max: usize) -> bool {
        self.appends.len() >= messages_max || self.bytes >= bytes_max && !self.appends.is_empty()
    }

    /// How many.
    pub(crate) fn count(&self) -> usize {
        self.appends.len()
    }

    fn push(&mut self, last: Index, bytes: usize) {
        let newest = self.appends.back().map(|append| append.0);
        assert!(newest < Some(last), "an append up to {last} follows one up to {newest:?}");
        self.appends.push_back((last, bytes));
        self.bytes += bytes;
    }

    /// Everything up to `index` has arrived.
    fn free_to(&mut self, index: Index) {
        while let Some(&(last, bytes)) = self.appends.front() {
            if last > index {
                break;
            }
            self.bytes -= bytes;
            self.appends.pop_front();
        }
    }

    /// Gives back the room of appends that have arrived.
    pub(crate) fn shrink(&mut self) {
        self.appends.shrink_to_fit();
    }

    fn clear(&mut self) {
        self.appends.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Term;

    fn progress(matched: u64, next: u64, state: ProgressState) -> Progress {
        let id = NodeId::new(2).unwrap();
        let mut progress = Progress::new(id, Halves::default(), Index(next - 1));
        progress.matched = Index(matched);
        progress.state = state;
        progress
    }

    fn sent(progress: &mut Progress, last: u64, bytes: usize) {
        progress.sent(EntryId::new(Term(1), Index(last)), 1, bytes, Index(0));
    }

    /// Covers OPT-flow-move.
    #[test]
    fn the_window_moves_to_the_newest_acknowledged_and_never_back() {
        let mut progress = progress(0, 1, ProgressState::Replicate);
        (1..=4).for_each(|last| sent(&mut progress, last, 10));
        assert!(progress.window.is_full(4, 1000));
        assert!(progress.window.is_full(9, 40));
        progress.accept(Index(3), || Index(1));
        assert_eq!(progress.window.count(), 1);
        progress.accept(Index(2), || Index(1));
        assert_eq!((progress.matched, progress.window.count()), (Index(3), 1));
        assert_eq!(progress.next, Index(5));
        progress.accept(Index(4), || Index(1));
        assert!(!progress.window.is_full(1, 1));
    }

    #[test]
    fn one_append_fits_whatever_its_size() {
        let mut progress = progress(0, 1, ProgressState::Replicate);
        assert!(!progress.window.is_full(1, 0));
        sent(&mut progress, 1, 0);
        assert!(progress.window.is_full(9, 0));
    }

    #[test]
    fn a_probe_waits_for_its_answer_and_an_acceptance_ends_it() {
        let mut progress = progress(0, 8, ProgressState::Probe);
        sent(&mut progress, 9, 1);
        assert!(progress.is_probing);
        assert_eq!(progress.next, Index(8), "next moves when the follower has accepted");
        progress.revive(Index(9));
        assert!(!progress.is_probing, "a heartbeat's answer allows another one");
        progress.accept(Index(9), || Index(1));
        assert_eq!(progress.state, ProgressState::Replicate);
        assert_eq!((progress.matched, progress.next), (Index(9), Index(10)));
    }

    #[test]
    fn a_refusal_counts_once_and_never_below_what_is_matched() {
        let mut probing = progress(0, 8, ProgressState::Probe);
        assert!(!probing.reject(Index(5), Index(2)), "not what was asked");
        assert!(probing.reject(Index(7), Index(2)));
        assert_eq!(probing.next, Index(3));
        assert!(!probing.reject(Index(7), Index(2)), "the same answer again");
        // A hint beyond the refused index cannot move the probe forward for ever.
        assert!(probing.reject(Index(2), Index(6)));
        assert_eq!(probing.next, Index(2));

        let mut replicating = progress(4, 9, ProgressState::Replicate);
        sent(&mut replicating, 9, 1);
        assert!(!replicating.reject(Index(4), Index(2)), "it has that");
        assert!(replicating.reject(Index(8), Index(2)));
        assert_eq!((replicating.state, replicating.next), (ProgressState::Probe, Index(5)));
        assert_eq!(replicating.window.count(), 0);
    }

    /// Covers DD-snapshot-via-append-behind.
    #[test]
    fn a_snapshot_ends_when_the_follower_is_within_the_log() {
        let mut progress = progress(0, 1, ProgressState::Probe);
        progress.await_snapshot(Index(20));
        progress.accept(Index(5), || Index(11));
        assert_eq!(progress.state, ProgressState::Snapshot { index: Index(20) });
        progress.accept(Index(10), || Index(11));
        assert_eq!(progress.state, ProgressState::Replicate);
        assert_eq!(progress.next, Index(11));
    }
}
