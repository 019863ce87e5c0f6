//! Tests of the whole log, on a disk in memory.

mod contract;
mod crash;
mod damage;
mod inspecting;
mod model;
mod scenarios;
mod writing;

use std::sync::Arc;

use bytes::Bytes;
use kiva_base::RegionId;
use kiva_raft::{Entries, Entry, EntryId, HardState, Index, NodeId, Payload, Term};

use super::{Log, LogBatch, Opened, Options};
use crate::disk::MemoryDisk;
use crate::limits::SEGMENT_SIZE_MIN;

/// Small segments, so that a few entries fill one, and nothing in memory.
const SMALL: Options = Options { segment_size: SEGMENT_SIZE_MIN, cache_bytes: 0 };

fn open(disk: &MemoryDisk) -> Opened {
    open_with(disk, SMALL)
}

fn open_with(disk: &MemoryDisk, options: Options) -> Opened {
    Log::open(Arc::new(disk.clone()), options).expect("opens")
}

/// What is found after a crash that leaves nothing but what was synced.
fn crash(disk: &MemoryDisk) -> MemoryDisk {
    disk.crash(&mut |_| 0)
}

fn region(id: u64) -> RegionId {
    RegionId::new(id).expect("not zero")
}

fn id(term: u64, index: u64) -> EntryId {
    EntryId::new(Term(term), Index(index))
}

fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term: Term(term), vote: NodeId::new(vote), commit: Index(commit) }
}

/// Entries of one term, with payloads that nobody else has.
fn entries(term: u64, indexes: std::ops::Range<u64>, size: usize) -> Entries {
    let entry = |index| Entry {
        index: Index(index),
        term: Term(term),
        payload: Payload::Command(payload(term, index, size)),
    };
    indexes.map(entry).collect()
}

fn payload(term: u64, index: u64, size: usize) -> Bytes {
    let text = format!("{term}/{index};");
    text.bytes().cycle().take(size).collect::<Vec<u8>>().into()
}

fn append(log: &Log, of: u64, entries: &Entries) {
    let mut batch = LogBatch::new();
    batch.entries(region(of), entries);
    write(log, &batch);
}

fn write(log: &Log, batch: &LogBatch) {
    let written = log.write(batch).expect("writes");
    log.sync(&written).expect("syncs");
}

fn collect_all(log: &Log) {
    while log.collect().expect("collects").is_some() {}
}

/// All that is there of a region, as far as it can be read.
fn all(log: &Log, of: u64) -> Vec<Entry> {
    let region = log.region(region(of));
    let (first, end) = (region.first_index(), region.last().index.next());
    if first == end {
        return Vec::new();
    }
    region.entries(first, end, usize::MAX).expect("reads").to_vec()
}
