//! What travels between the hosts of a world.

use bytes::Bytes;
use kiva_base::{Key, Peer, Region};
use kiva_kv::Target;
use kiva_raftstore::placement::{RegionReport, Step};
use std::sync::Arc;

use kiva_raftstore::meta::RegionRecord;

use crate::check::Value;
use crate::sim::calls::CallId;
use crate::workload::Swap;

/// A part of a snapshot, or what became of it. Each snapshot has a stream of its own, which no
/// other ever uses again.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) stream: u64,
    pub(super) content: PieceContent,
}

#[derive(Clone, Debug)]
pub(super) enum PieceContent {
    /// The first chunk, and the envelope that all of it is for, as a frame.
    First(Bytes, Bytes),
    /// Another chunk.
    Next(Bytes),
    /// The receiver wants the next one.
    Taken,
    /// The receiver has all of it.
    Whole,
    /// The receiver does not want it.
    Refused,
}

/// What is said between stores, the scheduler and clients.
#[derive(Clone, Debug)]
pub(super) enum Word {
    Asked(CallId, Box<Request>),
    Told(CallId, Reply),
    Report(RegionReport),
    Doubt(Arc<RegionRecord>, Peer),
    Step(Step),
}

/// What a client asks of a store.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) target: Target,
    pub(super) question: Question,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Question {
    Get(Key),
    Put(Key, Value),
    Delete(Key),
    Swap { key: Key, expected: Option<Value>, new: Value },
    Scan { start: Key, end: Key, limit: usize },
}

impl Question {
    pub(super) fn is_read(&self) -> bool {
        matches!(self, Self::Get(_) | Self::Scan { .. })
    }
}

/// What a store answers.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Got(Option<Value>),
    Done,
    Swapped(Swap),
    Pairs(Vec<(Key, Value)>),
    /// Not done, now or later. Perhaps this one leads.
    NotLeader(Option<Peer>),
    /// Not done, now or later: the region is another one now.
    Stale(Vec<Region>),
    /// Not done, now or later.
    Refused,
    /// Nobody knows.
    Unknown,
}
