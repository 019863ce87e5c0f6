//! The ports over gRPC.
//!
//! [`stores`] makes single calls and [`batch`] puts many into the messages of one stream; both
//! share a few connections per store. [`scheduler`] finds the member that leads.

pub(crate) mod batch;
pub(crate) mod scheduler;
pub(crate) mod stores;

use std::error::Error;
use std::io;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::error::ConnectError;
use crate::rpc::CallError;

/// How long a connection may take to come about: a few round trips around the world.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(700);
/// After what silence a connection on which somebody waits is asked whether it lives, and how long
/// it may take to answer. A store that vanished without a word is noticed within their sum, when
/// others have elected a new leader; a store that is merely busy answers such a question at once.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_millis(400), Duration::from_millis(700));
/// What a stream and a connection may receive before we read it, in bytes. A page of a scan fits.
const WINDOWS: (u32, u32) = (4 * 1024 * 1024, 16 * 1024 * 1024);

/// The endpoint at `host:port` or a URL.
pub(crate) fn endpoint(address: &str) -> Result<Endpoint, ConnectError> {
    let url = match address.contains("://") {
        true => address.to_owned(),
        false => format!("http://{address}"),
    };
    let endpoint = Endpoint::from_shared(url).map_err(|error| ConnectError::Address {
        address: address.to_owned(),
        reason: error.to_string(),
    })?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1))
}

/// A connection that comes about with its first call, and again after it broke.
pub(crate) fn channel(address: &str) -> Result<Channel, ConnectError> {
    Ok(endpoint(address)?.connect_lazy())
}

/// What a failed call says about whether it was executed.
pub(crate) fn call_error(status: &Status, name: &'static str) -> CallError {
    if never_left(status) {
        return CallError::Unsent(describe(status));
    }
    match status.code() {
        Code::Unimplemented => CallError::Unserved(name),
        // Said of the call itself, before anybody looked at what it asks.
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::Unauthenticated => CallError::TurnedAway(describe(status)),
        // The others also come from connections that break and servers that give up half-way.
        _ => CallError::Lost(describe(status)),
    }
}

/// Whether no connection came about, so that nothing was sent.
fn never_left(status: &Status) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        if let Some(error) = error.downcast_ref::<io::Error>()
            && error.kind() == io::ErrorKind::ConnectionRefused
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The whole chain of causes in one line: the first link alone says "transport error".
pub(crate) fn describe(status: &Status) -> String {
    let mut text = match status.message() {
        "" => status.code().to_string(),
        message => message.to_owned(),
    };
    let mut cause: Option<&(dyn Error + 'static)> = status.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_certainly_not_executed_is_said_to_be() {
        let error = |code| call_error(&Status::new(code, "why"), "RawPut");
        for code in [
            Code::Unavailable,
            Code::DeadlineExceeded,
            Code::Cancelled,
            Code::Unknown,
            Code::Internal,
            Code::ResourceExhausted,
            Code::OutOfRange,
        ] {
            assert_eq!(error(code), CallError::Lost("why".into()), "{code:?}");
        }
        assert_eq!(error(Code::Unimplemented), CallError::Unserved("RawPut"));
        assert_eq!(error(Code::FailedPrecondition), CallError::TurnedAway("why".into()));
    }

    #[test]
    fn an_address_is_taken_with_and_without_a_scheme() {
        assert!(endpoint("127.0.0.1:1").is_ok());
        assert!(endpoint("http://127.0.0.1:1").is_ok());
        assert!(matches!(endpoint("not an address"), Err(ConnectError::Address { .. })));
    }
}
