//! The way to other stores and from them, over gRPC: messages in frames, snapshots beside them.
//!
//! ```text
//!   store loop ─ send* ─ flush ─▶ queue of a store ─▶ link ═══ frames ═══▶ service ─▶ inbox
//!        └────── send_snapshot ─▶ slots, rate      ─▶ call ═══ chunks ═══▶ folder  ─▶ inbox
//! ```
//!
//! A loop never waits here: a flush hands its envelopes to the queue of each store, and a thread of
//! its own does the rest. One [link] per store keeps one stream to it open. What gathers
//! while a frame is on its way travels in the next one, so frames grow with the load and nobody
//! waits for a timer. A slow store holds up only its own queue.
//!
//! Nothing is promised. A queue that is full drops what comes, a link that breaks drops what it
//! has, and either is reported, so that leaders probe instead of going on. A store that was away
//! is tried again after at most [`LINK_PAUSE_MAX`](crate::limits::LINK_PAUSE_MAX), and at once when
//! it calls us.
//!
//! A snapshot travels on a connection of its own, so that heartbeats never wait behind it. How many
//! are sent and received at once is limited, and how fast; the others wait for their turn. Both
//! ends hold a few chunks of it, whatever its size, and the leader hears how it ended in any case.
//!
//! Every stream begins with a greeting: a store refuses one from another cluster, and one that is
//! meant for another store, which a reused address can lead to.

mod addresses;
mod backoff;
mod link;
mod queue;
mod runtime;
mod service;
mod snapshot;

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kiva_base::{Clock, ClusterId, StoreId};
use kiva_proto::kivapb::Greeting;
use kiva_raftstore::limits::{SNAPSHOT_STALL_MAX, SNAPSHOTS_RECEIVING_MAX, SNAPSHOTS_SENDING_MAX};
use kiva_raftstore::snapshot::{Folder, Throttle};
use kiva_raftstore::transport::{Envelope, Feedback, Inbox, OutgoingSnapshot, Transport};
use kiva_raftstore::wire::size_estimate;
use tokio::sync::Semaphore;

pub use addresses::{AddressError, Addresses, SchedulerAddresses};
pub use service::PeersService;

use crate::limits::{PEER_QUEUE_MAX, SNAPSHOT_BYTES_PER_SECOND};
use crate::runtime::Shutdown;
use link::Link;
use runtime::{Spawner, Tasks};

/// Which store this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Me {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// Which one.
    pub store: StoreId,
}

/// What can be chosen about the ways between stores.
#[derive(Clone, Debug)]
pub struct TransportOptions {
    /// Bytes that wait for one store; what exceeds them is dropped. Default 32 MiB.
    pub queue_bytes_max: usize,
    /// How fast snapshots are sent, all together. Default 100 MiB per second.
    pub snapshot_bytes_per_second: Option<NonZeroU64>,
    /// Snapshots that are sent at once. Default 4.
    pub snapshots_sending_max: usize,
    /// Snapshots that are received at once. Default 8.
    pub snapshots_receiving_max: usize,
    /// How long nothing may move of a snapshot before either end gives it up. Default 30 s.
    pub snapshot_stall_max: Duration,
    /// What the pauses between attempts are drawn from.
    pub seed: u64,
}

impl TransportOptions {
    /// The defaults, with randomness from `seed`.
    pub const fn new(seed: u64) -> Self {
        Self {
            queue_bytes_max: PEER_QUEUE_MAX,
            snapshot_bytes_per_second: NonZeroU64::new(SNAPSHOT_BYTES_PER_SECOND),
            snapshots_sending_max: SNAPSHOTS_SENDING_MAX,
            snapshots_receiving_max: SNAPSHOTS_RECEIVING_MAX,
            snapshot_stall_max: SNAPSHOT_STALL_MAX,
            seed,
        }
    }
}

/// The ways between this store and the others. They end when it is dropped; what was not sent by
/// then is lost.
#[must_use = "dropping it cuts the store off"]
pub struct Network {
    shared: Arc<Shared>,
    /// Drives everything that is sent.
    _tasks: Tasks,
}

