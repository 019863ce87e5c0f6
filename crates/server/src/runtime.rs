//! Threads, tasks and sockets: one listener, and one single-threaded runtime per core behind it.
//!
//! ```text
//!              ┌─ runtime 0: connections, their requests, their streams
//!  listener ───┼─ runtime 1
//!              └─ runtime …        a new connection goes where the fewest are
//! ```
//!
//! Two single-threaded runtimes serve up to twice what one two-threaded runtime does, because a
//! request never changes its core. What handlers share is behind `Arc`; nothing is kept per runtime
//! but caches and the bell that wakes its tasks. One listener, instead of one per runtime on a
//! shared port, spreads even two connections evenly and lets no second process bind the same port
//! without an error.
//!
//! A connection speaks HTTP/1.1 or HTTP/2 with prior knowledge, told apart by its first bytes, and
//! each request goes through one of two [`Doors`] by its content type.
//!
//! What is always true:
//!
//! - A connection that sends rubbish, or a handler that panics, ends that connection or request
//!   and no other.
//! - After [`ShutdownTrigger::request`] no connection is accepted, and what was being served has
//!   [`SHUTDOWN_GRACE`] to be answered. Handlers of endless streams watch [`Shutdown`] themselves.
#![expect(
    clippy::disallowed_methods,
    reason = "this is where the threads and tasks of a server start"
)]

use std::convert::Infallible;
use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Request, Response};
use axum::routing::future::RouteFuture;
use bytes::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::service::Routes;
use tower::Service;
use tracing::{debug, warn};

use crate::limits::{
    ACCEPT_PAUSE, CONNECTION_WINDOW, CONNECTIONS_MAX, HANDOVER_MAX, HEAD_READ_TIMEOUT,
    HEADERS_SIZE_MAX, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, SHUTDOWN_GRACE, STREAM_WINDOW,
    STREAMS_MAX,
};

/// Tells everybody who holds a [`Shutdown`] to finish. Dropped, it does the same, so that a
/// start-up that fails half-way leaves nothing running.
#[derive(Debug)]
pub struct ShutdownTrigger(watch::Sender<bool>);

/// Knows whether it is time to finish. A clone watches the same trigger.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// A trigger, and what it triggers.
pub fn shutdown() -> (ShutdownTrigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (ShutdownTrigger(sender), Shutdown(receiver))
}

impl ShutdownTrigger {
    /// Asks everybody to finish. A second time changes nothing.
    pub fn request(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Ready once everybody should finish, and from then on.
    pub async fn requested(&mut self) {
        // An error means that the trigger is gone, which asks for the same.
        let _ = self.0.wait_for(|&requested| requested).await;
    }

    /// Whether everybody should finish.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

/// What lies behind one port: gRPC services for requests whose content type says so, HTTP routes
/// for the others.
#[derive(Clone)]
pub struct Doors {
    grpc: Router,
    http: Router,
}

impl Doors {
    /// Both doors. A gRPC method that no service has answers `UNIMPLEMENTED`.
    pub fn new(grpc: Routes, http: Router) -> Self {
        Self { grpc: grpc.prepare().into_axum_router(), http: http.with_state(()) }
    }
}

impl<B> Service<Request<B>> for Doors
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Both routers are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if request.headers().get(CONTENT_TYPE).is_some_and(is_grpc) {
            self.grpc.call(request)
        } else {
            self.http.call(request)
        }
    }
}

/// `application/grpc`, alone or with an encoding behind it.
fn is_grpc(content_type: &HeaderValue) -> bool {
    content_type
        .as_bytes()
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// A server that runs. Its threads go on when this is dropped; [`Serving::join`] waits for them.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Serving {
    /// The address that is bound, with the port that the system chose if it was asked to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the server has finished after its shutdown was requested: at most a little
    /// longer than [`SHUTDOWN_GRACE`].
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                // The panic has been printed by its thread; the others are still waited for.
                warn!(address = %self.address, "a thread of the server panicked");
            }
        }
    }
}

