//! `pdpb.PD`: what clients and stores ask of the scheduler.
//!
//! Every answer carries a header with the id of the cluster, because clients fail without one; a
//! refusal is an error in that header, and the rest of the answer is empty then. Only what is wrong
//! with the call itself, such as the id of another cluster, is a gRPC status.
//!
//! What answers from memory runs on the task that received it; what saves runs where it may wait
//! for the disk.
//!
//! | module | has |
//! |---|---|
//! | `fault` | refusals as the wire has them |
//! | `leaders` | where instructions go that nobody has just asked for |
//! | `stream` | timestamps and heartbeats, which have no end |
//!
//! # What a store says and is told
//!
//! 1. *It starts.* With an id on its disk it first calls `kivapb.Cluster/ReportLog` with `is_start`
//!    and the position that its log ends at, before any peer of its votes. Peers with ids smaller
//!    than `lost_below` of the answer have forgotten what they promised: they must not vote,
//!    campaign, lead or acknowledge. They are replaced; peers that come later have larger ids. A
//!    store without an id takes a new one (`AllocID`) and has nothing to report yet.
//! 2. *It joins* with `PutStore`, at every start. An address that another store was at is given to
//!    the newcomer when the other has been silent for as long as makes a store disconnected; the
//!    other is lost then, and its peers are replaced. Before, the answer is `DUPLICATED_ENTRY`, and
//!    the newcomer tries again. `STORE_TOMBSTONE`: this id is gone for good.
//! 3. *It lives.* `StoreHeartbeat` and `ReportLog` every ten seconds; the latter also right after
//!    the first write of a new log, so that a loss is noticed from then on.
//! 4. *Its leaders report* on one stream of `RegionHeartbeat` per store: at once when leader,
//!    epoch, peers, down or pending peers change, and once a minute. `leader`, `region` with epoch
//!    and `term` are needed; a peer in the middle of a joint change may have the role
//!    `IncomingVoter` or `DemotingVoter`, and no step comes then.
//! 5. *Steps come back* on the stream on which the store of the leader last reported: as an answer
//!    to a report or unasked, at most one per region, repeated until a report shows its effect.
//!    Each has `region_id`, `region_epoch`, `target_peer` and one of:
//!
//!    | field | the leader should |
//!    |---|---|
//!    | `change_peer_v2` with one change | propose a simple change |
//!    | `change_peer_v2` with more | propose a joint change that is left automatically |
//!    | `transfer_leader` | hand over to `peer` |
//!
//!    Changes are `AddLearnerNode` (a new learner, or a voter that becomes one), `AddNode` (a new
//!    voter, or a learner that becomes one) and `RemoveNode`. A leader whose `conf_ver` is another
//!    than that of `region_epoch`, or that is not `target_peer`, passes the step over: it is
//!    from before. A report that was refused is answered with an error in the header.
//! 6. *A peer that has heard of no leader for long* asks `GetRegionByID`: it is to go when it is
//!    none of the region's peers and the epoch's `conf_ver` is not behind its own.

mod fault;
mod leaders;
mod stream;

use std::hash::BuildHasher;
use std::sync::Arc;

use bytes::Bytes;
use kiva_base::map::Seeded;
use kiva_base::{KeyRange, Timestamp};
use kiva_proto::keyspacepb::keyspace_server::KeyspaceServer;
use kiva_proto::kivapb::cluster_server::ClusterServer;
use kiva_proto::pdpb::pd_server::{Pd, PdServer};
use kiva_proto::pdpb::*;
use kiva_scheduler::{Error, Instruction, Refusal, RegionReport, Scheduler, StoreState, wire};
use tonic::codegen::BoxStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use crate::REPORTED_VERSION;
use crate::limits::{REQUEST_SIZE_MAX, RESPONSE_SIZE_MAX};
use crate::runtime::{Shutdown, blocking};
use fault::header_error;
use leaders::Leaders;

/// Who the scheduler is to others.
#[derive(Clone, Debug)]
pub struct Membership {
    /// Its name, unique in the cluster.
    pub name: String,
    /// Where clients reach it, with `http://`.
    pub client_url: String,
    /// Where other members will reach it, with `http://`.
    pub peer_url: String,
}

