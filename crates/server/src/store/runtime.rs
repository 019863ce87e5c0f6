//! The threads of a store that do not serve sockets: long reads, and reports to the scheduler.

use std::future::Future;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use kiva_kv::Pool;
use tokio::runtime::{Builder, Runtime};

use super::{StoreError, io_error};
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

/// The thread that talks to the scheduler while the store serves.
pub(super) struct Reporter(JoinHandle<()>);

impl Reporter {
    pub(super) fn start(reports: impl Future<Output = ()> + Send + 'static) -> io::Result<Self> {
        let runtime = single_threaded()?;
        let thread = thread::Builder::new()
            .name("placement".into())
            .spawn(move || runtime.block_on(reports))?;
        Ok(Self(thread))
    }

    pub(super) fn join(self) {
        if self.0.join().is_err() {
            tracing::error!("the thread that reports to the scheduler has panicked");
        }
    }
}

/// Waits for something that happens before anything serves.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, StoreError> {
    let runtime = single_threaded().map_err(io_error("start", "a runtime"))?;
    Ok(runtime.block_on(future))
}

fn single_threaded() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
