//! A command becomes latches, a view, a decision and a proposal.
//!
//! This is where the rooms below meet: `txn` knows the rules of transactions and never waits,
//! replication knows nothing of keys, and neither has heard of the other. Start with [`executor`],
//! which is the whole request path on one screen; everything else is what it calls.
//!
//! | module | answers |
//! |---|---|
//! | [`executor`] | in which order things happen |
//! | [`command`] | what a command says about itself |
//! | [`gate`] | what the mode of the cluster lets through |
//! | [`raw`] | the commands without transactions, and the record of a raw value |
//! | [`txn`] | how the rules of transactions become commands |
//! | [`latch`] | who is alone on which keys |
//! | [`concurrency`] | max-ts |
//!
//! What is always true:
//!
//! - A reply to a write is given when the write is durable.
//! - Between the view a write is decided on and its effect, nobody else changes its keys.
//! - A caller that goes away takes nothing back that was proposed.
//!
//! What is deliberately not here: sockets, threads, replication (that is `raftstore`), time other
//! than a [`kiva_base::Clock`] that was handed in, and generated types.

pub mod command;
pub mod concurrency;
mod destroy;
pub mod error;
pub mod executor;
pub mod gate;
pub mod latch;
pub mod limits;
pub mod raw;
pub mod txn;

pub use command::{Command, Read, Target, Touched, View, Write};
pub use error::{Error, Failure, Refusal};
pub use executor::{Executor, Pool};
pub use kiva_base::api::{ApiVersion, KeyMode};
