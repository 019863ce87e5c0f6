//! A store's side of the conversation with the scheduler.
//!
//! [`join`] finds a scheduler and learns about the cluster, [`settle`] makes the store known and
//! bootstraps an empty cluster, [`report`] keeps the scheduler's picture of it true. Each step may
//! be cut short by a crash and taken again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kiva_base::{
    Clock, ClusterId, Epoch, KeyRange, Peer, PeerId, PeerRole, Region, RegionId, StoreId,
};
use kiva_engine::{Engine, EngineError, WriteBatch};
use kiva_kv::ApiVersion;
use kiva_kv::local::{MetaError, Router, StoreIdent, load_regions, save_ident, save_region};
use kiva_proto::kivapb::GetSettingsRequest;
use kiva_proto::kivapb::cluster_client::ClusterClient;
use kiva_proto::metapb;
use kiva_proto::metapb::StoreLabel;
use kiva_proto::pdpb::pd_client::PdClient;
use kiva_proto::pdpb::*;
use kiva_scheduler::wire::{self, WireError};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::REPORTED_VERSION;
use crate::birth;
use crate::limits::{JOIN_TIMEOUT, PLACEMENT_PAUSE, PLACEMENT_TIMEOUT, STORE_HEARTBEAT};
use crate::runtime::Shutdown;

/// Why the scheduler does not help.
#[derive(Debug, thiserror::Error)]
pub enum PlacementError {
    /// Nobody answered.
    #[error(
        "no scheduler answers at {}: {last}; start one with `kiva scheduler`, or correct \
         --schedulers", endpoints.join(", ")
    )]
    Unreachable {
        /// Who was asked.
        endpoints: Vec<String>,
        /// What the last one said.
        last: String,
    },
    /// The store is being stopped.
    #[error("stopped before a scheduler answered")]
    Stopped,
    /// The scheduler answered and refused.
    #[error("the scheduler refuses {call}: {reason}")]
    Refused {
        /// What was asked of it.
        call: &'static str,
        /// What it said.
        reason: String,
    },
    /// The scheduler sent what cannot be.
    #[error("the scheduler's answer to {call} is malformed: {source}")]
    Malformed {
        /// What was asked of it.
        call: &'static str,
        /// What is wrong.
        source: WireError,
    },
    /// The store's own records.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The store's engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A connection to the scheduler of a known cluster.
#[derive(Clone)]
pub struct Placement {
    cluster: ClusterId,
    pd: PdClient<Channel>,
}

/// What a store says about itself.
#[derive(Clone, Debug)]
pub struct StoreSelf {
    /// What clients dial.
    pub address: String,
    /// Where people look at it.
    pub status_address: String,
    /// For placement.
    pub labels: BTreeMap<String, String>,
    /// Unix seconds of its start.
    pub started_s: u64,
    /// Whose disk is reported.
    pub data_dir: PathBuf,
}

/// Finds a scheduler among `endpoints`: the cluster, its mode, and the connection.
pub async fn join(
    endpoints: Vec<String>,
    clock: Arc<dyn Clock>,
    mut shutdown: Shutdown,
) -> Result<(ClusterId, ApiVersion, Placement), PlacementError> {
    let give_up = clock.now() + JOIN_TIMEOUT;
    let mut last = "no address was given".to_owned();
    loop {
        for endpoint in &endpoints {
            match ask(endpoint).await {
                Ok(found) => return Ok(found),
                Err(Asked::Final(error)) => return Err(error),
                Err(Asked::Later(reason)) => last = format!("{endpoint}: {reason}"),
            }
        }
        if clock.now() > give_up || endpoints.is_empty() {
            return Err(PlacementError::Unreachable { endpoints, last });
        }
        tracing::debug!(%last, "no scheduler answers yet");
        tokio::select! {
            biased;
            () = shutdown.requested() => return Err(PlacementError::Stopped),
            () = sleep(PLACEMENT_PAUSE) => {}
        }
    }
}

enum Asked {
    Later(String),
    Final(PlacementError),
}

impl From<Status> for Asked {
    fn from(status: Status) -> Self {
        Self::Later(status.message().to_owned())
    }
}

