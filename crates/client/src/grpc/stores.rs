//! Calls to stores: single ones here, batched ones in [`super::batch`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use kiva_base::clock::BoxFuture;
use kiva_base::{Clock, RegionId, StoreId};
use kiva_proto::kivapb::DigestRequest;
use kiva_proto::kivapb::replicas_client::ReplicasClient;
use kiva_proto::tikvpb::batch_commands_request::request::Cmd as Request;
use kiva_proto::tikvpb::batch_commands_response::response::Cmd as Response;
use kiva_proto::tikvpb::tikv_client::TikvClient;
use tonic::Status;
use tonic::transport::Channel;

use super::batch::BatchStream;
use super::{call_error, channel};
use crate::check::ReplicaDigest;
use crate::limits::MESSAGE_SIZE_MAX;
use crate::options::Wire;
use crate::rpc::{CallError, Command, Context, Reply, Spawn, Store, StorePort};
use crate::wire::command::{Outgoing, outgoing};
use crate::wire::fault::malformed;
use crate::wire::{placement, reply};

/// Connections to all stores that were ever called, by id.
///
/// A lock that is read by every call and written when a store is new or has moved.
pub(crate) struct Stores {
    links: RwLock<BTreeMap<StoreId, Arc<Link>>>,
    wire: Wire,
    connections: usize,
    clock: Arc<dyn Clock>,
    spawn: Arc<dyn Spawn>,
}

/// The connections to one store, used in turn.
struct Link {
    address: String,
    clients: Vec<TikvClient<Channel>>,
    /// One per connection, or none at all.
    streams: Vec<BatchStream>,
    next: AtomicUsize,
}

impl Stores {
    pub(crate) fn new(
        wire: Wire,
        connections: usize,
        clock: Arc<dyn Clock>,
        spawn: Arc<dyn Spawn>,
    ) -> Self {
        Self { links: RwLock::default(), wire, connections: connections.max(1), clock, spawn }
    }

    fn link(&self, store: &Store) -> Result<Arc<Link>, CallError> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        match links.get(&store.id) {
            Some(link) if link.address == store.address => return Ok(link.clone()),
            _ => drop(links),
        }
        let link = Arc::new(self.open(store)?);
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        links.insert(store.id, link.clone());
        Ok(link)
    }

    fn open(&self, store: &Store) -> Result<Link, CallError> {
        let mut clients = Vec::with_capacity(self.connections);
        for _ in 0..self.connections {
            let channel = channel(&store.address)
                .map_err(|error| CallError::Unsent(format!("store {}: {error}", store.id)))?;
            clients.push(TikvClient::new(channel).max_decoding_message_size(MESSAGE_SIZE_MAX));
        }
        let stream = |client: &TikvClient<Channel>| {
            BatchStream::open(client.clone(), self.clock.clone(), &*self.spawn)
        };
        let streams = match self.wire {
            Wire::Unary => Vec::new(),
            Wire::Batch => clients.iter().map(stream).collect(),
        };
        Ok(Link { address: store.address.clone(), clients, streams, next: AtomicUsize::new(0) })
    }
}

impl Link {
    /// The next in turn of some connections or streams.
    fn turn<'a, T>(&self, of: &'a [T]) -> Option<&'a T> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        of.get(turn.checked_rem(of.len())?)
    }
}

impl StorePort for Stores {
    fn call(
        &self,
        store: &Arc<Store>,
        context: &Context,
        command: &Command,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Reply, CallError>> {
        let name = command.name();
        let outgoing = outgoing(context, command, timeout);
        let link = match self.link(store) {
            Ok(link) => link,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        if let (Outgoing::Batched(_), Some(stream)) = (&outgoing, link.turn(&link.streams))
            && let Outgoing::Batched(request) = outgoing
        {
            let answer = stream.call(request, self.clock.now() + timeout);
            return Box::pin(async move { reply::batched(answer.await?) });
        }
        let Some(client) = link.turn(&link.clients).cloned() else {
            let error = CallError::Unsent("no connection".into());
            return Box::pin(std::future::ready(Err(error)));
        };
        Box::pin(async move {
            let called = tokio::time::timeout(timeout, single(client, outgoing, name));
            called.await.unwrap_or_else(|_| {
                let waited = timeout.as_millis();
                Err(CallError::Lost(format!("no answer in {waited} ms")))
            })
        })
    }

    /// Over a connection of its own: people ask seldom.
    fn digest(
        &self,
        store: &Arc<Store>,
        region: RegionId,
        readable_at_ms: u64,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Option<ReplicaDigest>, CallError>> {
        let store = store.clone();
        let called = async move {
            let channel =
                channel(&store.address).map_err(|error| CallError::Unsent(error.to_string()))?;
            let (store_id, region_id) = (store.id.get(), region.get());
            let request = DigestRequest { store_id, region_id, readable_at_ms };
            let answer = ReplicasClient::new(channel).digest(request).await;
            let answer = answer.map_err(|status| call_error(&status, "Digest"))?.into_inner();
            Ok(answer.replica.map(placement::digest).transpose()?)
        };
        Box::pin(async move {
            let waited = tokio::time::timeout(timeout, called).await;
            waited.unwrap_or_else(|_| Err(CallError::Lost("no answer in time".to_owned())))
        })
    }
}

/// One call.
async fn single(
    mut client: TikvClient<Channel>,
    outgoing: Outgoing,
    name: &'static str,
) -> Result<Reply, CallError> {
    let failed = |status: Status| call_error(&status, name);
    match outgoing {
        Outgoing::Batched(request) => reply::batched(unary(client, request, name).await?),
        Outgoing::RawGetTtl(request) => {
            let response = client.raw_get_key_ttl(request).await.map_err(failed)?;
            reply::raw_get_ttl(response.into_inner())
        }
        Outgoing::RawCompareAndSwap(request) => {
            let response = client.raw_compare_and_swap(request).await.map_err(failed)?;
            reply::raw_compare_and_swap(response.into_inner())
        }
        Outgoing::RawChecksum(request) => {
            let response = client.raw_checksum(request).await.map_err(failed)?;
            reply::raw_checksum(response.into_inner())
        }
    }
}

/// One call of a command that could have travelled in a batch.
async fn unary(
    mut client: TikvClient<Channel>,
    request: Request,
    name: &'static str,
) -> Result<Response, CallError> {
    macro_rules! calls {
        ($($variant:ident => $method:ident),+ $(,)?) => {
            match request {
                $(Request::$variant(request) => client
                    .$method(request)
                    .await
                    .map(|response| Response::$variant(response.into_inner())),)+
                _ => return Err(malformed("the kind of a request")),
            }
        };
    }
    let called = calls! {
        RawGet => raw_get,
        RawBatchGet => raw_batch_get,
        RawPut => raw_put,
        RawBatchPut => raw_batch_put,
        RawDelete => raw_delete,
        RawBatchDelete => raw_batch_delete,
        RawDeleteRange => raw_delete_range,
        RawScan => raw_scan,
        Get => kv_get,
        BatchGet => kv_batch_get,
        Scan => kv_scan,
        Prewrite => kv_prewrite,
        Commit => kv_commit,
        BatchRollback => kv_batch_rollback,
        CheckTxnStatus => kv_check_txn_status,
        ResolveLock => kv_resolve_lock,
        TxnHeartBeat => kv_txn_heart_beat,
        ScanLock => kv_scan_lock,
    };
    called.map_err(|status| call_error(&status, name))
}
