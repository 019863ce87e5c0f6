//! The keeper: a thread that saves what nobody waits for, and says what nobody has asked.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};

use tracing::error;

use crate::Scheduler;
use crate::limits::KEEPER_INTERVAL;
use crate::operator::Instruction;

/// A running keeper. Dropped, it stops after one last round.
#[derive(Debug)]
pub struct Keeper {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts a keeper for `scheduler`, which hands `deliver` what leaders should be told. It must
    /// not block; what it drops is said again.
    ///
    /// `alive` is dropped when the thread ends, for whatever reason: before it was asked to, the
    /// disk has failed, and the scheduler is of no more use.
    pub fn start(
        scheduler: Scheduler,
        deliver: impl Fn(Instruction) + Send + 'static,
        alive: impl Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread =
            thread::Builder::new().name("scheduler-keeper".to_owned()).spawn(move || {
                let _alive = alive;
                keep(&scheduler, &deliver, &stopped);
            })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // The thread wakes up when the sender is gone.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // If it panicked it has said so.
            let _ = thread.join();
        }
    }
}

fn keep(scheduler: &Scheduler, deliver: &impl Fn(Instruction), stopped: &mpsc::Receiver<()>) {
    loop {
        let is_last = stopped.recv_timeout(KEEPER_INTERVAL) == Err(RecvTimeoutError::Disconnected);
        if let Err(error) = scheduler.maintain() {
            // A failed disk is final: requests that save are answered with the same error.
            error!(%error, "the scheduler cannot save any more");
            return;
        }
        if is_last {
            return;
        }
        scheduler.patrol().into_iter().for_each(deliver);
    }
}
