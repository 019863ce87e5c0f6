//! `tikvpb.Tikv`: what clients ask of a store.
//!
//! A method decodes, calls the executor, encodes; nothing is decided here. Each has one function
//! from message to message, which serves both the unary call and the same command in a
//! [`batch`] frame.
//!
//! | module | has |
//! |---|---|
//! | `context` | which region a request means |
//! | `raw`, `txn` | the methods |
//! | `batch` | many commands on one stream |
//! | `fault` | refusals as the wire has them |

mod batch;
mod context;
mod fault;
mod raw;
mod txn;

use kiva_base::ClusterId;
use kiva_kv::command::Write;
use kiva_kv::{Error, Executor, Target};
use kiva_proto::kvrpcpb::*;
use kiva_proto::tikvpb::tikv_server::{Tikv, TikvServer};
use kiva_proto::tikvpb::{BatchCommandsRequest, BatchCommandsResponse};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::bell::Bell;
use crate::limits::{REQUEST_SIZE_MAX, RESPONSE_SIZE_MAX};
use crate::runtime::Shutdown;
use fault::answer;

/// The service over one store. Clones share the executor.
#[derive(Clone)]
pub struct StoreService {
    cluster: ClusterId,
    executor: Executor,
    bell: Bell,
    shutdown: Shutdown,
}

impl StoreService {
    /// The service of the store that `executor` serves, on the runtime of `bell`. Streams end when
    /// `shutdown` is requested.
    pub(crate) fn new(
        cluster: ClusterId,
        executor: Executor,
        bell: Bell,
        shutdown: Shutdown,
    ) -> Self {
        Self { cluster, executor, bell, shutdown }
    }

    /// Executes a command that decides what to write. It waits for the store loop, which answers
    /// many at once.
    async fn write<C: Write>(&self, target: &Target, command: C) -> Result<C::Reply, Error> {
        self.bell.gather(self.executor.write(target, command)).await
    }

    /// To be put behind a door, with the limits on messages.
    pub fn into_server(self) -> TikvServer<Self> {
        TikvServer::new(self)
            .max_decoding_message_size(REQUEST_SIZE_MAX)
            .max_encoding_message_size(RESPONSE_SIZE_MAX)
    }
}

macro_rules! unary {
    ($($method:ident($request:ty) -> $response:ty;)*) => {
        /// Every method not named here answers `UNIMPLEMENTED` and keeps the connection.
        #[tonic::async_trait]
        impl Tikv for StoreService {
            $(async fn $method(
                &self,
                request: Request<$request>,
            ) -> Result<Response<$response>, Status> {
                self.check_cluster(&request.get_ref().context)?;
                answer(Self::$method(self, request.into_inner()).await).map(Response::new)
            })*

            async fn batch_commands(
                &self,
                request: Request<Streaming<BatchCommandsRequest>>,
            ) -> Result<Response<BoxStream<BatchCommandsResponse>>, Status> {
                Ok(Response::new(batch::serve(self.clone(), request.into_inner())))
            }
        }
    };
}

unary! {
    raw_get(RawGetRequest) -> RawGetResponse;
    raw_batch_get(RawBatchGetRequest) -> RawBatchGetResponse;
    raw_get_key_ttl(RawGetKeyTtlRequest) -> RawGetKeyTtlResponse;
    raw_put(RawPutRequest) -> RawPutResponse;
    raw_batch_put(RawBatchPutRequest) -> RawBatchPutResponse;
    raw_delete(RawDeleteRequest) -> RawDeleteResponse;
    raw_batch_delete(RawBatchDeleteRequest) -> RawBatchDeleteResponse;
    raw_delete_range(RawDeleteRangeRequest) -> RawDeleteRangeResponse;
    raw_scan(RawScanRequest) -> RawScanResponse;
    raw_batch_scan(RawBatchScanRequest) -> RawBatchScanResponse;
    raw_compare_and_swap(RawCasRequest) -> RawCasResponse;
    raw_checksum(RawChecksumRequest) -> RawChecksumResponse;
    raw_coprocessor(RawCoprocessorRequest) -> RawCoprocessorResponse;
    kv_get(GetRequest) -> GetResponse;
    kv_batch_get(BatchGetRequest) -> BatchGetResponse;
    kv_scan(ScanRequest) -> ScanResponse;
    kv_prewrite(PrewriteRequest) -> PrewriteResponse;
    kv_commit(CommitRequest) -> CommitResponse;
    kv_batch_rollback(BatchRollbackRequest) -> BatchRollbackResponse;
    kv_check_txn_status(CheckTxnStatusRequest) -> CheckTxnStatusResponse;
    kv_check_secondary_locks(CheckSecondaryLocksRequest) -> CheckSecondaryLocksResponse;
    kv_txn_heart_beat(TxnHeartBeatRequest) -> TxnHeartBeatResponse;
    kv_scan_lock(ScanLockRequest) -> ScanLockResponse;
    kv_resolve_lock(ResolveLockRequest) -> ResolveLockResponse;
    kv_cleanup(CleanupRequest) -> CleanupResponse;
    kv_pessimistic_lock(PessimisticLockRequest) -> PessimisticLockResponse;
    kv_pessimistic_rollback(PessimisticRollbackRequest) -> PessimisticRollbackResponse;
    unsafe_destroy_range(UnsafeDestroyRangeRequest) -> UnsafeDestroyRangeResponse;
}
