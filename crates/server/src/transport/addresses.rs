//! Where other stores are.

use kiva_base::clock::BoxFuture;
use kiva_base::{ClusterId, StoreId};
use kiva_proto::pdpb::pd_client::PdClient;
use kiva_proto::pdpb::{GetStoreRequest, RequestHeader};
use tokio::time::timeout;
use tonic::transport::Channel;

use crate::limits::LINK_TIMEOUT;

/// Knows where stores serve each other. Asked before the first connection to a store and after
/// one that failed, so nothing needs to be remembered.
pub trait Addresses: Send + Sync {
    /// `host:port` of a store, as it is known now.
    fn find(&self, store: StoreId) -> BoxFuture<'static, Result<String, AddressError>>;
}

/// Why nobody knows where a store is.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the address of store {store} is unknown: {reason}")]
pub struct AddressError {
    /// Which store.
    pub store: StoreId,
    /// What was said instead.
    pub reason: String,
}

/// What the scheduler knows.
#[derive(Clone)]
pub struct SchedulerAddresses {
    cluster: ClusterId,
    pd: PdClient<Channel>,
}

impl SchedulerAddresses {
    /// Asks this scheduler.
    pub fn new(cluster: ClusterId, pd: PdClient<Channel>) -> Self {
        Self { cluster, pd }
    }
}

impl Addresses for SchedulerAddresses {
    fn find(&self, store: StoreId) -> BoxFuture<'static, Result<String, AddressError>> {
        let unknown = move |reason: String| AddressError { store, reason };
        let mut pd = self.pd.clone();
        let header = Some(RequestHeader { cluster_id: self.cluster.get(), ..Default::default() });
        Box::pin(async move {
            let request = GetStoreRequest { header, store_id: store.get() };
            let answer = timeout(LINK_TIMEOUT, pd.get_store(request))
                .await
                .map_err(|_| unknown("the scheduler does not answer".into()))?
                .map_err(|status| unknown(status.message().to_owned()))?
                .into_inner();
            if let Some(error) = answer.header.and_then(|header| header.error) {
                return Err(unknown(error.message));
            }
            let found = answer.store.ok_or_else(|| unknown("there is no such store".into()))?;
            match found.peer_address.is_empty() {
                true => Ok(found.address),
                false => Ok(found.peer_address),
            }
        })
    }
}
