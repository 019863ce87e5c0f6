//! What waits for one store, and the stream of frames that empties it.

use std::collections::VecDeque;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::Stream;
use kiva_proto::kivapb::{FramesRequest, Greeting};
use kiva_raftstore::transport::Envelope;
use kiva_raftstore::wire::encode_frames;

use crate::limits::{FRAME_BYTES, FRAME_BYTES_MAX};

/// Envelopes for one store, in the order in which each loop sent them.
///
/// Invariants:
/// - `bytes` is the sum of the sizes in `envelopes`.
/// - Only the newest stream takes: an older one belongs to a connection that is gone.
#[derive(Default)]
pub(super) struct Queue {
    /// Held while envelopes are moved in and out, never while they are encoded.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    envelopes: VecDeque<(usize, Envelope)>,
    bytes: usize,
    /// How many streams there were.
    streams: u64,
    /// Whoever waits for something to take: the link, or its stream.
    waker: Option<Waker>,
}

impl Queue {
    /// Adds what fits into `bytes_max` and returns how many did not.
    pub(super) fn push(
        &self,
        envelopes: impl Iterator<Item = (usize, Envelope)>,
        bytes_max: usize,
    ) -> usize {
        let mut state = self.lock();
        let mut dropped = 0;
        for (size, envelope) in envelopes {
            // What is larger than a message may be would never arrive.
            if state.bytes + size > bytes_max || size > FRAME_BYTES_MAX {
                dropped += 1;
                continue;
            }
            state.bytes += size;
            state.envelopes.push_back((size, envelope));
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        dropped
    }

    /// Ready when something waits.
    pub(super) fn poll_filled(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.envelopes.is_empty() {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// A stream of what waits and what comes, behind a greeting. It ends when another one is
    /// opened or the queue is [cleared](Self::clear).
    pub(super) fn open(self: &Arc<Self>, greeting: Greeting) -> Frames {
        let mut state = self.lock();
        state.streams += 1;
        let number = state.streams;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        let queue = Arc::clone(self);
        Frames { queue, number, greeting: Some(greeting), ready: VecDeque::new() }
    }

    /// Ends the stream, and drops what waits.
    pub(super) fn clear(&self) {
        let mut state = self.lock();
        state.streams += 1;
        state.bytes = 0;
        let dropped = mem::take(&mut state.envelopes);
        let waker = state.waker.take();
        drop(state);
        drop(dropped);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// About a frame's worth; `None` when this is not the newest stream.
    fn poll_take(&self, stream: u64, context: &Context<'_>) -> Poll<Option<Vec<Envelope>>> {
        let mut state = self.lock();
        if state.streams != stream {
            return Poll::Ready(None);
        }
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some((size, envelope)) = state.envelopes.pop_front() {
            if bytes + size > FRAME_BYTES && !taken.is_empty() {
                state.envelopes.push_front((size, envelope));
                break;
            }
            bytes += size;
            taken.push(envelope);
        }
        state.bytes -= bytes;
        if taken.is_empty() {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Some(taken))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The messages of one stream, made when the connection has room for one.
pub(super) struct Frames {
    queue: Arc<Queue>,
    number: u64,
    /// Until it is sent.
    greeting: Option<Greeting>,
    /// One at most, unless the envelopes were larger than they seemed.
    ready: VecDeque<Bytes>,
}

impl Stream for Frames {
    type Item = FramesRequest;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(greeting) = self.greeting.take() {
            let hello = FramesRequest { greeting: Some(greeting), ..Default::default() };
            return Poll::Ready(Some(hello));
        }
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Poll::Ready(Some(FramesRequest { greeting: None, frame }));
            }
            match self.queue.poll_take(self.number, context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(envelopes)) => {
                    self.ready.extend(encode_frames(&envelopes, FRAME_BYTES_MAX));
                }
            }
        }
    }
}
