//! The store's service over real sockets: refusals where clients look for them, many commands on
//! one stream, a clean stop.

mod cluster;

use bytes::Bytes;
use cluster::Cluster;
use futures_util::StreamExt;
use kiva_proto::kvrpcpb::*;
use kiva_proto::tikvpb::batch_commands_request::Request as BatchRequest;
use kiva_proto::tikvpb::batch_commands_request::request::Cmd as Command;
use kiva_proto::tikvpb::batch_commands_response::response::Cmd as Reply;
use kiva_proto::tikvpb::{BatchCommandsEmptyRequest, BatchCommandsRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

fn put(context: &Context, key: &str, value: &str) -> RawPutRequest {
    RawPutRequest {
        context: Some(context.clone()),
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    }
}

fn get(context: &Context, key: &str) -> RawGetRequest {
    RawGetRequest {
        context: Some(context.clone()),
        key: key.to_owned().into(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_where_clients_look_for_them() {
    let cluster = Cluster::start("1");
    let mut store = cluster.store_client().await;
    let context = cluster.context().await;

    let mut request = put(&context, "k", "v");
    request.cf = "nonsense".into();
    let response = store.raw_put(request).await.unwrap().into_inner();
    assert!(response.error.contains("unknown column family \"nonsense\""), "{}", response.error);

    let mut request = put(&context, "k", "v");
    request.ttl = 1;
    let response = store.raw_put(request).await.unwrap().into_inner();
    assert!(response.error.contains("keeps no TTL"), "{}", response.error);

    let long = "k".repeat(9_000);
    let response = store.raw_get(get(&context, &long)).await.unwrap().into_inner();
    assert!(response.error.contains("limit of 8192 bytes"), "{}", response.error);

    // No field for an error: a single pair carries it.
    let request = RawScanRequest {
        context: Some(context.clone()),
        limit: 1,
        cf: "nonsense".into(),
        ..Default::default()
    };
    let response = store.raw_scan(request).await.unwrap().into_inner();
    let error = response.kvs[0].error.as_ref().expect("a pair with an error");
    assert!(error.abort.contains("nonsense"), "{error:?}");

    // A refusal of a whole transactional read is said twice.
    let request = BatchGetRequest {
        context: Some(context.clone()),
        keys: vec![long.into()],
        version: 5,
        ..Default::default()
    };
    let response = store.kv_batch_get(request).await.unwrap().into_inner();
    assert!(response.error.is_some() && response.pairs[0].error == response.error);

    let mut wrong = context.clone();
    wrong.region_id += 1;
    let response = store.raw_get(get(&wrong, "k")).await.unwrap().into_inner();
    let error = response.region_error.expect("a region error");
    assert!(error.region_not_found.is_some() && !error.message.is_empty(), "{error:?}");
    let mut wrong = context.clone();
    wrong.region_epoch.as_mut().unwrap().version += 1;
    let response = store.raw_get(get(&wrong, "k")).await.unwrap().into_inner();
    let current = response.region_error.unwrap().epoch_not_match.unwrap().current_regions;
    assert_eq!(current[0].region_epoch, context.region_epoch);
    let response = store.raw_get(RawGetRequest::default()).await.unwrap().into_inner();
    assert!(response.region_error.unwrap().store_not_match.is_some());

    let mut wrong = context.clone();
    wrong.cluster_id = 1;
    let status = store.raw_get(get(&wrong, "k")).await.expect_err("another cluster");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");

    let status = store.kv_gc(GcRequest::default()).await.expect_err("not served");
    assert_eq!(status.code(), Code::Unimplemented);
    // The connection is as good as before.
    let response = store.raw_put(put(&context, "k", "v")).await.unwrap().into_inner();
    assert_eq!(response, RawPutResponse::default());
}

/// Covers 4B-prewrite-bad at the door, and what is not served yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_served_yet_is_refused_with_a_sentence() {
    let cluster = Cluster::start("1");
    let mut store = cluster.store_client().await;
    let context = cluster.context().await;
    let prewrite = |change: fn(&mut PrewriteRequest)| {
        let mut request = PrewriteRequest {
            context: Some(context.clone()),
            mutations: vec![Mutation { key: "k".into(), value: "v".into(), ..Default::default() }],
            primary_lock: "k".into(),
            start_version: 10,
            lock_ttl: 3_000,
            ..Default::default()
        };
        change(&mut request);
        request
    };
    let cases: [fn(&mut PrewriteRequest); 5] = [
        |request| request.use_async_commit = true,
        |request| request.try_one_pc = true,
        |request| request.for_update_ts = 10,
        |request| request.mutations[0].op = 99,
        |request| request.mutations[0].op = Op::PessimisticLock.into(),
    ];
    for change in cases {
        let response = store.kv_prewrite(prewrite(change)).await.unwrap().into_inner();
        assert!(response.errors.len() == 1 && !response.errors[0].abort.is_empty(), "{response:?}");
    }
    let request = PessimisticLockRequest { context: Some(context.clone()), ..Default::default() };
    let response = store.kv_pessimistic_lock(request).await.unwrap().into_inner();
    assert!(response.errors[0].abort.contains("optimistic"), "{response:?}");
    // None of them left a lock.
    let request = ScanLockRequest {
        context: Some(context.clone()),
        max_version: u64::MAX,
        ..Default::default()
    };
    let response = store.kv_scan_lock(request).await.unwrap().into_inner();
    assert_eq!(response.locks, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_commands_share_one_stream() {
    let cluster = Cluster::start("1");
    let mut store = cluster.store_client().await;
    let context = cluster.context().await;
    let (sender, requests) = mpsc::channel(4);
    // Headers come before the first message: this would hang otherwise.
    let replies = store.batch_commands(ReceiverStream::new(requests)).await.unwrap();
    let mut replies = replies.into_inner();

    let frame = |commands: Vec<(u64, Option<Command>)>| {
        let (request_ids, commands): (Vec<_>, Vec<_>) = commands.into_iter().unzip();
        let requests = commands.into_iter().map(|cmd| BatchRequest { cmd }).collect();
        BatchCommandsRequest { requests, request_ids }
    };
    let puts = (0..100)
        .map(|i| (i, Some(Command::RawPut(put(&context, &format!("k{i}"), &format!("v{i}"))))));
    sender.send(frame(puts.collect())).await.unwrap();
    let mut answered = std::collections::BTreeSet::new();
    while answered.len() < 100 {
        let frame = replies.next().await.expect("more to come").expect("no status");
        assert_eq!(frame.request_ids.len(), frame.responses.len());
        for (id, response) in frame.request_ids.iter().zip(frame.responses) {
            assert_eq!(response.cmd, Some(Reply::RawPut(RawPutResponse::default())));
            assert!(answered.insert(*id), "answered twice");
        }
    }
    let empty = BatchCommandsEmptyRequest { test_id: 42, delay_time: 0 };
    let commands = vec![
        (200, Some(Command::RawGet(get(&context, "k7")))),
        (201, None),
        (202, Some(Command::Empty(empty))),
    ];
    sender.send(frame(commands)).await.unwrap();
    let mut seen = std::collections::BTreeMap::new();
    while seen.len() < 3 {
        let frame = replies.next().await.expect("more to come").expect("no status");
        seen.extend(frame.request_ids.into_iter().zip(frame.responses));
    }
    assert!(matches!(&seen[&200].cmd, Some(Reply::RawGet(got)) if got.value == "v7"));
    assert_eq!(seen[&201].cmd, None, "an unknown command is answered with nothing");
    assert!(matches!(&seen[&202].cmd, Some(Reply::Empty(empty)) if empty.test_id == 42));
    // Done talking: what remains is answered and the stream ends.
    drop(sender);
    assert!(replies.next().await.is_none());
}

/// Covers 1-durable and 1-empty-value over a restart of the whole store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_comes_back_as_itself() {
    let mut cluster = Cluster::start("2");
    let key = kiva_base::Key::from("r\0\0\0k").encode();
    let context = cluster.context_of(key.as_bytes()).await;
    let mut store = cluster.store_client().await;
    for (key, value) in [("r\0\0\0k", "v"), ("r\0\0\0empty", "")] {
        let response = store.raw_put(put(&context, key, value)).await.unwrap().into_inner();
        assert_eq!(response, RawPutResponse::default());
    }
    cluster.restart_store();
    let mut store = cluster.store_client().await;
    // The same context: store, region, peer and epoch are what they were.
    let response = store.raw_get(get(&context, "r\0\0\0k")).await.unwrap().into_inner();
    assert_eq!((response.value, response.not_found), (Bytes::from("v"), false));
    let response = store.raw_get(get(&context, "r\0\0\0empty")).await.unwrap().into_inner();
    assert_eq!((response.value, response.not_found), (Bytes::new(), false));
    let response = store.raw_get(get(&context, "r\0\0\0none")).await.unwrap().into_inner();
    assert!(response.not_found);
}

/// A clean stop answers what is in flight; batch streams end by themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_stops_although_streams_are_open() {
    let mut cluster = Cluster::start("1");
    let context = cluster.context().await;
    let mut store = cluster.store_client().await;
    let (sender, requests) = mpsc::channel(4);
    let replies = store.batch_commands(ReceiverStream::new(requests)).await.unwrap();
    let request = BatchRequest { cmd: Some(Command::RawPut(put(&context, "k", "v"))) };
    let frame = BatchCommandsRequest { requests: vec![request], request_ids: vec![1] };
    sender.send(frame).await.unwrap();
    let stop = tokio::task::spawn_blocking(move || {
        cluster.stop_store();
        cluster
    });
    let frames: Vec<_> = replies.into_inner().collect().await;
    let answered: usize =
        frames.iter().filter_map(|frame| frame.as_ref().ok()).map(|f| f.responses.len()).sum();
    assert!(answered <= 1);
    drop(sender);
    stop.await.expect("it stopped");
}
