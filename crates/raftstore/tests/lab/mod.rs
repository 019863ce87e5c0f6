//! A few stores in one thread, without trouble: everything sent arrives, everything written is
//! synced, and time passes when a test says so. What a test wants to go wrong it does by hand.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use kiva_base::clock::BoxFuture;
use kiva_base::{
    Clock, Epoch, KeyRange, Moment, Peer, PeerId, PeerRole, Region, RegionId, StoreId, Term,
};
use kiva_engine::memory::MemoryEngine;
use kiva_engine::{Cf, Engine, WriteBatch};
use kiva_raftstore::disk::MemoryDisk;
use kiva_raftstore::durable;
use kiva_raftstore::log::{self, Log};
use kiva_raftstore::meta;
use kiva_raftstore::open::{self, Assembly};
use kiva_raftstore::options::Options;
use kiva_raftstore::peer::PeerStatus;
use kiva_raftstore::placement::RegionReport;
use kiva_raftstore::proposal::ProposeError;
use kiva_raftstore::router::{Header, Router};
use kiva_raftstore::snapshot::{Begun, Builder, Folder, Id, Meta};
use kiva_raftstore::store::{AdminCommand, Outbox, StoreMsg};
use kiva_raftstore::transport::{Content, Envelope, Feedback, OutgoingSnapshot};

/// The one region of most tests.
pub(crate) const REGION: u64 = 2;

/// Time that a test moves, the same for all stores.
#[derive(Clone, Default)]
pub(crate) struct LabClock(Arc<AtomicU64>);

impl LabClock {
    pub(crate) fn advance(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).expect("centuries");
        self.0.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Clock for LabClock {
    fn now(&self) -> Moment {
        Moment::after_start(Duration::from_nanos(self.0.load(Ordering::SeqCst)))
    }

    fn wall_ms(&self) -> u64 {
        self.now().elapsed().as_millis().try_into().expect("centuries")
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        unreachable!("no core sleeps")
    }
}

/// One store and what it survives on.
pub(crate) struct LabStore {
    pub(crate) id: StoreId,
    pub(crate) engine: MemoryEngine,
    pub(crate) disk: MemoryDisk,
    pub(crate) folder: Folder,
    pub(crate) assembly: Assembly,
    pub(crate) reports: Vec<RegionReport>,
    /// Whether log writes stay unsynced.
    pub(crate) is_disk_stalled: bool,
    stalled: Vec<Outbox>,
}

/// The stores, and the messages between them.
pub(crate) struct Lab {
    pub(crate) clock: LabClock,
    pub(crate) options: Options,
    pub(crate) stores: BTreeMap<u64, LabStore>,
    /// Drops what it answers no to.
    pub(crate) passes: Box<dyn FnMut(&Envelope) -> bool>,
    /// Every envelope that was sent, dropped ones included.
    pub(crate) sent: Vec<Envelope>,
    flying: VecDeque<(StoreId, Envelope)>,
}

pub(crate) fn peer(number: u64) -> Peer {
    Peer { id: peer_id(number + 100), store: store_id(number), role: PeerRole::Voter }
}

pub(crate) fn peer_id(id: u64) -> PeerId {
    PeerId::new(id).expect("not zero")
}

pub(crate) fn store_id(id: u64) -> StoreId {
    StoreId::new(id).expect("not zero")
}

pub(crate) fn region_id(id: u64) -> RegionId {
    RegionId::new(id).expect("not zero")
}

impl Lab {
    /// Stores 1 to `count`, each with a peer of the region of all keys; peer *n* is on store *n*.
    pub(crate) fn new(count: u64) -> Self {
        Self::with(count, count)
    }

    /// Stores 1 to `count`, of which the first `peers` have a peer.
    pub(crate) fn with(count: u64, peers: u64) -> Self {
        let mut lab = Self {
            clock: LabClock::default(),
            options: Options::new(7),
            stores: BTreeMap::new(),
            passes: Box::new(|_| true),
            sent: Vec::new(),
            flying: VecDeque::new(),
        };
        let region = Region {
            id: region_id(REGION),
            range: KeyRange::ALL,
            epoch: Epoch::FIRST,
            peers: (1..=peers).map(peer).collect(),
        };
        for number in 1..=count {
            let engine = MemoryEngine::new();
            if number <= peers {
                let mut born = WriteBatch::new();
                meta::save_born(region.clone(), &mut born);
                engine.write(&born).expect("memory");
                engine.flush().expect("memory");
            }
            lab.start(number, engine, MemoryDisk::new());
        }
        lab
    }

