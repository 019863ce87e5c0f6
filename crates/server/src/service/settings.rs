//! `kivapb.Cluster`: what a store has to live by before it joins.

use kiva_proto::kivapb::cluster_server::Cluster;
use kiva_proto::kivapb::{GetSettingsRequest, GetSettingsResponse};
use kiva_scheduler::wire;
use tonic::{Request, Response, Status};

use super::scheduler::SchedulerService;

#[tonic::async_trait]
impl Cluster for SchedulerService {
    async fn get_settings(
        &self,
        request: Request<GetSettingsRequest>,
    ) -> Result<Response<GetSettingsResponse>, Status> {
        // Without a header it is asked by somebody who does not know the cluster yet.
        if let header @ Some(_) = &request.get_ref().header {
            self.check(header)?;
        }
        Ok(Response::new(GetSettingsResponse {
            header: self.header(),
            settings: Some(wire::settings_to_wire(self.scheduler().settings())),
        }))
    }
}
