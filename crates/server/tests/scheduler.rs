//! A scheduler over real sockets, asked with generated stubs, as clients and stores do.
#![expect(clippy::unwrap_used, reason = "what fails in a test fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kiva_proto::keyspacepb::LoadKeyspaceRequest;
use kiva_proto::keyspacepb::keyspace_client::KeyspaceClient;
use kiva_proto::kivapb::cluster_client::ClusterClient;
use kiva_proto::kivapb::{ApiVersion, GetSettingsRequest};
use kiva_proto::metapb;
use kiva_proto::pdpb::pd_client::PdClient;
use kiva_proto::pdpb::*;
use kiva_server::config::SchedulerConfig;
use kiva_server::runtime::{self, ShutdownTrigger};
use kiva_server::scheduler::{self, RunningScheduler};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// A scheduler and somebody who talks to it.
struct World {
    running: RunningScheduler,
    trigger: ShutdownTrigger,
    channel: Channel,
    pd: PdClient<Channel>,
    cluster_id: u64,
}

fn config(dir: &Path) -> SchedulerConfig {
    SchedulerConfig {
        name: "one".to_owned(),
        data_dir: dir.to_owned(),
        addr: "127.0.0.1:0".to_owned(),
        ..SchedulerConfig::default()
    }
}

impl World {
    async fn start(dir: &Path) -> Self {
        Self::start_with(&config(dir)).await
    }

    async fn start_with(config: &SchedulerConfig) -> Self {
        let listener = TcpListener::bind(&config.addr).unwrap();
        let (trigger, shutdown) = runtime::shutdown();
        let running = scheduler::run(config, listener, shutdown).unwrap();
        let endpoint = Channel::from_shared(format!("http://{}", running.address())).unwrap();
        let channel = endpoint.connect().await.unwrap();
        let mut pd = PdClient::new(channel.clone());
        let members = pd.get_members(GetMembersRequest::default()).await.unwrap().into_inner();
        let cluster_id = members.header.unwrap().cluster_id;
        Self { running, trigger, channel, pd, cluster_id }
    }

    /// Stops it and waits until nothing of it is left.
    async fn stop(self) {
        let Self { running, trigger, .. } = self;
        trigger.request();
        tokio::task::spawn_blocking(|| running.join()).await.unwrap().unwrap();
    }

    fn header(&self) -> Option<RequestHeader> {
        Some(RequestHeader { cluster_id: self.cluster_id, ..RequestHeader::default() })
    }

    async fn alloc(&mut self) -> u64 {
        let request = AllocIdRequest { header: self.header(), count: 1 };
        self.pd.alloc_id(request).await.unwrap().into_inner().id
    }

    /// A first store and the region of all keys, as they were sent.
    async fn bootstrap(&mut self) -> (metapb::Store, metapb::Region) {
        let store = store(self.alloc().await);
        let (id, peer) = (self.alloc().await, self.alloc().await);
        let region = region(id, "", "", 1, &[(peer, store.id)]);
        let request = BootstrapRequest {
            header: self.header(),
            store: Some(store.clone()),
            region: Some(region.clone()),
        };
        let response = self.pd.bootstrap(request).await.unwrap().into_inner();
        assert_eq!(response.header.unwrap().error, None);
        (store, region)
    }

    async fn region_of(&mut self, key: &'static str) -> GetRegionResponse {
        let header = self.header();
        let request = GetRegionRequest { header, region_key: key.into(), need_buckets: false };
        self.pd.get_region(request).await.unwrap().into_inner()
    }

    /// Reports regions on a stream that stays open, and how it is answered.
    async fn heartbeats(
        &mut self,
    ) -> (mpsc::Sender<RegionHeartbeatRequest>, Streaming<RegionHeartbeatResponse>) {
        let (sender, receiver) = mpsc::channel(8);
        let reports = ReceiverStream::new(receiver);
        let answers = self.pd.region_heartbeat(reports).await.unwrap().into_inner();
        (sender, answers)
    }

    fn report(&self, region: metapb::Region) -> RegionHeartbeatRequest {
        RegionHeartbeatRequest {
            header: self.header(),
            leader: region.peers.first().copied(),
            region: Some(region),
            term: 6,
            ..RegionHeartbeatRequest::default()
        }
    }