/// The services over one scheduler. Clones share it.
#[derive(Clone)]
pub struct SchedulerService {
    pub(super) scheduler: Scheduler,
    membership: Arc<Membership>,
    leaders: Leaders,
    shutdown: Shutdown,
}

/// An answer's header, and what belongs into the rest of it unless the header says why not.
pub(super) type Answer<T> = (Option<ResponseHeader>, Option<T>);

impl SchedulerService {
    /// The services of `scheduler`. Streams end when `shutdown` is requested.
    pub fn new(scheduler: Scheduler, membership: Membership, shutdown: Shutdown) -> Self {
        let (membership, leaders) = (Arc::new(membership), Leaders::default());
        Self { scheduler, membership, leaders, shutdown }
    }

    /// Tells a leader what to do, without being asked. What cannot be said now is dropped.
    pub fn tell(&self, instruction: Instruction) {
        self.leaders.tell(instruction);
    }

    /// All gRPC services of the scheduler's port, to be put behind a door.
    pub fn into_routes(self) -> Routes {
        let pd = PdServer::new(self.clone())
            .max_decoding_message_size(REQUEST_SIZE_MAX)
            .max_encoding_message_size(RESPONSE_SIZE_MAX);
        let (reporter, health) = tonic_health::server::health_reporter();
        // It says SERVING from the start, and nothing will change that.
        drop(reporter);
        Routes::new(pd)
            .add_service(KeyspaceServer::new(self.clone()))
            .add_service(ClusterServer::new(self))
            .add_service(health)
    }

    /// Who the scheduler is to others.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The id of this member: the same after every restart, another for another member, and never
    /// zero.
    pub fn member_id(&self) -> u64 {
        let seed = Seeded::new(self.scheduler.cluster_id().get());
        seed.hash_one(&self.membership.name).max(1)
    }

    /// The scheduler itself.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// A header without an error.
    pub(super) fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader { cluster_id: self.scheduler.cluster_id().get(), error: None })
    }

    /// Refuses a call that is meant for another cluster, or says nothing about that.
    pub(super) fn check(&self, header: &Option<RequestHeader>) -> Result<(), Status> {
        let ours = self.scheduler.cluster_id().get();
        match header.as_ref().map_or(0, |header| header.cluster_id) {
            named if named == ours => Ok(()),
            named => Err(Status::failed_precondition(format!(
                "mismatch cluster id, need {ours} but got {named}"
            ))),
        }
    }

    /// A header that says whether it worked, and the outcome if it did. What is wrong with the
    /// disk is a status: the caller cannot mend it, and cannot know what has happened.
    pub(super) fn answer<T>(
        &self,
        outcome: Result<T, impl Into<Error>>,
    ) -> Result<Answer<T>, Status> {
        match outcome.map_err(Into::into) {
            Ok(outcome) => Ok((self.header(), Some(outcome))),
            Err(Error::Refused(refusal)) => {
                let error = Some(header_error(&refusal));
                let header = self.header().map(|header| ResponseHeader { error, ..header });
                Ok((header, None))
            }
            Err(Error::Failed(error)) => Err(Status::unavailable(error.to_string())),
        }
    }

    /// Runs what saves where it may wait for the disk.
    pub(super) async fn saving<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Scheduler) -> Result<T, Error> + Send + 'static,
    ) -> Result<Answer<T>, Status> {
        let scheduler = self.scheduler.clone();
        self.answer(blocking(move || work(&scheduler)).await)
    }

    fn region(
        &self,
        found: Result<Option<Arc<RegionReport>>, Refusal>,
    ) -> Result<Response<GetRegionResponse>, Status> {
        let (header, found) = self.answer(found)?;
        let Some(report) = found.flatten() else {
            return Ok(Response::new(GetRegionResponse { header, ..Default::default() }));
        };
        let region = wire::report_to_wire(&report);
        Ok(Response::new(GetRegionResponse {
            header,
            region: region.region,
            leader: region.leader,
            down_peers: region.down_peers,
            pending_peers: region.pending_peers,
        }))
    }
}

