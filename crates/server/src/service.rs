//! gRPC services: decode, call the room that decides, encode.

pub mod keyspace;
pub mod replicas;
pub mod scheduler;
pub mod settings;
pub mod store;