    async fn http(&self, path: &'static str) -> (u16, Value) {
        let address = self.running.address();
        let ask = move || {
            let mut stream = TcpStream::connect(address).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        let answer = tokio::task::spawn_blocking(ask).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap())
    }
}

fn store(id: u64) -> metapb::Store {
    metapb::Store {
        id,
        address: format!("127.0.0.1:{}", 20_000 + id),
        version: "8.5.0".to_owned(),
        ..metapb::Store::default()
    }
}

fn region(
    id: u64,
    start: &'static str,
    end: &'static str,
    version: u64,
    peers: &[(u64, u64)],
) -> metapb::Region {
    let peer = |&(id, store_id): &(u64, u64)| metapb::Peer { id, store_id, ..Default::default() };
    metapb::Region {
        id,
        start_key: start.into(),
        end_key: end.into(),
        region_epoch: Some(metapb::RegionEpoch { conf_ver: 1, version }),
        peers: peers.iter().map(peer).collect(),
        ..metapb::Region::default()
    }
}

/// The type of the error in a header.
#[track_caller]
fn refusal(header: Option<ResponseHeader>) -> (ErrorType, String) {
    let error = header.expect("every answer has a header").error.expect("it was refused");
    (error.r#type(), error.message)
}

fn full_timestamp(response: &TsoResponse) -> i64 {
    let timestamp = response.timestamp.unwrap();
    (timestamp.physical << 18) + timestamp.logical
}

#[tokio::test]
async fn a_client_connects_as_clients_do() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::start(dir.path()).await;
    // The first call comes without a header, and its answer has everything that is needed next.
    let members = world.pd.get_members(GetMembersRequest::default()).await.unwrap().into_inner();
    let leader = members.leader.unwrap();
    assert_ne!(world.cluster_id, 0);
    assert_ne!(leader.member_id, 0);
    assert_eq!(members.members, std::slice::from_ref(&leader));
    assert_eq!(members.etcd_leader, Some(leader.clone()));
    let url = format!("http://{}", world.running.address());
    assert_eq!(leader.client_urls, std::slice::from_ref(&url));
    let again = PdClient::connect(url).await.unwrap();
    let again = { again }.get_members(GetMembersRequest::default()).await.unwrap().into_inner();
    assert_eq!(again.header.unwrap().cluster_id, world.cluster_id);
    let info = world.pd.get_cluster_info(GetClusterInfoRequest::default()).await.unwrap();
    assert_eq!(info.into_inner().service_modes, [ServiceMode::PdSvcMode as i32]);
    let mut health = HealthClient::new(world.channel.clone());
    let health = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(health.status, 1);
}

/// The header of every unary call with this request.
macro_rules! headers {
    ($world:ident: $($call:ident($request:ident $({ $($field:ident: $value:expr),* })?),)*) => {
        [$((stringify!($call), {
            let request = $request {
                header: $world.header(),
                $($($field: $value,)*)?
                ..$request::default()
            };
            $world.pd.$call(request).await.unwrap().into_inner().header
        })),*]
    };
}

#[tokio::test]
#[expect(clippy::needless_update, reason = "some requests are nothing but a header")]
async fn every_answer_has_a_header() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::start(dir.path()).await;
    for is_bootstrapped in [false, true] {
        if is_bootstrapped {
            world.bootstrap().await;
        }
        let headers = headers!(world:
            get_members(GetMembersRequest),
            is_bootstrapped(IsBootstrappedRequest),
            bootstrap(BootstrapRequest),
            alloc_id(AllocIdRequest),
            alloc_id(AllocIdRequest { count: u32::MAX }),
            put_store(PutStoreRequest),
            put_store(PutStoreRequest { store: Some(store(1)) }),
            get_store(GetStoreRequest { store_id: 1 }),
            get_all_stores(GetAllStoresRequest),
            store_heartbeat(StoreHeartbeatRequest),
            get_region(GetRegionRequest),
            get_prev_region(GetRegionRequest),
            get_region_by_id(GetRegionByIdRequest { region_id: 2 }),
            scan_regions(ScanRegionsRequest),
            batch_scan_regions(BatchScanRegionsRequest { ranges: vec![KeyRange::default()] }),
            scatter_region(ScatterRegionRequest),
            get_operator(GetOperatorRequest),
            get_gc_safe_point(GetGcSafePointRequest),
            update_gc_safe_point(UpdateGcSafePointRequest),
            update_service_gc_safe_point(UpdateServiceGcSafePointRequest),
        );
        for (call, header) in headers {
            let header = header.unwrap_or_else(|| panic!("{call} answers without a header"));
            assert_eq!(header.cluster_id, world.cluster_id, "{call}");
        }
    }
}

