//! Calls to the scheduler: finds the member that leads, and keeps a stream for timestamps.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use futures_channel::mpsc;
use kiva_base::codec::DecodeError;
use kiva_base::{RegionId, StoreId, Timestamp};
use kiva_proto::keyspacepb::LoadKeyspaceRequest;
use kiva_proto::keyspacepb::keyspace_client::KeyspaceClient;
use kiva_proto::kivapb::cluster_client::ClusterClient;
use kiva_proto::kivapb::{
    AddOperatorRequest, DescribeRegionRequest, DescribeStoreRequest, ListOperatorsRequest,
};
use kiva_proto::pdpb::pd_client::PdClient;
use kiva_proto::pdpb::{
    GetAllStoresRequest, GetGcSafePointRequest, GetMembersRequest, GetMembersResponse,
    GetRegionByIdRequest, GetRegionRequest, GetStoreRequest, RequestHeader, ScanRegionsRequest,
    TsoRequest, TsoResponse, UpdateGcSafePointRequest,
};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::{channel, describe};
use crate::limits::MESSAGE_SIZE_MAX;
use crate::rpc::{
    Members, Operator, OperatorKind, RegionDetail, RegionInfo, SchedulerCallError as Error,
    SchedulerFuture, SchedulerPort, Store, StoreDetail, StoreState,
};
use crate::wire::{placement, scheduler as wire};

/// How long one call may take. A scheduler answers from memory.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// The scheduler's port over gRPC. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SchedulerPd {
    shared: Arc<Shared>,
}

/// Two locks of different kinds: who leads is read by every call and held for a clone; the stream
/// for timestamps is used by one call at a time, from its question to its answer.
struct Shared {
    /// Where members may be: those given, and then those that members told of.
    addresses: RwLock<Vec<String>>,
    leader: RwLock<Option<Leader>>,
    tso: tokio::sync::Mutex<Option<TsoStream>>,
}

/// A connection to the member that leads.
#[derive(Clone)]
struct Leader {
    client: PdClient<Channel>,
    channel: Channel,
    cluster: u64,
}

impl Leader {
    /// What only Kiva's schedulers serve.
    fn ours(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_SIZE_MAX)
    }
}

struct TsoStream {
    requests: mpsc::Sender<TsoRequest>,
    responses: Streaming<TsoResponse>,
    cluster: u64,
}

impl SchedulerPd {
    /// For members at some addresses, of which one is enough. Connects with the first call.
    pub(crate) fn new(addresses: Vec<String>) -> Self {
        Self {
            shared: Arc::new(Shared {
                addresses: RwLock::new(addresses),
                leader: RwLock::new(None),
                tso: tokio::sync::Mutex::new(None),
            }),
        }
    }

