//! What do a put and a get cost in a store, without the network?
//!
//! ```sh
//! cargo bench -p kiva-kv --bench path -- put 16 1000
//! ```
//!
//! One store that is its whole group, in one thread: commands go through the executor, the router,
//! the store loop, the log (in files) and apply, into an engine in memory. Time stands still, so
//! that nothing but the job happens. `JOB BURST COUNT` does bursts of a job so often: given to
//! callgrind with a count and with twice that, the difference is what they cost without the start.
//! `cargo xtask counts` does this and knows the targets.
//!
//! | job | one of it is |
//! |---|---|
//! | `put` | a raw put of 256 bytes to one of a thousand keys, logged, applied and answered |
//! | `get` | a raw get of such a key within the lease |

use std::collections::VecDeque;
use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use kiva_base::clock::BoxFuture;
use kiva_base::{
    Clock, Epoch, Key, KeyRange, Moment, Peer, PeerId, PeerRole, Region, RegionId, StoreId,
};
use kiva_engine::memory::MemoryEngine;
use kiva_engine::{Cf, Engine, WriteBatch};
use kiva_kv::raw::{Get, Put, PutPair};
use kiva_kv::{ApiVersion, Executor, Pool, Target};
use kiva_raftstore::disk::FileDisk;
use kiva_raftstore::log::{self, Log};
use kiva_raftstore::meta;
use kiva_raftstore::open::{self, Core};
use kiva_raftstore::options::Options;
use kiva_raftstore::store::StoreMsg;

/// Keys that are written and read.
const KEYS: u64 = 1_000;

/// Time that moves when it is told to.
#[derive(Default)]
struct StillClock(AtomicU64);

impl Clock for StillClock {
    fn now(&self) -> Moment {
        Moment::after_start(Duration::from_nanos(self.0.load(Ordering::Relaxed)))
    }

    fn wall_ms(&self) -> u64 {
        1_000_000
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        unreachable!("nobody here sleeps")
    }
}

struct Inline;

impl Pool for Inline {
    fn run(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }
}

struct Subject {
    clock: Arc<StillClock>,
    core: Core,
    log: Log,
    executor: Executor,
    target: Target,
    messages: VecDeque<StoreMsg>,
    keys: Vec<Key>,
    value: Bytes,
    next: usize,
    _folder: tempfile::TempDir,
}

impl Subject {
    fn new() -> Self {
        let store = StoreId::new(1).expect("not zero");
        let peer = PeerId::new(3).expect("not zero");
        let region = Region {
            id: RegionId::new(2).expect("not zero"),
            range: KeyRange::ALL,
            epoch: Epoch::FIRST,
            peers: vec![Peer { id: peer, store, role: PeerRole::Voter }],
        };
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
        let mut born = WriteBatch::new();
        meta::save_born(region, &mut born);
        engine.write(&born).expect("memory");
        let folder = tempfile::tempdir().expect("there is room");
        let disk = Arc::new(FileDisk::open(folder.path()).expect("a folder that nobody has"));
        let opened = Log::open(disk, log::Options::default()).expect("nothing is there");
        let clock = Arc::new(StillClock::default());
        let options = Options::new(1);
        let mut assembly = open::open(store, &options, &engine, opened, clock.clone(), 1, 0)
            .expect("a region that was just born");
        let core = assembly.cores.pop().expect("one loop was asked for");
        let executor =
            Executor::new(ApiVersion::V1, assembly.router, clock.clone(), Arc::new(Inline), 7);
        let target = Target {
            region: 2,
            epoch: Some(Epoch::FIRST),
            peer: 3,
            store: 1,
            api: ApiVersion::V1,
            ..Default::default()
        };
        let mut subject = Self {
            clock,
            core,
            log: assembly.log,
            executor,
            target,
            messages: VecDeque::new(),
            // Made before: in a server decoding makes them.
            keys: (0..KEYS).map(|number| Key(format!("key-{number:012}").into())).collect(),
            value: Bytes::from(vec![7; 256]),
            next: 0,
            _folder: folder,
        };
        for _ in 0..options.lease_ticks {
            let tick = u64::try_from(options.tick.as_nanos()).expect("it is short");
            subject.clock.0.fetch_add(tick, Ordering::Relaxed);
            subject.settle();
        }
        let region = RegionId::new(2).expect("not zero");
        assert!(subject.executor.router().holds_lease(region), "alone, it leads and need not ask");
        subject.burst("put", KEYS);
        subject
    }

    /// Rounds until there is nothing to do.
    fn settle(&mut self) {
        let now = self.clock.now();
        loop {
            self.core.mailbox.take(&mut self.messages);
            self.core.store.begin(now);
            while let Some(message) = self.messages.pop_front() {
                self.core.store.handle(message, now);
            }
            let out = self.core.store.end();
            if out.is_empty() {
                return;
            }
            if !out.log.is_empty() {
                let written = self.log.write(&out.log).expect("there is room");
                self.log.sync(&written).expect("there is room");
                self.core.mailbox.tell(StoreMsg::Synced(out.after_sync));
            }
            let applied = self.core.apply.handle(out.apply).expect("memory");
            if !applied.is_empty() {
                self.messages.push_back(StoreMsg::Applied(applied));
            }
        }
    }

    fn key(&mut self) -> Key {
        self.next = (self.next + 7) % self.keys.len();
        self.keys[self.next].clone()
    }

    /// So many at the same time.
    fn burst(&mut self, job: &str, size: u64) {
        let mut running: Vec<_> = (0..size).map(|_| self.start(job)).collect();
        let mut context = Context::from_waker(Waker::noop());
        loop {
            running.retain_mut(|one| one.as_mut().poll(&mut context) == Poll::Pending);
            if running.is_empty() {
                return;
            }
            self.settle();
        }
    }

    fn start(&mut self, job: &str) -> Pin<Box<dyn Future<Output = ()>>> {
        let (executor, target, key) = (self.executor.clone(), self.target.clone(), self.key());
        match job {
            "put" => {
                let value = self.value.clone();
                let pairs = vec![PutPair { key, value, ttl_s: 0 }];
                let command = Put { cf: Cf::Default, pairs };
                Box::pin(async move {
                    executor.write(&target, command).await.expect("a write");
                })
            }
            "get" => {
                let command = Get { cf: Cf::Default, key };
                Box::pin(async move {
                    let value = executor.read(&target, command).await.expect("a read");
                    black_box(value.expect("all keys are there"));
                })
            }
            _ => panic!("no job is called {job}"),
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [job, burst, count, ..] = arguments[..] else {
        panic!("JOB BURST COUNT");
    };
    let burst: u64 = burst.parse().expect("a number");
    let count: u64 = count.parse().expect("a number");
    let mut subject = Subject::new();
    (0..count).for_each(|_| subject.burst(job, burst));
}
