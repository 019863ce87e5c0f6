//! The same work on several libraries: what it is, and how each of them is made to do it.

#[path = "../../group/mod.rs"]
mod group;

mod flight;
mod job;
mod kiva;
mod raft_rs;

pub use flight::{Flight, Flyer};
pub use job::{Job, Library};
pub use kiva::memory as memory_of_kiva;
pub use raft_rs::memory as memory_of_raft_rs;

use bytes::Bytes;

/// A group in one thread whose messages arrive at once and whose writes are durable at once.
pub trait Group {
    /// Proposes `burst` commands at once and works until all are applied; `count` times.
    fn bursts(&mut self, count: u64, burst: u64, command: &Bytes);

    /// Lets `count` ticks pass at one member.
    fn ticks(&mut self, member: usize, count: u64);

    /// Asks the leader `count` times what there is to do, when there is nothing.
    fn questions(&mut self, count: u64);

    /// Lets `count` rounds of heartbeats pass: the ticks of all members, the questions, the
    /// answers.
    fn heartbeats(&mut self, count: u64);

    /// The last entry that the leader has applied.
    fn applied(&self) -> u64;

    /// Messages that were delivered.
    fn messages(&self) -> u64;
}

/// Ticks between heartbeats on both sides, which is what this crate does unless told otherwise.
pub const HEARTBEAT_TICKS: u32 = 2;

/// Ticks that never pass.
pub const NEVER: u32 = 1 << 29;

/// How ticks are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// A heartbeat every [`HEARTBEAT_TICKS`].
    Usual,
    /// Neither heartbeats nor elections, so that a tick is nothing but a tick.
    Idle,
}
