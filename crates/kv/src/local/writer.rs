//! The queue of proposals, and what the writer does with one round of them.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use futures_channel::oneshot;
use kiva_base::RegionError;
use kiva_engine::{Snapshot, WriteBatch};

use super::Shared;
use crate::latch::Held;
use crate::limits::{ENTRY_SIZE_MAX, QUEUE_BYTES_MAX};

/// A write on its way to the disk.
pub(super) struct Proposal {
    pub(super) batch: WriteBatch,
    /// Released when the effect can be read, or the proposal is refused.
    pub(super) held: Held,
    /// Told `Ok` when durable, `Err` when nobody knows.
    pub(super) waiter: oneshot::Sender<Result<(), ()>>,
}

/// What waits for the writer, and the newest state that readers may see.
pub(super) struct Queue {
    /// Short critical sections between async tasks and one thread that has to sleep when there is
    /// nothing to do: a plain lock with a condition is the cheapest that does both.
    state: Mutex<State>,
    arrived: Condvar,
    /// Replaced once a round, read by every command.
    published: RwLock<Arc<dyn Snapshot>>,
}

struct State {
    proposals: VecDeque<Proposal>,
    bytes: usize,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Shutting down: what waits is still written.
    Closed,
    /// The engine failed: nothing is accepted, and nothing that waits can be promised.
    Failed,
}

impl Queue {
    pub(super) fn new(durable: Arc<dyn Snapshot>) -> Self {
        let state = State { proposals: VecDeque::new(), bytes: 0, phase: Phase::Open };
        Self { state: Mutex::new(state), arrived: Condvar::new(), published: RwLock::new(durable) }
    }

    pub(super) fn published(&self) -> Arc<dyn Snapshot> {
        self.published.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a proposal behind the others. A refused one is not executed, now or later.
    pub(super) fn push(&self, proposal: Proposal) -> Result<(), RegionError> {
        let mut state = self.lock();
        match state.phase {
            Phase::Open => {}
            Phase::Closed => return Err(RegionError::Other("store is shutting down".into())),
            Phase::Failed => {
                return Err(RegionError::Other(
                    "the engine of this store has failed and accepts no more writes".into(),
                ));
            }
        }
        if state.bytes > QUEUE_BYTES_MAX {
            let reason = format!("more than {QUEUE_BYTES_MAX} bytes wait to be written");
            return Err(RegionError::ServerIsBusy { reason });
        }
        state.bytes += proposal.batch.size();
        state.proposals.push_back(proposal);
        // The writer sleeps only when the queue is empty, so only the first one has to wake it.
        let first = state.proposals.len() == 1;
        drop(state);
        if first {
            self.arrived.notify_one();
        }
        Ok(())
    }

    pub(super) fn close(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Closed;
        }
        drop(state);
        self.arrived.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for proposals and takes all that gathered, up to the size of an entry; `None` when
    /// there will be no more.
    fn take(&self) -> Option<Vec<Proposal>> {
        let state = self.lock();
        let mut state = self
            .arrived
            .wait_while(state, |state| state.proposals.is_empty() && state.phase == Phase::Open)
            .unwrap_or_else(PoisonError::into_inner);
        let mut taken = 0;
        let mut round = Vec::with_capacity(state.proposals.len());
        while let Some(proposal) = state.proposals.pop_front() {
            taken += proposal.batch.size();
            round.push(proposal);
            if taken >= ENTRY_SIZE_MAX {
                break;
            }
        }
        state.bytes -= taken;
        (!round.is_empty()).then_some(round)
    }
}

impl Shared {
    /// Writes rounds until the queue is closed and empty, or the engine fails.
    pub(super) fn serve(&self) {
        while let Some(round) = self.queue.take() {
            if !self.write_round(round) {
                return;
            }
        }
    }

    /// One write and one flush for a whole round; then publish, release, answer, in this order.
    fn write_round(&self, mut round: Vec<Proposal>) -> bool {
        let mut batch = mem::take(&mut round[0].batch);
        round[1..].iter().for_each(|proposal| batch.append(&proposal.batch));
        match self.write(&batch) {
            Ok(snapshot) => {
                let mut published =
                    self.queue.published.write().unwrap_or_else(PoisonError::into_inner);
                let before = mem::replace(&mut *published, snapshot);
                drop(published);
                drop(before);
                for Proposal { held, waiter, .. } in round {
                    drop(held);
                    // Who hung up is not told; the write stands.
                    let _ = waiter.send(Ok(()));
                }
                true
            }
            Err(error) => {
                tracing::error!(%error, "a write failed; this store accepts no more of them");
                let mut state = self.queue.lock();
                state.phase = Phase::Failed;
                // These were never handed to the engine, but a failed flush says nothing good
                // about what readers may see, so nobody is told more than that it is unknown.
                round.extend(mem::take(&mut state.proposals));
                drop(state);
                round.into_iter().for_each(|proposal| {
                    let _ = proposal.waiter.send(Err(()));
                });
                false
            }
        }
    }
}