async fn ask(endpoint: &str) -> Result<(ClusterId, ApiVersion, Placement), Asked> {
    let uri = match endpoint.contains("://") {
        true => endpoint.to_owned(),
        false => format!("http://{endpoint}"),
    };
    let channel = Endpoint::from_shared(uri)
        .map_err(|error| Asked::Later(format!("not an address: {error}")))?
        .timeout(PLACEMENT_TIMEOUT)
        .connect_timeout(PLACEMENT_TIMEOUT)
        .connect()
        .await
        .map_err(|error| Asked::Later(chain(&error)))?;
    let mut pd = PdClient::new(channel.clone());
    let members = pd.get_members(GetMembersRequest::default()).await?.into_inner();
    let cluster = members.header.as_ref().and_then(|header| ClusterId::new(header.cluster_id));
    let cluster = cluster.ok_or(Asked::Later("it does not know its cluster yet".into()))?;
    let request = GetSettingsRequest { header: Some(header(cluster)) };
    let settings = match ClusterClient::new(channel).get_settings(request).await {
        Ok(response) => response.into_inner().settings.unwrap_or_default(),
        Err(status) if status.code() == Code::Unimplemented => {
            let reason = format!("{endpoint} is not a Kiva scheduler");
            return Err(Asked::Final(PlacementError::Refused { call: "GetSettings", reason }));
        }
        Err(status) => return Err(status.into()),
    };
    let settings = wire::settings_from_wire(settings).map_err(|source| {
        Asked::Final(PlacementError::Malformed { call: "GetSettings", source })
    })?;
    Ok((cluster, settings.api_version, Placement { cluster, pd }))
}

/// An error with its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn header(cluster: ClusterId) -> RequestHeader {
    RequestHeader { cluster_id: cluster.get(), ..Default::default() }
}

impl Placement {
    fn header(&self) -> Option<RequestHeader> {
        Some(header(self.cluster))
    }

    async fn alloc_id(&mut self) -> Result<u64, PlacementError> {
        let request = AllocIdRequest { header: self.header(), count: 1 };
        let response = self.pd.alloc_id(request).await;
        let response = response.map_err(refused("AllocID"))?.into_inner();
        accepted("AllocID", &response.header)?;
        Ok(response.id)
    }

    async fn is_bootstrapped(&mut self) -> Result<bool, PlacementError> {
        let request = IsBootstrappedRequest { header: self.header() };
        let response = self.pd.is_bootstrapped(request).await;
        let response = response.map_err(refused("IsBootstrapped"))?.into_inner();
        accepted("IsBootstrapped", &response.header)?;
        Ok(response.bootstrapped)
    }

    /// Whether this region became the first one; `false` when another already was.
    async fn bootstrap(
        &mut self,
        store: metapb::Store,
        region: &Region,
    ) -> Result<bool, PlacementError> {
        let request = BootstrapRequest {
            header: self.header(),
            store: Some(store),
            region: Some(wire::region_to_wire(region)),
        };
        let response = self.pd.bootstrap(request).await;
        let response = response.map_err(refused("Bootstrap"))?.into_inner();
        let error = response.header.as_ref().and_then(|header| header.error.as_ref());
        if error.is_some_and(|error| error.r#type() == ErrorType::AlreadyBootstrapped) {
            return Ok(false);
        }
        accepted("Bootstrap", &response.header)?;
        Ok(true)
    }

    /// Whether the cluster's first region is this one.
    async fn knows(&mut self, region: RegionId) -> Result<bool, PlacementError> {
        let request = GetRegionByIdRequest {
            header: self.header(),
            region_id: region.get(),
            ..Default::default()
        };
        let response = self.pd.get_region_by_id(request).await;
        let response = response.map_err(refused("GetRegionByID"))?.into_inner();
        Ok(response.region.is_some_and(|found| found.id == region.get()))
    }

    async fn put_store(&mut self, store: metapb::Store) -> Result<(), PlacementError> {
        let request = PutStoreRequest { header: self.header(), store: Some(store) };
        let response = self.pd.put_store(request).await;
        let response = response.map_err(refused("PutStore"))?.into_inner();
        accepted("PutStore", &response.header)
    }