/// `start..end` as it came; a range that runs backwards holds nothing.
fn range_from_wire(start: Bytes, end: Bytes) -> KeyRange {
    KeyRange::new(start.clone(), end)
        .or_else(|| KeyRange::new(start.clone(), start))
        .expect("equal bounds do not run backwards")
}

/// How many regions were asked for: no limit when it is not positive.
fn limit_from_wire(limit: i32) -> usize {
    match usize::try_from(limit) {
        Ok(0) | Err(_) => usize::MAX,
        Ok(limit) => limit,
    }
}

/// Whether regions in key order leave no key of `range` out.
fn covers(regions: &[Arc<RegionReport>], range: &KeyRange) -> bool {
    let mut next = range.start();
    for report in regions {
        let region = &report.region.range;
        if region.start() > next {
            return false;
        }
        next = region.end();
        if next.is_empty() {
            return true;
        }
    }
    !range.end().is_empty() && next >= range.end()
}

#[tonic::async_trait]
impl Pd for SchedulerService {
    async fn get_members(
        &self,
        _: Request<GetMembersRequest>,
    ) -> Result<Response<GetMembersResponse>, Status> {
        let member = Member {
            name: self.membership.name.clone(),
            member_id: self.member_id(),
            peer_urls: vec![self.membership.peer_url.clone()],
            client_urls: vec![self.membership.client_url.clone()],
            binary_version: REPORTED_VERSION.to_owned(),
            ..Member::default()
        };
        Ok(Response::new(GetMembersResponse {
            header: self.header(),
            members: vec![member.clone()],
            leader: Some(member.clone()),
            etcd_leader: Some(member),
        }))
    }

    async fn get_cluster_info(
        &self,
        _: Request<GetClusterInfoRequest>,
    ) -> Result<Response<GetClusterInfoResponse>, Status> {
        Ok(Response::new(GetClusterInfoResponse {
            header: self.header(),
            service_modes: vec![ServiceMode::PdSvcMode as i32],
            tso_urls: Vec::new(),
        }))
    }

    async fn tso(
        &self,
        request: Request<Streaming<TsoRequest>>,
    ) -> Result<Response<BoxStream<TsoResponse>>, Status> {
        let requests = request.into_inner();
        Ok(Response::new(stream::timestamps(self.clone(), requests)))
    }

    async fn is_bootstrapped(
        &self,
        request: Request<IsBootstrappedRequest>,
    ) -> Result<Response<IsBootstrappedResponse>, Status> {
        self.check(&request.get_ref().header)?;
        Ok(Response::new(IsBootstrappedResponse {
            header: self.header(),
            bootstrapped: self.scheduler.is_bootstrapped(),
        }))
    }

    async fn bootstrap(
        &self,
        request: Request<BootstrapRequest>,
    ) -> Result<Response<BootstrapResponse>, Status> {
        let BootstrapRequest { header, store, region } = request.into_inner();
        self.check(&header)?;
        let parts = || -> Result<_, Refusal> {
            let store = store.ok_or(fault::missing("store"))?;
            let region = region.ok_or(fault::missing("region"))?;
            let region = wire::region_from_wire(&region)?;
            Ok((wire::store_from_wire(&store)?, RegionReport::new(region)))
        };
        let (header, _) = match parts() {
            Ok((store, region)) => self.saving(move |s| s.bootstrap(store, region)).await?,
            Err(refusal) => self.answer(Err(refusal))?,
        };
        Ok(Response::new(BootstrapResponse { header }))
    }

    async fn alloc_id(
        &self,
        request: Request<AllocIdRequest>,
    ) -> Result<Response<AllocIdResponse>, Status> {
        let AllocIdRequest { header, count } = request.into_inner();
        self.check(&header)?;
        let (header, id) = self.saving(move |scheduler| scheduler.ids(count)).await?;
        Ok(Response::new(AllocIdResponse {
            header,
            count: if id.is_some() { count.max(1) } else { 0 },
            id: id.unwrap_or_default(),
        }))
    }

    async fn put_store(
        &self,
        request: Request<PutStoreRequest>,
    ) -> Result<Response<PutStoreResponse>, Status> {
        let PutStoreRequest { header, store } = request.into_inner();
        self.check(&header)?;
        let store = store.ok_or(fault::missing("store"));
        let (header, _) = match store.and_then(|store| wire::store_from_wire(&store)) {
            Ok(store) => self.saving(move |scheduler| scheduler.put_store(store)).await?,
            Err(malformed) => self.answer(Err(Refusal::from(malformed)))?,
        };
        Ok(Response::new(PutStoreResponse { header }))
    }

