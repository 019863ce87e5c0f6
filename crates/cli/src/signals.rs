//! Ctrl-C and SIGTERM, which mean the same: finish.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens from the moment it is made, so that nothing is missed between start and wait.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Takes both signals over. Needs a tokio runtime.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Ready when one of them came.
    pub(crate) async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Whether one of them came by now.
    pub(crate) async fn came(&mut self) -> bool {
        tokio::select! {
            biased;
            () = self.received() => true,
            // Lets the runtime look once at what has happened.
            () = tokio::task::yield_now() => false,
        }
    }
}
