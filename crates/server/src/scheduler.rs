//! One scheduler, assembled: directory, engine, services, keeper.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kiva_base::{ClusterId, KeyRange};
use kiva_engine::tree::{self, TreeEngine};
use kiva_engine::{Engine, EngineError};
use kiva_scheduler::regions::RegionReport;
use kiva_scheduler::runtime::Keeper;
use kiva_scheduler::{OpenError, Options, Policy, Scheduler};

use crate::clock::SystemClock;
use crate::config::{ConfigError, SchedulerConfig};
use crate::http;
use crate::limits::{SCHEDULER_CACHE_BYTES, SCHEDULER_MEMTABLE_BYTES};
use crate::runtime::{self, Doors, Serving, Shutdown, cores, random_seed, serve};
use crate::service::scheduler::{Membership, SchedulerService};

/// Between two looks whether every region is led. An election takes a hundred of them.
const LEADERS_LOOK: Duration = Duration::from_millis(10);
/// Looks after which somebody who waits is told why: ten seconds.
const LOOKS_PER_WORD: u32 = 1_000;

/// Folder of the engine inside the data directory.
const ENGINE_FOLDER: &str = "data";

/// Why a scheduler did not start, or did not stop well.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    /// The settings cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file, a thread or a socket.
    #[error("{action} {what}: {source}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What the engine holds cannot be used.
    #[error("{path}: {source}", path = path.display())]
    Open {
        /// The data directory.
        path: PathBuf,
        /// Why not.
        source: OpenError,
    },
}

/// A scheduler that serves.
#[must_use = "a scheduler runs until it is joined"]
pub struct RunningScheduler {
    scheduler: Scheduler,
    serving: Serving,
    keeper: Keeper,
    failure: Shutdown,
    engine: Arc<TreeEngine>,
}

/// Starts a scheduler on a socket that is already bound, and returns when it serves. It stops when
/// `shutdown` is requested; then [`RunningScheduler::join`].
pub fn run(
    config: &SchedulerConfig,
    listener: TcpListener,
    shutdown: Shutdown,
) -> Result<RunningScheduler, SchedulerError> {
    config.validate()?;
    let address = listener.local_addr().map_err(io_error("read the address of", "a socket"))?;
    let engine = open_engine(config)?;
    let options = Options {
        cluster_id_if_new: ClusterId::new(random_seed()).expect("a seed is never zero"),
        settings: config.settings()?,
    };
    let scheduler = Scheduler::open(engine.clone(), Arc::new(SystemClock), options)
        .map_err(|source| SchedulerError::Open { path: config.data_dir.clone(), source })?;
    let advertised = config.advertise_addr.clone().unwrap_or_else(|| address.to_string());
    let membership = Membership {
        name: config.name.clone(),
        client_url: http::url(&advertised),
        peer_url: http::url(config.advertised_peer_addr()),
    };
    let service = SchedulerService::new(scheduler.clone(), membership, shutdown.clone());
    if let Some(millis) = config.store_down_ms {
        let store_down = Duration::from_millis(millis.into());
        scheduler.set_policy(Policy { store_down })?;
    }
    let (alive, failure) = runtime::shutdown();
    let deliver = {
        let service = service.clone();
        move |instruction| service.tell(instruction)
    };
    let keeper = Keeper::start(scheduler.clone(), deliver, alive)
        .map_err(io_error("start", "the thread that saves in the background"))?;
    let make = move || Doors::new(service.clone().into_routes(), http::routes(service.clone()));
    let serving = serve("scheduler", listener, cores(), make, shutdown)
        .map_err(io_error("serve", &address.to_string()))?;
    Ok(RunningScheduler { scheduler, serving, keeper, failure, engine })
}

impl RunningScheduler {
    /// Where it serves clients.
    pub fn address(&self) -> SocketAddr {
        self.serving.address()
    }

    /// The scheduler itself, for those in the same process.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// Ready when each region there is has a leader that has said so since this scheduler began:
    /// then clients are sent to somebody who serves them.
    pub fn led(&self) -> impl Future<Output = ()> + Send + use<> {
        let scheduler = self.scheduler.clone();
        async move {
            let mut looks = 0_u32;
            loop {
                let regions = scheduler.regions(&KeyRange::ALL, usize::MAX).unwrap_or_default();
                let is_led =
                    |report: &RegionReport| report.is_reported() && report.leader.is_some();
                let waiting = regions.iter().filter(|report| !is_led(report)).count();
                if waiting == 0 {
                    return;
                }
                looks += 1;
                if looks.is_multiple_of(LOOKS_PER_WORD) {
                    tracing::warn!(waiting, "regions without a leader are waited for");
                }
                tokio::time::sleep(LEADERS_LOOK).await;
            }
        }
    }

    /// Ready when the disk has failed: nothing is saved any more, so it should be stopped.
    pub fn failed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut failure = self.failure.clone();
        async move { failure.requested().await }
    }

    /// Waits until everything has stopped after the shutdown was requested: requests answered,
    /// reports of leaders saved, memory written to the disk.
    pub fn join(self) -> Result<(), SchedulerError> {
        self.serving.join();
        drop(self.keeper);
        self.engine.flush()?;
        Ok(())
    }
}

fn io_error(action: &'static str, what: &str) -> impl FnOnce(io::Error) -> SchedulerError + use<> {
    let what = what.to_owned();
    move |source| SchedulerError::Io { action, what, source }
}

fn open_engine(config: &SchedulerConfig) -> Result<Arc<TreeEngine>, SchedulerError> {
    let path = config.data_dir.join(ENGINE_FOLDER);
    fs::create_dir_all(&path).map_err(io_error("create", &path.display().to_string()))?;
    let options = tree::Options {
        cache_bytes: SCHEDULER_CACHE_BYTES,
        memtable_bytes: SCHEDULER_MEMTABLE_BYTES,
        threads: 1,
        filter: None,
    };
    Ok(Arc::new(TreeEngine::open(path, options)?))
}