    /// One call to the member that leads. After a failure it is looked for again.
    fn call<T, F>(&self, call: impl FnOnce(Leader) -> F + Send + 'static) -> SchedulerFuture<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send,
    {
        let shared = self.shared.clone();
        Box::pin(async move {
            let called = async {
                let leader = shared.leader().await?;
                call(leader).await
            };
            let outcome = in_time(called).await;
            if matches!(outcome, Err(Error::Unreachable(_))) {
                shared.forget_leader();
            }
            outcome
        })
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(CALL_TIMEOUT, call).await.unwrap_or_else(|_| {
        let waited = CALL_TIMEOUT.as_millis();
        Err(Error::Unreachable(format!("no answer in {waited} ms")))
    })
}

impl Shared {
    async fn leader(&self) -> Result<Leader, Error> {
        let known = self.leader.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(leader) = known {
            return Ok(leader);
        }
        let leader = self.find_leader().await?;
        let mut known = self.leader.write().unwrap_or_else(PoisonError::into_inner);
        *known = Some(leader.clone());
        Ok(leader)
    }

    fn forget_leader(&self) {
        let mut known = self.leader.write().unwrap_or_else(PoisonError::into_inner);
        *known = None;
    }

    /// Asks one member after another who leads, then connects there.
    async fn find_leader(&self) -> Result<Leader, Error> {
        let addresses = self.addresses.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut last = Error::Unreachable("no address".into());
        for address in addresses {
            let (leader, members) = match ask_members(&address).await {
                Ok(answer) => answer,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            let urls = |member: &kiva_proto::pdpb::Member| member.client_urls.clone();
            self.learn(members.members.iter().flat_map(urls).collect());
            let Some(member) = members.leader else {
                last = Error::Unreachable(format!("{address} knows no member that leads"));
                continue;
            };
            let leads = urls(&member);
            if leads.is_empty() || leads.iter().any(|url| is_same(url, &address)) {
                return Ok(leader);
            }
            for url in leads {
                match ask_members(&url).await {
                    Ok((leader, _)) => return Ok(leader),
                    Err(error) => last = error,
                }
            }
        }
        Err(last)
    }

    /// Remembers addresses of members behind those that are known.
    fn learn(&self, urls: Vec<String>) {
        let mut known = self.addresses.write().unwrap_or_else(PoisonError::into_inner);
        for url in urls {
            if !known.iter().any(|address| is_same(address, &url)) {
                known.push(url);
            }
        }
    }

    /// Draws timestamps over the stream, which is opened when there is none.
    async fn timestamps(&self, count: u32) -> Result<Timestamp, Error> {
        let mut slot = self.tso.lock().await;
        // Taken out: a call that is dropped half-way must not leave its answer to the next.
        let mut stream = match slot.take() {
            Some(stream) => stream,
            None => self.open_tso().await?,
        };
        let request = TsoRequest { header: header(stream.cluster), count, ..Default::default() };
        if stream.requests.try_send(request).is_err() {
            return Err(Error::Unreachable("the stream has ended".into()));
        }
        let response = match stream.responses.message().await {
            Ok(Some(response)) => response,
            Ok(None) => return Err(Error::Unreachable("the stream has ended".into())),
            Err(status) => return Err(failed(status)),
        };
        wire::header(response.header.clone())?;
        let last = wire::timestamps(response, count)?;
        *slot = Some(stream);
        Ok(last)
    }

    async fn open_tso(&self) -> Result<TsoStream, Error> {
        let mut leader = self.leader().await?;
        // One request is on its way at a time.
        let (requests, outgoing) = mpsc::channel(1);
        let responses = leader.client.tso(outgoing).await.map_err(failed)?;
        Ok(TsoStream { requests, responses: responses.into_inner(), cluster: leader.cluster })
    }
}

/// Asks one member who the members are, over a connection that may be kept.
async fn ask_members(address: &str) -> Result<(Leader, GetMembersResponse), Error> {
    let channel = channel(address).map_err(|error| Error::Refused(error.to_string()))?;
    let mut client = PdClient::new(channel.clone()).max_decoding_message_size(MESSAGE_SIZE_MAX);
    let answer = client
        .get_members(GetMembersRequest::default())
        .await
        .map_err(|status| Error::Unreachable(format!("{address}: {}", describe(&status))))?
        .into_inner();
    wire::header(answer.header.clone())?;
    let cluster = answer.header.as_ref().map_or(0, |header| header.cluster_id);
    let leader = Leader { client, channel, cluster };
    Ok((leader, answer))
}

/// Whether two spellings mean one address.
fn is_same(one: &str, other: &str) -> bool {
    let bare = |address: &str| {
        let bare = address.split_once("://").map_or(address, |(_, bare)| bare);
        bare.trim_end_matches('/').to_owned()
    };
    bare(one) == bare(other)
}

fn header(cluster_id: u64) -> Option<RequestHeader> {
    Some(RequestHeader { cluster_id, ..Default::default() })
}

/// A failed call. Most mean that another member may do better.
fn failed(status: Status) -> Error {
    match status.code() {
        Code::Unimplemented
        | Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::Unauthenticated => Error::Refused(describe(&status)),
        _ => Error::Unreachable(describe(&status)),
    }
}

impl SchedulerPort for SchedulerPd {
    fn timestamps(&self, count: u32) -> SchedulerFuture<Timestamp> {
        let shared = self.shared.clone();
        Box::pin(async move {
            let outcome = in_time(shared.timestamps(count)).await;
            if matches!(outcome, Err(Error::Unreachable(_))) {
                shared.forget_leader();
            }
            outcome
        })
    }

    fn region_by_key(&self, key: Bytes) -> SchedulerFuture<Option<RegionInfo>> {
        self.call(|mut leader| async move {
            let request = GetRegionRequest {
                header: header(leader.cluster),
                region_key: key,
                ..Default::default()
            };
            let answer = leader.client.get_region(request).await.map_err(failed)?;
            let answer = answer.into_inner();
            wire::header(answer.header)?;
            Ok(wire::region_info(answer.region, answer.leader)?)
        })
    }

    fn region_by_id(&self, id: RegionId) -> SchedulerFuture<Option<RegionInfo>> {
        self.call(move |mut leader| async move {
            let request = GetRegionByIdRequest {
                header: header(leader.cluster),
                region_id: id.get(),
                ..Default::default()
            };
            let answer = leader.client.get_region_by_id(request).await;
            let answer = answer.map_err(failed)?.into_inner();
            wire::header(answer.header)?;
            Ok(wire::region_info(answer.region, answer.leader)?)
        })
    }

    fn scan_regions(
        &self,
        start: Bytes,
        end: Bytes,
        limit: u32,
    ) -> SchedulerFuture<Vec<RegionInfo>> {
        self.call(move |mut leader| async move {
            let request = ScanRegionsRequest {
                header: header(leader.cluster),
                start_key: start,
                limit: i32::try_from(limit).unwrap_or(i32::MAX),
                end_key: end,
            };
            let answer = leader.client.scan_regions(request).await.map_err(failed)?;
            let mut answer = answer.into_inner();
            wire::header(answer.header.take())?;
            Ok(wire::regions(answer)?)
        })
    }

    fn store(&self, id: StoreId) -> SchedulerFuture<Option<Store>> {
        self.call(move |mut leader| async move {
            let request = GetStoreRequest { header: header(leader.cluster), store_id: id.get() };
            let answer = leader.client.get_store(request).await.map_err(failed)?;
            let answer = answer.into_inner();
            match wire::header(answer.header) {
                // The one way in which schedulers say that there is no such store.
                Err(Error::Refused(why)) if why.contains("not found") => return Ok(None),
                other => other?,
            }
            let store = answer.store.ok_or(DecodeError::Malformed("no store"))?;
            let store = wire::store(store)?;
            Ok(Some(store).filter(|store| store.state != StoreState::Tombstone))
        })
    }

    fn stores(&self) -> SchedulerFuture<Vec<Store>> {
        self.call(|mut leader| async move {
            let request = GetAllStoresRequest {
                header: header(leader.cluster),
                exclude_tombstone_stores: true,
            };
            let answer = leader.client.get_all_stores(request).await.map_err(failed)?;
            let answer = answer.into_inner();
            wire::header(answer.header)?;
            let mut stores = Vec::with_capacity(answer.stores.len());
            for store in answer.stores {
                stores.push(wire::store(store)?);
            }
            stores.retain(|store| store.state != StoreState::Tombstone);
            Ok(stores)
        })
    }

    fn members(&self) -> SchedulerFuture<Members> {
        self.call(|mut leader| async move {
            let request = GetMembersRequest { header: header(leader.cluster) };
            let answer = leader.client.get_members(request).await.map_err(failed)?;
            let answer = answer.into_inner();
            wire::header(answer.header.clone())?;
            Ok(wire::members(answer)?)
        })
    }

    fn keyspace(&self, name: String) -> SchedulerFuture<u32> {
        self.call(|leader| async move {
            let request = LoadKeyspaceRequest { header: header(leader.cluster), name };
            let mut client = KeyspaceClient::new(leader.channel);
            let answer = client.load_keyspace(request).await.map_err(failed)?;
            let answer = answer.into_inner();
            wire::header(answer.header)?;
            match answer.keyspace {
                Some(keyspace) if keyspace.id < 1 << 24 => Ok(keyspace.id),
                _ => Err(DecodeError::Malformed("a keyspace").into()),
            }
        })
    }

    fn safe_point(&self) -> SchedulerFuture<Timestamp> {
        self.call(|mut leader| async move {
            let request = GetGcSafePointRequest { header: header(leader.cluster) };
            let answer = leader.client.get_gc_safe_point(request).await;
            let answer = answer.map_err(failed)?.into_inner();
            wire::header(answer.header)?;
            Ok(Timestamp(answer.safe_point))
        })
    }

    fn advance_safe_point(&self, to: Timestamp) -> SchedulerFuture<Timestamp> {
        self.call(move |mut leader| async move {
            let request =
                UpdateGcSafePointRequest { header: header(leader.cluster), safe_point: to.0 };
            let answer = leader.client.update_gc_safe_point(request).await;
            let answer = answer.map_err(failed)?.into_inner();
            wire::header(answer.header)?;
            Ok(Timestamp(answer.new_safe_point))
        })
    }

    fn describe_region(&self, id: RegionId) -> SchedulerFuture<Option<RegionDetail>> {
        self.call(move |leader| async move {
            let header = header(leader.cluster);
            let request = DescribeRegionRequest { header, region_id: id.get() };
            let answer = leader.ours().describe_region(request).await;
            let mut answer = answer.map_err(failed)?.into_inner();
            wire::header(answer.header.take())?;
            Ok(placement::region_detail(answer)?)
        })
    }

    fn describe_store(&self, id: StoreId) -> SchedulerFuture<Option<StoreDetail>> {
        self.call(move |leader| async move {
            let header = header(leader.cluster);
            let request = DescribeStoreRequest { header, store_id: id.get() };
            let answer = leader.ours().describe_store(request).await;
            let mut answer = answer.map_err(failed)?.into_inner();
            match wire::header(answer.header.take()) {
                Err(Error::Refused(why)) if why.contains("not found") => return Ok(None),
                other => other?,
            }
            Ok(Some(placement::store_detail(answer)?))
        })
    }

    fn add_operator(
        &self,
        kind: OperatorKind,
        region: RegionId,
        store: StoreId,
    ) -> SchedulerFuture<Operator> {
        self.call(move |leader| async move {
            let request = AddOperatorRequest {
                header: header(leader.cluster),
                kind: placement::operator_kind(kind) as i32,
                region_id: region.get(),
                store_id: store.get(),
            };
            let answer = leader.ours().add_operator(request).await;
            let answer = answer.map_err(failed)?.into_inner();
            wire::header(answer.header)?;
            let operator = answer.operator.ok_or(DecodeError::Malformed("no operator"))?;
            Ok(placement::operator(operator)?)
        })
    }

    fn operators(&self, with_ended: bool) -> SchedulerFuture<Vec<Operator>> {
        self.call(move |leader| async move {
            let header = header(leader.cluster);
            let request = ListOperatorsRequest { header, with_finished: with_ended };
            let answer = leader.ours().list_operators(request).await;
            let answer = answer.map_err(failed)?.into_inner();
            wire::header(answer.header)?;
            let operators = answer.operators.into_iter().map(placement::operator);
            Ok(operators.collect::<Result<_, _>>()?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_spellings_of_an_address_are_one() {
        assert!(is_same("http://127.0.0.1:2379/", "127.0.0.1:2379"));
        assert!(!is_same("127.0.0.1:2379", "127.0.0.1:2380"));
    }
}