#[tokio::test]
async fn another_cluster_is_refused_and_the_connection_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::start(dir.path()).await;
    for cluster_id in [0, world.cluster_id ^ 1] {
        let header = Some(RequestHeader { cluster_id, ..RequestHeader::default() });
        let request = IsBootstrappedRequest { header };
        let status = world.pd.is_bootstrapped(request).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains("mismatch cluster id"), "{status}");
    }
    let status = world.pd.get_min_ts(GetMinTsRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented, "what is not served says so");
    let request = IsBootstrappedRequest { header: world.header() };
    assert!(!world.pd.is_bootstrapped(request).await.unwrap().into_inner().bootstrapped);
}

#[tokio::test]
async fn a_stream_of_timestamps_answers_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::start(dir.path()).await;
    let (sender, receiver) = mpsc::channel(64);
    // Clients wait for the headers before they send the first request.
    let answers = world.pd.tso(ReceiverStream::new(receiver)).await.unwrap();
    let mut answers = answers.into_inner();
    let counts = [1, 64, 1, 5_000, 262_144, 7];
    for count in counts {
        let header = world.header();
        sender.send(TsoRequest { header, count, ..TsoRequest::default() }).await.unwrap();
    }
    let mut last = 0;
    for count in counts {
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.count, count);
        assert_eq!(answer.header.as_ref().unwrap().cluster_id, world.cluster_id);
        let count = i64::from(count);
        assert!(answer.timestamp.unwrap().logical >= count - 1, "all share the millisecond");
        assert!(full_timestamp(&answer) - count >= last);
        last = full_timestamp(&answer);
    }
    let header = world.header();
    sender.send(TsoRequest { header, count: 0, ..TsoRequest::default() }).await.unwrap();
    let status = answers.message().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_stream_for_another_cluster_fails() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::start(dir.path()).await;
    let request = TsoRequest { count: 1, ..TsoRequest::default() };
    let answers = world.pd.tso(tokio_stream::once(request)).await.unwrap();
    let status = answers.into_inner().message().await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("mismatch cluster id"), "{status}");
}

#[tokio::test]
async fn a_cluster_is_born_once_and_served_over_http() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::start(dir.path()).await;
    let (kind, _) = refusal(world.region_of("k").await.header);
    assert_eq!(kind, ErrorType::NotBootstrapped);
    assert_eq!(world.http("/pd/api/v1/regions").await.0, 503);
    let (store, region) = world.bootstrap().await;
    let header = world.header();
    let again =
        BootstrapRequest { header, store: Some(store.clone()), region: Some(region.clone()) };
    let again = world.pd.bootstrap(again).await.unwrap().into_inner();
    assert_eq!(refusal(again.header).0, ErrorType::AlreadyBootstrapped);

    let found = world.region_of("any").await;
    assert_eq!(found.region, Some(region.clone()));
    assert_eq!(found.leader, region.peers.first().copied());
    let (status, json) = world.http("/pd/api/v1/regions").await;
    assert_eq!((status, json["count"].as_u64()), (200, Some(1)));
    assert_eq!(json["regions"][0]["id"], region.id);
    let (status, json) = world.http("/pd/api/v1/stores").await;
    assert_eq!((status, json["count"].as_u64()), (200, Some(1)));
    assert_eq!(json["stores"][0]["store"]["address"], store.address);
    let (_, json) = world.http("/pd/api/v1/members").await;
    assert_eq!(json["leader"]["name"], "one");
    assert_eq!(json["header"]["cluster_id"], world.cluster_id);
    assert_eq!(world.http("/health").await.0, 200);
    assert_eq!(world.http("/pd/api/v1/version").await.1["version"], "8.5.0");
    let (status, json) = world.http("/pd/api/v1/nothing").await;
    assert_eq!(status, 404);
    assert!(json["error"].as_str().unwrap().contains("/pd/api/v1/nothing"));
}

