//! Puts the loops on threads.
//!
//! | thread | does |
//! |---|---|
//! | `loop-N` | store loop *N*, and applies what its regions commit |
//! | `log-N` | in turn: one write and one sync for all that gathered, two syncs at a time |
//! | `task` | installs snapshots and clears away what removed peers had |
//! | `flush` | makes `data` durable now and then, so that the log can be cut |
//!
//! Up to four cores there is one store loop, from there on one per four cores. When one of these
//! threads ends before it was asked to, the others end too, and [`Threads::start`]'s `alive` is
//! dropped: half a store is worse than none.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kiva_base::Clock;
use kiva_engine::Engine;

use crate::apply::Apply;
use crate::durable;
use crate::limits::{FLUSH_INTERVAL, FLUSH_LOG_BYTES, FLUSH_LOOK, STOP_GRACE, SYNCS_MAX};
use crate::log::{Log, LogBatch, LogWriteError, Written};
use crate::placement::Placement;
use crate::store::{AfterSync, Mailbox, Outbox, Store, StoreMsg};
use crate::task::Task;
use crate::transport::Transport;

/// How many store loops a machine of this many cores gets.
pub fn loops(cores: usize) -> usize {
    (cores / 4).max(1)
}

/// One loop and what it talks to.
pub struct Loop {
    /// Its core.
    pub store: Store,
    /// The apply core of its regions.
    pub apply: Apply,
    /// What comes in.
    pub mailbox: Mailbox,
    /// The way to other stores.
    pub transport: Box<dyn Transport>,
    /// The way to the scheduler.
    pub placement: Box<dyn Placement>,
}

/// The threads of a store's replicas.
#[must_use = "dropping it stops the threads"]
pub struct Threads {
    mailboxes: Vec<Mailbox>,
    loops: Vec<JoinHandle<()>>,
    log: Arc<LogQueue>,
    writers: Vec<JoinHandle<()>>,
    worker: Option<JoinHandle<()>>,
    stop_flusher: Option<SyncSender<()>>,
    flusher: Option<JoinHandle<()>>,
}

impl Threads {
    /// Starts them. `alive` is dropped when one of them ends, for whatever reason: before it was
    /// asked to, the engine or the log has failed, and the store is of no more use.
    pub fn start(
        loops: Vec<Loop>,
        engine: Arc<dyn Engine>,
        log: Log,
        clock: Arc<dyn Clock>,
        alive: impl Send + Sync + 'static,
    ) -> io::Result<Self> {
        let alive = Arc::new(Mutex::new(Some(alive)));
        let queue = Arc::new(LogQueue::default());
        let mailboxes: Vec<_> = loops.iter().map(|one| one.mailbox.clone()).collect();
        let mut writers = Vec::new();
        for number in 0..SYNCS_MAX {
            let end =
                End { mailboxes: mailboxes.clone(), queue: queue.clone(), alive: alive.clone() };
            let (queue, log, mailboxes) = (queue.clone(), log.clone(), mailboxes.clone());
            let serve = move || write_log(&queue, &log, &mailboxes);
            writers.push(spawn(format!("log-{number}"), end, serve)?);
        }
        let (tasks, waiting) = channel();
        let worker = {
            let end =
                End { mailboxes: mailboxes.clone(), queue: queue.clone(), alive: alive.clone() };
            let (engine, mailboxes) = (engine.clone(), mailboxes.clone());
            spawn("task".into(), end, move || run_tasks(&waiting, &*engine, &mailboxes))?
        };
        let (stop_flusher, stopped) = sync_channel(1);
        let flusher = {
            let end =
                End { mailboxes: mailboxes.clone(), queue: queue.clone(), alive: alive.clone() };
            spawn("flush".into(), end, move || flush(&*engine, &log, &stopped))?
        };
        let mut threads = Vec::new();
        for (number, one) in loops.into_iter().enumerate() {
            let end =
                End { mailboxes: mailboxes.clone(), queue: queue.clone(), alive: alive.clone() };
            let (queue, clock, tasks) = (queue.clone(), clock.clone(), tasks.clone());
            let serve = move || Driver { number, one, queue, tasks, clock }.run();
            threads.push(spawn(format!("loop-{number}"), end, serve)?);
        }
        Ok(Self {
            mailboxes,
            loops: threads,
            log: queue,
            writers,
            worker: Some(worker),
            stop_flusher: Some(stop_flusher),
            flusher: Some(flusher),
        })
    }
}

