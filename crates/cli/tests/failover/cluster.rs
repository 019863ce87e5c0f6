//! One scheduler and three stores, each a process.
#![expect(clippy::disallowed_methods, reason = "real processes are waited for in real time")]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kiva_base::{Key, PeerRole, StoreId};
use kiva_client::rpc::RegionDetail;
use kiva_client::{Client, KeyMode, Options};
use tempfile::TempDir;

use crate::net::Net;
use crate::process::Process;

/// How long anything may take before the test fails instead of waiting for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(20);

/// Stores at a time.
const STORES: usize = 3;

/// A cluster that serves.
pub(crate) struct Cluster {
    stores: Vec<Store>,
    scheduler: Process,
    admin: Client,
    pub(crate) net: Net,
    directory: TempDir,
}

/// A place for a store, and the process that runs there unless it is down.
struct Store {
    process: Option<Process>,
    /// Once it was ready: then it keeps it.
    address: Option<String>,
    data: PathBuf,
    log: PathBuf,
}

impl Cluster {
    /// Starts everything, and returns when what is written is replicated on three stores.
    /// `settings` are those of the scheduler's file.
    pub(crate) async fn start(net: Net, settings: &str) -> Self {
        let directory = tempfile::tempdir().expect("the system has room for a directory");
        let path = |name: &str| directory.path().join(name);
        let file = path("kiva.toml");
        fs::write(&file, format!("[scheduler]\n{settings}")).expect("it is our directory");
        let scheduler = Process::start(
            &[],
            &[
                "scheduler",
                "--name",
                "one",
                "--config",
                text(&file),
                "--data-dir",
                text(&path("scheduler")),
                "--addr",
                &net.scheduler(),
            ],
            &path("scheduler.log"),
        );
        let stores = (0..STORES).map(|number| Store {
            process: None,
            address: None,
            data: path(&format!("store-{number}")),
            log: path(&format!("store-{number}.log")),
        });
        let stores = stores.collect();
        let options = Options { timeout: PATIENCE, ..Options::default() };
        let admin = Client::connect([&scheduler.address], options).await.expect("it is ready");
        let mut cluster = Self { stores, scheduler, admin, net, directory };
        for number in 0..STORES {
            cluster.start_store(number);
        }
        cluster.whole().await;
        cluster
    }

    /// A client of its own.
    pub(crate) async fn client(&self, options: Options) -> Client {
        Client::connect([&self.scheduler.address], options).await.expect("the scheduler is there")
    }

    /// The region that everything is written to.
    async fn region(&self) -> RegionDetail {
        let scheduler = self.admin.scheduler();
        let found = scheduler.region_of(&Key::from("round"), KeyMode::Raw).await;
        let found = found.expect("the scheduler is there").expect("some region has every key");
        let detail = scheduler.describe_region(found.region.id).await;
        detail.expect("the scheduler is there").expect("it was there before")
    }

    /// Waits until the region is led, and replicated on every store that runs.
    pub(crate) async fn whole(&self) {
        let began = Instant::now();
        loop {
            let detail = self.region().await;
            let running = self.running().await;
            let peers = &detail.info.region.peers;
            let is_whole = detail.info.leader.is_some()
                && peers.len() == STORES
                && peers.iter().all(|peer| peer.role == PeerRole::Voter)
                && peers.iter().all(|peer| running.contains(&Some(peer.store)))
                && detail.down.is_empty()
                && detail.pending.is_empty();
            if is_whole {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "not whole: {detail:?}, stores {running:?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The ids of the stores, by their places.
    async fn running(&self) -> Vec<Option<StoreId>> {
        let known = self.admin.scheduler().stores().await.expect("the scheduler is there");
        let id = |store: &Store| {
            let found =
                known.iter().rev().find(|known| Some(&known.address) == store.address.as_ref());
            found.map(|store| store.id)
        };
        self.stores.iter().map(id).collect()
    }

    /// The place of the store that leads the region, once somebody does and says so.
    pub(crate) async fn leader(&self) -> usize {
        let began = Instant::now();
        loop {
            let leader = self.region().await.info.leader.map(|leader| leader.store);
            let running = self.running().await;
            if let Some(place) = running.iter().position(|id| id.is_some() && *id == leader) {
                return place;
            }
            assert!(began.elapsed() < PATIENCE, "nobody leads");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The process of a store that runs.
    pub(crate) fn store(&self, place: usize) -> &Process {
        self.stores[place].process.as_ref().expect("it runs")
    }

    /// `kill -9`.
    pub(crate) fn kill_store(&mut self, place: usize) {
        self.stores[place].process.take().expect("it runs").kill();
    }

    /// Starts a store where it was, on the data it left.
    pub(crate) fn start_store(&mut self, place: usize) {
        let host = self.net.store(place);
        let store = &mut self.stores[place];
        let address = store.address.clone().unwrap_or_else(|| format!("{host}:0"));
        let process = Process::start(
            &self.net.prefix(place),
            &[
                "store",
                "--data-dir",
                text(&store.data),
                "--schedulers",
                &self.scheduler.address,
                "--addr",
                &address,
                "--status-addr",
                &format!("{host}:0"),
            ],
            &store.log,
        );
        store.address = Some(process.address.clone());
        store.process = Some(process);
    }

    /// Empties the place of a store that is down: another one begins there, at another address.
    pub(crate) fn empty_store(&mut self, place: usize) {
        let store = &mut self.stores[place];
        assert!(store.process.is_none(), "it runs");
        fs::remove_dir_all(&store.data).expect("it is our directory");
        store.address = None;
    }

    /// Nobody ended who was not asked to.
    pub(crate) fn check(&mut self) {
        let stores = self.stores.iter_mut().filter_map(|store| store.process.as_mut());
        for process in stores.chain([&mut self.scheduler]) {
            assert!(process.is_running(), "{} has ended by itself", process.address);
        }
        for store in &self.stores {
            let log = fs::read_to_string(&store.log).expect("it logs");
            assert!(!log.contains("panicked at"), "{} has panicked", store.log.display());
        }
        assert!(self.directory.path().exists());
    }
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("our paths are text")
}
