//! A store without loops: what they would be told is taken out of a mailbox.

use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use kiva_base::clock::BoxFuture;
use kiva_base::{Clock, ClusterId, Epoch, Moment, Peer, PeerId, PeerRole, RegionId, StoreId};
use kiva_proto::kivapb::Greeting;
use kiva_raft::{Body, Index, Message, NodeId, Round, Term};
use kiva_raftstore::disk::{Disk, MemoryDisk};
use kiva_raftstore::snapshot::{Folder, Received};
use kiva_raftstore::store::{Mailbox, StoreMsg};
use kiva_raftstore::transport::{Content, Envelope, Feedback, Inbox};
use kiva_server::clock::SystemClock;
use kiva_server::runtime::{Doors, Serving, Shutdown, ShutdownTrigger, serve, shutdown};
use kiva_server::transport::{
    AddressError, Addresses, GrpcTransport, Me, Network, TransportOptions,
};
use tonic::service::Routes;

/// Longer than anything here takes, so that a test that waits for nothing ends.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const CLUSTER: u64 = 7;

pub(crate) fn store(id: u64) -> StoreId {
    StoreId::new(id).unwrap()
}

pub(crate) fn peer(id: u64, at: u64) -> Peer {
    Peer { id: PeerId::new(id).unwrap(), store: store(at), role: PeerRole::Voter }
}

/// From store 1 to store `to`, about a region with a peer on each.
pub(crate) fn envelope(region: u64, to: u64, body: Body) -> Envelope {
    let (from, to) = (peer(region * 10 + 1, 1), peer(region * 10 + to, to));
    let node = |peer: Peer| NodeId::new(peer.id.get()).unwrap();
    Envelope {
        region: RegionId::new(region).unwrap(),
        from,
        to,
        epoch: Epoch::FIRST,
        content: Content::Raft(Message { from: node(from), to: node(to), term: Term(2), body }),
    }
}

pub(crate) fn heartbeat(region: u64, to: u64, round: u64) -> Envelope {
    envelope(region, to, Body::Heartbeat { commit: Index(1), round: Round(round) })
}

pub(crate) fn greeting(from: u64, to: u64) -> Greeting {
    Greeting { cluster_id: CLUSTER, from_store: from, to_store: to }
}

/// Where everybody is. A store that is not listed is never found.
#[derive(Clone, Default)]
pub(crate) struct Book(Arc<Mutex<BTreeMap<StoreId, SocketAddr>>>);

impl Book {
    pub(crate) fn note(&self, id: u64, address: SocketAddr) {
        self.0.lock().unwrap().insert(store(id), address);
    }
}

impl Addresses for Book {
    fn find(&self, store: StoreId) -> BoxFuture<'static, Result<String, AddressError>> {
        let found = self.0.lock().unwrap().get(&store).map(SocketAddr::to_string);
        Box::pin(async move {
            found.ok_or_else(|| AddressError { store, reason: "it is not in the book".into() })
        })
    }
}

/// What a store is made of, unless a test says otherwise.
pub(crate) struct Setup {
    pub(crate) cluster: u64,
    pub(crate) addresses: Arc<dyn Addresses>,
    pub(crate) options: TransportOptions,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Setup {
    pub(crate) fn new(book: &Book) -> Self {
        Self {
            cluster: CLUSTER,
            addresses: Arc::new(book.clone()),
            options: TransportOptions::new(1),
            disk: Arc::new(MemoryDisk::new()),
            clock: Arc::new(SystemClock),
        }
    }
}

/// A store that serves its peers.
pub(crate) struct Node {
    pub(crate) transport: GrpcTransport,
    pub(crate) address: SocketAddr,
    pub(crate) folder: Folder,
    pub(crate) events: Events,
    network: Network,
    serving: Option<(ShutdownTrigger, Serving)>,
}

impl Node {
    /// The store of this id, noted in the book.
    pub(crate) fn start(id: u64, book: &Book, setup: Setup) -> Self {
        let mailbox = Mailbox::new();
        let Setup { cluster, addresses, options, disk, clock } = setup;
        let me = Me { cluster: ClusterId::new(cluster).unwrap(), store: store(id) };
        let inbox = Inbox::new(Arc::from([mailbox.clone()]));
        let network = Network::start(me, addresses, inbox, clock, options).unwrap();
        let folder = Folder::open(disk, Moment::default()).unwrap();
        let (trigger, stop) = shutdown();
        let service = network.service(folder.clone(), stop.clone());
        let (address, serving) = listen(Routes::new(service.into_server()), stop);
        book.note(id, address);
        Self {
            transport: network.transport(),
            address,
            folder,
            events: Events { mailbox, taken: VecDeque::new() },
            network,
            serving: Some((trigger, serving)),
        }
    }

    /// Serves no more; what was connected is cut off.
    pub(crate) fn hang_up(&mut self) {
        if let Some((trigger, serving)) = self.serving.take() {
            trigger.request();
            serving.join();
        }
    }

    /// Serves again, on another port.
    pub(crate) fn pick_up(&mut self, id: u64, book: &Book) {
        let (trigger, stop) = shutdown();
        let service = self.network.service(self.folder.clone(), stop.clone());
        let (address, serving) = listen(Routes::new(service.into_server()), stop);
        book.note(id, address);
        self.address = address;
        self.serving = Some((trigger, serving));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.hang_up();
    }
}

fn listen(routes: Routes, stop: Shutdown) -> (SocketAddr, Serving) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let make = move || Doors::new(routes.clone(), Router::new());
    let serving = serve("peers", listener, 1, make, stop).unwrap();
    (serving.address(), serving)
}

/// Something else that other stores take for a store. It ends with the trigger.
pub(crate) fn pretend(id: u64, book: &Book, routes: Routes) -> ShutdownTrigger {
    let (trigger, stop) = shutdown();
    let (address, _) = listen(routes, stop);
    book.note(id, address);
    trigger
}

/// What the loops of a store are told.
pub(crate) struct Events {
    mailbox: Mailbox,
    taken: VecDeque<StoreMsg>,
}

impl Events {
    pub(crate) fn next(&mut self) -> StoreMsg {
        self.is_something_there(PATIENCE);
        self.taken.pop_front().expect("something happens in time")
    }

    /// Whether nothing has happened so far.
    pub(crate) fn is_quiet(&mut self) -> bool {
        !self.is_something_there(Duration::ZERO)
    }

    /// Returns as soon as something has happened: whether it has, within `patience`.
    pub(crate) fn is_something_there(&mut self, patience: Duration) -> bool {
        if self.taken.is_empty() {
            self.mailbox.wait(patience);
            self.mailbox.take(&mut self.taken);
        }
        !self.taken.is_empty()
    }

    /// The next envelope, whatever comes before it.
    pub(crate) fn envelope(&mut self) -> Envelope {
        loop {
            if let StoreMsg::Envelope(envelope) = self.next() {
                return envelope;
            }
        }
    }

    /// The next feedback, whatever comes before it.
    pub(crate) fn feedback(&mut self) -> Feedback {
        loop {
            if let StoreMsg::Feedback(feedback) = self.next() {
                return feedback;
            }
        }
    }

    /// The next snapshot, whatever comes before it.
    pub(crate) fn snapshot(&mut self) -> (Envelope, Received) {
        loop {
            if let StoreMsg::Snapshot(envelope, received) = self.next() {
                return (envelope, received);
            }
        }
    }
}
