//! Snapshots on their way out, each on a connection of its own.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use kiva_base::{Peer, RegionId, StoreId};
use kiva_engine::EngineError;
use kiva_proto::kivapb::SendSnapshotRequest;
use kiva_proto::kivapb::peers_client::PeersClient;
use kiva_raft::{Body, Message};
use kiva_raftstore::meta::decode_region;
use kiva_raftstore::snapshot::{Builder, Id, Meta};
use kiva_raftstore::transport::{Content, Envelope, Feedback, Inbox, OutgoingSnapshot};
use kiva_raftstore::wire::encode_frames;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::Shared;
use super::addresses::AddressError;
use super::backoff::Backoff;
use super::link::{LinkError, connect};
use crate::limits::SNAPSHOT_PATIENCE;
use crate::runtime::blocking;

/// Chunks that wait at each of two places: what was read, and what was granted by the rate.
const CHUNKS_AHEAD: usize = 1;

/// Why a snapshot did not arrive.
#[derive(Debug, thiserror::Error)]
enum SnapshotError {
    #[error("it is no snapshot of its region")]
    Malformed,
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("{} ({})", .0.message(), .0.code())]
    Refused(#[from] Status),
    #[error("the receiver has taken nothing for too long")]
    Stalled,
}

impl SnapshotError {
    /// Whether the receiver has no place for it now.
    fn is_busy(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code() == Code::ResourceExhausted)
    }
}

/// Tells the leader how it ended, whatever happens to the task.
struct Report {
    inbox: Inbox,
    region: RegionId,
    to: Peer,
    arrived: bool,
}

impl Report {
    fn end(mut self, arrived: bool) {
        self.arrived = arrived;
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let Self { region, to, arrived, .. } = *self;
        self.inbox.report(&Feedback::SnapshotSent { region, to, arrived });
    }
}

/// Sends a snapshot when there is a slot for it. One waits for each peer that needs one, at most.
pub(super) fn send(shared: &Arc<Shared>, to: StoreId, snapshot: OutgoingSnapshot) {
    let Envelope { region, to: peer, .. } = snapshot.envelope;
    let inbox = shared.inbox.clone();
    let report = Report { inbox, region, to: peer, arrived: false };
    let sender = Arc::clone(shared);
    shared.spawner.spawn(async move {
        let (region_id, store) = (region.get(), to.get());
        let outcome = deliver(&sender, to, &snapshot).await;
        match &outcome {
            Ok(()) => tracing::info!(region_id, store, "a snapshot has arrived"),
            Err(error) => tracing::warn!(region_id, store, %error, "a snapshot was not sent"),
        }
        report.end(outcome.is_ok());
    });
}

/// Tries until it has arrived or failed, or the receiver was busy for too long.
async fn deliver(
    shared: &Shared,
    to: StoreId,
    snapshot: &OutgoingSnapshot,
) -> Result<(), SnapshotError> {
    let meta = meta_of(&snapshot.envelope).ok_or(SnapshotError::Malformed)?;
    let mut backoff = Backoff::new(shared.options.seed ^ meta.id.region.get());
    let mut give_up = None;
    loop {
        let outcome = {
            let _slot = shared.sending.acquire().await;
            attempt(shared, to, snapshot, &meta).await
        };
        if !outcome.as_ref().is_err_and(SnapshotError::is_busy) {
            return outcome;
        }
        // Others go first meanwhile: the slot is free.
        let now = shared.clock.now();
        if now >= *give_up.get_or_insert(now + SNAPSHOT_PATIENCE) {
            return outcome;
        }
        sleep(backoff.next()).await;
    }
}

/// What the snapshot of an envelope is of.
fn meta_of(envelope: &Envelope) -> Option<Meta> {
    let Content::Raft(Message { body: Body::Snapshot(snapshot), .. }) = &envelope.content else {
        return None;
    };
    let id = Id { region: envelope.region, last: snapshot.last };
    let range = decode_region(id.region, &snapshot.data).ok()?.region.range;
    Some(Meta { id, range, record: snapshot.data.clone() })
}

async fn attempt(
    shared: &Shared,
    to: StoreId,
    snapshot: &OutgoingSnapshot,
    meta: &Meta,
) -> Result<(), SnapshotError> {
    let address = shared.addresses.find(to).await?;
    let mut client = PeersClient::new(connect(&address).await?);
    let (messages, requests) = mpsc::channel(CHUNKS_AHEAD);
    let envelope = encode_frames(std::slice::from_ref(&snapshot.envelope), usize::MAX).pop();
    let first = SendSnapshotRequest {
        greeting: Some(shared.greeting(to)),
        envelope: envelope.ok_or(SnapshotError::Malformed)?,
        chunk: Bytes::new(),
    };
    let (chunks, read) = mpsc::channel(CHUNKS_AHEAD);
    let builder = Builder::new(Arc::clone(&snapshot.view), meta.clone());
    let reading = blocking(move || build(builder, &chunks));
    let sending = async {
        tokio::try_join!(async { Ok(reading.await?) }, feed(shared, first, read, messages),)
    };
    let call = client.send_snapshot(ReceiverStream::new(requests));
    tokio::pin!(call);
    tokio::select! {
        biased;
        // Early: refused, or all of it was there already.
        answer = &mut call => {
            answer?;
        }
        sent = sending => {
            sent?;
            let answer = timeout(shared.options.snapshot_stall_max, call).await;
            answer.map_err(|_| SnapshotError::Stalled)??;
        }
    }
    Ok(())
}

/// Reads the engine, as fast as chunks are taken. Ends early when nobody takes them any more.
fn build(mut builder: Builder, chunks: &mpsc::Sender<Bytes>) -> Result<(), EngineError> {
    while let Some(chunk) = builder.next_chunk()? {
        if chunks.blocking_send(chunk.encoded().clone()).is_err() {
            break;
        }
    }
    Ok(())
}

/// Passes chunks on at the rate that is granted. The stream ends with it.
async fn feed(
    shared: &Shared,
    first: SendSnapshotRequest,
    mut chunks: mpsc::Receiver<Bytes>,
    messages: mpsc::Sender<SendSnapshotRequest>,
) -> Result<(), SnapshotError> {
    let mut message = first;
    loop {
        let sent = timeout(shared.options.snapshot_stall_max, messages.send(message)).await;
        if sent.map_err(|_| SnapshotError::Stalled)?.is_err() {
            // The receiver has ended the call, and its answer says why.
            return Ok(());
        }
        let Some(chunk) = chunks.recv().await else { return Ok(()) };
        let now = shared.clock.now();
        let granted = {
            let mut throttle = shared.throttle.lock().unwrap_or_else(PoisonError::into_inner);
            throttle.grant(chunk.len() as u64, now)
        };
        if granted > now {
            shared.clock.sleep(granted.since(now)).await;
        }
        message = SendSnapshotRequest { chunk, ..Default::default() };
    }
}