#[tokio::test]
async fn an_unknown_store_is_told_in_the_words_that_clients_know() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::start(dir.path()).await;
    let (first, _) = world.bootstrap().await;
    let header = world.header();
    let get = |store_id| GetStoreRequest { header: header.clone(), store_id };
    let unknown = world.pd.get_store(get(77)).await.unwrap().into_inner();
    assert_eq!(unknown.store, None);
    assert_eq!(refusal(unknown.header).1, "invalid store ID 77, not found");
    let known = world.pd.get_store(get(first.id)).await.unwrap().into_inner();
    assert_eq!(known.header.unwrap().error, None);
    assert_eq!(known.store.unwrap().address, first.address);

    let stats = StoreStats { store_id: first.id, capacity: 9, ..StoreStats::default() };
    let beat = StoreHeartbeatRequest { header: world.header(), stats: Some(stats) };
    world.pd.store_heartbeat(beat).await.unwrap();
    let known = world.pd.get_store(get(first.id)).await.unwrap().into_inner();
    assert_eq!(known.stats.unwrap().capacity, 9);
    assert_ne!(known.store.unwrap().last_heartbeat, 0);
}

#[tokio::test]
async fn reports_of_leaders_move_the_boundaries() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::start(dir.path()).await;
    let (store, whole) = world.bootstrap().await;
    let (id, peer) = (world.alloc().await, world.alloc().await);
    let left = region(whole.id, "", "m", 2, &[(whole.peers[0].id, store.id)]);
    let right = region(id, "m", "", 2, &[(peer, store.id)]);
    let (reports, mut answers) = world.heartbeats().await;
    for region in [&left, &right, &whole] {
        reports.send(world.report(region.clone())).await.unwrap();
    }
    // The last report was stale, and its refusal says that the others have been taken in.
    let stale = answers.message().await.unwrap().unwrap();
    assert_eq!(stale.region_id, whole.id);
    assert!(refusal(stale.header).1.contains("epoch"));

    assert_eq!(world.region_of("a").await.region.unwrap(), left);
    assert_eq!(world.region_of("m").await.region.unwrap(), right);
    let header = world.header();
    let previous = GetRegionRequest { header, region_key: "z".into(), need_buckets: false };
    let previous = world.pd.get_prev_region(previous).await.unwrap().into_inner();
    assert_eq!(previous.region.unwrap(), left);
    let by_id =
        GetRegionByIdRequest { header: world.header(), region_id: id, ..Default::default() };
    let by_id = world.pd.get_region_by_id(by_id).await.unwrap().into_inner();
    assert_eq!(by_id.region.unwrap(), right);

    let scan = |limit, end: &'static str| ScanRegionsRequest {
        header: world.header(),
        limit,
        end_key: end.into(),
        ..ScanRegionsRequest::default()
    };
    let (all, one, clipped) = (scan(0, ""), scan(1, ""), scan(10, "m"));
    let all = world.pd.scan_regions(all).await.unwrap().into_inner();
    assert_eq!(all.region_metas, [left.clone(), right.clone()]);
    assert_eq!(all.leaders, [left.peers[0], right.peers[0]]);
    let third: Vec<_> = all.regions.iter().map(|found| found.region.clone().unwrap()).collect();
    assert_eq!(third, all.region_metas);
    for request in [one, clipped] {
        let found = world.pd.scan_regions(request).await.unwrap().into_inner();
        assert_eq!(found.region_metas, std::slice::from_ref(&left));
    }
    let (_, json) = world.http("/pd/api/v1/regions").await;
    assert_eq!(json["count"], 2);
    assert_eq!(json["regions"][0]["end_key"], "6D", "hexadecimal, upper case");
}

