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
use kiva_engine::{Cf, Engine};
use kiva_kv::local::{Router, Writer};
use kiva_kv::raw::{Get, Put, PutPair, Scan};
use kiva_kv::{ApiVersion, Error, Executor, Pool, Target};

/// A store with one region.
pub(crate) struct Store {
    pub(crate) engine: MemoryEngine,
    pub(crate) executor: Executor,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) writer: Writer,
    /// Dangles once the writer has ended.
    pub(crate) writer_is_alive: Weak<()>,
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

    pub(crate) fn on(engine: MemoryEngine, api: ApiVersion, range: KeyRange) -> Self {
        let store = StoreId::new(1).expect("not zero");
        let peer = PeerId::new(3).expect("not zero");
        let router = Router::open(store, Arc::new(engine.clone())).expect("an empty engine");
        router.add_region(Region {
            id: RegionId::new(2).expect("not zero"),
            range,
            epoch: Epoch { conf_ver: 1, version: 5 },
            peers: vec![Peer { id: peer, store, role: PeerRole::Voter }],
        });
        let clock = Arc::new(TestClock::default());
        let alive = Arc::new(());
        let writer_is_alive = Arc::downgrade(&alive);
        let writer = Writer::start(&router, alive).expect("a thread");
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
        Self { engine, executor, clock, writer, writer_is_alive, target }
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
