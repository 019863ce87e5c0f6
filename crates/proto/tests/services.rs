//! What a service answers for methods it does not write.

use std::convert::Infallible;

use kiva_proto::keyspacepb::keyspace_server::{Keyspace, KeyspaceServer};
use kiva_proto::kvrpcpb::{RawGetRequest, RawGetResponse};
use kiva_proto::pdpb::pd_server::{Pd, PdServer};
use kiva_proto::tikvpb::tikv_server::{Tikv, TikvServer};
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::{Code, Request, Response, Status};

/// Serves nothing at all.
struct Silent;

impl Keyspace for Silent {}
impl Pd for Silent {}
impl Tikv for Silent {}

/// Serves one method.
struct OneMethod;

#[tonic::async_trait]
impl Tikv for OneMethod {
    async fn raw_get(&self, _: Request<RawGetRequest>) -> Result<Response<RawGetResponse>, Status> {
        Ok(Response::new(RawGetResponse::default()))
    }
}

/// Paths of all methods of one service.
fn paths(package: &str) -> Vec<String> {
    let files = FileDescriptorSet::decode(kiva_proto::FILE_DESCRIPTOR_SET)
        .expect("the build wrote a descriptor set");
    let of_package = files.file.iter().filter(|file| file.package() == package);
    let services = of_package.flat_map(|file| &file.service);
    let path = |service: &str, method: &str| format!("/{package}.{service}/{method}");
    services.flat_map(|s| s.method.iter().map(|m| path(s.name(), m.name()))).collect()
}

/// Calls `path` with an empty message, and gives the status in the answer's headers; none there
/// means that the answer goes on.
async fn call<S>(server: &mut S, path: &str) -> Option<Code>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
{
    // Not compressed, and of length 0.
    let frame = "\0\0\0\0\0".to_owned();
    let request = http::Request::post(path)
        .header("content-type", "application/grpc")
        .body(Body::new(frame))
        .expect("a valid request");
    let Ok(response) = server.call(request).await;
    assert_eq!(response.status(), http::StatusCode::OK);
    Status::from_header_map(response.headers()).map(|status| status.code())
}

#[tokio::test]
async fn every_method_not_written_answers_unimplemented() {
    let mut tikv = TikvServer::new(Silent);
    let mut pd = PdServer::new(Silent);
    let mut keyspace = KeyspaceServer::new(Silent);
    let (stores, schedulers, keyspaces) = (paths("tikvpb"), paths("pdpb"), paths("keyspacepb"));
    assert!(stores.len() > 50 && schedulers.len() > 30 && keyspaces.len() == 4);
    for path in stores {
        assert_eq!(call(&mut tikv, &path).await, Some(Code::Unimplemented), "{path}");
    }
    for path in schedulers {
        assert_eq!(call(&mut pd, &path).await, Some(Code::Unimplemented), "{path}");
    }
    for path in keyspaces {
        assert_eq!(call(&mut keyspace, &path).await, Some(Code::Unimplemented), "{path}");
    }
}

#[tokio::test]
async fn a_method_nobody_knows_answers_unimplemented() {
    let mut tikv = TikvServer::new(Silent);
    let path = "/tikvpb.Tikv/FromTheFuture";
    assert_eq!(call(&mut tikv, path).await, Some(Code::Unimplemented));
}

#[tokio::test]
async fn a_written_method_is_served_beside_those_that_are_not() {
    let mut tikv = TikvServer::new(OneMethod);
    assert_eq!(call(&mut tikv, "/tikvpb.Tikv/RawGet").await, None);
    assert_eq!(call(&mut tikv, "/tikvpb.Tikv/RawPut").await, Some(Code::Unimplemented));
}