    async fn get_store(
        &self,
        request: Request<GetStoreRequest>,
    ) -> Result<Response<GetStoreResponse>, Status> {
        let request = request.into_inner();
        self.check(&request.header)?;
        let (header, view) = self.answer(self.scheduler.store(request.store_id))?;
        Ok(Response::new(GetStoreResponse {
            header,
            store: view.as_ref().map(wire::store_view_to_wire),
            stats: view.map(|view| wire::stats_to_wire(view.store.id, &view.stats)),
        }))
    }

    async fn get_all_stores(
        &self,
        request: Request<GetAllStoresRequest>,
    ) -> Result<Response<GetAllStoresResponse>, Status> {
        let request = request.into_inner();
        self.check(&request.header)?;
        let mut stores = self.scheduler.stores();
        if request.exclude_tombstone_stores {
            stores.retain(|view| view.store.state != StoreState::Tombstone);
        }
        Ok(Response::new(GetAllStoresResponse {
            header: self.header(),
            stores: stores.iter().map(wire::store_view_to_wire).collect(),
        }))
    }

    async fn store_heartbeat(
        &self,
        request: Request<StoreHeartbeatRequest>,
    ) -> Result<Response<StoreHeartbeatResponse>, Status> {
        let StoreHeartbeatRequest { header, stats } = request.into_inner();
        self.check(&header)?;
        let heard = match stats {
            Some(stats) => {
                let id = stats.store_id;
                self.scheduler.on_store_heartbeat(id, wire::stats_from_wire(&stats))
            }
            None => Err(fault::missing("stats").into()),
        };
        let (header, _) = self.answer(heard)?;
        let cluster_version = REPORTED_VERSION.to_owned();
        Ok(Response::new(StoreHeartbeatResponse { header, cluster_version }))
    }

    async fn region_heartbeat(
        &self,
        request: Request<Streaming<RegionHeartbeatRequest>>,
    ) -> Result<Response<BoxStream<RegionHeartbeatResponse>>, Status> {
        let requests = request.into_inner();
        Ok(Response::new(stream::reports(self.clone(), requests)))
    }

    async fn get_region(
        &self,
        request: Request<GetRegionRequest>,
    ) -> Result<Response<GetRegionResponse>, Status> {
        let request = request.into_inner();
        self.check(&request.header)?;
        self.region(self.scheduler.region_by_key(&request.region_key))
    }

    async fn get_prev_region(
        &self,
        request: Request<GetRegionRequest>,
    ) -> Result<Response<GetRegionResponse>, Status> {
        let request = request.into_inner();
        self.check(&request.header)?;
        self.region(self.scheduler.region_before(&request.region_key))
    }

    async fn get_region_by_id(
        &self,
        request: Request<GetRegionByIdRequest>,
    ) -> Result<Response<GetRegionResponse>, Status> {
        let request = request.into_inner();
        self.check(&request.header)?;
        self.region(self.scheduler.region_by_id(request.region_id))
    }

    async fn scan_regions(
        &self,
        request: Request<ScanRegionsRequest>,
    ) -> Result<Response<ScanRegionsResponse>, Status> {
        let request = request.into_inner();
        self.check(&request.header)?;
        let range = range_from_wire(request.start_key, request.end_key);
        let found = self.scheduler.regions(&range, limit_from_wire(request.limit));
        let (header, found) = self.answer(found)?;
        let regions: Vec<_> =
            found.unwrap_or_default().iter().map(|report| wire::report_to_wire(report)).collect();
        Ok(Response::new(ScanRegionsResponse {
            header,
            region_metas: regions.iter().filter_map(|found| found.region.clone()).collect(),
            // An unknown leader is an empty peer: both lists have to be as long.
            leaders: regions.iter().map(|found| found.leader.unwrap_or_default()).collect(),
            regions,
        }))
    }

