//! gRPC services: decode, call the room that decides, encode.

pub mod store;
