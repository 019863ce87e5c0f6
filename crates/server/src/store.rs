//! One store, assembled: directory, engine, executor, services, reports to the scheduler.
//!
//! The order in which a store comes to life:
//!
//! 1. find a scheduler; learn the cluster's id and what must agree in it
//! 2. open the engine, whose compaction filter depends on that
//! 3. find out who it is, or become somebody: an id, and the first region if nobody has one
//! 4. serve, then report

pub(crate) mod runtime;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::{fs, io};

use axum::Router as HttpRouter;
use axum::extract::State;
use axum::routing::get;
use kiva_base::{Clock, ClusterId, StoreId};
use kiva_engine::tree::TreeEngine;
use kiva_engine::{Engine, EngineError, Filter};
use kiva_kv::raw::TtlFilter;
use kiva_kv::{ApiVersion, Executor};
use kiva_raftstore::disk::FileDisk;
use kiva_raftstore::log::{self, Log, LogOpenError};
use kiva_raftstore::meta::{MetaError, StoreIdent, load_ident};
use kiva_raftstore::open::{self, Assembly};
use kiva_raftstore::options::Options;
use kiva_raftstore::read::Standing;
use kiva_raftstore::router::Router;
use kiva_raftstore::runtime::{Loop, Threads};
use kiva_raftstore::snapshot::Folder;
use serde_json::json;
use tonic::service::Routes;

use crate::bell::Bell;
use crate::clock::SystemClock;
use crate::config::{ConfigError, StoreConfig};
use crate::limits::{ELECTION_PAUSE, ELECTION_WAIT_MAX, REPORTS_QUEUED_MAX};
use crate::placement::{self, Conversation, PlacementError, Reporter, StoreSelf};
use crate::runtime::{Doors, Serving, Shutdown, random_seed, serve, spawn};
use crate::service::replicas::ReplicasService;
use crate::service::store::StoreService;
use crate::transport::{Me, Network, TransportOptions};
use runtime::{Courier, ReadPool};

/// Folder of the engine inside the data directory.
pub(crate) const ENGINE_FOLDER: &str = "data";
/// Folder of the log.
pub(crate) const LOG_FOLDER: &str = "log";
/// Folder of snapshots that are being received, or wait to be installed.
const SNAPSHOT_FOLDER: &str = "snapshots";

/// Why a store did not start.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
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
    /// The engine did not open.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The store's own records cannot be read.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The log did not open.
    #[error(transparent)]
    Log(#[from] LogOpenError),
    /// The replicas could not be brought back to life.
    #[error(transparent)]
    Replicas(#[from] open::OpenError),
    /// No scheduler, or one that refuses.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// The directory belongs elsewhere.
    #[error(
        "{path} belongs to cluster {found}, the scheduler's is {wanted}: give the store its own \
         --data-dir, or the --schedulers of its cluster", path = path.display()
    )]
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: ClusterId,
        /// Whose it should be.
        wanted: ClusterId,
    },
    /// The directory holds raw values in another form.
    #[error(
        "{path} was written with API version {found}, the cluster's is {wanted}",
        path = path.display()
    )]
    OtherApi {
        /// The directory.
        path: PathBuf,
        /// How it was written.
        found: ApiVersion,
        /// How it would be read.
        wanted: ApiVersion,
    },
}

/// A store that serves.
#[must_use = "a store runs until it is joined"]
pub struct RunningStore {
    id: StoreId,
    serving: Serving,
    status: Serving,
    courier: Courier,
    failure: Shutdown,
    threads: Threads,
    network: Network,
}

