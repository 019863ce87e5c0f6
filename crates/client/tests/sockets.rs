//! The client over real sockets, against a scheduler and a store of a few lines each.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![allow(clippy::disallowed_methods, reason = "servers run beside the client")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use kiva_client::{Client, Options, RawError, Wire};
use kiva_proto::kvrpcpb::{RawCasRequest, RawCasResponse, RawGetRequest, RawGetResponse};
use kiva_proto::kvrpcpb::{RawPutRequest, RawPutResponse};
use kiva_proto::pdpb::pd_server::{Pd, PdServer};
use kiva_proto::tikvpb::batch_commands_request::request::Cmd as Asked;
use kiva_proto::tikvpb::batch_commands_response::Response as Frame;
use kiva_proto::tikvpb::batch_commands_response::response::Cmd as Answered;
use kiva_proto::tikvpb::tikv_server::{Tikv, TikvServer};
use kiva_proto::tikvpb::{BatchCommandsRequest, BatchCommandsResponse};
use kiva_proto::{metapb, pdpb};
use tokio::net::TcpListener;
use tonic::codegen::BoxStream;
use tonic::codegen::tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

/// One store with one region, and what it has seen.
#[derive(Clone, Default)]
struct Store {
    data: Arc<Mutex<BTreeMap<Bytes, Bytes>>>,
    messages: Arc<AtomicUsize>,
    commands: Arc<AtomicUsize>,
    /// Ends the next stream instead of answering a put on it.
    hangs_up: Arc<AtomicBool>,
}

impl Store {
    fn get(&self, request: RawGetRequest) -> RawGetResponse {
        let value = self.data.lock().unwrap().get(&request.key).cloned();
        RawGetResponse {
            not_found: value.is_none(),
            value: value.unwrap_or_default(),
            ..Default::default()
        }
    }

    fn put(&self, request: RawPutRequest) -> RawPutResponse {
        self.data.lock().unwrap().insert(request.key, request.value);
        RawPutResponse::default()
    }

    fn frame(&self, message: BatchCommandsRequest) -> Result<BatchCommandsResponse, Status> {
        self.messages.fetch_add(1, Ordering::Relaxed);
        let mut responses = Vec::new();
        for request in message.requests {
            self.commands.fetch_add(1, Ordering::Relaxed);
            responses.push(Frame {
                cmd: match request.cmd {
                    Some(Asked::RawGet(request)) => Some(Answered::RawGet(self.get(request))),
                    Some(Asked::RawPut(request)) => {
                        if self.hangs_up.swap(false, Ordering::Relaxed) {
                            return Err(Status::unavailable("going down"));
                        }
                        Some(Answered::RawPut(self.put(request)))
                    }
                    _ => None,
                },
            });
        }
        // Any order will do, so the client must go by the ids.
        let mut request_ids = message.request_ids;
        responses.reverse();
        request_ids.reverse();
        Ok(BatchCommandsResponse { responses, request_ids, ..Default::default() })
    }
}

#[tonic::async_trait]
impl Tikv for Store {
    async fn raw_get(
        &self,
        request: Request<RawGetRequest>,
    ) -> Result<Response<RawGetResponse>, Status> {
        Ok(Response::new(self.get(request.into_inner())))
    }

    async fn raw_put(
        &self,
        request: Request<RawPutRequest>,
    ) -> Result<Response<RawPutResponse>, Status> {
        if self.hangs_up.swap(false, Ordering::Relaxed) {
            return Err(Status::unavailable("going down"));
        }
        Ok(Response::new(self.put(request.into_inner())))
    }

    async fn raw_compare_and_swap(
        &self,
        _: Request<RawCasRequest>,
    ) -> Result<Response<RawCasResponse>, Status> {
        let previous_value = "old".into();
        Ok(Response::new(RawCasResponse { previous_value, ..Default::default() }))
    }

