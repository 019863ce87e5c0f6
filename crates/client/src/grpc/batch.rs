//! Many commands in the messages of one stream.
//!
//! ```text
//!  call ─▶ queue ─▶ Gather ─▶ message ─────▶ store
//!            ▲        │ moves to                │
//!            │        ▼                         │
//!          sweep   pending ◀── by id ── message ┘ ─▶ caller
//! ```
//!
//! Nobody waits for others to come: a message takes what has gathered while the one before it was
//! being written. With one caller that is one command, with hundreds it is tens, and a server does
//! in one go what they ask.
//!
//! When the stream breaks, what was in `pending` may have been executed and is lost, and what was
//! still queued never left. The next command opens the stream again.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::stream::Stream;
use futures_util::{FutureExt, select_biased};
use kiva_base::clock::BoxFuture;
use kiva_base::{Clock, Moment};
use kiva_proto::tikvpb::batch_commands_request::Request as Frame;
use kiva_proto::tikvpb::batch_commands_request::request::Cmd as Request;
use kiva_proto::tikvpb::batch_commands_response::response::Cmd as Response;
use kiva_proto::tikvpb::tikv_client::TikvClient;
use kiva_proto::tikvpb::{BatchCommandsRequest, BatchCommandsResponse};
use tokio::sync::Notify;
use tonic::Streaming;
use tonic::transport::Channel;

use super::{call_error, describe};
use crate::limits::{BATCH_COMMANDS_MAX, BATCH_IN_FLIGHT_MAX};
use crate::rpc::{CallError, Spawn};
use crate::wire::fault::malformed;

/// How often commands are looked at whose time may be over. One timer for all of them: a timer per
/// command costs as much as sending it.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);
/// Name of the call, for people.
const NAME: &str = "BatchCommands";

/// A handle to one stream. The stream ends when the last handle is dropped.
pub(crate) struct BatchStream {
    shared: Arc<Shared>,
}

/// What callers, the outgoing and the incoming half share.
struct Shared {
    /// A plain lock, held for a push or a pop.
    state: Mutex<State>,
    /// Wakes [`run`] when there is something to open a stream for, or nobody left.
    work: Notify,
}

/// Invariants:
/// - An id is in `pending` or its command in `queue`, never both.
/// - `pending` has at most [`BATCH_IN_FLIGHT_MAX`] ids, and `queue` as many commands.
/// - Only the [`Gather`] of the current `generation` takes from `queue`.
struct State {
    queue: VecDeque<Entry>,
    pending: BTreeMap<u64, Waiting>,
    next_id: u64,
    /// Raised when a stream breaks.
    generation: u64,
    /// The outgoing half, when it found nothing to do.
    gather: Option<Waker>,
    is_closed: bool,
}

struct Entry {
    request: Request,
    waiting: Waiting,
}

struct Waiting {
    answer: oneshot::Sender<Result<Response, CallError>>,
    deadline: Moment,
}

impl Drop for BatchStream {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.is_closed = true;
        let gather = state.gather.take();
        drop(state);
        self.shared.work.notify_one();
        if let Some(gather) = gather {
            gather.wake();
        }
    }
}

impl BatchStream {
    /// A stream over a connection. Opens with the first command.
    pub(crate) fn open(
        client: TikvClient<Channel>,
        clock: Arc<dyn Clock>,
        spawn: &dyn Spawn,
    ) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: VecDeque::new(),
                pending: BTreeMap::new(),
                next_id: 0,
                generation: 0,
                gather: None,
                is_closed: false,
            }),
            work: Notify::new(),
        });
        spawn.spawn(Box::pin(run(shared.clone(), client, clock)));
        Self { shared }
    }

    /// Queues a command; the future is ready with its response, or soon after `deadline`.
    pub(crate) fn call(
        &self,
        request: Request,
        deadline: Moment,
    ) -> impl Future<Output = Result<Response, CallError>> + Send + 'static {
        let (answer, receiver) = oneshot::channel();
        let mut state = self.shared.state();
        let is_full = state.queue.len() >= BATCH_IN_FLIGHT_MAX;
        if !is_full {
            let waiting = Waiting { answer, deadline };
            state.queue.push_back(Entry { request, waiting });
        }
        let gather = state.gather.take();
        let is_first = state.queue.len() == 1;
        drop(state);
        match gather {
            Some(gather) => gather.wake(),
            None if is_first => self.shared.work.notify_one(),
            None => {}
        }
        async move {
            if is_full {
                let why = format!("{BATCH_IN_FLIGHT_MAX} commands wait already");
                return Err(CallError::Unsent(why));
            }
            // The runner drops senders only when the runtime stops it.
            let stopped = || CallError::Lost("the client is closing".into());
            receiver.await.unwrap_or_else(|_| Err(stopped()))
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands responses to those who wait for them.
    fn dispatch(&self, message: BatchCommandsResponse) {
        let mut state = self.state();
        for (id, response) in message.request_ids.into_iter().zip(message.responses) {
            // Whoever is not there any more was told already that the answer is lost.
            if let Some(waiting) = state.pending.remove(&id) {
                let response = response.cmd.ok_or(malformed("an empty response"));
                let _ = waiting.answer.send(response);
            }
        }
        // There is room again, if that was what the outgoing half waited for.
        let gather = match state.queue.is_empty() {
            true => None,
            false => state.gather.take(),
        };
        drop(state);
        if let Some(gather) = gather {
            gather.wake();
        }
    }

    /// Tells those whose time is over.
    fn sweep(&self, now: Moment) {
        let mut state = self.state();
        state.queue.retain_mut(|entry| {
            let is_over = entry.waiting.deadline <= now;
            if is_over {
                entry.waiting.fail(CallError::Unsent("no turn in time".into()));
            }
            !is_over
        });
        state.pending.retain(|_, waiting| {
            let is_over = waiting.deadline <= now;
            if is_over {
                waiting.fail(CallError::Lost("no answer in time".into()));
            }
            !is_over
        });
    }

    /// Ends the current stream: nothing more is taken by its outgoing half, and those whose command
    /// it took are told why. What is queued waits for the next stream.
    fn end_stream(&self, error: &CallError) {
        let mut state = self.state();
        state.generation += 1;
        state.gather = None;
        let pending = std::mem::take(&mut state.pending);
        drop(state);
        for mut waiting in pending.into_values() {
            waiting.fail(error.clone());
        }
    }

    /// Tells those in the queue that there will be no stream for them.
    fn turn_away(&self, error: &CallError) {
        let error = match error {
            // What became of the others is nothing to those who never left.
            CallError::Lost(why) => &CallError::Unsent(why.clone()),
            error => error,
        };
        let queue = std::mem::take(&mut self.state().queue);
        for mut entry in queue {
            entry.waiting.fail(error.clone());
        }
    }

    fn is_closed(&self) -> bool {
        self.state().is_closed
    }
}

