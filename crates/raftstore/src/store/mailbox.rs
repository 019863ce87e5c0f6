//! The mailbox of a store loop: bounded in bytes, many senders, one receiver.
//!
//! Three kinds of senders are treated alike in order and differently when it is full. Requests of
//! clients are refused with `ServerIsBusy`. Messages of other stores are dropped, because consensus
//! sends them again. What the store tells itself (receipts, applied entries, steps) is always
//! taken: there is never more of it than work was handed out.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kiva_base::RegionError;
use kiva_raft::{Body, Payload};

use super::message::StoreMsg;
use crate::limits::MAILBOX_BYTES_MAX;
use crate::snapshot::Received;
use crate::transport::{Content, Envelope, Feedback};

/// The sending and the receiving end. Clones share it.
#[derive(Clone, Default)]
pub struct Mailbox {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// For the one thread that has nothing else to do.
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    messages: VecDeque<StoreMsg>,
    /// Of requests and envelopes that wait.
    bytes: usize,
    is_closed: bool,
}

/// What a message costs besides its payload: its place in the queue and what it keeps alive.
const MESSAGE_BYTES: usize = 128;

impl Mailbox {
    /// Empty and open.
    pub fn new() -> Self {
        Self::default()
    }

    /// A request of a client. A refused one is dropped, and what it held with it.
    pub fn request(&self, message: StoreMsg) -> Result<(), RegionError> {
        let state = self.lock();
        if state.is_closed {
            let reason = "store is shutting down".to_owned();
            return Err(RegionError::Other(reason));
        }
        if state.bytes > MAILBOX_BYTES_MAX {
            let reason = format!("more than {MAILBOX_BYTES_MAX} bytes of requests wait");
            return Err(RegionError::ServerIsBusy { reason });
        }
        self.push(state, message);
        Ok(())
    }

    /// What this store tells itself. Taken when it is closed, too: what was begun is finished.
    pub fn tell(&self, message: StoreMsg) {
        self.push(self.lock(), message);
    }

    pub(crate) fn deliver(&self, envelope: Envelope) {
        let state = self.lock();
        if !state.is_closed && state.bytes <= MAILBOX_BYTES_MAX {
            self.push(state, StoreMsg::Envelope(envelope));
        }
    }

    pub(crate) fn deliver_snapshot(&self, envelope: Envelope, file: Received) {
        self.tell(StoreMsg::Snapshot(envelope, file));
    }

    pub(crate) fn report(&self, feedback: Feedback) {
        self.tell(StoreMsg::Feedback(feedback));
    }

    /// Takes all that is there, into `messages`, without waiting.
    pub fn take(&self, messages: &mut VecDeque<StoreMsg>) {
        let mut state = self.lock();
        state.bytes = 0;
        if messages.is_empty() {
            mem::swap(messages, &mut state.messages);
        } else {
            messages.append(&mut state.messages);
        }
    }

    /// Waits until there is something, the mailbox is closed, or `timeout` has passed. Returns
    /// whether it is still open.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.wait_while(timeout, |state| state.messages.is_empty() && !state.is_closed)
    }

    /// Waits until there is something or `timeout` has passed, also when it is closed.
    pub fn wait_for_more(&self, timeout: Duration) {
        self.wait_while(timeout, |state| state.messages.is_empty());
    }

    fn wait_while(&self, timeout: Duration, waiting: impl FnMut(&mut State) -> bool) -> bool {
        let (state, _) = self
            .shared
            .arrived
            .wait_timeout_while(self.lock(), timeout, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        !state.is_closed
    }

    /// Takes nothing more. What is there can still be taken.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.shared.arrived.notify_one();
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.lock().messages.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn push(&self, mut state: MutexGuard<'_, State>, message: StoreMsg) {
        state.bytes += size_of(&message);
        state.messages.push_back(message);
        // The loop sleeps only when nothing waits, so only the first one has to wake it.
        let is_first = state.messages.len() == 1;
        drop(state);
        if is_first {
            self.shared.arrived.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size_of(message: &StoreMsg) -> usize {
    let payload = match message {
        StoreMsg::Propose(_, write) => write.batch.size(),
        StoreMsg::Envelope(Envelope { content: Content::Raft(message), .. }) => {
            match &message.body {
                Body::Append { slice, .. } => slice.entries().size(),
                Body::Propose { payload: Payload::Command(bytes) } => bytes.len(),
                _ => 0,
            }
        }
        StoreMsg::Envelope(_) | StoreMsg::Read(..) => 0,
        // Of these there is never more than work was handed out.
        _ => return 0,
    };
    MESSAGE_BYTES + payload
}
