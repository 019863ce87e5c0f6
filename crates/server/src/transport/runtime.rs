//! The thread that sends: one, whatever the number of stores.

use std::future::Future;
use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// Runs tasks until it is dropped.
pub(super) struct Tasks {
    /// `None` once it is dropped.
    runtime: Option<Runtime>,
}

/// Starts tasks. A clone starts them on the same thread; after its end they never run.
#[derive(Clone)]
pub(super) struct Spawner(Handle);

impl Tasks {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("transport")
            .enable_all()
            .build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    pub(super) fn spawner(&self) -> Spawner {
        let runtime = self.runtime.as_ref().expect("it goes with its owner");
        Spawner(runtime.handle().clone())
    }
}

impl Spawner {
    /// Runs `task` beside the others.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        // Without waiting, because whoever drops it may be a task of another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