/// Starts a store on sockets that are already bound, and returns when it serves and the scheduler
/// knows it. It stops when `shutdown` is requested; then [`RunningStore::join`].
pub fn run(
    config: &StoreConfig,
    listener: TcpListener,
    status_listener: TcpListener,
    shutdown: Shutdown,
) -> Result<RunningStore, StoreError> {
    config.validate()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let address = local_addr(&listener)?;
    let status_address = local_addr(&status_listener)?;
    let mut courier =
        Courier::start().map_err(io_error("start", "the thread that talks to the scheduler"))?;
    let joining = placement::join(config.schedulers.clone(), clock.clone(), shutdown.clone());
    let (cluster, api, placement) = courier.wait(joining)?;

    let engine = open_engine(config, api, clock.clone())?;
    let me = StoreSelf {
        address: config.advertise_addr.clone().unwrap_or_else(|| address.to_string()),
        status_address: status_address.to_string(),
        labels: config.labels.clone(),
        started_s: clock.wall_ms() / 1_000,
        data_dir: config.data_dir.clone(),
    };
    let known = load_ident(&*engine.snapshot())?;
    if let Some(ident) = known {
        check_ident(config, ident, cluster, api)?;
    }
    let settling = placement::settle(placement, me.clone(), known, api, engine.clone());
    let (ident, placement) = courier.wait(settling)?;

    let opened = open_log(config)?;
    let (store, position) = (ident.store, opened.position);
    let mut asking = placement.clone();
    let lost_below =
        courier.wait(async move { asking.report_log(store, position, known.is_some()).await })?;
    let engine_port: Arc<dyn Engine> = engine.clone();
    let loops = kiva_raftstore::runtime::loops(config.cores());
    let options = Options::new(random_seed());
    let assembly =
        open::open(store, &options, &engine_port, opened, clock.clone(), loops, lost_below)?;
    let Assembly { router, inbox, cores, log } = assembly;
    let me_there = Me { cluster, store };
    let addresses = Arc::new(placement.addresses());
    let network = Network::start(
        me_there,
        addresses,
        inbox,
        clock.clone(),
        TransportOptions::new(random_seed()),
    )
    .map_err(io_error("start", "the thread that sends to other stores"))?;
    let path = config.data_dir.join(SNAPSHOT_FOLDER);
    let disk = FileDisk::open(&path).map_err(io_error("open", &path.display().to_string()))?;
    let folder = Folder::open(Arc::new(disk), clock.now())
        .map_err(io_error("look through", &path.display().to_string()))?;
    let (reporter, reports) = tokio::sync::mpsc::channel(REPORTS_QUEUED_MAX);
    let loops = cores.into_iter().map(|core| Loop {
        store: core.store,
        apply: core.apply,
        mailbox: core.mailbox,
        transport: Box::new(network.transport()),
        placement: Box::new(Reporter(reporter.clone())),
    });
    let (alive, failure) = crate::runtime::shutdown();
    let threads = Threads::start(loops.collect(), engine_port, log.clone(), clock.clone(), alive)
        .map_err(io_error("start", "the threads of the replicas"))?;
    drop(reporter);
    let pool = ReadPool::start(config.read_threads())
        .map_err(io_error("start", "the threads for long reads"))?;
    let executor = Executor::new(api, router.clone(), clock.clone(), Arc::new(pool), random_seed());

    let serving = {
        let (executor, stop) = (executor.clone(), shutdown.clone());
        let peers = network.service(folder.clone(), shutdown.clone());
        let replicas = ReplicasService::new(me_there, api, router.clone());
        let make = move || {
            let bell = Bell::default();
            spawn(bell.ringer());
            let service = StoreService::new(cluster, executor.clone(), bell, stop.clone());
            let (health, health_service) = tonic_health::server::health_reporter();
            drop(health);
            let grpc = Routes::new(service.into_server())
                .add_service(peers.clone().into_server())
                .add_service(replicas.clone().into_server())
                .add_service(health_service);
            Doors::new(grpc, HttpRouter::new())
        };
        serve("store", listener, config.grpc_threads(), make, shutdown.clone())
            .map_err(io_error("serve", &address.to_string()))?
    };
    let status = {
        let router = router.clone();
        let make = move || Doors::new(Routes::default(), status_routes(ident, router.clone()));
        serve("status", status_listener, 1, make, shutdown.clone())
            .map_err(io_error("serve", &status_address.to_string()))?
    };
    let led = led(router.clone(), clock.clone());
    let conversation =
        Conversation { placement, ident, me, router, log, snapshots: folder, clock, reports };
    courier.report(placement::report(conversation, shutdown));
    courier.wait(led);
    Ok(RunningStore { id: ident.store, serving, status, courier, failure, threads, network })
}

impl RunningStore {
    /// Which store it is.
    pub fn id(&self) -> StoreId {
        self.id
    }

    /// Where it serves clients.
    pub fn address(&self) -> SocketAddr {
        self.serving.address()
    }

