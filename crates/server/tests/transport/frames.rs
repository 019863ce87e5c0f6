//! Envelopes in frames.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use kiva_base::StoreId;
use kiva_base::clock::BoxFuture;
use kiva_proto::kivapb::peers_client::PeersClient;
use kiva_proto::kivapb::peers_server::{Peers, PeersServer};
use kiva_proto::kivapb::{FramesRequest, FramesResponse, Greeting};
use kiva_raft::{Body, Entries, Entry, EntryId, Index, LogSlice, Message, Payload, Round, Term};
use kiva_raftstore::transport::{Content, Envelope, Feedback, Transport};
use kiva_raftstore::wire::{decode_frame, encode_frames};
use kiva_server::transport::{AddressError, Addresses};
use tokio::sync::watch;
use tonic::codegen::BoxStream;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::node::{Book, CLUSTER, Node, Setup, envelope, greeting, heartbeat, pretend, store};

fn append(region: u64, to: u64, size: usize) -> Envelope {
    let payload = Payload::Command(Bytes::from(vec![7; size]));
    let entry = Entry { index: Index(2), term: Term(2), payload };
    let previous = EntryId::new(Term(2), Index(1));
    let slice = LogSlice::new(Term(2), previous, Entries::from(entry)).unwrap();
    envelope(region, to, Body::Append { slice, commit: Index(1), round: Round(1) })
}

/// Of a heartbeat.
fn round_of(envelope: &Envelope) -> u64 {
    match &envelope.content {
        Content::Raft(Message { body: Body::Heartbeat { round, .. }, .. }) => round.0,
        other => panic!("not a heartbeat: {other:?}"),
    }
}

/// Covers OPT-msg-batch-wire.
#[test]
fn what_is_sent_arrives_in_order() {
    let book = Book::default();
    let mut one = Node::start(1, &book, Setup::new(&book));
    let mut two = Node::start(2, &book, Setup::new(&book));
    for round in 0..500 {
        for region in 1..=4 {
            one.transport.send(store(2), heartbeat(region, 2, round));
        }
        one.transport.send(store(2), append(9, 2, 300 * round as usize));
        one.transport.flush();
    }
    let mut next = BTreeMap::new();
    let mut sizes = 0..500;
    for _ in 0..500 * 5 {
        let envelope = two.events.envelope();
        if envelope.region.get() == 9 {
            let expected = append(9, 2, 300 * sizes.next().unwrap());
            assert_eq!(envelope, expected);
            continue;
        }
        let expected = next.entry(envelope.region).or_insert(0);
        assert_eq!(envelope, heartbeat(envelope.region.get(), 2, *expected));
        *expected += 1;
    }
    assert!(two.events.is_quiet());
    assert!(one.events.is_quiet(), "nothing was lost");
}

/// Covers 2B-wire: a store that was away under the same id and comes back, elsewhere.
#[test]
fn a_store_that_comes_back_is_reached_again() {
    let book = Book::default();
    let mut one = Node::start(1, &book, Setup::new(&book));
    let mut two = Node::start(2, &book, Setup::new(&book));
    one.transport.send(store(2), heartbeat(1, 2, 0));
    one.transport.flush();
    assert_eq!(round_of(&two.events.envelope()), 0);

    two.hang_up();
    assert_eq!(one.events.feedback(), Feedback::Unreachable(store(2)));
    one.transport.send(store(2), heartbeat(1, 2, 1));
    one.transport.flush();
    let lost = one.events.feedback();
    assert_eq!(lost, Feedback::Unreachable(store(2)), "nobody is where it was");

    two.pick_up(2, &book);
    // What is said while the link pauses is lost or waits; consensus says everything again.
    let arrived = (2..2_000).any(|round| {
        one.transport.send(store(2), heartbeat(1, 2, round));
        one.transport.flush();
        two.events.is_something_there(Duration::from_millis(20))
    });
    assert!(arrived);
    assert!(round_of(&two.events.envelope()) >= 2);
}

/// Answers for store 2 only when it is told to.
#[derive(Clone)]
struct Slow(Book, watch::Receiver<bool>);

impl Addresses for Slow {
    fn find(&self, store: StoreId) -> BoxFuture<'static, Result<String, AddressError>> {
        let Self(book, mut known) = self.clone();
        Box::pin(async move {
            if store.get() == 2 {
                known.wait_for(|known| *known).await.unwrap();
            }
            book.find(store).await
        })
    }
}

/// Covers OPT-msg-batch-wire: one slow store does not hold up others.
#[test]
fn a_full_queue_drops_and_says_so_and_holds_up_nobody_else() {
    let book = Book::default();
    let (tell, known) = watch::channel(false);
    let mut setup = Setup::new(&book);
    setup.addresses = Arc::new(Slow(book.clone(), known));
    setup.options.queue_bytes_max = 10_000;
    let mut one = Node::start(1, &book, setup);
    let mut two = Node::start(2, &book, Setup::new(&book));
    let mut three = Node::start(3, &book, Setup::new(&book));

    for region in 1..=20 {
        one.transport.send(store(2), append(region, 2, 1_000));
    }
    one.transport.send(store(3), heartbeat(1, 3, 5));
    one.transport.flush();
    assert_eq!(one.events.feedback(), Feedback::Unreachable(store(2)));
    assert_eq!(round_of(&three.events.envelope()), 5);
    assert!(two.events.is_quiet());

    tell.send(true).unwrap();
    // What fits was kept, and the first is sent first.
    for region in 1..=9 {
        assert_eq!(two.events.envelope(), append(region, 2, 1_000));
    }
    one.transport.send(store(2), heartbeat(77, 2, 6));
    one.transport.flush();
    assert_eq!(two.events.envelope(), heartbeat(77, 2, 6), "the other eleven are gone");
    assert!(one.events.is_quiet());
}

