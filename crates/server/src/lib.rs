//! Kiva on the network: gRPC services, HTTP routes, configuration and shutdown.
//!
//! A service decodes, calls the room that decides, and encodes the answer; nothing is decided
//! here. Everything that a port serves goes through [`runtime::serve`].

mod bell;
mod birth;
pub mod clock;
pub mod config;
pub mod http;
pub mod inspect;
pub mod limits;
pub mod placement;
pub mod runtime;
pub mod scheduler;
pub mod service;
pub mod store;
pub mod transport;

/// The version of the protocol's first implementation whose behaviour clients can rely on here.
/// They choose their ways by it, so it is not our own.
pub const REPORTED_VERSION: &str = "8.5.0";