    /// Reports regions once, and returns when the scheduler has heard of all: a store that says it
    /// is ready can be found.
    async fn introduce(
        &mut self,
        store: StoreId,
        regions: &[Region],
    ) -> Result<(), PlacementError> {
        let reports: Vec<_> =
            regions.iter().map(|region| region_report(self, &store, region)).collect();
        let answers = self.pd.region_heartbeat(tokio_stream::iter(reports)).await;
        let mut answers = answers.map_err(refused("RegionHeartbeat"))?.into_inner();
        // It answers only what it refuses; its stream ends after ours.
        while let Some(answer) = answers.message().await.map_err(refused("RegionHeartbeat"))? {
            accepted("RegionHeartbeat", &answer.header)?;
        }
        Ok(())
    }
}

fn refused(call: &'static str) -> impl FnOnce(Status) -> PlacementError {
    move |status| PlacementError::Refused { call, reason: status.message().to_owned() }
}

fn accepted(call: &'static str, header: &Option<ResponseHeader>) -> Result<(), PlacementError> {
    match header.as_ref().and_then(|header| header.error.as_ref()) {
        None => Ok(()),
        Some(error) => Err(PlacementError::Refused { call, reason: error.message.clone() }),
    }
}

/// Makes the store somebody: its id on the disk and at the scheduler, and the first region of the
/// cluster on it, in pieces, if there is none. Safe to repeat after a crash at any point.
pub async fn settle(
    mut placement: Placement,
    me: StoreSelf,
    known: Option<StoreIdent>,
    api: ApiVersion,
    engine: Arc<dyn Engine>,
) -> Result<(StoreIdent, Placement), PlacementError> {
    let ident = match known {
        Some(ident) => ident,
        None => {
            let store = id("AllocID", StoreId::new(placement.alloc_id().await?))?;
            let ident = StoreIdent { cluster: placement.cluster, store, api };
            save(&*engine, |batch| save_ident(&ident, batch))?;
            ident
        }
    };
    let store = me.to_wire(ident.store);
    if !placement.is_bootstrapped().await? {
        // The region is on the disk before the scheduler knows of it: the other way around a crash
        // would leave a cluster whose only region nobody has.
        let region = match load_regions(&*engine.snapshot())?.pop() {
            Some(region) => region,
            None => {
                let region = first_region(&mut placement, ident.store).await?;
                save(&*engine, |batch| save_region(&region, batch))?;
                region
            }
        };
        placement.bootstrap(store.clone(), &region).await?;
    }
    // A region that lost the race to be the first one, or was prepared by a store that crashed
    // before it asked, belongs to nobody.
    for region in load_regions(&*engine.snapshot())? {
        if !birth::is_whole(&region) {
            continue;
        }
        if placement.knows(region.id).await? {
            // One batch: either none of the pieces is there after a crash, or all are.
            let pieces = cut(&mut placement, &region, api).await?;
            save(&*engine, |batch| pieces.iter().for_each(|piece| save_region(piece, batch)))?;
        } else {
            save(&*engine, |batch| kiva_kv::local::remove_region(region.id, batch))?;
        }
    }
    placement.put_store(store).await?;
    placement.introduce(ident.store, &load_regions(&*engine.snapshot())?).await?;
    Ok((ident, placement))
}

async fn cut(
    placement: &mut Placement,
    whole: &Region,
    api: ApiVersion,
) -> Result<Vec<Region>, PlacementError> {
    let cuts = birth::cuts(api);
    let mut fresh = Vec::with_capacity(cuts.len());
    for _ in &cuts {
        let region = id("AllocID", RegionId::new(placement.alloc_id().await?))?;
        let peer = id("AllocID", PeerId::new(placement.alloc_id().await?))?;
        fresh.push((region, peer));
    }
    Ok(birth::pieces(whole, &cuts, fresh))
}

fn id<T>(call: &'static str, id: Option<T>) -> Result<T, PlacementError> {
    let source = WireError { field: "id", reason: "is 0, which names nothing" };
    id.ok_or(PlacementError::Malformed { call, source })
}

fn save(engine: &dyn Engine, fill: impl FnOnce(&mut WriteBatch)) -> Result<(), EngineError> {
    let mut batch = WriteBatch::new();
    fill(&mut batch);
    engine.write(&batch)?;
    engine.flush()
}

