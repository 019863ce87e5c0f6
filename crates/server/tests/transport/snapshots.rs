//! Snapshots, each on a connection of its own.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use kiva_base::clock::BoxFuture;
use kiva_base::{Clock, Epoch, KeyRange, Moment, Region, RegionId};
use kiva_engine::EngineError;
use kiva_proto::kivapb::SendSnapshotRequest;
use kiva_proto::kivapb::SendSnapshotResponse;
use kiva_proto::kivapb::peers_client::PeersClient;
use kiva_proto::kivapb::peers_server::{Peers, PeersServer};
use kiva_raft::{Body, EntryId, Index, Snapshot, Term};
use kiva_raftstore::disk::{Disk, MemoryDisk, Operation};
use kiva_raftstore::meta::{RegionRecord, encode_region};
use kiva_raftstore::snapshot::{Builder, Id, Meta};
use kiva_raftstore::transport::{Envelope, Feedback, OutgoingSnapshot, Transport};
use kiva_raftstore::wire::encode_frames;
use tokio::time::timeout;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::node::{
    Book, Node, PATIENCE, Setup, envelope, greeting, heartbeat, peer, pretend, store,
};
use crate::parts::{Gate, View, WatchedDisk};

const MIB: usize = 1024 * 1024;

/// A region with peers on stores 1 and 2.
fn region(id: u64) -> Region {
    let peers = vec![peer(id * 10 + 1, 1), peer(id * 10 + 2, 2)];
    let id = RegionId::new(id).unwrap();
    Region { id, range: KeyRange::ALL, epoch: Epoch::FIRST, peers }
}

/// The snapshot of a region at an index, for its peer on store `to`.
fn snapshot(id: u64, index: u64, to: u64, view: &View) -> OutgoingSnapshot {
    let record = RegionRecord::settled(region(id));
    let snapshot = Snapshot {
        last: EntryId::new(Term(2), Index(index)),
        membership: record.membership.clone(),
        data: encode_region(&record).into(),
    };
    let envelope = envelope(id, to, Body::Snapshot(Box::new(snapshot)));
    OutgoingSnapshot { envelope, view: Arc::new(view.clone()) }
}

fn ended(region: u64, to: u64, arrived: bool) -> Feedback {
    let (region, to) = (RegionId::new(region).unwrap(), peer(region * 10 + to, to));
    Feedback::SnapshotSent { region, to, arrived }
}

fn names(disk: &dyn Disk) -> Vec<String> {
    disk.list().unwrap().iter().map(|name| name.as_str().to_owned()).collect()
}

/// Covers OPT-snap-own-stream, OPT-snap-report, 2C-snapshot-big for 50 MiB: while the receiver's
/// disk stands still, messages pass by and the sender reads no further than a few chunks.
#[test]
fn a_snapshot_is_in_nobodys_way_and_in_nobodys_memory() {
    let book = Book::default();
    let gate = Gate::default();
    let before = gate.clone();
    let mut setup = Setup::new(&book);
    setup.disk = Arc::new(WatchedDisk::new(move |write| {
        if write == 3 {
            before.pass()
        }
    }));
    let mut one = Node::start(1, &book, Setup::new(&book));
    let mut two = Node::start(2, &book, setup);
    let view = View::new(500, MIB / 10);

    let sent = snapshot(4, 17, 2, &view);
    one.transport.send_snapshot(store(2), sent.clone());
    gate.wait_for_somebody();
    for round in 0..2_000 {
        one.transport.send(store(2), heartbeat(4, 2, round));
        one.transport.flush();
        assert_eq!(two.events.envelope(), heartbeat(4, 2, round));
    }
    let read = view.bytes_read();
    let is_quiet = one.events.is_quiet();
    gate.open();
    assert!(read < 16 * MIB as u64, "{read} bytes were on their way");
    assert!(is_quiet);
    let (envelope, received) = two.events.snapshot();
    assert_eq!(envelope, sent.envelope);
    assert_eq!(received.totals().pairs, 500);
    assert!(received.totals().bytes > 500 * (MIB / 10) as u64);
    assert_eq!(received.meta().range, KeyRange::ALL);
    assert_eq!(one.events.feedback(), ended(4, 2, true));
}

