//! A scheduler and a store of this process, on real sockets of loopback.
//!
//! Its tests run on two threads: a clean stop says goodbye to every connection, and somebody has to
//! answer for the clients while the test waits for it.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use kiva_proto::kvrpcpb::Context;
use kiva_proto::metapb;
use kiva_proto::pdpb::pd_client::PdClient;
use kiva_proto::pdpb::{GetMembersRequest, GetRegionRequest, RequestHeader};
use kiva_proto::tikvpb::tikv_client::TikvClient;
use kiva_server::config::{SchedulerConfig, StoreConfig};
use kiva_server::runtime::{ShutdownTrigger, shutdown};
use kiva_server::scheduler::{self, RunningScheduler};
use kiva_server::store::{self, RunningStore};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

/// A running cluster; its directory goes with it.
pub(crate) struct Cluster {
    dir: TempDir,
    scheduler: Option<(ShutdownTrigger, RunningScheduler)>,
    store: Option<(ShutdownTrigger, RunningStore)>,
    pub(crate) scheduler_address: SocketAddr,
    pub(crate) store_address: SocketAddr,
    api: String,
}

fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("loopback has free ports")
}

impl Cluster {
    pub(crate) fn start(api: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let scheduler = start_scheduler(dir.path(), api);
        let scheduler_address = scheduler.1.address();
        let store = start_store(dir.path(), scheduler_address);
        let store_address = store.1.address();
        Self {
            dir,
            scheduler: Some(scheduler),
            store: Some(store),
            scheduler_address,
            store_address,
            api: api.to_owned(),
        }
    }

    /// Stops the store cleanly and starts it again on the same directory.
    pub(crate) fn restart_store(&mut self) {
        self.stop_store();
        let store = start_store(self.dir.path(), self.scheduler_address);
        self.store_address = store.1.address();
        self.store = Some(store);
    }

    pub(crate) fn stop_store(&mut self) {
        if let Some((trigger, store)) = self.store.take() {
            trigger.request();
            store.join().expect("a clean stop");
        }
    }

    /// A connection of its own.
    pub(crate) async fn channel(&self) -> Channel {
        connect(self.store_address).await
    }

    pub(crate) async fn store_client(&self) -> TikvClient<Channel> {
        TikvClient::new(self.channel().await).max_decoding_message_size(64 << 20)
    }

    pub(crate) async fn scheduler_client(&self) -> PdClient<Channel> {
        PdClient::new(connect(self.scheduler_address).await)
    }

    /// The context of a request to the region with the first keys, as the scheduler tells it.
    pub(crate) async fn context(&self) -> Context {
        self.context_of(b"").await
    }

    /// The context of a request to the region with this key, in the form of boundaries.
    pub(crate) async fn context_of(&self, key: &[u8]) -> Context {
        let mut scheduler = self.scheduler_client().await;
        let members = scheduler.get_members(GetMembersRequest::default()).await;
        let header = members.expect("the scheduler answers").into_inner().header;
        let cluster_id = header.expect("every answer has one").cluster_id;
        loop {
            let header = Some(RequestHeader { cluster_id, ..Default::default() });
            let region_key = key.to_vec().into();
            let request = GetRegionRequest { header, region_key, ..Default::default() };
            let response = scheduler.get_region(request).await;
            let response = response.expect("the scheduler answers").into_inner();
            // Until the store's first report there is no leader.
            if let (Some(region), Some(peer)) = (response.region, response.leader) {
                return context(region, peer, &self.api);
            }
            tokio::task::yield_now().await;
        }
    }
}

fn context(region: metapb::Region, peer: metapb::Peer, api: &str) -> Context {
    Context {
        region_id: region.id,
        region_epoch: region.region_epoch,
        peer: Some(peer),
        api_version: if api == "2" { 2 } else { 0 },
        ..Default::default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop_store();
        if let Some((trigger, scheduler)) = self.scheduler.take() {
            trigger.request();
            scheduler.join().expect("a clean stop");
        }
    }
}

async fn connect(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address is a URI");
    endpoint.connect().await.expect("it listens")
}

fn start_scheduler(dir: &Path, api: &str) -> (ShutdownTrigger, RunningScheduler) {
    let config = SchedulerConfig {
        name: "one".to_owned(),
        data_dir: dir.join("scheduler"),
        api_version: Some(api.to_owned()),
        ..SchedulerConfig::default()
    };
    let (trigger, shutdown) = shutdown();
    let running = scheduler::run(&config, listen(), shutdown).expect("a scheduler starts");
    (trigger, running)
}

fn start_store(dir: &Path, scheduler: SocketAddr) -> (ShutdownTrigger, RunningStore) {
    let config = StoreConfig {
        data_dir: dir.join("store"),
        schedulers: vec![scheduler.to_string()],
        cache_bytes: 1 << 20,
        memtable_bytes: 4 << 20,
        ..StoreConfig::default()
    };
    let (trigger, shutdown) = shutdown();
    let running = store::run(&config, listen(), listen(), shutdown).expect("a store starts");
    (trigger, running)
}
