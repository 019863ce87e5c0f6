//! What other stores call: frames and snapshots that come in.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use kiva_base::StoreId;
use kiva_proto::kivapb::peers_server::{Peers, PeersServer};
use kiva_proto::kivapb::{
    FramesRequest, FramesResponse, Greeting, SendSnapshotRequest, SendSnapshotResponse,
};
use kiva_raft::{Body, Message};
use kiva_raftstore::snapshot::{Begun, Folder, Id, ReceiveError, Received};
use kiva_raftstore::transport::{Content, Envelope};
use kiva_raftstore::wire::decode_frame;
use tokio::time::timeout;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::Shared;
use crate::limits::{LINK_TIMEOUT, REQUEST_SIZE_MAX};
use crate::runtime::{Shutdown, blocking};

/// The receiving end. Clones share it.
#[derive(Clone)]
pub struct PeersService {
    shared: Arc<Shared>,
    folder: Folder,
    shutdown: Shutdown,
}

impl PeersService {
    pub(super) fn new(shared: Arc<Shared>, folder: Folder, shutdown: Shutdown) -> Self {
        Self { shared, folder, shutdown }
    }

    /// As a service among the routes of a port.
    pub fn into_server(self) -> PeersServer<Self> {
        PeersServer::new(self).max_decoding_message_size(REQUEST_SIZE_MAX)
    }

    /// Who greets, if it means this store.
    fn greeted(&self, greeting: Option<Greeting>) -> Result<StoreId, Status> {
        let greeting =
            greeting.ok_or_else(|| Status::invalid_argument("a stream begins with a greeting"))?;
        let me = self.shared.me;
        let Greeting { cluster_id, from_store, to_store } = greeting;
        if cluster_id != me.cluster.get() || to_store != me.store.get() {
            return Err(Status::failed_precondition(format!(
                "store {to_store} of cluster {cluster_id} is called, this is store {} of \
                 cluster {}",
                me.store, me.cluster
            )));
        }
        StoreId::new(from_store)
            .ok_or_else(|| Status::invalid_argument("a greeting from store 0, which is nobody"))
    }

    /// Delivers frames until the sender ends, the store does, or a frame makes no sense.
    async fn receive(mut self, mut frames: Streaming<FramesRequest>) -> Result<(), Status> {
        loop {
            let message = tokio::select! {
                biased;
                () = self.shutdown.requested() => return Err(shutting_down()),
                message = frames.message() => message?,
            };
            let Some(FramesRequest { frame, .. }) = message else { return Ok(()) };
            let envelopes = decode_frame(frame).map_err(|error| {
                Status::invalid_argument(format!("a frame is refused: {error}"))
            })?;
            self.shared.inbox.deliver(envelopes);
        }
    }

    /// Writes chunks to the disk until the snapshot is complete.
    async fn take_snapshot(
        &self,
        expected: Id,
        chunks: &mut Streaming<SendSnapshotRequest>,
    ) -> Result<Received, Status> {
        let (folder, clock) = (self.folder.clone(), Arc::clone(&self.shared.clock));
        let first = self.next_chunk(chunks).await?;
        let begun = blocking(move || folder.begin(first, clock.now())).await.map_err(refused)?;
        let found = match &begun {
            Begun::Present(received) => received.id(),
            Begun::Receiving(receiver) => receiver.meta().id,
        };
        if found != expected {
            return Err(Status::invalid_argument(format!(
                "the chunks are of snapshot {found}, the envelope is of {expected}"
            )));
        }
        let mut receiver = match begun {
            Begun::Present(received) => return Ok(received),
            Begun::Receiving(receiver) => receiver,
        };
        loop {
            let chunk = self.next_chunk(chunks).await?;
            let clock = Arc::clone(&self.shared.clock);
            let work = move || {
                let received = receiver.on_chunk(chunk, clock.now())?;
                Ok::<_, ReceiveError>((receiver, received))
            };
            let (back, received) = blocking(work).await.map_err(refused)?;
            match received {
                Some(received) => return Ok(received),
                None => receiver = back,
            }
        }
    }

