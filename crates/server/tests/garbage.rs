//! What nobody should send: no byte of it may panic the server, or cost others their connection.

#![expect(clippy::needless_update, reason = "some requests have no field that is left out")]

mod cluster;

use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use cluster::Cluster;
use http_body_util::BodyExt;
use kiva_proto::kvrpcpb::*;
use kiva_proto::tikvpb::BatchCommandsRequest;
use kiva_proto::tikvpb::batch_commands_request::Request as BatchRequest;
use kiva_proto::tikvpb::batch_commands_request::request::Cmd as Command;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// How many mutated frames are sent.
const MUTATIONS: usize = 10_000;
/// How many of them are on their way at a time.
const IN_FLIGHT: usize = 64;

/// A generator of our own, so that a failure repeats: xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// One valid frame of each method.
fn frames(context: &Context) -> Vec<(&'static str, Bytes)> {
    let context = Some(context.clone());
    let pair = || KvPair { key: "k".into(), value: "v".into(), ..Default::default() };
    let mutation = || Mutation { key: "k".into(), value: "v".into(), ..Default::default() };
    let range = || KeyRange { start_key: "a".into(), end_key: "z".into() };
    macro_rules! frames {
        ($($method:literal $request:ident { $($field:ident: $value:expr),* };)*) => {
            vec![$(($method, frame(&$request {
                context: context.clone(), $($field: $value,)* ..Default::default()
            }))),*]
        };
    }
    let mut frames = frames! {
        "RawGet" RawGetRequest { key: "k".into() };
        "RawBatchGet" RawBatchGetRequest { keys: vec!["k".into(), "l".into()] };
        "RawPut" RawPutRequest { key: "k".into(), value: "v".into() };
        "RawBatchPut" RawBatchPutRequest { pairs: vec![pair(), pair()], ttls: vec![0] };
        "RawDelete" RawDeleteRequest { key: "k".into() };
        "RawBatchDelete" RawBatchDeleteRequest { keys: vec!["k".into()] };
        "RawDeleteRange" RawDeleteRangeRequest { start_key: "a".into(), end_key: "b".into() };
        "RawScan" RawScanRequest { start_key: "a".into(), limit: 10 };
        "RawBatchScan" RawBatchScanRequest { ranges: vec![range()], each_limit: 10 };
        "RawCompareAndSwap" RawCasRequest { key: "k".into(), value: "v".into() };
        "RawChecksum" RawChecksumRequest { ranges: vec![range()] };
        "RawGetKeyTTL" RawGetKeyTtlRequest { key: "k".into() };
        "KvGet" GetRequest { key: "k".into(), version: 9 };
        "KvBatchGet" BatchGetRequest { keys: vec!["k".into()], version: 9 };
        "KvScan" ScanRequest { start_key: "a".into(), limit: 10, version: 9 };
        "KvPrewrite" PrewriteRequest {
            mutations: vec![mutation()], primary_lock: "k".into(), start_version: 5, lock_ttl: 1
        };
        "KvCommit" CommitRequest {
            start_version: 5, keys: vec!["k".into()], commit_version: 6
        };
        "KvBatchRollback" BatchRollbackRequest { start_version: 5, keys: vec!["k".into()] };
        "KvCheckTxnStatus" CheckTxnStatusRequest { primary_key: "k".into(), lock_ts: 5 };
        "KvTxnHeartBeat" TxnHeartBeatRequest { primary_lock: "k".into(), start_version: 5 };
        "KvScanLock" ScanLockRequest { max_version: 9, limit: 10 };
        "KvResolveLock" ResolveLockRequest { start_version: 5, keys: vec!["k".into()] };
        "KvCleanup" CleanupRequest { key: "k".into(), start_version: 5 };
        "UnsafeDestroyRange" UnsafeDestroyRangeRequest {
            start_key: "y".into(), end_key: "z".into()
        };
    };
    let get = RawGetRequest { context, key: "k".into(), ..Default::default() };
    let request = BatchRequest { cmd: Some(Command::RawGet(get)) };
    let batch =
        BatchCommandsRequest { requests: vec![request.clone(), request], request_ids: vec![1, 2] };
    frames.push(("BatchCommands", frame(&batch)));
    frames
}

/// A message behind the five bytes that gRPC puts before it.
fn frame(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len() as u32);
    message.encode(&mut bytes).expect("it grows");
    bytes.freeze()
}