/// Covers 2B-wire: what a message cannot carry costs neither the connection nor what follows.
#[test]
fn an_envelope_beyond_the_wire_limit_is_dropped_and_the_next_one_arrives() {
    let book = Book::default();
    let mut one = Node::start(1, &book, Setup::new(&book));
    let mut two = Node::start(2, &book, Setup::new(&book));
    const MIB: usize = 1024 * 1024;
    for size in [9 * MIB, 12 * MIB, 8 * MIB] {
        one.transport.send(store(2), append(1, 2, size));
    }
    one.transport.flush();
    assert_eq!(two.events.envelope(), append(1, 2, 9 * MIB));
    assert_eq!(two.events.envelope(), append(1, 2, 8 * MIB));
    assert_eq!(one.events.feedback(), Feedback::Unreachable(store(2)));
    assert!(one.events.is_quiet(), "the link did not break");
}

#[test]
fn a_store_of_another_cluster_is_refused() {
    let book = Book::default();
    let mut setup = Setup::new(&book);
    setup.cluster = CLUSTER + 1;
    let mut stranger = Node::start(1, &book, setup);
    let mut two = Node::start(2, &book, Setup::new(&book));
    stranger.transport.send(store(2), heartbeat(1, 2, 0));
    stranger.transport.flush();
    assert_eq!(stranger.events.feedback(), Feedback::Unreachable(store(2)));
    assert!(two.events.is_quiet());
}

/// What the stream ends with when it begins with `greeting` and brings `frames`.
async fn call(two: &Node, greeting: Option<Greeting>, frames: Vec<Bytes>) -> Code {
    let mut client = PeersClient::connect(format!("http://{}", two.address)).await.unwrap();
    let hello = FramesRequest { greeting, ..Default::default() };
    let frames = frames.into_iter().map(|frame| FramesRequest { greeting: None, frame });
    let requests: Vec<_> = std::iter::once(hello).chain(frames).collect();
    let mut answers = match client.frames(stream::iter(requests)).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return status.code(),
    };
    match answers.message().await {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_means_somebody_else_is_told_so() {
    let book = Book::default();
    let mut two = Node::start(2, &book, Setup::new(&book));
    let frame = encode_frames(&[heartbeat(1, 2, 0)], usize::MAX).remove(0);
    let foreign = Greeting { cluster_id: CLUSTER + 1, ..greeting(1, 2) };
    for (greeting, code) in [
        (Some(foreign), Code::FailedPrecondition),
        (Some(greeting(1, 3)), Code::FailedPrecondition),
        (Some(greeting(0, 2)), Code::InvalidArgument),
        (None, Code::InvalidArgument),
    ] {
        assert_eq!(call(&two, greeting, vec![frame.clone()]).await, code);
        assert!(two.events.is_quiet());
    }
    assert_eq!(call(&two, Some(greeting(1, 2)), vec![frame]).await, Code::Ok);
    assert_eq!(two.events.envelope(), heartbeat(1, 2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_makes_no_sense_ends_its_stream_and_nothing_else() {
    let book = Book::default();
    let mut two = Node::start(2, &book, Setup::new(&book));
    let frame = encode_frames(&[heartbeat(1, 2, 0)], usize::MAX).remove(0);
    let mut damaged = frame.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let frames = vec![frame.clone(), damaged.into(), frame.clone()];
    let code = call(&two, Some(greeting(1, 2)), frames).await;
    assert_eq!(code, Code::InvalidArgument);
    assert_eq!(two.events.envelope(), heartbeat(1, 2, 0));
    assert!(two.events.is_quiet(), "what follows a damaged frame is not read");
    assert_eq!(call(&two, Some(greeting(1, 2)), vec![frame]).await, Code::Ok);
}

/// Counts frames and envelopes.
#[derive(Clone)]
struct Counter(Arc<watch::Sender<(usize, usize)>>);

#[tonic::async_trait]
impl Peers for Counter {
    async fn frames(
        &self,
        request: Request<Streaming<FramesRequest>>,
    ) -> Result<Response<BoxStream<FramesResponse>>, Status> {
        let (mut frames, Self(counts)) = (request.into_inner(), self.clone());
        let count = async move {
            while let Some(message) = frames.message().await? {
                if message.greeting.is_none() {
                    let envelopes = decode_frame(message.frame).unwrap().len();
                    counts.send_modify(|(frames, total)| {
                        *frames += 1;
                        *total += envelopes;
                    });
                }
            }
            Ok(FramesResponse {})
        };
        Ok(Response::new(Box::pin(stream::once(count))))
    }
}

/// Covers OPT-msg-batch-wire: the heartbeats of one round are one message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_flushed_at_once_travels_together() {
    let book = Book::default();
    let (sender, mut counts) = watch::channel((0, 0));
    let counter = PeersServer::new(Counter(Arc::new(sender)));
    let _pretending = pretend(5, &book, Routes::new(counter));
    let mut one = Node::start(1, &book, Setup::new(&book));
    for region in 1..=5_000 {
        one.transport.send(store(5), heartbeat(region, 5, 0));
    }
    one.transport.flush();
    let (frames, _) = *counts.wait_for(|(_, envelopes)| *envelopes == 5_000).await.unwrap();
    assert_eq!(frames, 1);
}