/// Covers 2C-send-lost, OPT-snap-report: the sender's engine fails half-way.
#[test]
fn a_snapshot_that_breaks_half_way_leaves_nothing_and_may_be_sent_again() {
    let book = Book::default();
    let mut setup = Setup::new(&book);
    let disk = Arc::new(MemoryDisk::new());
    setup.disk = disk.clone();
    let mut one = Node::start(1, &book, Setup::new(&book));
    let mut two = Node::start(2, &book, setup);
    let broken = || Err(EngineError::Malformed("a block"));
    let view = View::new(100, MIB / 10).with(60, broken);
    one.transport.send_snapshot(store(2), snapshot(4, 17, 2, &view));
    assert_eq!(one.events.feedback(), ended(4, 2, false));
    assert!(two.events.is_quiet());

    // The receiver may learn of the end later than the sender, and refuses until then.
    let view = View::new(100, MIB / 10);
    loop {
        one.transport.send_snapshot(store(2), snapshot(4, 18, 2, &view));
        if one.events.feedback() == ended(4, 2, true) {
            break;
        }
    }
    let (_, received) = two.events.snapshot();
    assert_eq!(received.id().last.index, Index(18));
    assert_eq!(names(&*disk), ["4-2-18.snapshot"]);
}

/// Covers OPT-snap-report: the receiver's disk fails, or nobody is there.
#[test]
fn whatever_goes_wrong_is_reported() {
    let book = Book::default();
    let mut setup = Setup::new(&book);
    let disk = Arc::new(MemoryDisk::new());
    setup.disk = disk.clone();
    let mut one = Node::start(1, &book, Setup::new(&book));
    let mut two = Node::start(2, &book, setup);
    let view = View::new(10, MIB / 10);
    for operation in [Operation::Write, Operation::Sync, Operation::SyncNames] {
        disk.fail_next(operation);
        one.transport.send_snapshot(store(2), snapshot(4, 17, 2, &view));
        assert_eq!(one.events.feedback(), ended(4, 2, false), "{operation:?}");
        assert_eq!(names(&*disk), [""; 0], "{operation:?}");
    }
    one.transport.send_snapshot(store(3), snapshot(4, 17, 3, &view));
    assert_eq!(one.events.feedback(), ended(4, 3, false), "nobody knows store 3");
    book.note(3, two.address);
    one.transport.send_snapshot(store(3), snapshot(4, 17, 3, &view));
    assert_eq!(one.events.feedback(), ended(4, 3, false), "store 2 is not store 3");
    assert!(two.events.is_quiet());
}

/// Covers 2C-receive-concurrent.
#[test]
fn of_two_senders_for_one_region_one_is_refused() {
    let book = Book::default();
    let gate = Gate::default();
    let (before_pair, first_write) = (gate.clone(), Gate::default());
    first_write.open();
    let on_write = first_write.clone();
    let mut setup = Setup::new(&book);
    setup.disk = Arc::new(WatchedDisk::new(move |_| on_write.pass()));
    let mut one = Node::start(1, &book, Setup::new(&book));
    let mut two = Node::start(2, &book, setup);
    let mut three = Node::start(3, &book, Setup::new(&book));
    let slow = View::new(100, MIB / 10).with(60, move || {
        before_pair.pass();
        Ok(())
    });
    one.transport.send_snapshot(store(2), snapshot(4, 17, 2, &slow));
    first_write.wait_for_somebody();
    let other = View::new(100, MIB / 10);
    three.transport.send_snapshot(store(2), snapshot(4, 18, 2, &other));
    assert_eq!(three.events.feedback(), ended(4, 2, false));
    three.transport.send_snapshot(store(2), snapshot(5, 18, 2, &other));
    assert_eq!(three.events.feedback(), ended(5, 2, true), "another region is not concerned");

    gate.open();
    assert_eq!(one.events.feedback(), ended(4, 2, true));
    let arrived: Vec<_> = (0..2).map(|_| two.events.snapshot().1.id().to_string()).collect();
    assert_eq!(arrived, ["5-2-18", "4-2-17"]);
}