    /// Starts a store on what it left, or on nothing.
    pub(crate) fn start(&mut self, number: u64, engine: MemoryEngine, disk: MemoryDisk) {
        let options = log::Options { segment_size: 64 * 1024, ..Default::default() };
        let opened = Log::open(Arc::new(disk.clone()), options).expect("memory");
        let port: Arc<dyn Engine> = Arc::new(engine.clone());
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let id = store_id(number);
        let assembly = open::open(id, &self.options, &port, opened, clock.clone(), 1, 0)
            .expect("a store that can be opened");
        let folder = Folder::open(Arc::new(MemoryDisk::new()), clock.now()).expect("memory");
        let store = LabStore {
            id,
            engine,
            disk,
            folder,
            assembly,
            reports: Vec::new(),
            is_disk_stalled: false,
            stalled: Vec::new(),
        };
        self.stores.insert(number, store);
    }

    /// A crash that keeps what was synced and nothing else, and a restart.
    pub(crate) fn crash(&mut self, number: u64) {
        let store = self.stores.remove(&number).expect("a store of the lab");
        let (engine, disk) = (store.engine.crash(0), store.disk.crash(&mut |_| 0));
        self.start(number, engine, disk);
    }

    pub(crate) fn store(&mut self, number: u64) -> &mut LabStore {
        self.stores.get_mut(&number).expect("a store of the lab")
    }

    pub(crate) fn router(&self, number: u64) -> Router {
        self.stores[&number].assembly.router.clone()
    }

    /// Lets ticks pass, and everything happen that they lead to.
    pub(crate) fn tick(&mut self, count: u32) {
        for _ in 0..count {
            self.clock.advance(self.options.tick);
            self.settle();
        }
    }