    /// Where it serves its status.
    pub fn status_address(&self) -> SocketAddr {
        self.status.address()
    }

    /// Ready when the engine has failed: nothing is written any more, so the store should be
    /// stopped. Half a store is worse than none.
    pub fn failed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut failure = self.failure.clone();
        async move { failure.requested().await }
    }

    /// Waits until everything has stopped after the shutdown was requested: requests answered,
    /// proposals durable, memory written to the disk.
    pub fn join(self) -> Result<(), StoreError> {
        self.serving.join();
        self.status.join();
        self.courier.join();
        // Flushes the engine in the end.
        drop(self.threads);
        drop(self.network);
        Ok(())
    }
}

fn io_error(action: &'static str, what: &str) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let what = what.to_owned();
    move |source| StoreError::Io { action, what, source }
}

fn local_addr(listener: &TcpListener) -> Result<SocketAddr, StoreError> {
    listener.local_addr().map_err(io_error("read the address of", "a socket"))
}

fn open_engine(
    config: &StoreConfig,
    api: ApiVersion,
    clock: Arc<dyn Clock>,
) -> Result<Arc<TreeEngine>, StoreError> {
    let path = config.data_dir.join(ENGINE_FOLDER);
    fs::create_dir_all(&path).map_err(io_error("create", &path.display().to_string()))?;
    let filter = TtlFilter::new(api, clock);
    let engine = kiva_engine::tree::Options {
        cache_bytes: config.cache_bytes,
        memtable_bytes: config.memtable_bytes,
        filter: filter.map(|filter| Arc::new(filter) as Arc<dyn Filter>),
        ..Default::default()
    };
    Ok(Arc::new(TreeEngine::open(path, engine)?))
}

/// Ready when the regions that have nobody but this store are led here, or after a while: a store
/// that is the whole cluster serves when it says so.
async fn led(router: Router, clock: Arc<dyn Clock>) {
    let give_up = clock.now() + ELECTION_WAIT_MAX;
    let is_open =
        |standing: &Arc<Standing>| standing.region.peers.len() == 1 && !standing.is_settled;
    while router.regions().iter().any(is_open) && clock.now() < give_up {
        clock.sleep(ELECTION_PAUSE).await;
    }
}

fn open_log(config: &StoreConfig) -> Result<log::Opened, StoreError> {
    let path = config.data_dir.join(LOG_FOLDER);
    let disk = FileDisk::open(&path).map_err(io_error("open", &path.display().to_string()))?;
    Ok(Log::open(Arc::new(disk), log::Options::default())?)
}

fn check_ident(
    config: &StoreConfig,
    ident: StoreIdent,
    cluster: ClusterId,
    api: ApiVersion,
) -> Result<(), StoreError> {
    let path = config.data_dir.clone();
    if ident.cluster != cluster {
        return Err(StoreError::OtherCluster { path, found: ident.cluster, wanted: cluster });
    }
    if ident.api != api {
        return Err(StoreError::OtherApi { path, found: ident.api, wanted: api });
    }
    Ok(())
}

/// `/health` for probes, `/status` for people.
fn status_routes(ident: StoreIdent, router: Router) -> HttpRouter {
    let status = move |State(router): State<Router>| async move {
        let regions: Vec<_> = router
            .regions()
            .iter()
            .map(|standing| {
                let region = &standing.region;
                json!({
                    "id": region.id.get(),
                    "conf_ver": region.epoch.conf_ver,
                    "version": region.epoch.version,
                    "peer_id": standing.peer.id.get(),
                    "term": standing.term.0,
                    "leader": standing.leader.map(|leader| leader.id.get()),
                })
            })
            .collect();
        axum::Json(json!({
            "cluster_id": ident.cluster.get(),
            "store_id": ident.store.get(),
            "version": env!("CARGO_PKG_VERSION"),
            "api_version": ident.api.to_string(),
            "engine": format!("{:?}", router.engine().health()).to_lowercase(),
            "regions": regions,
        }))
    };
    let health = |State(router): State<Router>| async move {
        match router.engine().health() {
            kiva_engine::Health::Poisoned => axum::http::StatusCode::SERVICE_UNAVAILABLE,
            _ => axum::http::StatusCode::OK,
        }
    };
    HttpRouter::new().route("/status", get(status)).route("/health", get(health)).with_state(router)
}
