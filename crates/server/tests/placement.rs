//! What a scheduler tells leaders and stores, over real sockets.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test may start tasks, and what fails in it fails the test"
)]

use std::net::TcpListener;
use std::path::Path;

use kiva_proto::kivapb::cluster_client::ClusterClient;
use kiva_proto::kivapb::{
    AddOperatorRequest, DescribeRegionRequest, DescribeStoreRequest, ListOperatorsRequest,
    OperatorKind, ReportLogRequest, ReportLogResponse,
};
use kiva_proto::metapb;
use kiva_proto::pdpb::pd_client::PdClient;
use kiva_proto::pdpb::*;
use kiva_server::config::SchedulerConfig;
use kiva_server::runtime::{self, ShutdownTrigger};
use kiva_server::scheduler::{self, RunningScheduler};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

/// A scheduler of a cluster with stores 1 to 3, and region 4 of all keys with peer 5 on store 1.
struct World {
    running: RunningScheduler,
    trigger: ShutdownTrigger,
    pd: PdClient<Channel>,
    ours: ClusterClient<Channel>,
    header: Option<RequestHeader>,
}

/// The stream of one store.
struct Stream {
    reports: mpsc::Sender<RegionHeartbeatRequest>,
    told: Streaming<RegionHeartbeatResponse>,
}

impl Stream {
    async fn next(&mut self) -> RegionHeartbeatResponse {
        self.told.message().await.unwrap().expect("the stream goes on")
    }

    /// The next instruction that was decided at this version of the peers. Earlier ones may be
    /// repeated before it.
    async fn told(&mut self, conf_ver: u64) -> RegionHeartbeatResponse {
        loop {
            let told = self.next().await;
            accepted(told.header.clone());
            if told.region_epoch.unwrap().conf_ver == conf_ver {
                return told;
            }
        }
    }

    /// Why the next report that is refused is so. All before it were heard then.
    async fn refused(&mut self) -> String {
        loop {
            let told = self.next().await;
            if told.header.as_ref().unwrap().error.is_some() {
                assert_eq!(told.region_id, 4);
                return refused(told.header).1;
            }
        }
    }
}

impl World {
    async fn start(dir: &Path) -> Self {
        let config = SchedulerConfig {
            name: "one".to_owned(),
            data_dir: dir.to_owned(),
            addr: "127.0.0.1:0".to_owned(),
            ..SchedulerConfig::default()
        };
        let listener = TcpListener::bind(&config.addr).unwrap();
        let (trigger, shutdown) = runtime::shutdown();
        let running = scheduler::run(&config, listener, shutdown).unwrap();
        let endpoint = Channel::from_shared(format!("http://{}", running.address())).unwrap();
        let channel = endpoint.connect().await.unwrap();
        let mut pd = PdClient::new(channel.clone());
        let members = pd.get_members(GetMembersRequest::default()).await.unwrap().into_inner();
        let cluster_id = members.header.unwrap().cluster_id;
        let header = Some(RequestHeader { cluster_id, ..RequestHeader::default() });
        let mut world = Self { running, trigger, pd, ours: ClusterClient::new(channel), header };
        let request = AllocIdRequest { header: world.header.clone(), count: 5 };
        let last = world.pd.alloc_id(request).await.unwrap().into_inner().id;
        assert_eq!(last, 5, "an empty directory");
        let request = BootstrapRequest {
            header: world.header.clone(),
            store: Some(store(1)),
            region: Some(region(1, 1, &[(5, 1)])),
        };
        accepted(world.pd.bootstrap(request).await.unwrap().into_inner().header);
        world
    }

    async fn stop(self) {
        let Self { running, trigger, .. } = self;
        trigger.request();
        tokio::task::spawn_blocking(|| running.join()).await.unwrap().unwrap();
    }

    async fn join(&mut self, id: u64) {
        let request = PutStoreRequest { header: self.header.clone(), store: Some(store(id)) };
        accepted(self.pd.put_store(request).await.unwrap().into_inner().header);
    }

    async fn stream(&mut self) -> Stream {
        let (reports, receiver) = mpsc::channel(64);
        let told = self.pd.region_heartbeat(ReceiverStream::new(receiver)).await.unwrap();
        Stream { reports, told: told.into_inner() }
    }

    fn report(&self, region: metapb::Region) -> RegionHeartbeatRequest {
        RegionHeartbeatRequest {
            header: self.header.clone(),
            leader: region.peers.first().copied(),
            region: Some(region),
            term: 6,
            ..RegionHeartbeatRequest::default()
        }
    }

    async fn report_log(
        &mut self,
        store_id: u64,
        position: u64,
        is_start: bool,
    ) -> ReportLogResponse {
        let request =
            ReportLogRequest { header: self.header.clone(), store_id, position, is_start };
        self.ours.report_log(request).await.unwrap().into_inner()
    }