impl Drop for Threads {
    /// Takes nothing more, lets the loops finish what can be finished soon, and returns when every
    /// waiter has its answer and every thread has ended.
    fn drop(&mut self) {
        self.mailboxes.iter().for_each(Mailbox::close);
        self.loops.drain(..).for_each(join);
        self.log.close();
        self.writers.drain(..).for_each(join);
        // It ends when the last loop has dropped its end of the channel.
        self.worker.take().into_iter().for_each(join);
        drop(self.stop_flusher.take());
        self.flusher.take().into_iter().for_each(join);
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the store has panicked; what it was doing is unknown");
    }
}

/// Takes the others along when a thread ends.
struct End<A> {
    mailboxes: Vec<Mailbox>,
    queue: Arc<LogQueue>,
    alive: Arc<Mutex<Option<A>>>,
}

impl<A> Drop for End<A> {
    fn drop(&mut self) {
        self.mailboxes.iter().for_each(Mailbox::close);
        self.queue.close();
        drop(self.alive.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

fn spawn<A: Send + 'static>(
    name: String,
    end: End<A>,
    serve: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name).spawn(move || {
        let _end = end;
        serve();
    })
}

struct Driver {
    number: usize,
    one: Loop,
    queue: Arc<LogQueue>,
    tasks: Sender<(usize, Task)>,
    clock: Arc<dyn Clock>,
}

impl Driver {
    fn run(mut self) {
        self.serve();
        // Whoever came too late is told by the end of what it waits on.
        self.one.mailbox.close();
        self.one.mailbox.take(&mut VecDeque::new());
    }

    fn serve(&mut self) {
        let mut messages = VecDeque::new();
        let mut stopping = None;
        loop {
            let now = self.clock.now();
            if messages.is_empty() {
                let pause = self.one.store.next_tick().since(now);
                if stopping.is_some() {
                    self.one.mailbox.wait_for_more(pause);
                } else if !self.one.mailbox.wait(pause) {
                    stopping = Some(now + STOP_GRACE);
                }
            }
            self.one.mailbox.take(&mut messages);
            let now = self.clock.now();
            self.one.store.begin(now);
            while let Some(message) = messages.pop_front() {
                self.one.store.handle(message, now);
            }
            let out = self.one.store.end();
            if !self.carry_out(out, &mut messages) {
                return;
            }
            // What came in before the mailbox was closed has been taken by now.
            let is_over = stopping.is_some_and(|end| now >= end || self.one.store.is_idle());
            if stopping.is_some() && self.queue.is_closed() {
                // Nothing will become durable any more.
                return;
            }
            if is_over && messages.is_empty() && self.one.mailbox.is_empty() {
                return;
            }
        }
    }

    /// The log first, because it takes longest. Returns whether the loop goes on.
    fn carry_out(&mut self, out: Outbox, messages: &mut VecDeque<StoreMsg>) -> bool {
        let Outbox { log, after_sync, envelopes, snapshots, apply, tasks, reports, doubts } = out;
        if !log.is_empty() {
            self.queue.push(Job { loop_number: self.number, batch: log, after_sync });
        }
        let transport = &mut self.one.transport;
        if !envelopes.is_empty() {
            envelopes.into_iter().for_each(|(to, envelope)| transport.send(to, envelope));
            transport.flush();
        }
        snapshots.into_iter().for_each(|(to, snapshot)| transport.send_snapshot(to, snapshot));
        if !apply.is_empty() {
            match self.one.apply.handle(apply) {
                Ok(applied) if applied.is_empty() => {}
                Ok(applied) => messages.push_back(StoreMsg::Applied(applied)),
                Err(error) => {
                    tracing::error!(%error, "the engine failed; this store ends");
                    return false;
                }
            }
        }
        for task in tasks {
            // Without its thread the whole store ends.
            let _ = self.tasks.send((self.number, task));
        }
        reports.into_iter().for_each(|report| self.one.placement.report_region(report));
        doubts.into_iter().for_each(|(record, peer)| self.one.placement.ask_region(record, peer));
        true
    }
}

/// What waits for the log writers.
#[derive(Default)]
struct LogQueue {
    state: Mutex<LogState>,
    /// There is something to take, or nothing will come any more.
    changed: Condvar,
}

#[derive(Default)]
struct LogState {
    jobs: Vec<Job>,
    is_closed: bool,
    /// From taking jobs until they are written one writer has its turn, so that the log has them
    /// in their order. The others sleep meanwhile, unless they sync.
    is_writing: bool,
}

/// One round of one loop.
struct Job {
    loop_number: usize,
    batch: LogBatch,
    after_sync: Vec<AfterSync>,
}

/// A writer's turn, until it is dropped.
struct Turn<'a>(&'a LogQueue);