#[tokio::test]
async fn ranges_that_share_a_region_name_it_once_and_a_hole_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::start(dir.path()).await;
    let (store, whole) = world.bootstrap().await;
    let range = |start: &'static str, end: &'static str| KeyRange {
        start_key: start.into(),
        end_key: end.into(),
    };
    let scan = |header, contain_all_key_range| BatchScanRegionsRequest {
        header,
        ranges: vec![range("a", "b"), range("c", "d"), range("n", "")],
        contain_all_key_range,
        ..BatchScanRegionsRequest::default()
    };
    let header = world.header();
    let found = world.pd.batch_scan_regions(scan(header, true)).await.unwrap().into_inner();
    assert_eq!(found.regions.len(), 1);
    // The region shrinks, and nobody has reported the rest yet.
    let left = region(whole.id, "", "m", 2, &[(whole.peers[0].id, store.id)]);
    let (reports, mut answers) = world.heartbeats().await;
    for region in [left, whole] {
        reports.send(world.report(region)).await.unwrap();
    }
    answers.message().await.unwrap().unwrap();
    let header = world.header();
    let found = world.pd.batch_scan_regions(scan(header, true)).await.unwrap().into_inner();
    assert_eq!(refusal(found.header).0, ErrorType::RegionsNotContainAllKeyRange);
    let header = world.header();
    let found = world.pd.batch_scan_regions(scan(header, false)).await.unwrap().into_inner();
    assert_eq!((found.header.unwrap().error, found.regions.len()), (None, 1));
}

#[tokio::test]
async fn the_safe_point_moves_forward_and_is_held_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::start(dir.path()).await;
    for (asked, expected) in [(8, 8), (3, 8), (9, 9)] {
        let request = UpdateGcSafePointRequest { header: world.header(), safe_point: asked };
        let response = world.pd.update_gc_safe_point(request).await.unwrap().into_inner();
        assert_eq!(response.new_safe_point, expected);
    }
    let request = GetGcSafePointRequest { header: world.header() };
    assert_eq!(world.pd.get_gc_safe_point(request).await.unwrap().into_inner().safe_point, 9);
    let header = world.header();
    let hold = |service: &'static str, ttl, safe_point| UpdateServiceGcSafePointRequest {
        header: header.clone(),
        service_id: service.into(),
        ttl,
        safe_point,
    };
    let worker = world.pd.update_service_gc_safe_point(hold("gc_worker", i64::MAX, 20)).await;
    assert_eq!(worker.unwrap().into_inner().min_safe_point, 20);
    world.pd.update_service_gc_safe_point(hold("backup", 100, 30)).await.unwrap();
    let worker = world.pd.update_service_gc_safe_point(hold("gc_worker", i64::MAX, 40)).await;
    let minimum = worker.unwrap().into_inner();
    assert_eq!((&minimum.service_id[..], minimum.min_safe_point), (&b"backup"[..], 30));
    assert!((90..=100).contains(&minimum.ttl), "{}", minimum.ttl);
}

#[tokio::test]
async fn keyspaces_and_settings_are_told_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let config = SchedulerConfig { api_version: Some("2".to_owned()), ..config(dir.path()) };
    let world = World::start_with(&config).await;
    let mut keyspaces = KeyspaceClient::new(world.channel.clone());
    let load = |name: &str| LoadKeyspaceRequest { header: world.header(), name: name.to_owned() };
    let found = keyspaces.load_keyspace(load("DEFAULT")).await.unwrap().into_inner();
    let keyspace = found.keyspace.unwrap();
    assert_eq!((keyspace.id, keyspace.name.as_str(), keyspace.state), (0, "DEFAULT", 0));
    let unknown = keyspaces.load_keyspace(load("other")).await.unwrap().into_inner();
    assert_eq!(refusal(unknown.header).0, ErrorType::EntryNotFound);

    let mut cluster = ClusterClient::new(world.channel.clone());
    // A store that joins knows no cluster id yet.
    let told = cluster.get_settings(GetSettingsRequest::default()).await.unwrap().into_inner();
    assert_eq!(told.header.unwrap().cluster_id, world.cluster_id);
    let settings = told.settings.unwrap();
    assert_eq!(settings.api_version(), ApiVersion::V2);
    assert_eq!((settings.replicas, settings.tick_ms), (3, 50));
    drop((keyspaces, cluster));
    world.stop().await;

    let other = SchedulerConfig { api_version: Some("1".to_owned()), ..config };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = scheduler::run(&other, listener, runtime::shutdown().1).err().unwrap();
    let refused = refused.to_string();
    assert!(refused.contains("API version 2 ") && refused.contains("API version 1:"), "{refused}");
}

