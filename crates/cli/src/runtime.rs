//! The runtime of the main thread.

use std::future::Future;
use std::io;

use tokio::runtime::Builder;

/// Runs `future` to its end on this thread. Servers and benchmarks have runtimes of their own.
pub(crate) fn block_on<F: Future>(future: F) -> io::Result<F::Output> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future))
}
