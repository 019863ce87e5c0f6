//! The replicas that live on one store: many Raft groups over one log, one engine and few threads.

pub mod codec;
pub mod disk;
pub mod limits;
pub mod log;
pub mod snapshot;
