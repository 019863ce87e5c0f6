//! Kiva on the network: gRPC services, HTTP routes, configuration and shutdown.
//!
//! A service decodes, calls the room that decides, and encodes the answer; nothing is decided
//! here. Everything that a port serves goes through [`runtime::serve`].

pub mod clock;
pub mod limits;
pub mod runtime;
pub mod placement;
pub mod service;
pub mod store;