#[tokio::test]
async fn a_shutdown_answers_what_has_arrived_and_ends_the_streams() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::start(dir.path()).await;
    let (sender, receiver) = mpsc::channel(64);
    let answers = world.pd.tso(ReceiverStream::new(receiver)).await.unwrap();
    let mut answers = answers.into_inner();
    let ask = || TsoRequest { header: world.header(), count: 1, ..TsoRequest::default() };
    sender.send(ask()).await.unwrap();
    answers.message().await.unwrap().unwrap();
    let (_reports, mut steps) = world.heartbeats().await;
    world.trigger.request();
    assert_eq!(answers.message().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(steps.message().await.unwrap_err().code(), Code::Unavailable);
    let address = world.running.address();
    world.stop().await;
    TcpStream::connect(address).expect_err("nobody listens any more");
}

/// The files as a process that is killed now would leave them: copied again until none came, went
/// or changed meanwhile, because a copy is no moment.
fn copy(from: &Path, to: &Path) {
    for _ in 0..100 {
        let before = listing(from);
        let copied = copy_once(from, to);
        if copied.is_ok() && before.is_ok_and(|before| listing(from).is_ok_and(|now| now == before))
        {
            return;
        }
        fs::remove_dir_all(to).unwrap();
    }
    panic!("{} is never at rest", from.display());
}

fn copy_once(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_once(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Every file with its size and when it was last written.
fn listing(path: &Path) -> io::Result<BTreeMap<PathBuf, (u64, SystemTime)>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(listing(&entry.path())?);
        } else {
            let metadata = entry.metadata()?;
            files.insert(entry.path(), (metadata.len(), metadata.modified()?));
        }
    }
    Ok(files)
}

async fn one_timestamp(world: &mut World) -> i64 {
    let request = TsoRequest { header: world.header(), count: 1, ..TsoRequest::default() };
    let answers = world.pd.tso(tokio_stream::once(request)).await.unwrap();
    let mut answers = answers.into_inner();
    full_timestamp(&answers.next().await.unwrap().unwrap())
}

#[tokio::test]
async fn a_killed_scheduler_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::start(&dir.path().join("0")).await;
    let (store, region) = world.bootstrap().await;
    let mut last_id = region.peers[0].id;
    let mut last = 0;
    for life in 1..5 {
        let cluster_id = world.cluster_id;
        last = last.max(one_timestamp(&mut world).await);
        last_id = last_id.max(world.alloc().await);
        let next = dir.path().join(life.to_string());
        copy(&dir.path().join((life - 1).to_string()), &next);
        // What happens after the moment of death is not to be found again.
        world.stop().await;
        world = World::start(&next).await;
        assert_eq!(world.cluster_id, cluster_id);
        assert!(one_timestamp(&mut world).await > last, "life {life}");
        assert!(world.alloc().await > last_id, "life {life}");
        let found = world.region_of("k").await;
        assert_eq!(found.region, Some(region.clone()));
        assert_eq!(found.leader, region.peers.first().copied());
        let get = GetStoreRequest { header: world.header(), store_id: store.id };
        let known = world.pd.get_store(get).await.unwrap().into_inner();
        assert_eq!(known.store.unwrap().address, store.address);
    }
}

#[test]
fn what_cannot_be_a_scheduler_is_refused_before_anything_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let config = SchedulerConfig {
        initial_cluster: Some("one=127.0.0.1:2380,two=127.0.0.1:2381".to_owned()),
        ..config(&dir.path().join("data"))
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = scheduler::run(&config, listener, runtime::shutdown().1).err().unwrap();
    assert!(refused.to_string().contains("several come later"), "{refused}");
    assert!(!dir.path().join("data").exists());
}
