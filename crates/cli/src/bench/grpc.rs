//! Other servers that the same clients can time, over gRPC and generated types.

pub(crate) mod echo;
pub(crate) mod etcd;

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status as GrpcStatus};

use crate::exit::{Failure, Status};

/// `count` connections, dealt to the endpoints in turn.
async fn connect(
    endpoints: &[String],
    count: usize,
    timeout: Duration,
) -> Result<Vec<Channel>, Failure> {
    let mut channels = Vec::with_capacity(count);
    for address in endpoints.iter().cycle().take(count) {
        let url = match address.contains("://") {
            true => address.clone(),
            false => format!("http://{address}"),
        };
        let endpoint = Endpoint::from_shared(url)
            .map_err(|error| Failure::usage(format!("{address} is not an address: {error}")))?;
        let endpoint = endpoint.connect_timeout(timeout).timeout(timeout);
        let channel = endpoint.connect().await.map_err(|error| {
            let message = format!("cannot reach {address}: {}", causes(&error));
            Failure::new(Status::Unreachable, message).advise("is the server running?")
        })?;
        channels.push(channel);
    }
    Ok(channels)
}

/// The last of the causes, which says what happened; the first ones say "transport error".
fn causes(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// A read that was not answered changed nothing.
fn read_failed(status: &GrpcStatus) -> Failure {
    failed(status, Status::Unreachable)
}

/// A write that was not answered may have happened.
fn write_failed(status: &GrpcStatus) -> Failure {
    failed(status, Status::Unknown)
}

fn failed(status: &GrpcStatus, without_answer: Status) -> Failure {
    let outcome = match status.code() {
        Code::InvalidArgument
        | Code::Unimplemented
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::ResourceExhausted
        | Code::FailedPrecondition => Status::Refused,
        _ => without_answer,
    };
    Failure::new(outcome, format!("{:?}: {}", status.code(), status.message()))
}
