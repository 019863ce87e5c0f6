//! etcd 3: linearizable reads and writes of single keys.

use std::time::Duration;

use bytes::Bytes;
use kiva_proto::etcdserverpb::kv_client::KvClient;
use kiva_proto::etcdserverpb::{PutRequest, RangeRequest};
use tonic::transport::Channel;

use super::{read_failed, write_failed};
use crate::exit::Failure;

/// One connection to etcd. Clones share it.
#[derive(Clone)]
pub(crate) struct Etcd {
    kv: KvClient<Channel>,
}

/// `count` connections, dealt to the endpoints in turn.
pub(crate) async fn connect(
    endpoints: &[String],
    count: usize,
    timeout: Duration,
) -> Result<Vec<Etcd>, Failure> {
    let channels = super::connect(endpoints, count, timeout).await?;
    let clients = channels.into_iter().map(|channel| Etcd { kv: KvClient::new(channel) });
    Ok(clients.collect())
}

impl Etcd {
    /// The value of a key.
    pub(crate) async fn get(&self, key: Bytes) -> Result<Option<Bytes>, Failure> {
        let request = RangeRequest { key, ..RangeRequest::default() };
        match self.kv.clone().range(request).await {
            Ok(answer) => Ok(answer.into_inner().kvs.into_iter().next().map(|kv| kv.value)),
            Err(status) => Err(read_failed(&status)),
        }
    }

    /// Gives a key a value.
    pub(crate) async fn put(&self, key: Bytes, value: Bytes) -> Result<(), Failure> {
        match self.kv.clone().put(PutRequest { key, value }).await {
            Ok(_) => Ok(()),
            Err(status) => Err(write_failed(&status)),
        }
    }
}