    async fn batch_scan_regions(
        &self,
        request: Request<BatchScanRegionsRequest>,
    ) -> Result<Response<BatchScanRegionsResponse>, Status> {
        let request = request.into_inner();
        self.check(&request.header)?;
        let mut left = limit_from_wire(request.limit);
        let mut regions: Vec<Region> = Vec::new();
        let mut last = None;
        for range in request.ranges {
            let range = range_from_wire(range.start_key, range.end_key);
            let (header, found) = self.answer(self.scheduler.regions(&range, left))?;
            let Some(found) = found else {
                return Ok(Response::new(BatchScanRegionsResponse { header, regions: Vec::new() }));
            };
            // What the limit cut off is no hole.
            if request.contain_all_key_range && found.len() < left && !covers(&found, &range) {
                let header = self
                    .header()
                    .map(|header| ResponseHeader { error: Some(fault::hole()), ..header });
                return Ok(Response::new(BatchScanRegionsResponse { header, regions: Vec::new() }));
            }
            for report in found {
                // Neighbouring ranges may share a region.
                if last.replace(report.region.id) != Some(report.region.id) {
                    regions.push(wire::report_to_wire(&report));
                    left = left.saturating_sub(1);
                }
            }
            if left == 0 {
                break;
            }
        }
        Ok(Response::new(BatchScanRegionsResponse { header: self.header(), regions }))
    }

    async fn scatter_region(
        &self,
        request: Request<ScatterRegionRequest>,
    ) -> Result<Response<ScatterRegionResponse>, Status> {
        self.check(&request.get_ref().header)?;
        // Nothing is moved for balance yet, so all that can start has.
        Ok(Response::new(ScatterRegionResponse { header: self.header(), finished_percentage: 100 }))
    }

    async fn get_operator(
        &self,
        request: Request<GetOperatorRequest>,
    ) -> Result<Response<GetOperatorResponse>, Status> {
        let request = request.into_inner();
        self.check(&request.header)?;
        let header = self.header();
        // An answer without a description says that there is none.
        let found = self.scheduler.operator_of(request.region_id);
        Ok(Response::new(match found {
            None => GetOperatorResponse { header, ..Default::default() },
            Some(view) => GetOperatorResponse {
                header,
                region_id: request.region_id,
                desc: Bytes::from_static(view.operator.description.as_bytes()),
                status: wire::status_to_wire(view.status) as i32,
                kind: Bytes::from_static(b"region"),
            },
        }))
    }

    async fn get_gc_safe_point(
        &self,
        request: Request<GetGcSafePointRequest>,
    ) -> Result<Response<GetGcSafePointResponse>, Status> {
        self.check(&request.get_ref().header)?;
        Ok(Response::new(GetGcSafePointResponse {
            header: self.header(),
            safe_point: self.scheduler.safe_point().0,
        }))
    }

    async fn update_gc_safe_point(
        &self,
        request: Request<UpdateGcSafePointRequest>,
    ) -> Result<Response<UpdateGcSafePointResponse>, Status> {
        let UpdateGcSafePointRequest { header, safe_point } = request.into_inner();
        self.check(&header)?;
        let work = move |s: &Scheduler| s.move_safe_point(Timestamp(safe_point));
        let (header, safe_point) = self.saving(work).await?;
        let new_safe_point = safe_point.unwrap_or_default().0;
        Ok(Response::new(UpdateGcSafePointResponse { header, new_safe_point }))
    }

    async fn update_service_gc_safe_point(
        &self,
        request: Request<UpdateServiceGcSafePointRequest>,
    ) -> Result<Response<UpdateServiceGcSafePointResponse>, Status> {
        let request = request.into_inner();
        self.check(&request.header)?;
        let (header, held) = self
            .saving(move |scheduler| {
                let safe_point = Timestamp(request.safe_point);
                scheduler.hold_safe_point(request.service_id, request.ttl, safe_point)
            })
            .await?;
        let Some((hold, ttl)) = held else {
            let empty = UpdateServiceGcSafePointResponse { header, ..Default::default() };
            return Ok(Response::new(empty));
        };
        Ok(Response::new(UpdateServiceGcSafePointResponse {
            header,
            service_id: hold.service,
            ttl,
            min_safe_point: hold.safe_point.0,
        }))
    }
}
