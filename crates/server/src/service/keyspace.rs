//! `keyspacepb.Keyspace`: named parts of the key space. There is one so far, `DEFAULT`.

use kiva_proto::keyspacepb::keyspace_server::Keyspace;
use kiva_proto::keyspacepb::{
    KeyspaceMeta, KeyspaceState, LoadKeyspaceRequest, LoadKeyspaceResponse,
};
use kiva_proto::pdpb::{Error, ErrorType, ResponseHeader};
use tonic::{Request, Response, Status};

use super::scheduler::SchedulerService;

/// The keyspace that is always there. Its id is 0.
const DEFAULT: &str = "DEFAULT";

#[tonic::async_trait]
impl Keyspace for SchedulerService {
    async fn load_keyspace(
        &self,
        request: Request<LoadKeyspaceRequest>,
    ) -> Result<Response<LoadKeyspaceResponse>, Status> {
        let LoadKeyspaceRequest { header, name } = request.into_inner();
        self.check(&header)?;
        if name != DEFAULT {
            let error = Some(Error {
                r#type: ErrorType::EntryNotFound as i32,
                message: format!("keyspace {name} does not exist: there is only {DEFAULT}"),
            });
            let header = self.header().map(|header| ResponseHeader { error, ..header });
            return Ok(Response::new(LoadKeyspaceResponse { header, keyspace: None }));
        }
        let keyspace = KeyspaceMeta {
            id: 0,
            name,
            state: KeyspaceState::Enabled as i32,
            ..KeyspaceMeta::default()
        };
        Ok(Response::new(LoadKeyspaceResponse { header: self.header(), keyspace: Some(keyspace) }))
    }
}
