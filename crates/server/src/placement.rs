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
use kiva_proto::kivapb::cluster_client::ClusterClient;
use kiva_proto::kivapb::{GetSettingsRequest, ReportLogRequest};
use kiva_proto::metapb;
use kiva_proto::metapb::StoreLabel;
use kiva_proto::pdpb::pd_client::PdClient;
use kiva_proto::pdpb::*;
use kiva_raftstore::command::PeerChange;
use kiva_raftstore::log::{Log, Position};
use kiva_raftstore::meta::{
    self, MetaError, RegionRecord, StoreIdent, load_regions, save_born, save_ident,
};
use kiva_raftstore::placement::{self as port, RegionReport, Step};
use kiva_raftstore::router::Router;
use kiva_raftstore::snapshot::Folder;
use kiva_scheduler::wire::{self, WireError};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::REPORTED_VERSION;
use crate::birth;
use crate::limits::{
    JOIN_TIMEOUT, PLACEMENT_PAUSE, PLACEMENT_TIMEOUT, REPORTS_QUEUED_MAX, STORE_HEARTBEAT,
};
use crate::runtime::Shutdown;
use crate::transport::SchedulerAddresses;

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
    own: ClusterClient<Channel>,
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
    let mut own = ClusterClient::new(channel);
    let settings = match own.get_settings(request).await {
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
    Ok((cluster, settings.api_version, Placement { cluster, pd, own }))
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

    /// Where the other stores are.
    pub(crate) fn addresses(&self) -> SchedulerAddresses {
        SchedulerAddresses::new(self.cluster, self.pd.clone())
    }

    /// Says where the log ends. The answer: peers of this store with smaller ids have forgotten
    /// what they promised.
    pub async fn report_log(
        &mut self,
        store: StoreId,
        position: Position,
        is_start: bool,
    ) -> Result<u64, PlacementError> {
        let request = ReportLogRequest {
            header: self.header(),
            store_id: store.get(),
            position: position.0,
            is_start,
        };
        let response = self.own.report_log(request).await;
        let response = response.map_err(refused("ReportLog"))?.into_inner();
        accepted("ReportLog", &response.header)?;
        Ok(response.lost_below)
    }

    /// The region as the scheduler knows it now; `None` when it knows none.
    async fn region(&mut self, region: RegionId) -> Result<Option<Region>, PlacementError> {
        let request = GetRegionByIdRequest {
            header: self.header(),
            region_id: region.get(),
            ..Default::default()
        };
        let response = self.pd.get_region_by_id(request).await;
        let response = response.map_err(refused("GetRegionByID"))?.into_inner();
        accepted("GetRegionByID", &response.header)?;
        let found = response.region.as_ref().map(wire::region_from_wire).transpose();
        found.map_err(|source| PlacementError::Malformed { call: "GetRegionByID", source })
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
        regions: &[RegionRecord],
    ) -> Result<(), PlacementError> {
        let alone = regions.iter().map(|record| &record.region).filter(|region| {
            // Of the others nobody knows yet who will lead.
            region.peers.len() == 1 && region.peer_on(store).is_some()
        });
        let reports: Vec<_> = alone
            .map(|region| RegionHeartbeatRequest {
                header: self.header(),
                region: Some(wire::region_to_wire(region)),
                leader: region.peer_on(store).map(wire::peer_to_wire),
                term: 1,
                ..Default::default()
            })
            .collect();
        let answers = self.pd.region_heartbeat(tokio_stream::iter(reports)).await;
        let mut answers = answers.map_err(refused("RegionHeartbeat"))?.into_inner();
        // It answers only what it refuses; its stream ends after ours. After a restart it may know
        // more than our first term: then the region can be found already.
        while let Some(answer) = answers.message().await.map_err(refused("RegionHeartbeat"))? {
            if let Err(error) = accepted("RegionHeartbeat", &answer.header) {
                tracing::debug!(%error, "a report was refused");
            }
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
            Some((record, _)) => record.region,
            None => {
                let region = first_region(&mut placement, ident.store).await?;
                save(&*engine, |batch| save_born(region.clone(), batch))?;
                region
            }
        };
        placement.bootstrap(store.clone(), &region).await?;
    }
    // A region that lost the race to be the first one, or was prepared by a store that crashed
    // before it asked, belongs to nobody.
    for (record, _) in load_regions(&*engine.snapshot())? {
        let region = record.region;
        if !birth::is_whole(&region) {
            continue;
        }
        if placement.region(region.id).await?.is_some() {
            // One batch: either none of the pieces is there after a crash, or all are.
            let pieces = cut(&mut placement, &region, api).await?;
            save(&*engine, |batch| {
                pieces.into_iter().for_each(|piece| save_born(piece, batch));
            })?;
        } else {
            save(&*engine, |batch| meta::remove_region(region.id, batch))?;
        }
    }
    placement.put_store(store).await?;
    let records: Vec<_> =
        load_regions(&*engine.snapshot())?.into_iter().map(|(record, _)| record).collect();
    placement.introduce(ident.store, &records).await?;
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

/// Something for the scheduler, from a store loop.
pub(crate) enum Report {
    /// A region that is led here.
    Region(RegionReport),
    /// A peer that has heard of no leader for long.
    Doubt(Arc<RegionRecord>, Peer),
}

/// The port of the store loops: what does not fit is dropped, and said again with the next report.
pub(crate) struct Reporter(pub(crate) mpsc::Sender<Report>);

impl port::Placement for Reporter {
    fn report_region(&mut self, report: RegionReport) {
        let _ = self.0.try_send(Report::Region(report));
    }

    fn ask_region(&mut self, record: Arc<RegionRecord>, peer: Peer) {
        let _ = self.0.try_send(Report::Doubt(record, peer));
    }
}

/// What the task that talks to the scheduler has at hand.
pub(crate) struct Conversation {
    pub(crate) placement: Placement,
    pub(crate) ident: StoreIdent,
    pub(crate) me: StoreSelf,
    pub(crate) router: Router,
    pub(crate) log: Log,
    /// Where snapshots wait; what nobody needs any more is removed with every report.
    pub(crate) snapshots: Folder,
    pub(crate) clock: Arc<dyn Clock>,
    /// From the store loops.
    pub(crate) reports: mpsc::Receiver<Report>,
}

/// Reports the store and its regions until `shutdown`: at once, then at every interval, and at once
/// again when the scheduler comes back after it was away. Steps go to the regions' loops.
pub(crate) async fn report(mut conversation: Conversation, mut shutdown: Shutdown) {
    let mut lost = false;
    // The last word of every region that is led here, for a scheduler that was away.
    let mut latest = BTreeMap::new();
    while !shutdown.is_requested() {
        let wait = match conversation.hold(&mut latest, &mut shutdown).await {
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

impl Conversation {
    /// Returns when the connection breaks, with why; or when the store stops.
    async fn hold(
        &mut self,
        latest: &mut BTreeMap<RegionId, RegionReport>,
        shutdown: &mut Shutdown,
    ) -> Result<(), Status> {
        let (regions, requests) = mpsc::channel(REPORTS_QUEUED_MAX);
        let streaming = self.placement.pd.region_heartbeat(ReceiverStream::new(requests));
        let mut answers = timeout(PLACEMENT_TIMEOUT, streaming)
            .await
            .map_err(|_| Status::deadline_exceeded("no answer in time"))??
            .into_inner();
        loop {
            let led: Vec<_> =
                self.router.regions().iter().filter(|it| it.is_leader()).cloned().collect();
            latest.retain(|region, _| led.iter().any(|standing| standing.region.id == *region));
            for report in latest.values() {
                send(&regions, self.to_wire(report)).await?;
            }
            let stats = self.me.stats(self.ident.store, self.router.regions().len());
            let header = self.placement.header();
            let request = StoreHeartbeatRequest { header, stats: Some(stats) };
            self.placement.pd.store_heartbeat(request).await?;
            if let Err(error) = self.snapshots.collect(self.clock.now()) {
                tracing::warn!(%error, "old snapshots could not be removed");
            }
            let position = self.log.position();
            let reported = self.placement.report_log(self.ident.store, position, false).await;
            reported.map_err(|error| Status::unavailable(error.to_string()))?;
            let pause = sleep(STORE_HEARTBEAT);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    biased;
                    () = shutdown.requested() => return Ok(()),
                    answer = answers.message() => match answer? {
                        Some(answer) => self.take(&answer),
                        None => {
                            return Err(Status::unavailable("the stream of reports has ended"));
                        }
                    },
                    report = self.reports.recv() => match report {
                        Some(Report::Region(report)) => {
                            send(&regions, self.to_wire(&report)).await?;
                            latest.insert(report.record.region.id, report);
                        }
                        Some(Report::Doubt(record, peer)) => self.ask(&record, peer).await?,
                        // The loops have ended.
                        None => return Ok(()),
                    },
                    () = &mut pause => break,
                }
            }
        }
    }

    fn to_wire(&self, report: &RegionReport) -> RegionHeartbeatRequest {
        let down = |(peer, seconds): &(Peer, u64)| PeerStats {
            peer: Some(wire::peer_to_wire(*peer)),
            down_seconds: *seconds,
        };
        RegionHeartbeatRequest {
            header: self.placement.header(),
            region: Some(wire::region_to_wire(&report.record.region)),
            leader: Some(wire::peer_to_wire(report.leader)),
            down_peers: report.down.iter().map(down).collect(),
            pending_peers: report.pending.iter().copied().map(wire::peer_to_wire).collect(),
            approximate_size: report.approximate_size,
            term: report.term.0,
            ..Default::default()
        }
    }

    /// Hands a step to the region's loop.
    fn take(&self, answer: &RegionHeartbeatResponse) {
        if let Err(error) = accepted("RegionHeartbeat", &answer.header) {
            tracing::debug!(%error, "a report was refused");
            return;
        }
        match step(answer) {
            Ok(Some(step)) => self.router.take(step),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a step makes no sense"),
        }
    }

    /// Asks after a peer that nobody leads.
    async fn ask(&mut self, record: &RegionRecord, peer: Peer) -> Result<(), Status> {
        let region = record.region.id;
        let known = self.placement.region(region).await;
        let known = known.map_err(|error| Status::unavailable(error.to_string()))?;
        if let Some(known) = known
            && known.peers.iter().all(|listed| listed.id != peer.id)
        {
            self.router.take(Step::Removed { region, peer, epoch: known.epoch });
        }
        Ok(())
    }
}

async fn send(
    regions: &mpsc::Sender<RegionHeartbeatRequest>,
    report: RegionHeartbeatRequest,
) -> Result<(), Status> {
    timeout(PLACEMENT_TIMEOUT, regions.send(report))
        .await
        .map_err(|_| Status::deadline_exceeded("reports are not taken in time"))?
        .map_err(|_| Status::unavailable("the stream of reports has ended"))
}

/// What the scheduler wants done, if anything.
fn step(answer: &RegionHeartbeatResponse) -> Result<Option<Step>, WireError> {
    const BAD_ID: WireError = WireError { field: "region_id", reason: "is 0, which names nothing" };
    const NO_PEER: WireError = WireError { field: "peer", reason: "is missing" };
    let region = RegionId::new(answer.region_id).ok_or(BAD_ID)?;
    if let Some(transfer) = &answer.transfer_leader {
        let to = wire::peer_from_wire(transfer.peer.as_ref().ok_or(NO_PEER)?)?;
        return Ok(Some(Step::TransferLeader { region, to }));
    }
    let asked = match (&answer.change_peer, &answer.change_peer_v2) {
        (_, Some(several)) => several.changes.as_slice(),
        (Some(one), None) => std::slice::from_ref(one),
        (None, None) => return Ok(None),
    };
    let epoch = wire::epoch_from_wire(answer.region_epoch.unwrap_or_default());
    let change = |change: &ChangePeer| {
        let peer = wire::peer_from_wire(change.peer.as_ref().ok_or(NO_PEER)?)?;
        Ok(match change.change_type() {
            ConfChangeType::AddNode => PeerChange::Add(Peer { role: PeerRole::Voter, ..peer }),
            ConfChangeType::AddLearnerNode => {
                PeerChange::Add(Peer { role: PeerRole::Learner, ..peer })
            }
            ConfChangeType::RemoveNode => PeerChange::Remove(peer),
        })
    };
    let changes = asked.iter().map(change).collect::<Result<_, WireError>>()?;
    Ok(Some(Step::ChangePeers { region, epoch, changes }))
}
