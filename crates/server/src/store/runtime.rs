//! The threads of a store that do not serve sockets: long reads, and reports to the scheduler.

use std::future::Future;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use kiva_kv::Pool;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::limits::READ_QUEUE_MAX;

type Job = Box<dyn FnOnce() + Send>;

/// Threads for reads that would hold up others. They end when the pool is dropped.
pub(super) struct ReadPool {
    jobs: SyncSender<Job>,
}

impl ReadPool {
    pub(super) fn start(threads: usize) -> io::Result<Self> {
        let (jobs, queue) = sync_channel(READ_QUEUE_MAX);
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..threads.max(1) {
            let queue = Arc::clone(&queue);
            let name = format!("read-{number}");
            thread::Builder::new().name(name).spawn(move || work(&queue))?;
        }
        Ok(Self { jobs })
    }
}

impl Pool for ReadPool {
    /// When the queue is full the caller reads by itself, which slows down who asks too much.
    fn run(&self, job: Job) {
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => job(),
        }
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        // The lock is held while waiting: one thread waits for the next job, the others for it.
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}

/// The thread that talks to the scheduler, from before the store serves until it has stopped.
pub(super) struct Courier {
    /// `None` once it is dropped. One worker drives the connection, whoever waits for an answer.
    runtime: Option<Runtime>,
    reports: Option<JoinHandle<()>>,
}

impl Courier {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("placement")
            .enable_all()
            .build()?;
        Ok(Self { runtime: Some(runtime), reports: None })
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it goes with its owner")
    }

    /// Waits for an answer before anything serves.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        question: impl Future<Output = T> + Send + 'static,
    ) -> T {
        // Through a channel of the standard library, because whoever starts a store may be a task
        // of another runtime, and may not block on this one.
        let (sender, answer) = sync_channel(1);
        self.runtime().spawn(async move { sender.send(question.await) });
        answer.recv().expect("the question was asked and is answered once")
    }

    /// Goes on reporting beside what the store does.
    pub(super) fn report(&mut self, reports: impl Future<Output = ()> + Send + 'static) {
        self.reports = Some(self.runtime().spawn(reports));
    }

    /// Waits until the reports have ended.
    pub(super) fn join(mut self) {
        if let Some(reports) = self.reports.take() {
            let ended = self.wait(reports);
            if ended.is_err() {
                tracing::error!("the task that reports to the scheduler has panicked");
            }
        }
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