    async fn batch_commands(
        &self,
        request: Request<Streaming<BatchCommandsRequest>>,
    ) -> Result<Response<BoxStream<BatchCommandsResponse>>, Status> {
        let store = self.clone();
        let answers = request.into_inner().map(move |message| store.frame(message?));
        Ok(Response::new(Box::pin(answers)))
    }
}

struct Scheduler {
    address: SocketAddr,
    store: SocketAddr,
    last: Arc<AtomicUsize>,
}

fn header() -> Option<pdpb::ResponseHeader> {
    Some(pdpb::ResponseHeader { cluster_id: 7, error: None })
}

#[tonic::async_trait]
impl Pd for Scheduler {
    async fn get_members(
        &self,
        _: Request<pdpb::GetMembersRequest>,
    ) -> Result<Response<pdpb::GetMembersResponse>, Status> {
        let member = pdpb::Member {
            name: "scheduler-0".into(),
            member_id: 5,
            client_urls: vec![format!("http://{}", self.address)],
            ..Default::default()
        };
        Ok(Response::new(pdpb::GetMembersResponse {
            header: header(),
            members: vec![member.clone()],
            leader: Some(member),
            ..Default::default()
        }))
    }

    async fn get_region(
        &self,
        request: Request<pdpb::GetRegionRequest>,
    ) -> Result<Response<pdpb::GetRegionResponse>, Status> {
        let sent = request.into_inner().header.map_or(0, |header| header.cluster_id);
        assert_eq!(sent, 7, "every request but the first names the cluster");
        let peer = metapb::Peer { id: 3, store_id: 2, ..Default::default() };
        Ok(Response::new(pdpb::GetRegionResponse {
            header: header(),
            region: Some(metapb::Region {
                id: 1,
                region_epoch: Some(metapb::RegionEpoch { conf_ver: 1, version: 1 }),
                peers: vec![peer],
                ..Default::default()
            }),
            leader: Some(peer),
            ..Default::default()
        }))
    }

    async fn get_store(
        &self,
        _: Request<pdpb::GetStoreRequest>,
    ) -> Result<Response<pdpb::GetStoreResponse>, Status> {
        let address = self.store.to_string();
        let store = metapb::Store { id: 2, address, ..Default::default() };
        let store = Some(store);
        Ok(Response::new(pdpb::GetStoreResponse { header: header(), store, stats: None }))
    }

