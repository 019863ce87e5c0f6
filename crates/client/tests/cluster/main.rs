//! The client against a cluster in memory: one thread, no runtime, and time that moves only when
//! nobody has anything else to do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod crash;
mod raw;
mod resolver;
mod routing;
mod transaction;
mod world;
