//! Snapshots from one engine to another, and everything that can happen on the way.

mod build;
mod crash;
mod files;
mod install;
mod keep;
mod random;
mod receive;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kiva_base::{KeyRange, Moment, RegionId};
use kiva_engine::memory::MemoryEngine;
use kiva_engine::{Cf, Engine, Order, WriteBatch};
use kiva_raft::{EntryId, Index, Term};

use super::*;
use crate::disk::{Disk, MemoryDisk};

/// A family, a key and its value.
type Row = (Cf, Bytes, Bytes);

fn id(region: u64, term: u64, index: u64) -> Id {
    let region = RegionId::new(region).expect("not zero");
    Id { region, last: EntryId::new(Term(term), Index(index)) }
}

fn range(start: &str, end: &str) -> KeyRange {
    KeyRange::new(start.to_owned(), end.to_owned()).expect("runs forward")
}

fn meta(id: Id, range: KeyRange) -> Meta {
    Meta { id, range, record: "peers".into() }
}

fn at(seconds: u64) -> Moment {
    Moment::after_start(Duration::from_secs(seconds))
}

/// `family key value`, separated by spaces.
fn rows(text: &[&str]) -> Vec<Row> {
    let row = |line: &&str| {
        let mut words = line.split(' ').map(str::to_owned);
        let mut word = || words.next().expect("three words");
        let family = word();
        let cf = Cf::ALL.into_iter().find(|cf| cf.name() == family).expect("a family");
        (cf, word().into(), word().into())
    };
    text.iter().map(row).collect()
}

fn fill(engine: &dyn Engine, rows: &[Row]) {
    let mut batch = WriteBatch::new();
    for (cf, key, value) in rows {
        batch.put(*cf, key, value);
    }
    engine.write(&batch).expect("writes");
    engine.flush().expect("flushes");
}

fn engine(rows: &[Row]) -> MemoryEngine {
    let engine = MemoryEngine::new();
    fill(&engine, rows);
    engine
}

/// Everything that an engine holds.
fn contents(engine: &dyn Engine) -> Vec<Row> {
    let view = engine.snapshot();
    let mut rows = Vec::new();
    for cf in Cf::ALL {
        let mut iter = view.iter(cf, &KeyRange::ALL, Order::Forward);
        while let Some((key, value)) = iter.next().expect("iterates") {
            rows.push((cf, key, value));
        }
    }
    rows
}

/// Everything that a snapshot sends.
fn chunks(engine: &dyn Engine, meta: Meta, chunk_size: usize) -> Vec<Bytes> {
    let mut builder = Builder::with_chunk_size(engine.snapshot(), meta, chunk_size);
    std::iter::from_fn(|| builder.next_chunk().expect("builds"))
        .map(|chunk| chunk.encoded().clone())
        .collect()
}

fn open(disk: &MemoryDisk) -> Folder {
    Folder::open(Arc::new(disk.clone()), at(0)).expect("opens")
}

/// The receiver that took the first chunk.
fn begin(folder: &Folder, first: &Bytes) -> Box<Receiver> {
    match folder.begin(first.clone(), at(1)).expect("begins") {
        Begun::Receiving(receiver) => receiver,
        Begun::Present(received) => panic!("{received:?} is here already"),
    }
}

fn receive(folder: &Folder, chunks: &[Bytes]) -> Result<Received, ReceiveError> {
    let (first, rest) = chunks.split_first().expect("at least a head");
    let mut receiver = match folder.begin(first.clone(), at(1))? {
        Begun::Receiving(receiver) => receiver,
        Begun::Present(received) => return Ok(received),
    };
    for chunk in rest {
        if let Some(received) = receiver.on_chunk(chunk.clone(), at(2))? {
            return Ok(received);
        }
    }
    panic!("there was no tail");
}

fn pairs(received: &Received) -> Vec<Row> {
    let mut pairs = received.pairs().expect("opens");
    std::iter::from_fn(|| pairs.next_pair().expect("reads")).collect()
}

fn names(disk: &MemoryDisk) -> Vec<String> {
    disk.list().expect("lists").iter().map(|name| name.to_string()).collect()
}

/// Some rows in every family, of which a snapshot of `b..e` has six.
fn sample() -> Vec<Row> {
    rows(&[
        "default a 1",
        "default b 2",
        "default c 3",
        "default e 5",
        "lock b primary",
        "write bb record",
        "write d another-record-that-is-a-little-longer",
        "write da x",
        "write f 6",
        "local b metadata",
    ])
}

fn sample_chunks(id: Id) -> Vec<Bytes> {
    chunks(&engine(&sample()), meta(id, range("b", "e")), 20)
}

fn sample_pairs() -> Vec<Row> {
    let mut rows = sample();
    rows.retain(|(cf, key, _)| *cf != Cf::Local && range("b", "e").contains(key));
    rows
}
