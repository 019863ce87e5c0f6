//! From proposal to applied with tasks and channels: three nodes in one process, no disk, and as
//! many clients as proposals in flight, each of which waits for one before it makes the next.

mod kiva;
mod open;

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};

/// Which library is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flyer {
    /// This crate, with a task for each node.
    Kiva,
    /// Crate `openraft` 0.10.
    Openraft,
}

impl Flyer {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Kiva, Self::Openraft];
}

impl fmt::Display for Flyer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kiva => "kiva",
            Self::Openraft => "openraft",
        })
    }
}

/// A group on a runtime of its own.
pub struct Flight {
    runtime: Runtime,
    cluster: Cluster,
}

#[derive(Clone)]
enum Cluster {
    Kiva(kiva::Cluster),
    Openraft(open::Cluster),
}

impl Cluster {
    async fn propose(&self, command: Bytes) {
        match self {
            Self::Kiva(cluster) => cluster.propose(command).await,
            Self::Openraft(cluster) => cluster.propose(command).await,
        }
    }
}

impl Flight {
    /// Three nodes on this many threads, the first of which leads.
    pub fn new(flyer: Flyer, threads: usize) -> Self {
        let mut builder = match threads {
            1 => Builder::new_current_thread(),
            _ => Builder::new_multi_thread(),
        };
        if threads > 1 {
            builder.worker_threads(threads);
        }
        let runtime = builder.enable_time().build().expect("threads can be started");
        let cluster = runtime.block_on(async {
            match flyer {
                Flyer::Kiva => Cluster::Kiva(kiva::Cluster::start()),
                Flyer::Openraft => Cluster::Openraft(open::Cluster::start().await),
            }
        });
        Self { runtime, cluster }
    }

    /// The time of `count` proposals of 256 bytes, `clients` at a time.
    #[expect(clippy::disallowed_methods, reason = "time is what is measured, of tasks")]
    pub fn time(&self, clients: u64, count: u64) -> Duration {
        let command = Bytes::from(vec![7; 256]);
        self.runtime.block_on(async {
            let start = Instant::now();
            let work: Vec<_> = (0..clients)
                .map(|_| {
                    let (cluster, command) = (self.cluster.clone(), command.clone());
                    tokio::spawn(async move {
                        for _ in 0..count / clients {
                            cluster.propose(command.clone()).await;
                        }
                    })
                })
                .collect();
            for client in work {
                client.await.expect("a client does not panic");
            }
            start.elapsed()
        })
    }
}
