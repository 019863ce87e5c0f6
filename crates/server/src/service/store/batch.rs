//! `BatchCommands`: many commands on one stream, answered in any order and grouping.
//!
//! A unary call costs a server many times what a message on an open stream does, so this is the
//! fast path. The commands of a frame run together with those of the frames before; everything
//! that is done when the stream is polled leaves in one frame, so answers gather by themselves
//! when there are many, and wait for nobody when there are few.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, Stream};
use kiva_proto::tikvpb::batch_commands_request::request::Cmd as Command;
use kiva_proto::tikvpb::batch_commands_response::{Response, response::Cmd as Reply};
use kiva_proto::tikvpb::{BatchCommandsEmptyResponse, BatchCommandsRequest, BatchCommandsResponse};
use prost::Message;
use tonic::codegen::BoxStream;
use tonic::{Status, Streaming};

use super::StoreService;
use super::fault::answer;
use crate::limits::{BATCH_FRAME_SIZE, BATCH_RUNNING_MAX};

type Running = BoxFuture<'static, (u64, Result<Option<Reply>, Status>)>;

/// The answers to everything that arrives on `requests`.
pub(super) fn serve(
    service: StoreService,
    requests: Streaming<BatchCommandsRequest>,
) -> BoxStream<BatchCommandsResponse> {
    let mut shutdown = service.shutdown.clone();
    let asked_to_stop = async move { shutdown.requested().await };
    Box::pin(Batch {
        service,
        requests: Some(requests),
        running: FuturesUnordered::new(),
        asked_to_stop: Box::pin(asked_to_stop),
    })
}

struct Batch {
    service: StoreService,
    /// `None` once the client has said all it had to say, or nothing more is taken.
    requests: Option<Streaming<BatchCommandsRequest>>,
    running: FuturesUnordered<Running>,
    asked_to_stop: BoxFuture<'static, ()>,
}

impl Stream for Batch {
    type Item = Result<BatchCommandsResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let batch = &mut *self;
        if batch.requests.is_some() && batch.asked_to_stop.as_mut().poll(context).is_ready() {
            batch.requests = None;
        }
        batch.take_requests(context);
        let mut frame = BatchCommandsResponse::default();
        let mut size = 0;
        while size < BATCH_FRAME_SIZE {
            match batch.running.poll_next_unpin(context) {
                Poll::Ready(Some((id, Ok(reply)))) => {
                    let response = Response { cmd: reply };
                    size += response.encoded_len();
                    frame.request_ids.push(id);
                    frame.responses.push(response);
                }
                // One command whose outcome nobody knows: only the end of the stream says that.
                Poll::Ready(Some((_, Err(status)))) => return Poll::Ready(Some(Err(status))),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if !frame.responses.is_empty() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if batch.requests.is_none() && batch.running.is_empty() {
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

impl Batch {
    /// Starts what has arrived, until too much is running; then the client waits.
    fn take_requests(&mut self, context: &mut Context<'_>) {
        while self.running.len() < BATCH_RUNNING_MAX
            && let Some(requests) = &mut self.requests
        {
            match requests.poll_next_unpin(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    for (id, request) in frame.request_ids.into_iter().zip(frame.requests) {
                        let service = self.service.clone();
                        self.running.push(Box::pin(async move {
                            (id, service.execute(request.cmd).await)
                        }));
                    }
                }
                // A connection that breaks ends its stream; what is running has been proposed.
                Poll::Ready(Some(Err(_)) | None) => self.requests = None,
                Poll::Pending => return,
            }
        }
    }
}

macro_rules! commands {
    ($($command:ident => $method:ident,)*) => {
        impl StoreService {
            /// The reply to one command; `None`, an empty response, to one that is not served.
            async fn execute(&self, command: Option<Command>) -> Result<Option<Reply>, Status> {
                Ok(Some(match command {
                    $(Some(Command::$command(request)) => {
                        self.check_cluster(&request.context)?;
                        Reply::$command(answer(Self::$method(self, request).await)?)
                    })*
                    Some(Command::Empty(request)) => {
                        Reply::Empty(BatchCommandsEmptyResponse { test_id: request.test_id })
                    }
                    _ => return Ok(None),
                }))
            }
        }
    };
}

commands! {
    Get => kv_get,
    Scan => kv_scan,
    Prewrite => kv_prewrite,
    Commit => kv_commit,
    Cleanup => kv_cleanup,
    BatchGet => kv_batch_get,
    BatchRollback => kv_batch_rollback,
    ScanLock => kv_scan_lock,
    ResolveLock => kv_resolve_lock,
    RawGet => raw_get,
    RawBatchGet => raw_batch_get,
    RawPut => raw_put,
    RawBatchPut => raw_batch_put,
    RawDelete => raw_delete,
    RawBatchDelete => raw_batch_delete,
    RawScan => raw_scan,
    RawDeleteRange => raw_delete_range,
    RawBatchScan => raw_batch_scan,
    PessimisticLock => kv_pessimistic_lock,
    PessimisticRollback => kv_pessimistic_rollback,
    CheckTxnStatus => kv_check_txn_status,
    TxnHeartBeat => kv_txn_heart_beat,
    CheckSecondaryLocks => kv_check_secondary_locks,
    RawCoprocessor => raw_coprocessor,
}