/// Covers OPT-snap-limits: at the sender and, with senders that know nothing of each other, at the
/// receiver.
#[test]
fn no_more_than_the_limit_travel_at_once_and_all_arrive() {
    for (sending_max, receiving_max) in [(2, 8), (4, 1)] {
        let book = Book::default();
        let mut setup = Setup::new(&book);
        let disk = WatchedDisk::new(|_| {});
        setup.disk = Arc::new(disk.clone());
        setup.options.snapshots_receiving_max = receiving_max;
        let mut two = Node::start(2, &book, setup);
        let mut senders: Vec<_> = [1, 3]
            .map(|id| {
                let mut setup = Setup::new(&book);
                setup.options.snapshots_sending_max = sending_max;
                setup.options.seed = id;
                Node::start(id, &book, setup)
            })
            .into();
        let view = View::new(10, MIB / 5);
        for (number, sender) in (0..).zip(&mut senders) {
            for id in 1..=25 {
                let sent = snapshot(number * 25 + id, 17, 2, &view);
                sender.transport.send_snapshot(store(2), sent);
            }
        }
        let arrived: BTreeSet<_> = (0..50).map(|_| two.events.snapshot().0.region).collect();
        assert_eq!(arrived.len(), 50);
        for sender in &mut senders {
            for _ in 0..25 {
                let feedback = sender.events.feedback();
                assert!(matches!(feedback, Feedback::SnapshotSent { arrived: true, .. }));
            }
        }
        let most = disk.unfinished_max();
        assert!(most <= receiving_max.min(2 * sending_max), "{most} at once");
    }
}

/// Covers OPT-snap-existing: what is there already is not sent again.
#[test]
fn a_snapshot_that_is_there_is_delivered_without_its_data() {
    let book = Book::default();
    let mut one = Node::start(1, &book, Setup::new(&book));
    let mut two = Node::start(2, &book, Setup::new(&book));
    let view = View::new(100, MIB / 10);
    one.transport.send_snapshot(store(2), snapshot(4, 17, 2, &view));
    assert_eq!(one.events.feedback(), ended(4, 2, true));
    let gate = Gate::default();
    let before = gate.clone();
    let endless = View::new(100, MIB / 10).with(60, move || {
        before.pass();
        Ok(())
    });
    one.transport.send_snapshot(store(2), snapshot(4, 17, 2, &endless));
    assert_eq!(one.events.feedback(), ended(4, 2, true));
    gate.open();
    let ids: Vec<_> = (0..2).map(|_| two.events.snapshot().1.id().to_string()).collect();
    assert_eq!(ids, ["4-2-17", "4-2-17"]);
}

/// Accepts everything and takes nothing.
#[derive(Clone)]
struct Stalled;

#[tonic::async_trait]
impl Peers for Stalled {
    async fn send_snapshot(
        &self,
        request: Request<Streaming<SendSnapshotRequest>>,
    ) -> Result<Response<SendSnapshotResponse>, Status> {
        let _unread = request.into_inner();
        std::future::pending().await
    }
}

/// Covers OPT-snap-timeout for the sender.
#[test]
fn a_receiver_that_stalls_is_given_up() {
    let book = Book::default();
    let _pretending = pretend(2, &book, Routes::new(PeersServer::new(Stalled)));
    let mut setup = Setup::new(&book);
    setup.options.snapshot_stall_max = Duration::from_millis(50);
    let mut one = Node::start(1, &book, setup);
    let view = View::new(500, MIB / 10);
    one.transport.send_snapshot(store(2), snapshot(4, 17, 2, &view));
    assert_eq!(one.events.feedback(), ended(4, 2, false));
    assert!(view.bytes_read() < 16 * MIB as u64);
}

/// The messages of a snapshot as they should be: the announcement, then chunks.
fn messages(envelope: &Envelope, view: &View) -> Vec<SendSnapshotRequest> {
    let id = Id { region: envelope.region, last: EntryId::new(Term(2), Index(17)) };
    let meta = Meta { id, range: KeyRange::ALL, record: Bytes::new() };
    let mut builder = Builder::new(Arc::new(view.clone()), meta);
    let announcement = SendSnapshotRequest {
        greeting: Some(greeting(1, 2)),
        envelope: encode_frames(std::slice::from_ref(envelope), usize::MAX).remove(0),
        chunk: Bytes::new(),
    };
    let mut messages = vec![announcement];
    while let Some(chunk) = builder.next_chunk().unwrap() {
        let chunk = chunk.encoded().clone();
        messages.push(SendSnapshotRequest { chunk, ..Default::default() });
    }
    messages
}

async fn call(two: &Node, messages: Vec<SendSnapshotRequest>, then_hang: bool) -> Code {
    let mut client = PeersClient::connect(format!("http://{}", two.address)).await.unwrap();
    let messages = stream::iter(messages);
    let messages = match then_hang {
        true => messages.chain(stream::pending()).boxed(),
        false => messages.boxed(),
    };
    let answer = timeout(PATIENCE, client.send_snapshot(messages)).await;
    answer.expect("an answer in time").map_or_else(|status| status.code(), |_| Code::Ok)
}