/// What links, calls and services share.
struct Shared {
    me: Me,
    addresses: Arc<dyn Addresses>,
    inbox: Inbox,
    clock: Arc<dyn Clock>,
    options: TransportOptions,
    spawner: Spawner,
    /// One for each store that was ever sent something. Held for a look or an insertion.
    links: Mutex<BTreeMap<StoreId, Arc<Link>>>,
    /// For snapshots on their way out; whoever waits is served in order.
    sending: Semaphore,
    /// For snapshots on their way in; whoever waits for long is told to come again.
    receiving: Semaphore,
    /// Of all snapshots on their way out.
    throttle: Mutex<Throttle>,
}

impl Network {
    /// Starts the thread that sends. The loops hear through `inbox` what arrives and what is lost.
    pub fn start(
        me: Me,
        addresses: Arc<dyn Addresses>,
        inbox: Inbox,
        clock: Arc<dyn Clock>,
        options: TransportOptions,
    ) -> io::Result<Self> {
        let tasks = Tasks::start()?;
        let shared = Shared {
            me,
            addresses,
            inbox,
            clock,
            spawner: tasks.spawner(),
            links: Mutex::default(),
            sending: Semaphore::new(options.snapshots_sending_max),
            receiving: Semaphore::new(options.snapshots_receiving_max),
            throttle: Mutex::new(Throttle::new(options.snapshot_bytes_per_second)),
            options,
        };
        Ok(Self { shared: Arc::new(shared), _tasks: tasks })
    }

    /// The way out, for one store loop.
    pub fn transport(&self) -> GrpcTransport {
        GrpcTransport { shared: Arc::clone(&self.shared), gathered: BTreeMap::new() }
    }

    /// The way in, for the port that other stores know. Its streams end with `shutdown`.
    pub fn service(&self, folder: Folder, shutdown: Shutdown) -> PeersService {
        PeersService::new(Arc::clone(&self.shared), folder, shutdown)
    }
}

impl Shared {
    /// The way to a store, opened if there was none.
    fn link(self: &Arc<Self>, store: StoreId) -> Arc<Link> {
        let mut links = self.links();
        let link = links.entry(store).or_insert_with(|| {
            let link = Arc::new(Link::new(store));
            self.spawner.spawn(link::drive(Arc::clone(&link), Arc::clone(self)));
            link
        });
        Arc::clone(link)
    }

    /// A store has called, so it can be reached.
    fn nudge(&self, store: StoreId) {
        if let Some(link) = self.links().get(&store) {
            link.nudge();
        }
    }

    fn greeting(&self, to: StoreId) -> Greeting {
        Greeting {
            cluster_id: self.me.cluster.get(),
            from_store: self.me.store.get(),
            to_store: to.get(),
        }
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<StoreId, Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way out of one store loop.
pub struct GrpcTransport {
    shared: Arc<Shared>,
    gathered: BTreeMap<StoreId, Gathered>,
}

/// What a loop has for one store.
struct Gathered {
    link: Arc<Link>,
    /// Each with its size, roughly.
    envelopes: Vec<(usize, Envelope)>,
}

impl Transport for GrpcTransport {
    fn send(&mut self, to: StoreId, envelope: Envelope) {
        let shared = &self.shared;
        let gathered = self
            .gathered
            .entry(to)
            .or_insert_with(|| Gathered { link: shared.link(to), envelopes: Vec::new() });
        gathered.envelopes.push((size_estimate(&envelope), envelope));
    }

    fn flush(&mut self) {
        for (store, gathered) in &mut self.gathered {
            if gathered.envelopes.is_empty() {
                continue;
            }
            let bytes_max = self.shared.options.queue_bytes_max;
            let dropped = gathered.link.queue.push(gathered.envelopes.drain(..), bytes_max);
            if dropped > 0 {
                tracing::debug!(store = store.get(), dropped, "messages were dropped");
                self.shared.inbox.report(&Feedback::Unreachable(*store));
            }
        }
    }

    fn send_snapshot(&mut self, to: StoreId, snapshot: OutgoingSnapshot) {
        snapshot::send(&self.shared, to, snapshot);
    }
}
