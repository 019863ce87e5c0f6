//! The threads that write memtables and merge tables. The only threads of this crate.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use super::Shared;
use super::work::{Job, Role};

/// The threads of one engine.
pub(super) struct Threads(Vec<JoinHandle<()>>);

impl Threads {
    /// Starts so many, at least one. The first one of several only writes, so that no memtable
    /// waits for a merge.
    pub(super) fn start(shared: &Arc<Shared>, count: usize) -> io::Result<Self> {
        let mut threads = Self(Vec::new());
        for position in 0..count.max(1) {
            let role = match position {
                _ if count <= 1 => Role::Both,
                0 => Role::Flush,
                _ => Role::Merge,
            };
            let own = Arc::clone(shared);
            let thread = Builder::new()
                .name(format!("kiva-tree-{position}"))
                .spawn(move || run(&own, role))
                .inspect_err(|_| shared.work.end())?;
            threads.0.push(thread);
        }
        Ok(threads)
    }

    /// Waits until all have ended, which [`end`](super::work::Work::end) makes them do.
    pub(super) fn join(&mut self) {
        for thread in self.0.drain(..) {
            // A panic has poisoned the engine already.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, role: Role) {
    let _fuse = Fuse(shared);
    while let Some(job) = shared.work.next(role) {
        let done = match job {
            Job::Flush => shared.flush_full(),
            Job::Merge => shared.merge(),
        };
        // It has poisoned the engine and ended the work.
        if done.is_err() {
            break;
        }
    }
}

/// Poisons the engine when a thread panics.
struct Fuse<'a>(&'a Shared);

impl Drop for Fuse<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison("a thread that writes or merges tables has panicked");
        }
    }
}