impl Waiting {
    fn fail(&mut self, error: CallError) {
        let (gone, _) = oneshot::channel();
        let answer = std::mem::replace(&mut self.answer, gone);
        let _ = answer.send(Err(error));
    }
}

/// Opens the stream whenever there is something to send, until nobody is left.
async fn run(shared: Arc<Shared>, mut client: TikvClient<Channel>, clock: Arc<dyn Clock>) {
    let mut sweeper = Sweeper { timer: clock.sleep(SWEEP_INTERVAL), clock, shared };
    let shared = sweeper.shared.clone();
    while !shared.is_closed() {
        if shared.state().queue.is_empty() {
            shared.work.notified().await;
            continue;
        }
        let gather = Gather {
            shared: shared.clone(),
            generation: shared.state().generation,
            clock: sweeper.clock.clone(),
        };
        match sweeper.until(client.batch_commands(gather)).await {
            Ok(response) => {
                let error = sweeper.receive(response.into_inner()).await;
                shared.end_stream(&error);
            }
            Err(status) => {
                let error = call_error(&status, NAME);
                shared.end_stream(&error);
                shared.turn_away(&error);
            }
        }
    }
}

/// Waits on behalf of a stream, and looks now and then for commands whose time is over.
struct Sweeper {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    timer: BoxFuture<'static, ()>,
}

impl Sweeper {
    /// Takes what arrives until the stream ends; says how it did.
    async fn receive(&mut self, mut incoming: Streaming<BatchCommandsResponse>) -> CallError {
        loop {
            match self.until(incoming.message()).await {
                Ok(Some(message)) => self.shared.dispatch(message),
                Ok(None) => return CallError::Lost("the store has closed the stream".into()),
                // The stream had been opened, so its messages were not turned away unread.
                Err(status) => return CallError::Lost(describe(&status)),
            }
        }
    }

    /// Waits for something. The timer comes first: it is cheap to look at, and a busy stream must
    /// not starve it.
    async fn until<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work.fuse());
        loop {
            select_biased! {
                () = (&mut self.timer).fuse() => {
                    self.shared.sweep(self.clock.now());
                    self.timer = self.clock.sleep(SWEEP_INTERVAL);
                }
                output = work => return output,
            }
        }
    }
}

/// The outgoing half: each message takes what is queued.
struct Gather {
    shared: Arc<Shared>,
    generation: u64,
    clock: Arc<dyn Clock>,
}

impl Stream for Gather {
    type Item = BatchCommandsRequest;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.shared.state();
        if state.is_closed || state.generation != self.generation {
            return Poll::Ready(None);
        }
        let room = BATCH_IN_FLIGHT_MAX.saturating_sub(state.pending.len());
        let count = state.queue.len().min(BATCH_COMMANDS_MAX).min(room);
        if count == 0 {
            state.gather = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let now = self.clock.now();
        let mut message = BatchCommandsRequest {
            requests: Vec::with_capacity(count),
            request_ids: Vec::with_capacity(count),
        };
        for _ in 0..count {
            let Some(Entry { request, mut waiting }) = state.queue.pop_front() else {
                break;
            };
            if waiting.deadline <= now {
                waiting.fail(CallError::Unsent("no turn in time".into()));
                continue;
            }
            let id = state.next_id;
            state.next_id += 1;
            state.pending.insert(id, waiting);
            message.request_ids.push(id);
            message.requests.push(Frame { cmd: Some(request) });
        }
        Poll::Ready(Some(message))
    }
}