    async fn tso(
        &self,
        request: Request<Streaming<pdpb::TsoRequest>>,
    ) -> Result<Response<BoxStream<pdpb::TsoResponse>>, Status> {
        let last = self.last.clone();
        let answers = request.into_inner().map(move |request| {
            let count = request?.count;
            let drawn = last.fetch_add(count as usize, Ordering::Relaxed);
            let logical = (drawn + count as usize) as i64;
            let timestamp = Some(pdpb::Timestamp { physical: 9, logical, suffix_bits: 0 });
            Ok(pdpb::TsoResponse { header: header(), count, timestamp })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Serves until the runtime of the test ends. Returns the scheduler's address.
async fn serve(store: Store) -> String {
    let stores = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let schedulers = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scheduler = Scheduler {
        address: schedulers.local_addr().unwrap(),
        store: stores.local_addr().unwrap(),
        last: Arc::default(),
    };
    let address = scheduler.address.to_string();
    tokio::spawn(
        Server::builder()
            .add_service(TikvServer::new(store))
            .serve_with_incoming(TcpListenerStream::new(stores)),
    );
    tokio::spawn(
        Server::builder()
            .add_service(PdServer::new(scheduler))
            .serve_with_incoming(TcpListenerStream::new(schedulers)),
    );
    address
}

fn options(wire: Wire) -> Options {
    Options { wire, connections: 1, ..Options::default() }
}

#[tokio::test]
async fn keys_travel_alone_and_together() {
    for wire in [Wire::Unary, Wire::Batch] {
        let store = Store::default();
        let address = serve(store.clone()).await;
        let client = Client::connect([address], options(wire)).await.unwrap();
        let raw = client.raw();
        let puts = (0..500).map(|i| {
            let raw = raw.clone();
            async move { raw.put(format!("k{i}"), format!("v{i}")).await }
        });
        assert!(join_all(puts).await.into_iter().all(|put| put.is_ok()));
        let gets = (0..500).map(|i| {
            let raw = raw.clone();
            async move { (i, raw.get(format!("k{i}")).await) }
        });
        for (i, value) in join_all(gets).await {
            assert_eq!(value, Ok(Some(format!("v{i}").into())));
        }
        assert_eq!(raw.get("absent").await, Ok(None));
        let (messages, commands) =
            (store.messages.load(Ordering::Relaxed), store.commands.load(Ordering::Relaxed));
        match wire {
            Wire::Unary => assert_eq!(commands, 0),
            Wire::Batch => {
                assert_eq!(commands, 1_001);
                assert!(messages < 200, "{messages} messages for {commands} commands");
            }
        }
        // Has no place in a batch.
        let swap = raw.compare_and_swap("k", None, "new", Duration::ZERO).await.unwrap();
        assert_eq!(swap.previous, Some("old".into()));
    }
}

#[tokio::test]
async fn a_store_that_hangs_up_leaves_writes_unknown_and_is_called_again() {
    for wire in [Wire::Unary, Wire::Batch] {
        let store = Store::default();
        let address = serve(store.clone()).await;
        let client = Client::connect([address], options(wire)).await.unwrap();
        let raw = client.raw();
        store.hangs_up.store(true, Ordering::Relaxed);
        let error = raw.put("a", "1").await.unwrap_err();
        assert!(matches!(error, RawError::Unknown { .. }), "{error}");
        assert!(error.to_string().contains("going down"), "{error}");
        assert_eq!(raw.put("a", "2").await, Ok(()));
        assert_eq!(raw.get("a").await, Ok(Some("2".into())));
    }
}

#[tokio::test]
async fn a_call_that_a_store_does_not_serve_is_named() {
    let address = serve(Store::default()).await;
    let client = Client::connect([address], options(Wire::Unary)).await.unwrap();
    let error = client.raw().delete("a").await.unwrap_err();
    assert_eq!(error, RawError::Unserved("RawDelete"));
}

/// A batch that answers nothing to a command it does not know is no reason to guess.
#[tokio::test]
async fn a_command_without_a_response_is_unknown() {
    let address = serve(Store::default()).await;
    let client = Client::connect([address], options(Wire::Batch)).await.unwrap();
    assert!(client.raw().delete("a").await.unwrap_err().is_unknown());
}

#[tokio::test]
async fn a_store_that_is_not_there_was_not_written_to() {
    for wire in [Wire::Unary, Wire::Batch] {
        // A port that was free a moment ago.
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheduler = Scheduler { address, store: gone, last: Arc::default() };
        tokio::spawn(
            Server::builder()
                .add_service(PdServer::new(scheduler))
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        let client = Client::connect([address.to_string()], options(wire)).await.unwrap();
        let raw = client.raw().with_timeout(Duration::from_millis(300));
        let error = raw.put("a", "1").await.unwrap_err();
        assert!(matches!(error, RawError::GaveUp(_)), "{error}");
        assert!(error.to_string().contains("cannot reach the store"), "{error}");
    }
}

#[tokio::test]
async fn timestamps_come_over_one_stream() {
    let address = serve(Store::default()).await;
    let client = Client::connect([address], Options::default()).await.unwrap();
    let drawn = stream::iter(0..1_000).map(|_| client.timestamp()).buffer_unordered(100);
    let mut drawn: Vec<_> = drawn.map(Result::unwrap).collect().await;
    drawn.sort();
    drawn.dedup();
    assert_eq!(drawn.len(), 1_000);
    let members = client.scheduler().members().await.unwrap();
    assert_eq!((members.cluster.get(), members.leader), (7, Some(5)));
}