    async fn epoch(&mut self) -> metapb::RegionEpoch {
        let request = GetRegionByIdRequest {
            header: self.header.clone(),
            region_id: 4,
            ..GetRegionByIdRequest::default()
        };
        let found = self.pd.get_region_by_id(request).await.unwrap().into_inner();
        found.region.unwrap().region_epoch.unwrap()
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

fn region(conf_ver: u64, version: u64, peers: &[(u64, u64)]) -> metapb::Region {
    let peer = |&(id, store_id): &(u64, u64)| metapb::Peer { id, store_id, ..Default::default() };
    metapb::Region {
        id: 4,
        region_epoch: Some(metapb::RegionEpoch { conf_ver, version }),
        peers: peers.iter().map(peer).collect(),
        ..metapb::Region::default()
    }
}

#[track_caller]
fn accepted(header: Option<ResponseHeader>) {
    assert_eq!(header.expect("every answer has a header").error, None);
}

#[track_caller]
fn refused(header: Option<ResponseHeader>) -> (ErrorType, String) {
    let error = header.unwrap().error.expect("it was refused");
    (error.r#type(), error.message)
}

/// The only change of peers that an answer asks for.
#[track_caller]
fn change(told: &RegionHeartbeatResponse) -> (ConfChangeType, metapb::Peer) {
    let [change] = &told.change_peer_v2.as_ref().unwrap().changes[..] else {
        panic!("there is one change: {told:?}");
    };
    (change.change_type(), change.peer.unwrap())
}

#[tokio::test]
async fn a_leader_is_told_unasked_when_a_store_joins_and_as_an_answer_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::start(dir.path()).await;
    let mut stream = world.stream().await;
    stream.reports.send(world.report(region(1, 1, &[(5, 1)]))).await.unwrap();
    world.join(2).await;
    // The keeper finds it on its next round.
    let told = stream.told(1).await;
    let (kind, learner) = change(&told);
    assert_eq!((kind, learner.store_id), (ConfChangeType::AddLearnerNode, 2));
    assert_eq!(learner.role(), metapb::PeerRole::Learner);
    assert_eq!((told.region_id, told.target_peer.unwrap().id), (4, 5));

    let mut changed = region(2, 1, &[(5, 1), (learner.id, 2)]);
    changed.peers[1].set_role(metapb::PeerRole::Learner);
    let mut behind = world.report(changed.clone());
    behind.pending_peers = vec![changed.peers[1]];
    behind.approximate_size = 77;
    stream.reports.send(behind).await.unwrap();
    stream.reports.send(world.report(changed)).await.unwrap();
    // Nothing was due while it was behind.
    let (kind, voter) = change(&stream.told(2).await);
    assert_eq!((kind, voter.id), (ConfChangeType::AddNode, learner.id));

    // A report from before is answered with an error, and the stream goes on.
    stream.reports.send(world.report(region(1, 1, &[(5, 1)]))).await.unwrap();
    assert!(stream.refused().await.contains("epoch"));
    // What cannot be a report as well.
    let nobody = RegionHeartbeatRequest { leader: None, ..world.report(region(9, 9, &[(5, 1)])) };
    stream.reports.send(nobody).await.unwrap();
    assert!(stream.refused().await.contains("`leader`"));
    assert_eq!(world.epoch().await.conf_ver, 2);
    drop(stream);
    world.stop().await;
}

#[tokio::test]
async fn an_operator_by_hand_reaches_the_stream_of_the_leader() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::start(dir.path()).await;
    world.join(2).await;
    world.join(3).await;
    let three = region(3, 1, &[(5, 1), (6, 2), (7, 3)]);
    let mut old = world.stream().await;
    let stale = world.report(region(1, 1, &[(5, 1)]));
    old.reports.send(world.report(three.clone())).await.unwrap();
    old.reports.send(stale.clone()).await.unwrap();
    old.refused().await;
    // The store connects anew, and what is for its leaders goes there.
    let mut stream = world.stream().await;
    let mut behind = world.report(three.clone());
    behind.pending_peers = vec![three.peers[2]];
    stream.reports.send(behind).await.unwrap();
    stream.reports.send(stale).await.unwrap();
    stream.refused().await;

    let header = world.header.clone();
    let wanted = |kind: OperatorKind, store_id| AddOperatorRequest {
        header: header.clone(),
        kind: kind as i32,
        region_id: 4,
        store_id,
    };
    let transfer = |store| wanted(OperatorKind::TransferLeader, store);
    let answer = world.ours.add_operator(transfer(3)).await.unwrap().into_inner();
    assert!(refused(answer.header).1.contains("cannot lead now"), "it is behind");
    let answer = world.ours.add_operator(transfer(2)).await.unwrap().into_inner();
    accepted(answer.header);
    assert_eq!(answer.operator.unwrap().status(), OperatorStatus::Running);
    let told = stream.told(3).await;
    assert_eq!(told.transfer_leader.unwrap().peer.unwrap().id, 6);
    assert_eq!(told.target_peer.unwrap().id, 5);

    let request = GetOperatorRequest { header: header.clone(), region_id: 4 };
    let answer = world.pd.get_operator(request.clone()).await.unwrap().into_inner();
    assert_eq!(
        (&answer.desc[..], answer.status()),
        (&b"transfer-leader"[..], OperatorStatus::Running)
    );
    let moved =
        RegionHeartbeatRequest { leader: Some(three.peers[1]), term: 7, ..world.report(three) };
    // Led from store 2 now, which has a stream of its own.
    let mut other = world.stream().await;
    other.reports.send(moved).await.unwrap();
    let peer = wanted(OperatorKind::RemovePeer, 1);
    let mut begun = world.ours.add_operator(peer.clone()).await.unwrap().into_inner();
    while begun.operator.is_none() {
        // The report is on its way; until it is heard the transfer runs.
        assert!(refused(begun.header).1.contains("has an operator already"));
        begun = world.ours.add_operator(peer.clone()).await.unwrap().into_inner();
    }
    let (kind, gone) = change(&other.told(3).await);
    assert_eq!((kind, gone.id), (ConfChangeType::RemoveNode, 5));

    let request = ListOperatorsRequest { header: header.clone(), with_finished: true };
    let all = world.ours.list_operators(request).await.unwrap().into_inner().operators;
    let all: Vec<_> = all.iter().map(|o| (o.description.as_str(), o.status())).collect();
    let expected =
        [("remove-peer", OperatorStatus::Running), ("transfer-leader", OperatorStatus::Success)];
    assert_eq!(all, expected);
    let request = DescribeRegionRequest { header: header.clone(), region_id: 4 };
    let found = world.ours.describe_region(request).await.unwrap().into_inner();
    assert_eq!(found.region.unwrap().leader.unwrap().id, 6);
    assert_eq!(found.operator.unwrap().steps.last().unwrap(), "remove 5@1");
    let request = DescribeRegionRequest { header, region_id: 99 };
    let found = world.ours.describe_region(request).await.unwrap().into_inner();
    assert_eq!(found.region, None);
    drop((old, stream, other));
    world.stop().await;
}

#[tokio::test]
async fn a_store_is_told_which_peers_have_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::start(dir.path()).await;
    let told = world.report_log(1, 900, false).await;
    accepted(told.header);
    assert_eq!((told.position, told.lost_below), (900, 0));
    assert_eq!(world.report_log(1, 900, true).await.lost_below, 0);
    let told = world.report_log(1, 899, true).await;
    assert!(told.lost_below > 5, "peer 5 is among them: {told:?}");
    let next = AllocIdRequest { header: world.header.clone(), count: 1 };
    let next = world.pd.alloc_id(next).await.unwrap().into_inner().id;
    assert!(next > told.lost_below, "a peer that comes later is none of them");
    let unknown = world.report_log(3, 5, false).await;
    assert_eq!(refused(unknown.header).1, "invalid store ID 3, not found");
    assert_eq!(world.report_log(3, 5, true).await.lost_below, 0);

