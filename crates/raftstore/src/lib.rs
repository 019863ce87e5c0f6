//! The replicas that live on one store: many Raft groups over one log, one engine and few threads.

pub mod apply;
mod change;
pub mod codec;
pub mod command;
pub mod disk;
pub mod durable;
pub mod limits;
pub mod log;
pub mod meta;
pub mod open;
pub mod options;
pub mod peer;
pub mod placement;
pub mod proposal;
pub mod read;
pub mod router;
pub mod runtime;
pub mod snapshot;
pub mod store;
pub mod task;
pub mod transport;
pub mod wire;