    /// Runs rounds until nobody has anything to do.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut worked = false;
            for number in self.stores.keys().copied().collect::<Vec<_>>() {
                worked |= self.round(number);
            }
            while let Some((to, envelope)) = self.flying.pop_front() {
                worked = true;
                if let Some(store) = self.stores.get(&to.get()) {
                    store.assembly.inbox.deliver([envelope]);
                }
            }
            if !worked {
                return;
            }
        }
        panic!("the stores do not come to rest");
    }

    /// One round of one store; whether it had anything to do.
    fn round(&mut self, number: u64) -> bool {
        let now = self.clock.now();
        let store = self.stores.get_mut(&number).expect("a store of the lab");
        let core = &mut store.assembly.cores[0];
        let mut messages = VecDeque::new();
        core.mailbox.take(&mut messages);
        core.store.begin(now);
        let is_busy = !messages.is_empty();
        messages.into_iter().for_each(|message| core.store.handle(message, now));
        let out = core.store.end();
        if out.is_empty() {
            return is_busy;
        }
        self.carry_out(number, out);
        true
    }

    fn carry_out(&mut self, number: u64, mut out: Outbox) {
        let store = self.stores.get_mut(&number).expect("a store of the lab");
        let envelopes = std::mem::take(&mut out.envelopes);
        let snapshots = std::mem::take(&mut out.snapshots);
        let core = &mut store.assembly.cores[0];
        let apply = std::mem::take(&mut out.apply);
        let mut applied = core.apply.handle(apply).expect("memory");
        for task in std::mem::take(&mut out.tasks) {
            applied.push(task.run(&store.engine).expect("memory"));
        }
        if !applied.is_empty() {
            core.mailbox.tell(StoreMsg::Applied(applied));
        }
        store.reports.append(&mut out.reports);
        if store.is_disk_stalled {
            store.stalled.push(out);
        } else {
            store.sync(out);
        }
        for (to, envelope) in envelopes {
            self.sent.push(envelope.clone());
            if (self.passes)(&envelope) {
                self.flying.push_back((to, envelope));
            }
        }
        for (to, snapshot) in snapshots {
            self.send_snapshot(number, to, snapshot);
        }
    }

    /// Lets a stalled disk go on.
    pub(crate) fn resume_disk(&mut self, number: u64) {
        let store = self.store(number);
        store.is_disk_stalled = false;
        for out in std::mem::take(&mut store.stalled) {
            store.sync(out);
        }
        self.settle();
    }

    fn send_snapshot(&mut self, from: u64, to: StoreId, snapshot: OutgoingSnapshot) {
        let OutgoingSnapshot { envelope, view } = snapshot;
        self.sent.push(envelope.clone());
        let arrived = (self.passes)(&envelope) && self.stores.contains_key(&to.get());
        if arrived {
            let Content::Raft(message) = &envelope.content else { panic!("no snapshot") };
            let kiva_raft::Body::Snapshot(described) = &message.body else { panic!("no snapshot") };
            let record = meta::decode_region(envelope.region, &described.data).expect("our own");
            let id = Id { region: envelope.region, last: described.last };
            let meta = Meta { id, range: record.region.range, record: described.data.clone() };
            let mut builder = Builder::with_chunk_size(view, meta, 64);
            let receiver = &self.stores[&to.get()];
            let now = self.clock.now();
            let first = builder.next_chunk().expect("memory").expect("at least one");
            let received = match receiver.folder.begin(first.encoded().clone(), now) {
                Ok(Begun::Present(received)) => Some(received),
                Ok(Begun::Receiving(mut receiving)) => {
                    let mut received = None;
                    while let Some(chunk) = builder.next_chunk().expect("memory") {
                        let bytes = chunk.encoded().clone();
                        received = receiving.on_chunk(bytes, now).expect("in order");
                    }
                    received
                }
                Err(error) => panic!("{error}"),
            };
            let received = received.expect("all chunks have come");
            receiver.assembly.inbox.deliver_snapshot(envelope.clone(), received);
        }
        let feedback = Feedback::SnapshotSent { region: envelope.region, to: envelope.to, arrived };
        self.stores[&from].assembly.inbox.report(&feedback);
    }

    /// Flushes the engine of a store and lets its log forget what nobody needs.
    pub(crate) fn flush(&mut self, number: u64) {
        let store = self.store(number);
        durable::advance(&store.engine, &store.assembly.log).expect("memory");
    }

    /// Makes the peer of a store lead, and returns its term.
    pub(crate) fn elect(&mut self, number: u64) -> Term {
        for _ in 0..200 {
            self.tick(1);
            if let Some(leader) = self.leader() {
                if leader == number {
                    return self.standing(number).term;
                }
                let to = self.standing(number).peer;
                let (router, epoch) = (self.router(leader), self.standing(leader).region.epoch);
                let command = AdminCommand::TransferLeader(to);
                let _ = self.run(router.admin(region_id(REGION), epoch, command));
            }
        }
        panic!("store {number} does not come to lead");
    }

    /// The store whose peer leads and has applied an entry of its term.
    pub(crate) fn leader(&self) -> Option<u64> {
        let leads = |store: &&LabStore| {
            store.assembly.router.regions().iter().any(|standing| standing.is_settled)
        };
        self.stores.values().find(leads).map(|store| store.id.get())
    }

    pub(crate) fn standing(&self, number: u64) -> Arc<kiva_raftstore::read::Standing> {
        let standings = self.stores[&number].assembly.router.regions();
        standings.first().expect("a peer on this store").clone()
    }

    pub(crate) fn status(&self, number: u64) -> PeerStatus {
        let core = &self.stores[&number].assembly.cores[0];
        core.store.statuses().next().expect("a peer on this store")
    }

    /// What a client knows that believes in this store's peer.
    pub(crate) fn header(&self, number: u64) -> Header {
        let standing = self.standing(number);
        Header {
            store: number,
            region: REGION,
            peer: standing.peer.id.get(),
            term: 0,
            epoch: Some(standing.region.epoch),
            by_any_replica: false,
        }
    }

    /// Polls a future while the stores run, for as long as it takes them to come to rest.
    pub(crate) fn poll<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..4 {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return Some(output);
            }
            self.settle();
        }
        None
    }

    /// Like [`Lab::poll`], of something that must come to its end.
    pub(crate) fn run<T>(&mut self, future: impl Future<Output = T>) -> T {
        self.poll(future).expect("the stores came to rest and somebody still waits")
    }

    /// Writes through the peer of a store.
    pub(crate) fn put(&mut self, number: u64, key: &str, value: &str) -> Result<(), ProposeError> {
        let replica = self.router(number).replica(&self.header(number))?;
        let term = self.standing(number).term;
        let mut batch = WriteBatch::new();
        batch.put(Cf::Default, key.as_bytes(), value.as_bytes());
        self.run(replica.propose(term, batch, Box::new(())))
    }

    /// Changes the group through its leader.
    pub(crate) fn admin(&mut self, command: AdminCommand) -> Result<(), ProposeError> {
        let leader = self.leader().expect("somebody leads");
        let (router, epoch) = (self.router(leader), self.standing(leader).region.epoch);
        self.run(router.admin(region_id(REGION), epoch, command))
    }

    /// What the engine of a store holds, whoever leads.
    pub(crate) fn stored(&self, number: u64, key: &str) -> Option<String> {
        let view = self.stores[&number].engine.snapshot();
        let value = view.get(Cf::Default, key.as_bytes()).expect("memory")?;
        Some(String::from_utf8(value.to_vec()).expect("text"))
    }
}

impl LabStore {
    fn sync(&mut self, out: Outbox) {
        if out.log.is_empty() {
            return;
        }
        let log = &self.assembly.log;
        let written = log.write(&out.log).expect("memory");
        log.sync(&written).expect("memory");
        self.assembly.cores[0].mailbox.tell(StoreMsg::Synced(out.after_sync));
    }
}

/// Polls a future once, without letting the stores run.
pub(crate) fn poll_once<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