    let request = DescribeStoreRequest { header: world.header.clone(), store_id: 1 };
    let found = world.ours.describe_store(request).await.unwrap().into_inner();
    assert_eq!((found.peers, found.leaders), (1, 1));
    assert_eq!(found.log.unwrap().lost_below, told.lost_below);
    assert_eq!(found.stats, None, "it has not reported");
    world.stop().await;
}

/// Covers 3C-hb-concurrent.
#[tokio::test]
async fn of_many_reports_at_once_the_newest_stays() {
    const STREAMS: u64 = 8;
    const REPORTS: u64 = 2_000;
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::start(dir.path()).await;
    let mut tasks = Vec::new();
    for number in 0..STREAMS {
        let stream = world.stream().await;
        // Each epoch once, in an order of its own on each stream.
        let reports: Vec<_> = (0..REPORTS / STREAMS)
            .map(|n| n * STREAMS + number)
            .map(|n| (n * 7_919) % REPORTS)
            .map(|version| world.report(region(1, version + 1, &[(5, 1)])))
            .collect();
        tasks.push(tokio::spawn(async move {
            let Stream { reports: sender, mut told } = stream;
            let sending = async move {
                for report in reports {
                    sender.send(report).await.unwrap();
                }
            };
            let hearing = async move {
                let mut answers = 0;
                // It ends after ours, so all were heard then.
                while told.message().await.unwrap().is_some() {
                    answers += 1;
                }
                answers
            };
            tokio::join!(sending, hearing).1
        }));
    }
    let mut refused = 0;
    for task in tasks {
        refused += task.await.unwrap();
    }
    assert!(refused > 0, "some came too late");
    let epoch = world.epoch().await;
    assert_eq!((epoch.conf_ver, epoch.version), (1, REPORTS));
    world.stop().await;
}