impl LogQueue {
    fn push(&self, job: Job) {
        let mut state = self.lock();
        state.jobs.push(job);
        // Whoever was woken for the first takes all, and whoever is writing looks again.
        let is_first = state.jobs.len() == 1 && !state.is_writing;
        drop(state);
        if is_first {
            self.changed.notify_one();
        }
    }

    /// All that gathered, with the turn to write it; `None` when there will be no more.
    fn take(&self) -> Option<(Vec<Job>, Turn<'_>)> {
        let waiting =
            |state: &mut LogState| state.is_writing || (state.jobs.is_empty() && !state.is_closed);
        let mut state =
            self.changed.wait_while(self.lock(), waiting).unwrap_or_else(PoisonError::into_inner);
        let jobs = mem::take(&mut state.jobs);
        if jobs.is_empty() {
            return None;
        }
        state.is_writing = true;
        Some((jobs, Turn(self)))
    }

    fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_writing = false;
        let (is_due, is_closed) = (!state.jobs.is_empty(), state.is_closed);
        drop(state);
        if is_closed {
            self.0.changed.notify_all();
        } else if is_due {
            self.0.changed.notify_one();
        }
    }
}

/// Writes rounds until there are no more or the log fails: one write and one sync for all that
/// gathered while the others were on their way.
///
/// Receipts may come out of order. Each covers those before it, and so does a sync.
fn write_log(queue: &LogQueue, log: &Log, mailboxes: &[Mailbox]) {
    while let Some(written) = write_next(queue, log) {
        let synced = written.and_then(|(jobs, end)| log.sync(&end).map(|()| jobs));
        let jobs = match synced {
            Ok(jobs) => jobs,
            Err(error) => {
                tracing::error!(%error, "the log failed; this store ends");
                return;
            }
        };
        for Job { loop_number, after_sync, .. } in jobs {
            mailboxes[loop_number].tell(StoreMsg::Synced(after_sync));
        }
    }
}

/// Writes all that gathered; `None` when there will be no more.
fn write_next(queue: &LogQueue, log: &Log) -> Option<Result<(Vec<Job>, Written), LogWriteError>> {
    let (jobs, _turn) = queue.take()?;
    let mut end = None;
    for job in &jobs {
        match log.write(&job.batch) {
            Ok(written) => end = Some(written),
            Err(error) => return Some(Err(error)),
        }
    }
    end.map(|end| Ok((jobs, end)))
}

/// Does what takes long, one after the other.
fn run_tasks(tasks: &Receiver<(usize, Task)>, engine: &dyn Engine, mailboxes: &[Mailbox]) {
    while let Ok((loop_number, task)) = tasks.recv() {
        match task.run(engine) {
            Ok(done) => mailboxes[loop_number].tell(StoreMsg::Applied(vec![done])),
            Err(error) => {
                tracing::error!(%error, "the engine failed; this store ends");
                return;
            }
        }
    }
}

/// Flushes when the log has grown or time has passed, and before the end. A log that has become
/// idle is marked, so that what it holds is vouched for.
fn flush(engine: &dyn Engine, log: &Log, stopped: &Receiver<()>) {
    let mut waited = Duration::ZERO;
    let (mut flushed, mut seen) = (log.position(), log.position());
    loop {
        let is_over = !matches!(stopped.recv_timeout(FLUSH_LOOK), Err(RecvTimeoutError::Timeout));
        waited += FLUSH_LOOK;
        let now = log.position();
        let grown = now.0.saturating_sub(flushed.0);
        let is_due = grown >= FLUSH_LOG_BYTES || (waited >= FLUSH_INTERVAL && grown > 0);
        let done = if is_due || is_over {
            waited = Duration::ZERO;
            flushed = now;
            durable::advance(engine, log)
        } else {
            Ok(())
        };
        let is_idle = now == seen || is_over;
        let done = if is_idle { done.and_then(|()| Ok(log.mark().map(drop)?)) } else { done };
        if let Err(error) = done {
            tracing::error!(%error, "what is applied cannot be made durable; this store ends");
            return;
        }
        if is_over {
            return;
        }
        seen = log.position();
    }
}
