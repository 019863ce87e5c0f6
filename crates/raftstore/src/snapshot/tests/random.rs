//! What holds for any data, any ranges and any cuts.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::disk::{FileName, OpenMode};

const FAMILIES: [Cf; 4] = Cf::ALL;

/// Short keys of few letters, so that ranges and keys meet.
fn key() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(b'a'..b'e', 1..4).prop_map(Bytes::from)
}

fn data() -> impl Strategy<Value = BTreeMap<(Cf, Bytes), Bytes>> {
    let value = prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
    prop::collection::btree_map((prop::sample::select(&FAMILIES[..]), key()), value, 0..40)
}

fn any_range() -> impl Strategy<Value = KeyRange> {
    (key(), key(), 0..6).prop_map(|(a, b, open)| match open {
        0 => KeyRange::new(Bytes::new(), a.max(b)).expect("runs forward"),
        1 => KeyRange::new(a.min(b), Bytes::new()).expect("runs forward"),
        _ => KeyRange::new(a.clone().min(b.clone()), a.max(b)).expect("runs forward"),
    })
}

fn ranges() -> impl Strategy<Value = Vec<KeyRange>> {
    prop::collection::vec(any_range(), 0..5)
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..40)
}

fn as_rows(data: &BTreeMap<(Cf, Bytes), Bytes>) -> Vec<Row> {
    data.iter().map(|((cf, key), value)| (*cf, key.clone(), value.clone())).collect()
}

proptest! {
    #[test]
    fn what_is_installed_is_what_was_built(
        source in data(),
        old in data(),
        range in any_range(),
        clear in ranges(),
        chunk_size in 1_usize..600,
    ) {
        let meta = meta(id(1, 1, 1), range.clone());
        let chunks = chunks(&engine(&as_rows(&source)), meta, chunk_size);
        let received = receive(&open(&MemoryDisk::new()), &chunks).expect("arrives");
        let target = engine(&as_rows(&old));
        let local = [(b"record".to_vec(), b"new".to_vec())];
        let wrote = install(&target, &received, &clear, &local).expect("installs");
        prop_assert_eq!(wrote, Wrote::Batch);

        let is_cleared = |key: &Bytes| {
            range.contains(key) || clear.iter().any(|range| range.contains(key))
        };
        let mut expected = old;
        expected.retain(|(cf, key), _| *cf == Cf::Local || !is_cleared(key));
        expected.extend(
            source.into_iter().filter(|((cf, key), _)| *cf != Cf::Local && range.contains(key)),
        );
        expected.insert((Cf::Local, "record".into()), "new".into());
        prop_assert_eq!(contents(&target), as_rows(&expected));
    }

    #[test]
    fn what_is_subtracted_holds_what_no_other_holds(
        range in any_range(),
        others in ranges(),
        keys in prop::collection::vec(key(), 1..30),
    ) {
        let parts = subtract(&range, &others);
        for key in keys {
            let held = range.contains(&key) && !others.iter().any(|other| other.contains(&key));
            let count = parts.iter().filter(|part| part.contains(&key)).count();
            prop_assert_eq!(count, usize::from(held), "{:?}", key);
        }
        prop_assert!(parts.iter().all(|part| !part.is_empty()));
    }

    #[test]
    fn what_is_cleared_is_gone_and_nothing_else(old in data(), ranges in ranges()) {
        let target = engine(&as_rows(&old));
        let _ = clear(&target, &ranges, WriteBatch::new()).expect("clears");
        let mut expected = old;
        expected.retain(|(cf, key), _| {
            *cf == Cf::Local || !ranges.iter().any(|range| range.contains(key))
        });
        prop_assert_eq!(contents(&target), as_rows(&expected));
    }

    #[test]
    fn garbage_is_no_chunk(bytes: Vec<u8>) {
        prop_assert!(Chunk::decode(bytes.into()).is_err());
    }

    /// Whatever is under a right checksum is refused, or is what it says; nothing panics.
    #[test]
    fn garbage_under_a_right_checksum_is_refused(
        head: Option<Vec<u8>>,
        middle in prop::collection::vec((0_usize..3, payload()), 0..4),
        tail: Option<Vec<u8>>,
    ) {
        use super::super::chunk::{self, Frame};

        let id = id(1, 1, 1);
        let garbage = |kind, number, payload: &[u8]| {
            let mut frame = Frame::with_capacity(payload.len());
            frame.payload().extend_from_slice(payload);
            frame.finish(kind, id, number)
        };
        let mut chunks = vec![match &head {
            Some(payload) => garbage(Kind::Head, 0, payload),
            None => chunk::head(&meta(id, KeyRange::ALL)),
        }];
        for (kind, payload) in &middle {
            let kind = [Kind::Head, Kind::Pairs, Kind::Tail][*kind];
            chunks.push(garbage(kind, chunks.len() as u32, payload));
        }
        let mut count = chunk::Count::default();
        chunks.iter().for_each(|chunk| count.add(chunk));
        chunks.push(match &tail {
            Some(payload) => garbage(Kind::Tail, chunks.len() as u32, payload),
            None => chunk::tail(id, count.totals(middle.len() as u64)),
        });

        let disk = MemoryDisk::new();
        let name = FileName::new("1-1-1.snapshot").expect("a name");
        let file = disk.open(&name, OpenMode::New).expect("makes a file");
        let whole: Vec<u8> =
            chunks.iter().flat_map(|chunk| chunk.encoded().iter().copied()).collect();
        file.write_at(0, &whole).expect("writes");
        if let Some(received) = open(&disk).get(id) {
            prop_assert_eq!(pairs(&received).len() as u64, received.totals().pairs);
        }

        let folder = open(&MemoryDisk::new());
        let Ok(Begun::Receiving(mut receiver)) =
            folder.begin(chunks[0].encoded().clone(), at(0))
        else {
            return Ok(());
        };
        for chunk in &chunks[1..] {
            if receiver.on_chunk(chunk.encoded().clone(), at(0)).is_err() {
                break;
            }
        }
    }
}