/// Serves `listener` on `threads` runtimes, at least one, until `shutdown` is requested. `make` is
/// called once on each runtime, and may spawn.
///
/// Returns when everything has started; an error leaves nothing running.
pub fn serve(
    name: &str,
    listener: std::net::TcpListener,
    threads: usize,
    make: impl Fn() -> Doors + Send + Sync + 'static,
    shutdown: Shutdown,
) -> io::Result<Serving> {
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let runtimes =
        (0..=threads.max(1)).map(|_| single_threaded()).collect::<io::Result<Vec<_>>>()?;
    let mut runtimes = runtimes.into_iter();
    let accepting = runtimes.next().expect("one more runtime was made than threads were asked for");
    let listener = {
        let _entered = accepting.enter();
        TcpListener::from_std(listener)?
    };

    let make = Arc::new(make);
    let mut handles = Vec::new();
    let mut workers = Vec::new();
    for (position, runtime) in runtimes.enumerate() {
        let (sender, receiver) = mpsc::channel(HANDOVER_MAX);
        let (make, shutdown) = (Arc::clone(&make), shutdown.clone());
        let handle = thread::Builder::new()
            .name(format!("{name}-{position}"))
            .spawn(move || runtime.block_on(async { work(receiver, make(), shutdown).await }))?;
        handles.push(handle);
        workers.push(Worker { sender, load: Arc::default() });
    }
    let handle = thread::Builder::new()
        .name(format!("{name}-accept"))
        .spawn(move || accepting.block_on(accept(listener, workers, shutdown)))?;
    handles.push(handle);
    Ok(Serving { address, threads: handles })
}

/// Runs `work`, which may block on the disk, on a thread where nobody else waits for it.
///
/// Once started it runs to its end even if the caller hangs up.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Blocking tasks are cancelled only while the runtime is dropped, and then nobody
            // polls this any more.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Runs `task` beside the others of this runtime. It must end by itself, or with [`Shutdown`].
pub fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}

/// A number nobody can guess, for ids and hash seeds. Never zero.
pub fn random_seed() -> u64 {
    // The standard library keys its own hasher with bytes of the system's generator.
    let mut hasher = std::hash::RandomState::new().build_hasher();
    hasher.write_u64(u64::from(std::process::id()));
    hasher.finish().max(1)
}

/// How many runtimes serve when nobody said: one per core that this process may use.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn single_threaded() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Where the listener hands connections to one runtime.
struct Worker {
    sender: mpsc::Sender<Connection>,
    load: Arc<AtomicUsize>,
}

/// An accepted connection on its way to a runtime.
struct Connection {
    stream: std::net::TcpStream,
    load: Load,
}

/// One connection among those that its runtime has, until it is dropped.
struct Load(Arc<AtomicUsize>);

impl Load {
    fn on(worker: &Worker) -> Self {
        worker.load.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&worker.load))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn accept(listener: TcpListener, workers: Vec<Worker>, mut shutdown: Shutdown) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.requested() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                if let Err(error) = hand_over(stream, &workers).await {
                    debug!(%peer, %error, "a connection was not taken");
                }
            }
            Err(error) => {
                // A peer that hung up while it was queued says nothing about the next one; a
                // process without descriptors would spin here.
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn hand_over(stream: TcpStream, workers: &[Worker]) -> io::Result<()> {
    let loads = workers.iter().map(|w| w.load.load(Ordering::Relaxed));
    if loads.sum::<usize>() >= CONNECTIONS_MAX {
        warn!(limit = CONNECTIONS_MAX, "too many connections: one is closed");
        return Ok(());
    }
    let worker = workers
        .iter()
        .min_by_key(|worker| worker.load.load(Ordering::Relaxed))
        .expect("a server has at least one runtime");
    stream.set_nodelay(true)?;
    let connection = Connection {
        load: Load::on(worker),
        // Through the standard type, because a tokio socket belongs to the runtime it was made on.
        stream: stream.into_std()?,
    };
    // Fails only when the runtime has finished already, and then the connection goes with it.
    let _ = worker.sender.send(connection).await;
    Ok(())
}

async fn work(mut receiver: mpsc::Receiver<Connection>, doors: Doors, mut shutdown: Shutdown) {
    let http = protocol();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.requested() => break,
            connection = receiver.recv() => match connection {
                Some(connection) => {
                    let shutdown = shutdown.clone();
                    connections.spawn(converse(http.clone(), connection, doors.clone(), shutdown));
                }
                // The listener has gone: only what is open is left to do.
                None => break,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    shutdown.requested().await;
    let finished = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN_GRACE, finished).await.is_err() {
        warn!("some requests were still being served when the time to finish was over");
    }
}

/// How connections are spoken to.
fn protocol() -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_READ_TIMEOUT);
    http.http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_SIZE_MAX)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    http
}

/// Serves one connection to its end, or to its last answer once a shutdown is requested.
async fn converse(
    http: auto::Builder<TokioExecutor>,
    connection: Connection,
    doors: Doors,
    mut shutdown: Shutdown,
) {
    let Connection { stream, load: _load } = connection;
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return debug!(%error, "a connection was not taken"),
    };
    let service = TowerToHyperService::new(doors);
    let mut conversation = pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = conversation.as_mut() => ended,
        () = shutdown.requested() => {
            conversation.as_mut().graceful_shutdown();
            conversation.await
        }
    };
    if let Err(error) = ended {
        // Peers hang up and send rubbish all the time; it concerns nobody else.
        debug!(%error, "a connection ended");
    }
}