/// Some bytes of it flipped, cut out, repeated, or an absurd length in front.
fn mutate(bytes: &[u8], random: &mut Random) -> Bytes {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            2 if !bytes.is_empty() => bytes[at] = random.next() as u8,
            3 => bytes.truncate(at),
            4 => bytes.insert(at, random.next() as u8),
            _ if bytes.len() > 5 => {
                let absurd = [u32::MAX, 1 << 30, 17 << 20, 0][random.below(4)];
                bytes[1..5].copy_from_slice(&absurd.to_be_bytes());
            }
            _ => bytes.push(0xFF),
        }
    }
    // Half of them with a length that fits again, so that the message behind it is looked at.
    if random.below(2) == 0 && bytes.len() > 5 {
        let length = (bytes.len() - 5) as u32;
        bytes[0] = 0;
        bytes[1..5].copy_from_slice(&length.to_be_bytes());
    }
    bytes.into()
}

/// Sends these bytes as the body of a call, and returns the status of the answer once it is whole.
async fn send(
    channel: &mut Channel,
    method: &str,
    body: Bytes,
) -> Result<Option<Code>, tonic::transport::Error> {
    let request = http::Request::post(format!("http://store/tikvpb.Tikv/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(axum::body::Body::from(body)))
        .expect("a request");
    std::future::poll_fn(|context| channel.poll_ready(context)).await?;
    let response = channel.call(request).await?;
    let (head, mut body) = response.into_parts();
    let mut trailers = None;
    // How the answer ends is the server's choice.
    while let Some(Ok(frame)) = body.frame().await {
        trailers = frame.into_trailers().ok().or(trailers);
    }
    let status = Status::from_header_map(trailers.as_ref().unwrap_or(&head.headers));
    Ok(status.map(|status| status.code()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_mutated_frames_panic_nothing_and_cut_off_nobody() {
    let panics = Arc::new(AtomicUsize::new(0));
    let (counter, print) = (panics.clone(), panic::take_hook());
    panic::set_hook(Box::new(move |info| {
        counter.fetch_add(1, Ordering::SeqCst);
        print(info);
    }));
    let cluster = Cluster::start("1");
    let context = cluster.context().await;

    // Somebody else, on a connection of its own, who must not notice anything.
    let done = Arc::new(AtomicBool::new(false));
    let mut bystander = tokio::task::JoinSet::new();
    bystander.spawn({
        let (done, context, mut store) =
            (done.clone(), context.clone(), cluster.store_client().await);
        async move {
            let mut calls = 0;
            while !done.load(Ordering::SeqCst) || calls < 100 {
                let put = RawPutRequest {
                    context: Some(context.clone()),
                    key: "bystander".into(),
                    value: "v".into(),
                    ..Default::default()
                };
                let response = store.raw_put(put).await.expect("the connection holds");
                assert_eq!(response.into_inner(), RawPutResponse::default());
                calls += 1;
            }
        }
    });

    let seed = 0x5EED_0001;
    let mut random = Random(seed);
    let frames = frames(&context);
    let channel = cluster.channel().await;
    for (method, bytes) in &frames {
        let status = send(&mut channel.clone(), method, bytes.clone()).await.expect("it is served");
        assert_eq!(status, Some(Code::Ok), "{method}: what is mutated below is valid before");
    }
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..MUTATIONS {
        let (method, bytes) = &frames[random.below(frames.len())];
        let body = mutate(bytes, &mut random);
        let (mut channel, method) = (channel.clone(), *method);
        calls.spawn(async move {
            let sent = send(&mut channel, method, body.clone());
            // A bound against hanging for ever, not a claim about speed.
            match tokio::time::timeout(Duration::from_secs(60), sent).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => panic!("{method} {body:02x?} cost the connection: {error}"),
                Err(_) => panic!("{method} {body:02x?} was never answered"),
            }
        });
        if calls.len() >= IN_FLIGHT {
            calls.join_next().await.expect("some").expect("no panic");
        }
    }
    while let Some(call) = calls.join_next().await {
        call.expect("no panic");
    }
    done.store(true, Ordering::SeqCst);
    bystander.join_next().await.expect("it was started").expect("it noticed nothing");
    assert_eq!(panics.load(Ordering::SeqCst), 0, "seed {seed:#x}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rubbish_on_a_socket_ends_that_socket_only() {
    let cluster = Cluster::start("1");
    let context = cluster.context().await;
    let mut store = cluster.store_client().await;
    let mut random = Random(7);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for address in [cluster.store_address, cluster.scheduler_address] {
        for round in 0..100 {
            let mut socket = TcpStream::connect(address).await.expect("it listens");
            let mut bytes = if round % 2 == 0 { preface.to_vec() } else { Vec::new() };
            bytes.extend((0..random.below(512)).map(|_| random.next() as u8));
            // The server may have hung up before it has read everything.
            let _ = socket.write_all(&bytes).await;
            let _ = socket.shutdown().await;
            let _ = socket.read_to_end(&mut Vec::new()).await;
        }
    }
    let get = RawGetRequest { context: Some(context), key: "k".into(), ..Default::default() };
    let response = store.raw_get(get).await.expect("the connection holds").into_inner();
    assert!(response.not_found);
}
