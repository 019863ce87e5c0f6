//! A store in memory, with a clock that the test moves.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use kiva_base::clock::BoxFuture;
use kiva_base::{
    Clock, Epoch, Key, KeyRange, Moment, Peer, PeerId, PeerRole, Region, RegionId, StoreId,
};
use kiva_engine::memory::MemoryEngine;
use kiva_engine::{Cf, Engine, WriteBatch};
use kiva_kv::raw::{Get, Put, PutPair, Scan};
use kiva_kv::{ApiVersion, Error, Executor, Pool, Target};
use kiva_raftstore::disk::MemoryDisk;
use kiva_raftstore::log::{self, Log};
use kiva_raftstore::meta::{self, RegionRecord};
use kiva_raftstore::open;
use kiva_raftstore::options::Options;
use kiva_raftstore::placement::{Placement, RegionReport};
use kiva_raftstore::runtime::{Loop, Threads};
use kiva_raftstore::transport::{Envelope, OutgoingSnapshot, Transport};

/// A store with one region.
pub(crate) struct Store {
    pub(crate) engine: MemoryEngine,
    /// Of the log.
    pub(crate) disk: MemoryDisk,
    pub(crate) executor: Executor,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) threads: Threads,
    /// Dangles once one of the threads has ended.
    pub(crate) is_alive: Weak<()>,
    pub(crate) target: Target,
}

impl Store {
    /// A store of an API version 1 cluster whose region covers everything.
    pub(crate) fn new() -> Self {
        Self::with(ApiVersion::V1, KeyRange::ALL)
    }

    pub(crate) fn with(api: ApiVersion, range: KeyRange) -> Self {
        Self::on(MemoryEngine::new(), api, range)
    }

    /// A store whose region is born on this engine.
    pub(crate) fn on(engine: MemoryEngine, api: ApiVersion, range: KeyRange) -> Self {
        let mut born = WriteBatch::new();
        let region = Region {
            id: RegionId::new(2).expect("not zero"),
            range,
            epoch: Epoch { conf_ver: 1, version: 5 },
            peers: vec![Peer {
                id: PeerId::new(3).expect("not zero"),
                store: StoreId::new(1).expect("not zero"),
                role: PeerRole::Voter,
            }],
        };
        meta::save_born(region, &mut born);
        engine.write(&born).expect("memory");
        engine.flush().expect("memory");
        Self::reopen(engine, MemoryDisk::new(), api)
    }

    /// A store on what an earlier one has left.
    pub(crate) fn reopen(engine: MemoryEngine, disk: MemoryDisk, api: ApiVersion) -> Self {
        let store = StoreId::new(1).expect("not zero");
        let clock = Arc::new(TestClock::default());
        let alive = Arc::new(());
        let is_alive = Arc::downgrade(&alive);
        let port: Arc<dyn Engine> = Arc::new(engine.clone());
        let options = log::Options { segment_size: 1024 * 1024, ..Default::default() };
        let opened = Log::open(Arc::new(disk.clone()), options).expect("memory");
        let has_lived = !opened.regions.is_empty();
        let assembly = open::open(store, &Options::new(1), &port, opened, clock.clone(), 1, 0)
            .expect("a region that was just born");
        let loops = assembly.cores.into_iter().map(|core| Loop {
            store: core.store,
            apply: core.apply,
            mailbox: core.mailbox,
            transport: Box::new(Alone),
            placement: Box::new(Alone),
        });
        let threads = Threads::start(loops.collect(), port, assembly.log, clock.clone(), alive)
            .expect("threads");
        let router = assembly.router;
        // Alone in its group, it leads as soon as its vote is durable; in a second life only once
        // nobody can rest on what it may have promised in the first.
        while !router.regions()[0].is_settled {
            if has_lived {
                clock.advance_s(1);
            }
            block_on(router.inspect(RegionId::new(2).expect("not zero")));
        }
        let executor = Executor::new(api, router, clock.clone(), Arc::new(Inline), 7);
        let target = Target {
            region: 2,
            epoch: Some(Epoch { conf_ver: 1, version: 5 }),
            peer: 3,
            store: 1,
            // How clients of each mode mark their requests.
            api: if api == ApiVersion::V2 { ApiVersion::V2 } else { ApiVersion::V1 },
            ..Default::default()
        };
        Self { engine, disk, executor, clock, threads, is_alive, target }
    }

    pub(crate) fn get(&self, key: &str) -> Option<String> {
        self.get_in(Cf::Default, key)
    }

    pub(crate) fn get_in(&self, cf: Cf, key: &str) -> Option<String> {
        let command = Get { cf, key: key.to_owned().into() };
        let value = block_on(self.executor.read(&self.target, command)).expect("a read");
        value.map(|value| String::from_utf8(value.to_vec()).expect("text"))
    }

    pub(crate) fn put(&self, key: &str, value: &str) {
        self.put_in(Cf::Default, key, value, 0).expect("a write");
    }

    pub(crate) fn put_in(&self, cf: Cf, key: &str, value: &str, ttl_s: u64) -> Result<(), Error> {
        let value = value.to_owned().into();
        let pairs = vec![PutPair { key: key.to_owned().into(), value, ttl_s }];
        block_on(self.executor.write(&self.target, Put { cf, pairs }))
    }

    pub(crate) fn scan(&self, scan: Scan) -> String {
        let pairs = block_on(self.executor.read(&self.target, scan)).expect("a scan");
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let pairs: Vec<_> =
            pairs.iter().map(|(k, v)| format!("{}={}", text(k.as_bytes()), text(v))).collect();
        pairs.join(" ")
    }
}

/// A store that is its whole cluster.
struct Alone;

impl Transport for Alone {
    fn send(&mut self, _: StoreId, _: Envelope) {
        unreachable!("there is nobody else");
    }

    fn flush(&mut self) {}

    fn send_snapshot(&mut self, _: StoreId, _: OutgoingSnapshot) {
        unreachable!("there is nobody else");
    }
}

impl Placement for Alone {
    fn report_region(&mut self, _: RegionReport) {}

    fn ask_region(&mut self, _: Arc<RegionRecord>, _: Peer) {}
}

/// A forward scan of the default family.
pub(crate) fn scan(start: &str, end: &str, limit: usize) -> Scan {
    let key = |text: &str| Key(text.to_owned().into());
    Scan {
        cf: Cf::Default,
        start: key(start),
        end: key(end),
        limit,
        key_only: false,
        order: kiva_engine::Order::Forward,
    }
}

/// What the engine itself holds under a key.
pub(crate) fn stored(engine: &MemoryEngine, cf: Cf, key: &[u8]) -> Option<Vec<u8>> {
    engine.snapshot().get(cf, key).expect("memory").map(|value| value.to_vec())
}

/// Moves when it is told to.
#[derive(Default)]
pub(crate) struct TestClock {
    ms: AtomicU64,
}

impl TestClock {
    pub(crate) fn advance_s(&self, seconds: u64) {
        self.ms.fetch_add(seconds * 1_000, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Moment {
        Moment::after_start(Duration::from_millis(self.ms.load(Ordering::SeqCst)))
    }

    fn wall_ms(&self) -> u64 {
        1_000_000 + self.ms.load(Ordering::SeqCst)
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        unreachable!("no command sleeps")
    }
}

/// Reads where it is asked.
pub(crate) struct Inline;

impl Pool for Inline {
    fn run(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls a future to its end on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
