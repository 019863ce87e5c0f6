//! Puts the writer on its thread.

use std::io;
use std::thread::{self, JoinHandle};

use super::Router;

/// The thread that writes what is proposed to a [`Router`].
#[must_use = "dropping it waits for the thread"]
pub struct Writer {
    router: Router,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts to serve the queue of `router`. Call it once.
    ///
    /// `alive` is dropped when the thread ends, for whatever reason: before it was asked to, the
    /// engine has failed, and the store is of no more use.
    pub fn start(router: &Router, alive: impl Send + 'static) -> io::Result<Self> {
        let shared = router.shared.clone();
        let serve = move || {
            let _alive = alive;
            shared.serve();
        };
        let thread =
            thread::Builder::new().name(format!("writer-{}", router.store())).spawn(serve)?;
        Ok(Self { router: router.clone(), thread: Some(thread) })
    }
}

impl Drop for Writer {
    /// Refuses further proposals and returns when those that wait are durable and answered.
    fn drop(&mut self) {
        self.router.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the writer has panicked; what it was writing is unknown");
        }
    }
}
