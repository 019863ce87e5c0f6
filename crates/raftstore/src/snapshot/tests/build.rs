//! What is built, and how little of it at a time.

use std::path::PathBuf;
use std::sync::Mutex;

use kiva_engine::{EngineError, Iter, Snapshot};

use super::*;

/// Covers 2C-snap-meta, 2C-snap-file: one stream over all families, empty ones included, which
/// another store puts together again.
#[test]
fn a_snapshot_has_its_range_of_all_families_but_local() {
    let chunks = sample_chunks(id(7, 3, 17));
    let disk = MemoryDisk::new();
    let received = receive(&open(&disk), &chunks).expect("arrives");
    assert_eq!(*received.meta(), meta(id(7, 3, 17), range("b", "e")));
    assert_eq!(pairs(&received), sample_pairs());
    let totals = received.totals();
    assert_eq!((totals.chunks, totals.pairs), (chunks.len() as u32, 6));
    let encoded: usize = sample_pairs().iter().map(|(_, k, v)| 3 + k.len() + v.len()).sum();
    assert_eq!(totals.bytes, encoded as u64);
    assert_eq!(names(&disk), ["7-3-17.snapshot"]);
}

#[test]
fn an_empty_range_is_a_snapshot_too() {
    let chunks = chunks(&engine(&sample()), meta(id(1, 1, 1), range("x", "")), 20);
    assert_eq!(chunks.len(), 2);
    let received = receive(&open(&MemoryDisk::new()), &chunks).expect("arrives");
    assert_eq!(pairs(&received), []);
    assert_eq!(received.meta().range, range("x", ""));
}

#[test]
fn what_is_written_meanwhile_is_not_in_it() {
    let engine = engine(&sample());
    let meta = meta(id(1, 1, 1), range("b", "e"));
    let mut builder = Builder::with_chunk_size(engine.snapshot(), meta, 10);
    let mut chunks = vec![builder.next_chunk().expect("builds").expect("a head")];
    fill(&engine, &rows(&["default b changed", "default cc new"]));
    let mut batch = WriteBatch::new();
    batch.delete_range(Cf::Write, &KeyRange::ALL);
    engine.write(&batch).expect("writes");
    chunks.extend(std::iter::from_fn(|| builder.next_chunk().expect("builds")));
    let chunks: Vec<_> = chunks.iter().map(|chunk| chunk.encoded().clone()).collect();
    let received = receive(&open(&MemoryDisk::new()), &chunks).expect("arrives");
    assert_eq!(pairs(&received), sample_pairs());
}

#[test]
fn any_chunk_size_carries_the_same() {
    let engine = engine(&sample());
    for chunk_size in 1..120 {
        let chunks = chunks(&engine, meta(id(1, 1, 1), range("b", "e")), chunk_size);
        let received = receive(&open(&MemoryDisk::new()), &chunks).expect("arrives");
        assert_eq!(pairs(&received), sample_pairs(), "chunks of {chunk_size}");
    }
}

/// Covers 2C-snap-display.
#[test]
fn a_snapshot_is_called_by_region_term_and_index() {
    assert_eq!(id(7, 3, 17).to_string(), "7-3-17");
    let longest = id(u64::MAX, u64::MAX, u64::MAX);
    let disk = MemoryDisk::new();
    let receiver = begin(&open(&disk), &sample_chunks(longest)[0]);
    assert_eq!(names(&disk), [format!("{longest}.receiving")]);
    assert!(format!("{receiver:?}").contains(&longest.to_string()));
}

/// Pairs without end that counts how far it was read, and fails where it is told to.
#[derive(Clone, Default)]
struct Endless {
    read: Arc<Mutex<u64>>,
    fails_at: Option<u64>,
}

impl Snapshot for Endless {
    fn get(&self, _: Cf, _: &[u8]) -> Result<Option<Bytes>, EngineError> {
        unreachable!("a snapshot is built from iterators")
    }

    fn iter(&self, _: Cf, _: &KeyRange, _: Order) -> Box<dyn Iter> {
        Box::new(self.clone())
    }
}

impl Iter for Endless {
    fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, EngineError> {
        let mut read = self.read.lock().expect("nobody panics");
        *read += 1;
        if self.fails_at == Some(*read) {
            let source = std::io::Error::other("made to fail");
            return Err(EngineError::Io { action: "read", path: PathBuf::new(), source });
        }
        Ok(Some((Bytes::copy_from_slice(&read.to_be_bytes()), vec![7; 1_000].into())))
    }
}

/// Covers 2C-snapshot-big for the memory of the sender: it reads one chunk and one pair ahead, so
/// how large the region is does not matter.
#[test]
fn no_more_is_read_than_the_chunks_that_were_taken() {
    let view = Endless::default();
    let read = view.read.clone();
    let mut builder = Builder::new(Arc::new(view), meta(id(1, 1, 1), KeyRange::ALL));
    let head = builder.next_chunk().expect("builds").expect("a head");
    assert_eq!(head.kind(), Kind::Head);
    let mut taken = 0;
    for _ in 0..20 {
        let chunk = builder.next_chunk().expect("builds").expect("a chunk");
        taken += chunk.payload().len() as u64;
        assert_eq!(chunk.payload().len(), 1024 * 1024);
        let read = *read.lock().expect("nobody panics") * 1_012;
        assert!((taken..taken + 1_012).contains(&read), "{read} read for {taken}");
    }
}

/// Covers 2C-generate-fails for the stream: it ends, is never taken for a whole one, and another
/// can be built.
#[test]
fn an_engine_that_cannot_read_ends_the_stream_without_a_tail() {
    let view = Endless { fails_at: Some(30), ..Endless::default() };
    let meta = meta(id(1, 1, 1), KeyRange::ALL);
    let mut builder = Builder::with_chunk_size(Arc::new(view), meta, 5_000);
    let mut kinds = Vec::new();
    let error = loop {
        match builder.next_chunk() {
            Ok(chunk) => kinds.push(chunk.expect("no end without an error").kind()),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("made to fail"), "{error}");
    assert_eq!(
        kinds,
        [Kind::Head, Kind::Pairs, Kind::Pairs, Kind::Pairs, Kind::Pairs, Kind::Pairs]
    );
    assert!(builder.next_chunk().expect("no second error").is_none());
}