    async fn next_chunk(
        &self,
        chunks: &mut Streaming<SendSnapshotRequest>,
    ) -> Result<Bytes, Status> {
        let mut shutdown = self.shutdown.clone();
        let message = tokio::select! {
            biased;
            () = shutdown.requested() => return Err(shutting_down()),
            message = timeout(self.shared.options.snapshot_stall_max, chunks.message()) => message,
        };
        match message.map_err(|_| Status::deadline_exceeded("no chunk in time"))?? {
            Some(message) => Ok(message.chunk),
            None => Err(Status::data_loss("the chunks ended before the snapshot did")),
        }
    }
}

#[tonic::async_trait]
impl Peers for PeersService {
    async fn frames(
        &self,
        request: Request<Streaming<FramesRequest>>,
    ) -> Result<Response<BoxStream<FramesResponse>>, Status> {
        let mut frames = request.into_inner();
        let first = first(frames.message()).await?;
        let from = self.greeted(first.greeting)?;
        self.shared.nudge(from);
        let receiving = self.clone().receive(frames);
        // The headers leave now; the frames are read for as long as the answer is being made.
        let answer = async move { receiving.await.map(|()| FramesResponse {}) };
        Ok(Response::new(Box::pin(stream::once(answer))))
    }

    async fn send_snapshot(
        &self,
        request: Request<Streaming<SendSnapshotRequest>>,
    ) -> Result<Response<SendSnapshotResponse>, Status> {
        let mut chunks = request.into_inner();
        let first = first(chunks.message()).await?;
        self.greeted(first.greeting)?;
        let (envelope, id) = envelope_of(first.envelope)?;
        if envelope.to.store != self.shared.me.store {
            return Err(Status::invalid_argument("the snapshot is for a peer of another store"));
        }
        // Not for long: the sender has others that may go elsewhere.
        let _slot = timeout(LINK_TIMEOUT, self.shared.receiving.acquire())
            .await
            .map_err(|_| Status::resource_exhausted("too many snapshots are being received"))?;
        let received = self.take_snapshot(id, &mut chunks).await?;
        self.shared.inbox.deliver_snapshot(envelope, received);
        Ok(Response::new(SendSnapshotResponse {}))
    }
}

/// The message that a stream begins with.
async fn first<T>(message: impl Future<Output = Result<Option<T>, Status>>) -> Result<T, Status> {
    timeout(LINK_TIMEOUT, message)
        .await
        .map_err(|_| Status::deadline_exceeded("no greeting in time"))??
        .ok_or_else(|| Status::invalid_argument("a stream begins with a greeting"))
}

/// The one envelope that announces a snapshot, and which snapshot that is.
fn envelope_of(frame: Bytes) -> Result<(Envelope, Id), Status> {
    let refused = |reason: &str| {
        Status::invalid_argument(format!("the announcement of a snapshot is refused: {reason}"))
    };
    let envelopes = decode_frame(frame).map_err(|error| refused(&error.to_string()))?;
    let [envelope] = <[Envelope; 1]>::try_from(envelopes)
        .map_err(|_| refused("it has not exactly one envelope"))?;
    let last = match &envelope.content {
        Content::Raft(Message { body: Body::Snapshot(snapshot), .. }) => snapshot.last,
        _ => return Err(refused("it announces something else")),
    };
    let id = Id { region: envelope.region, last };
    Ok((envelope, id))
}

fn refused(error: ReceiveError) -> Status {
    let text = error.to_string();
    match error {
        ReceiveError::Busy { .. } => Status::aborted(text),
        ReceiveError::Io { .. } => Status::internal(text),
        _ => Status::data_loss(text),
    }
}

fn shutting_down() -> Status {
    Status::unavailable("the store is shutting down")
}
