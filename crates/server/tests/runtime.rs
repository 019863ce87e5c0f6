//! The serving runtime over real sockets: who shares a port, and who suffers from whom.
#![expect(
    clippy::disallowed_methods,
    reason = "clients of a real server live on threads of their own"
)]
#![expect(clippy::unwrap_used, reason = "what fails in a test fails the test")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::sync::{Arc, Barrier};

use axum::Router;
use axum::routing::get;
use kiva_proto::keyspacepb::LoadKeyspaceRequest;
use kiva_proto::keyspacepb::keyspace_client::KeyspaceClient;
use kiva_server::runtime::{self, Doors, Serving, ShutdownTrigger};
use tokio::sync::Notify;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;

fn start(threads: usize, http: Router) -> (Serving, ShutdownTrigger) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let (trigger, shutdown) = runtime::shutdown();
    let make = move || {
        let (reporter, _) = tonic_health::server::health_reporter();
        let health = HealthService::from_health_reporter(reporter);
        Doors::new(Routes::new(HealthServer::new(health)), http.clone())
    };
    let serving = runtime::serve("test", listener, threads, make, shutdown);
    (serving.expect("everything is free"), trigger)
}

/// The answer to one HTTP/1.1 request on a connection of its own.
fn http_get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

async fn health(address: SocketAddr) -> HealthClient<Channel> {
    HealthClient::new(channel(address).await)
}

async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address is a URI");
    endpoint.connect().await.expect("it listens")
}

async fn check(client: &mut HealthClient<Channel>) -> i32 {
    let request = HealthCheckRequest::default();
    client.check(request).await.expect("it serves").into_inner().status
}

#[tokio::test]
async fn http_and_grpc_share_a_port() {
    let (serving, trigger) = start(2, Router::new().route("/here", get(|| async { "over HTTP" })));
    let address = serving.address();
    let answer = tokio::task::spawn_blocking(move || http_get(address, "/here")).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("over HTTP"), "{answer}");
    assert_eq!(check(&mut health(address).await).await, 1);
    drop(trigger);
    tokio::task::spawn_blocking(|| serving.join()).await.unwrap();
}

#[tokio::test]
async fn a_method_that_nobody_serves_keeps_the_connection() {
    let (serving, _trigger) = start(1, Router::new());
    let channel = channel(serving.address()).await;
    let mut stranger = KeyspaceClient::new(channel.clone());
    let refused = stranger.load_keyspace(LoadKeyspaceRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unimplemented);
    assert_eq!(check(&mut HealthClient::new(channel)).await, 1);
}

#[tokio::test]
async fn rubbish_on_one_connection_hurts_no_other() {
    let (serving, _trigger) = start(1, Router::new());
    let address = serving.address();
    let mut client = health(address).await;
    let preface: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let rubbish: [Vec<u8>; 5] = [
        b"\0\x01\x02 no protocol at all".to_vec(),
        // A frame of unknown kind that claims 16 MiB.
        [preface, b"\xFF\xFF\xFF\x77\0\0\0\0\0"].concat(),
        // Headers on stream 0, which must not carry any.
        [preface, b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x05\0\0\0\0\xFF"].concat(),
        // A window update by nothing.
        [preface, b"\0\0\0\x04\0\0\0\0\0\0\0\x04\x08\0\0\0\0\0\0\0\0\0"].concat(),
        // Settings that end in the middle.
        [preface, b"\0\0\x06\x04\0\0"].concat(),
    ];
    for bytes in rubbish {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&bytes).unwrap();
        assert_eq!(check(&mut client).await, 1);
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(check(&mut client).await, 1);
    }
}

#[tokio::test]
async fn a_handler_that_panics_ends_its_own_request() {
    async fn panics() {
        panic!("as the test asks");
    }
    let (serving, _trigger) = start(1, Router::new().route("/panics", get(panics)));
    let address = serving.address();
    let mut client = health(address).await;
    let answer = tokio::task::spawn_blocking(move || http_get(address, "/panics")).await.unwrap();
    assert_eq!(answer, "");
    assert_eq!(check(&mut client).await, 1);
}

#[test]
fn connections_are_dealt_evenly() {
    // A handler blocks its runtime until the other runtime is blocked too. If both connections
    // were on one runtime, neither would ever be answered.
    let both = Arc::new(Barrier::new(2));
    let wait = get(move || {
        let both = Arc::clone(&both);
        async move {
            both.wait();
        }
    });
    let (serving, _trigger) = start(2, Router::new().route("/wait", wait));
    let address = serving.address();
    std::thread::scope(|scope| {
        let answers = [(); 2].map(|()| scope.spawn(move || http_get(address, "/wait")));
        for answer in answers {
            assert!(answer.join().unwrap().starts_with("HTTP/1.1 200"));
        }
    });
}

#[test]
fn a_shutdown_waits_for_the_answer_of_a_request() {
    let (entered, is_inside) = mpsc::channel();
    let go_on = Arc::new(Notify::new());
    let handler = {
        let go_on = Arc::clone(&go_on);
        get(move || {
            let (entered, go_on) = (entered.clone(), Arc::clone(&go_on));
            async move {
                entered.send(()).unwrap();
                go_on.notified().await;
                "answered"
            }
        })
    };
    let (serving, trigger) = start(1, Router::new().route("/slow", handler));
    let address = serving.address();
    let mut idle = TcpStream::connect(address).unwrap();
    let asking = std::thread::spawn(move || http_get(address, "/slow"));
    is_inside.recv().unwrap();
    trigger.request();
    // The idle connection is closed by the shutdown, so the server knows of it by now.
    assert_eq!(idle.read(&mut [0; 8]).unwrap_or(0), 0);
    go_on.notify_one();
    assert!(asking.join().unwrap().ends_with("answered"));
    serving.join();
    TcpStream::connect(address).expect_err("nobody listens any more");
}
