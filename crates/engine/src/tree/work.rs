//! What the threads of the engine have to do, and how full it is.
//!
//! Work is a flag or a small count, never a queue: asking twice is asking once. Whoever writes
//! tables asks for merging, and merging asks again as long as it finds something to do.
//!
//! Two things fill up: memtables that wait to be written, and runs of tables in the topmost level.
//! Neither may grow without end (the manifest counts runs in one byte), so from some number on
//! writers wait here. Callers that heed [`Health::Pressed`](crate::Health::Pressed) never do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::limits::{
    L0_RUNS_FULL, L0_RUNS_PRESSED, SEALED_MEMTABLES_FULL, SEALED_MEMTABLES_PRESSED,
};

/// One step of a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Job {
    /// Write the sealed memtables to tables.
    Flush,
    /// Merge tables once, if the strategy finds something.
    Merge,
}

/// Which steps a thread takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// The only thread: writing comes first.
    Both,
    /// Writes memtables, so that none waits for a merge.
    Flush,
    /// Merges.
    Merge,
}

/// Shared by the engine and its threads.
#[derive(Default)]
pub(super) struct Work {
    state: Mutex<State>,
    /// There is something to do, or the end has come.
    came: Condvar,
    /// There may be room, or none will come.
    room: Condvar,
    /// What was counted last, for those who only ask.
    sealed: AtomicUsize,
    runs: AtomicUsize,
    /// Held while counting, so that of two counts the later one stays. Counting waits for the
    /// library's lock, and whoever asks for work must not.
    counting: Mutex<()>,
}

#[derive(Default)]
struct State {
    flush: bool,
    /// How many threads should look for something to merge.
    merges: usize,
    /// Nothing more is begun, and nobody waits for room.
    ended: bool,
}

impl Work {
    /// The next step for a thread of this role; `None` at the end. Waits for one.
    pub(super) fn next(&self, role: Role) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.ended {
                return None;
            }
            // A full level takes no further run; its merge comes first.
            if role != Role::Merge && state.flush && !self.is_level_full() {
                state.flush = false;
                return Some(Job::Flush);
            }
            if role != Role::Flush && state.merges > 0 {
                state.merges -= 1;
                return Some(Job::Merge);
            }
            state = self.came.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A memtable is full, or sealed.
    pub(super) fn ask_flush(&self) {
        self.lock().flush = true;
        self.came.notify_all();
    }

    /// So many threads should look for something to merge.
    pub(super) fn ask_merges(&self, threads: usize) {
        let mut state = self.lock();
        state.merges = state.merges.max(threads);
        drop(state);
        self.came.notify_all();
    }

    /// Nothing more is begun. Steps that run go on to their end.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.came.notify_all();
        self.room.notify_all();
    }

    /// One memtable more was sealed.
    pub(super) fn count_sealed(&self) {
        self.sealed.fetch_add(1, Ordering::Relaxed);
    }

    /// Remembers what `count` finds: sealed memtables and runs.
    pub(super) fn recount(&self, count: impl FnOnce() -> (usize, usize)) {
        let order = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        let (sealed, runs) = count();
        self.sealed.store(sealed, Ordering::Relaxed);
        self.runs.store(runs, Ordering::Relaxed);
        drop(order);
        // Taken once, so that nobody is between looking and waiting. A thread may have put off a
        // flush because the level was full.
        drop(self.lock());
        self.came.notify_all();
        self.room.notify_all();
    }

    /// Returns when there is room for one more memtable and one more run, or none will come.
    pub(super) fn wait_for_room(&self) {
        if !self.is_full() {
            return;
        }
        let mut state = self.lock();
        while self.is_full() && !state.ended {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether a pause would do good.
    pub(super) fn is_pressed(&self) -> bool {
        self.sealed.load(Ordering::Relaxed) >= SEALED_MEMTABLES_PRESSED
            || self.runs.load(Ordering::Relaxed) >= L0_RUNS_PRESSED
    }

    fn is_full(&self) -> bool {
        self.sealed.load(Ordering::Relaxed) >= SEALED_MEMTABLES_FULL || self.is_level_full()
    }

    fn is_level_full(&self) -> bool {
        self.runs.load(Ordering::Relaxed) >= L0_RUNS_FULL
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every step leaves the flags whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_level_is_merged_before_another_run_comes() {
        let work = Work::default();
        work.ask_flush();
        work.ask_merges(1);
        work.recount(|| (1, L0_RUNS_FULL));
        assert_eq!(work.next(Role::Both), Some(Job::Merge));
        work.recount(|| (1, 1));
        assert_eq!(work.next(Role::Both), Some(Job::Flush));
        work.end();
        assert_eq!(work.next(Role::Both), None);
    }

    #[test]
    fn pressure_is_told_before_anybody_waits() {
        let work = Work::default();
        for (sealed, runs, pressed, full) in [
            (0, 0, false, false),
            (SEALED_MEMTABLES_PRESSED, 0, true, false),
            (0, L0_RUNS_PRESSED, true, false),
            (SEALED_MEMTABLES_FULL, 0, true, true),
            (0, L0_RUNS_FULL, true, true),
        ] {
            work.recount(|| (sealed, runs));
            assert_eq!((work.is_pressed(), work.is_full()), (pressed, full));
        }
        work.end();
        work.wait_for_room();
    }
}