async fn first_region(placement: &mut Placement, store: StoreId) -> Result<Region, PlacementError> {
    let region = id("AllocID", RegionId::new(placement.alloc_id().await?))?;
    let peer = id("AllocID", PeerId::new(placement.alloc_id().await?))?;
    Ok(Region {
        id: region,
        range: KeyRange::ALL,
        epoch: Epoch::FIRST,
        peers: vec![Peer { id: peer, store, role: PeerRole::Voter }],
    })
}

impl StoreSelf {
    fn to_wire(&self, store: StoreId) -> metapb::Store {
        let label = |(key, value): (&String, &String)| StoreLabel {
            key: key.clone(),
            value: value.clone(),
        };
        metapb::Store {
            id: store.get(),
            address: self.address.clone(),
            peer_address: self.address.clone(),
            status_address: self.status_address.clone(),
            labels: self.labels.iter().map(label).collect(),
            version: REPORTED_VERSION.into(),
            start_timestamp: i64::try_from(self.started_s).unwrap_or(i64::MAX),
            ..Default::default()
        }
    }

    fn stats(&self, store: StoreId, regions: usize) -> StoreStats {
        let (capacity, available) = match rustix::fs::statvfs(&self.data_dir) {
            Ok(disk) => (disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize),
            Err(error) => {
                tracing::warn!(%error, path = %self.data_dir.display(), "cannot measure the disk");
                (0, 0)
            }
        };
        StoreStats {
            store_id: store.get(),
            capacity,
            available,
            used_size: capacity.saturating_sub(available),
            region_count: u32::try_from(regions).unwrap_or(u32::MAX),
            start_time: u32::try_from(self.started_s).unwrap_or(u32::MAX),
            ..Default::default()
        }
    }
}

/// Reports the store and its regions until `shutdown`: at once, then at every interval, and at once
/// again when the scheduler comes back after it was away.
pub async fn report(
    mut placement: Placement,
    ident: StoreIdent,
    me: StoreSelf,
    router: Router,
    mut shutdown: Shutdown,
) {
    let mut lost = false;
    while !shutdown.is_requested() {
        let wait = match report_while_connected(&mut placement, ident, &me, &router, &mut shutdown)
            .await
        {
            Ok(()) => Duration::ZERO,
            Err(status) => {
                if !lost {
                    tracing::warn!(error = %status.message(), "the scheduler is away");
                }
                lost = true;
                PLACEMENT_PAUSE
            }
        };
        tokio::select! {
            biased;
            () = shutdown.requested() => return,
            () = sleep(wait) => {}
        }
    }
}

/// Returns when the connection breaks, with why; or when the store stops.
async fn report_while_connected(
    placement: &mut Placement,
    ident: StoreIdent,
    me: &StoreSelf,
    router: &Router,
    shutdown: &mut Shutdown,
) -> Result<(), Status> {
    let (regions, requests) = mpsc::channel(1);
    let streaming = placement.pd.region_heartbeat(ReceiverStream::new(requests));
    let mut answers = timeout(PLACEMENT_TIMEOUT, streaming)
        .await
        .map_err(|_| Status::deadline_exceeded("no answer in time"))??
        .into_inner();
    loop {
        for region in router.regions() {
            let report = region_report(placement, &router.store(), &region);
            timeout(PLACEMENT_TIMEOUT, regions.send(report))
                .await
                .map_err(|_| Status::deadline_exceeded("reports are not taken in time"))?
                .map_err(|_| Status::unavailable("the stream of reports has ended"))?;
        }
        let stats = me.stats(ident.store, router.regions().len());
        let request = StoreHeartbeatRequest { header: placement.header(), stats: Some(stats) };
        placement.pd.store_heartbeat(request).await?;
        let pause = sleep(STORE_HEARTBEAT);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(()),
                answer = answers.message() => match answer? {
                    // A single replica has no step to take.
                    Some(_) => {}
                    None => return Err(Status::unavailable("the stream of reports has ended")),
                },
                () = &mut pause => break,
            }
        }
    }
}

fn region_report(
    placement: &Placement,
    store: &StoreId,
    region: &Region,
) -> RegionHeartbeatRequest {
    RegionHeartbeatRequest {
        header: placement.header(),
        region: Some(wire::region_to_wire(region)),
        leader: region.peer_on(*store).map(wire::peer_to_wire),
        term: 1,
        ..Default::default()
    }
}
