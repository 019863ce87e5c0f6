//! Timestamps for many from one request.
//!
//! One request is on its way at a time. Whoever wants a timestamp meanwhile waits, and the next
//! request asks for as many as there are waiting. Nobody waits for a timer, and a thousand
//! transactions cost the scheduler what one does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_channel::oneshot;
use kiva_base::Timestamp;
use kiva_base::codec::DecodeError;

use crate::core::Core;
use crate::error::SchedulerError;
use crate::limits::TIMESTAMPS_PER_CALL;
use crate::rpc::SchedulerCallError;

/// Those who wait for a timestamp.
///
/// A plain lock, held for a push or a swap and never while anything is waited for.
#[derive(Debug, Default)]
pub(crate) struct Tso {
    state: Mutex<State>,
}

/// Invariants:
/// - `is_running` exactly while a task runs [`rounds`].
/// - `last` is not below any timestamp handed out.
#[derive(Debug, Default)]
struct State {
    waiting: Vec<Waiter>,
    is_running: bool,
    last: Timestamp,
}

type Waiter = oneshot::Sender<Result<Timestamp, Drawn>>;

/// Why a round had none.
#[derive(Debug, Clone)]
pub(crate) enum Drawn {
    /// The call failed.
    Failed(SchedulerCallError),
    /// The answer contradicts an earlier one.
    WentBack(SchedulerError),
}

impl Tso {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks for a timestamp: ready with the next round that starts.
pub(crate) fn draw(core: &Arc<Core>) -> oneshot::Receiver<Result<Timestamp, Drawn>> {
    let (waiter, receiver) = oneshot::channel();
    let mut state = core.tso.state();
    state.waiting.push(waiter);
    if !state.is_running {
        state.is_running = true;
        drop(state);
        // A task of its own: a waiter that is dropped must not take the others' round along.
        core.spawn.spawn(Box::pin(rounds(core.clone())));
    }
    receiver
}

/// One request after another until nobody waits.
async fn rounds(core: Arc<Core>) {
    while let Some(waiters) = next_round(&core.tso) {
        let count = waiters.len() as u32;
        let drawn = core.scheduler.timestamps(count).await;
        let first = core.tso.accept(drawn, count);
        for (i, waiter) in (0..).zip(waiters) {
            // A waiter that has gone away leaves a gap, which means nothing.
            let _ = waiter.send(first.clone().map(|first| Timestamp(first.0 + i)));
        }
    }
}

/// Those whose turn it is; `None` when nobody waits, and then no task runs.
fn next_round(tso: &Tso) -> Option<Vec<Waiter>> {
    let mut state = tso.state();
    if state.waiting.is_empty() {
        state.is_running = false;
        return None;
    }
    let count = state.waiting.len().min(TIMESTAMPS_PER_CALL);
    let later = state.waiting.split_off(count);
    Some(std::mem::replace(&mut state.waiting, later))
}

impl Tso {
    /// The first of the timestamps drawn, after a look at whether they can be right.
    fn accept(
        &self,
        drawn: Result<Timestamp, SchedulerCallError>,
        count: u32,
    ) -> Result<Timestamp, Drawn> {
        let last = drawn.map_err(Drawn::Failed)?;
        let before = u64::from(count - 1);
        if last.logical() < before {
            let error = DecodeError::Malformed("a batch of timestamps");
            return Err(Drawn::Failed(error.into()));
        }
        let first = Timestamp(last.0 - before);
        let mut state = self.state();
        if first <= state.last {
            return Err(Drawn::WentBack(SchedulerError::WentBack { last: state.last, got: first }));
        }
        state.last = last;
        Ok(first)
    }
}
