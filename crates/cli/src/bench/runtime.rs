//! Threads, tasks and time of a benchmark.
#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark is about real time, and its clients are real threads"
)]

use std::future::Future;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

/// Runs `make(0)`, `make(1)`, … on threads of their own, each with a single-threaded runtime, and
/// `beside` on this one; returns when all have finished.
pub(crate) fn on_threads<T, F, B>(
    threads: usize,
    make: impl Fn(usize) -> F + Sync,
    beside: B,
) -> io::Result<(Vec<T>, B::Output)>
where
    T: Send,
    F: Future<Output = T>,
    B: Future,
{
    let single_threaded = || Builder::new_current_thread().enable_all().build();
    let here = single_threaded()?;
    let runtimes = (0..threads).map(|_| single_threaded()).collect::<io::Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let make = &make;
        let mut handles = Vec::new();
        for (position, runtime) in runtimes.into_iter().enumerate() {
            let run = move || runtime.block_on(make(position));
            let builder = thread::Builder::new().name(format!("bench-{position}"));
            handles.push(builder.spawn_scoped(scope, run)?);
        }
        let beside = here.block_on(beside);
        let results = handles.into_iter().map(|handle| match handle.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        Ok((results.collect(), beside))
    })
}

/// Runs tasks beside each other to their ends.
pub(crate) async fn together<F>(tasks: impl IntoIterator<Item = F>) -> Vec<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let mut running = JoinSet::new();
    for task in tasks {
        running.spawn(task);
    }
    running.join_all().await
}

/// Now.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Processor time that this process has used, in all its threads.
pub(crate) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}