/// Covers 2C-receive-corrupt, OPT-snap-checksum for the way between stores.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_that_are_not_the_snapshot_are_refused() {
    let book = Book::default();
    let mut setup = Setup::new(&book);
    let disk = Arc::new(MemoryDisk::new());
    setup.disk = disk.clone();
    let mut two = Node::start(2, &book, setup);
    let view = View::new(50, MIB / 10);
    let good = snapshot(4, 17, 2, &view).envelope;
    let messages = messages(&good, &view);
    assert!(messages.len() > 5, "an announcement, a head, pairs, a tail");

    let mut flipped = messages.clone();
    let mut bytes = flipped[3].chunk.to_vec();
    bytes[5_000] ^= 1;
    flipped[3].chunk = bytes.into();
    let mut missing = messages.clone();
    missing.remove(3);
    let mut repeated = messages.clone();
    repeated.insert(3, messages[3].clone());
    let cut = messages[..messages.len() - 1].to_vec();
    for refused in [flipped, missing, repeated, cut] {
        assert_eq!(call(&two, refused, false).await, Code::DataLoss);
        assert_eq!(names(&*disk), [""; 0]);
    }

    let announce = |envelopes: &[Envelope]| {
        let mut messages = messages.clone();
        messages[0].envelope = encode_frames(envelopes, usize::MAX).remove(0);
        messages
    };
    let elsewhere = snapshot(4, 17, 3, &view).envelope;
    let newer = snapshot(4, 18, 2, &view).envelope;
    for wrong in [
        vec![elsewhere],
        vec![newer],
        vec![heartbeat(4, 2, 1)],
        vec![good.clone(), heartbeat(4, 2, 1)],
    ] {
        assert_eq!(call(&two, announce(&wrong), false).await, Code::InvalidArgument);
    }
    let mut stranger = messages.clone();
    stranger[0].greeting = Some(greeting(1, 3));
    assert_eq!(call(&two, stranger, false).await, Code::FailedPrecondition);
    assert!(two.events.is_quiet());

    assert_eq!(call(&two, messages, false).await, Code::Ok);
    assert_eq!(two.events.snapshot().0, good);
    assert_eq!(names(&*disk), ["4-2-17.snapshot"]);
}

/// Covers OPT-snap-timeout for the receiver.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_stalls_is_given_up() {
    let book = Book::default();
    let mut setup = Setup::new(&book);
    let disk = Arc::new(MemoryDisk::new());
    setup.disk = disk.clone();
    setup.options.snapshot_stall_max = Duration::from_millis(50);
    let mut two = Node::start(2, &book, setup);
    let view = View::new(50, MIB / 10);
    let envelope = snapshot(4, 17, 2, &view).envelope;
    let begun = messages(&envelope, &view)[..3].to_vec();
    assert_eq!(call(&two, begun, true).await, Code::DeadlineExceeded);
    assert_eq!(names(&*disk), [""; 0]);
    assert!(two.events.is_quiet());
}

/// Stands still, and notes how long it was asked to wait.
#[derive(Default)]
struct StoppedClock {
    waits: Mutex<Vec<Duration>>,
}

impl Clock for StoppedClock {
    fn now(&self) -> Moment {
        Moment::after_start(Duration::from_secs(1_000))
    }

    fn wall_ms(&self) -> u64 {
        0
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.waits.lock().unwrap().push(duration);
        Box::pin(std::future::ready(()))
    }
}

/// Covers OPT-snap-rate: no chunk leaves before the rate allows it.
#[test]
fn a_snapshot_waits_for_the_rate() {
    let book = Book::default();
    let clock = Arc::new(StoppedClock::default());
    let mut setup = Setup::new(&book);
    setup.clock = clock.clone();
    setup.options.snapshot_bytes_per_second = NonZeroU64::new(MIB as u64);
    let mut one = Node::start(1, &book, setup);
    let _two = Node::start(2, &book, Setup::new(&book));
    let view = View::new(100, MIB / 10);
    one.transport.send_snapshot(store(2), snapshot(4, 17, 2, &view));
    assert_eq!(one.events.feedback(), ended(4, 2, true));
    // Ten chunks and the end, of which each waits for those before it; time stands still.
    let waits = clock.waits.lock().unwrap();
    assert!(waits.is_sorted());
    assert_eq!(waits.last().unwrap().as_secs(), 9);
    assert!(waits.len() >= 9, "{waits:?}");
}
