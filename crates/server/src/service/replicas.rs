//! `kivapb.Replicas`: what a store says of its replicas to people who compare them.

use std::sync::Arc;
use std::time::Duration;

use kiva_base::clock::BoxFuture;
use kiva_base::{Clock, Moment, RegionId};
use kiva_engine::Filter;
use kiva_kv::ApiVersion;
use kiva_kv::raw::TtlFilter;
use kiva_proto::kivapb::replicas_server::{Replicas, ReplicasServer};
use kiva_proto::kivapb::{DigestRequest, DigestResponse, FamilyDigest, ReplicaDigest};
use kiva_raftstore::digest::{self, Digest};
use kiva_raftstore::router::Router;
use kiva_scheduler::wire::region_to_wire;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use crate::runtime::blocking;
use crate::transport::Me;

/// The service over one store. Clones share the turn.
#[derive(Clone)]
pub struct ReplicasService {
    me: Me,
    api: ApiVersion,
    router: Router,
    /// Whoever reads a whole region holds it: the disk is there for others too.
    turn: Arc<Semaphore>,
}

impl ReplicasService {
    /// The service of the store behind `router`.
    pub fn new(me: Me, api: ApiVersion, router: Router) -> Self {
        Self { me, api, router, turn: Arc::new(Semaphore::new(1)) }
    }

    /// To be put behind a door.
    pub fn into_server(self) -> ReplicasServer<Self> {
        ReplicasServer::new(self)
    }
}

#[tonic::async_trait]
impl Replicas for ReplicasService {
    async fn digest(
        &self,
        request: Request<DigestRequest>,
    ) -> Result<Response<DigestResponse>, Status> {
        let DigestRequest { store_id, region_id, readable_at_ms } = request.into_inner();
        if store_id != self.me.store.get() {
            return Err(Status::failed_precondition(format!(
                "store {store_id} is called, this is store {}",
                self.me.store
            )));
        }
        let region = RegionId::new(region_id)
            .ok_or_else(|| Status::invalid_argument("a region's id is not 0"))?;
        let filter = TtlFilter::new(self.api, Arc::new(Standstill(readable_at_ms)));
        // At once: snapshots that are taken at the same time on all stores tend to agree.
        let view = self.router.engine().snapshot();
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let turn = turn.map_err(|_| Status::unavailable("the store is shutting down"))?;
        let read = move || {
            let _turn = turn;
            let filter = filter.as_ref().map(|filter| filter as &dyn Filter);
            digest::digest(&*view, region, filter)
        };
        let found = blocking(read).await.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(DigestResponse { replica: found.map(to_wire) }))
    }
}

fn to_wire(found: Digest) -> ReplicaDigest {
    let families = found.families.iter().map(|family| FamilyDigest {
        family: family.cf.name().to_owned(),
        pairs: family.pairs,
        bytes: family.bytes,
        hash: family.hash,
    });
    ReplicaDigest {
        region: Some(region_to_wire(&found.record.region)),
        applied_index: found.applied.index.0,
        applied_term: found.applied.term.0,
        families: families.collect(),
    }
}

/// A clock for the filter that shows the same wall time to all stores.
struct Standstill(u64);

impl Clock for Standstill {
    fn now(&self) -> Moment {
        Moment::default()
    }

    fn wall_ms(&self) -> u64 {
        self.0
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        // Time does not pass here.
        Box::pin(std::future::pending())
    }
}
