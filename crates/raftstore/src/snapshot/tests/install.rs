//! What an engine holds after a snapshot was installed or a range cleared.

use kiva_engine::memory::FailedWrite;

use super::*;

fn received(rows: &[Row], range: KeyRange) -> Received {
    let chunks = chunks(&engine(rows), meta(id(7, 3, 17), range), 1024 * 1024);
    receive(&open(&MemoryDisk::new()), &chunks).expect("arrives")
}

fn record(key: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
    (key.into(), value.into())
}

/// Covers 2C-apply-clears-old, 2C-snap-file: inside the range exactly what the snapshot has,
/// outside of it nothing changes.
#[test]
fn what_the_snapshot_lacks_is_gone_and_the_neighbours_stay() {
    let snapshot = received(&sample(), range("b", "e"));
    let old = engine(&rows(&[
        "default a left-neighbour",
        "default b old",
        "default bx old",
        "default e right-neighbour",
        "lock a left-neighbour",
        "lock c old",
        "write b old",
        "write d old",
        "write z right-neighbour",
        "local b ours",
        "local r old-region",
    ]));
    let local = [record("r", "region"), record("a", "applied")];
    assert_eq!(install(&old, &snapshot, &[], &local).expect("installs"), Wrote::Batch);
    let mut expected = rows(&[
        "default a left-neighbour",
        "default b 2",
        "default c 3",
        "default e right-neighbour",
        "lock a left-neighbour",
        "lock b primary",
        "write bb record",
        "write d another-record-that-is-a-little-longer",
        "write da x",
        "write z right-neighbour",
        "local a applied",
        "local b ours",
        "local r region",
    ]);
    assert_eq!(contents(&old), expected);
    // Once more changes nothing.
    let _ = install(&old, &snapshot, &[range("b", "c")], &local).expect("installs");
    assert_eq!(contents(&old), expected);
    expected.retain(|(_, key, _)| key < "b");
    let empty = received(&[], range("b", ""));
    let mut batch = WriteBatch::new();
    batch.delete_range(Cf::Local, &range("b", ""));
    old.write(&batch).expect("writes");
    let _ = install(&old, &empty, &[], &[]).expect("installs");
    assert_eq!(contents(&old), expected);
}

/// Covers 2C-apply-uninitialised for the data: a peer without a range clears nothing but what it
/// is given.
#[test]
fn a_peer_without_a_range_clears_nothing_else() {
    let snapshot = received(&sample(), range("b", "e"));
    let neighbours = rows(&["default a 1", "lock z 2", "write e 3", "local x 4"]);
    let engine = engine(&neighbours);
    let _ = install(&engine, &snapshot, &[], &[]).expect("installs");
    let mut expected = neighbours;
    expected.extend(sample_pairs());
    expected.sort();
    assert_eq!(contents(&engine), expected);
}

/// Covers 2C-apply-range-change for the data: what was [a, d) and is [a, b) gives up [b, d), unless
/// another region has it.
#[test]
fn what_a_region_gave_up_goes_unless_another_has_it() {
    let before = ["default a 1", "default b 2", "default c 3", "default d 4", "lock c 5"];
    let snapshot = received(&rows(&["default a new"]), range("a", "b"));
    let after = |others: &[KeyRange]| {
        let engine = engine(&rows(&before));
        let clear = subtract(&range("a", "d"), others);
        let _ = install(&engine, &snapshot, &clear, &[]).expect("installs");
        contents(&engine)
    };
    assert_eq!(after(&[]), rows(&["default a new", "default d 4"]));
    assert_eq!(
        after(&[range("c", "d")]),
        rows(&["default a new", "default c 3", "default d 4", "lock c 5"])
    );
    assert_eq!(
        after(&[range("", "a"), range("b", "c"), range("d", "")]),
        rows(&["default a new", "default b 2", "default d 4"])
    );
}

/// Covers OPT-snap-ingest: tables of its own when it is large, seen at one moment with what it
/// replaces, and durable.
#[test]
fn a_large_snapshot_is_one_ingestion() {
    let large: Vec<Row> = (0..6_u8)
        .map(|i| (Cf::Default, vec![b'b', i].into(), vec![i; 1024 * 1024].into()))
        .collect();
    let snapshot = received(&large, range("b", "e"));
    let engine = engine(&rows(&["default c old", "lock b old", "local r old"]));
    let before = engine.snapshot();
    let local = [record("r", "new")];
    assert_eq!(install(&engine, &snapshot, &[], &local).expect("installs"), Wrote::Ingestion);
    assert_eq!(engine.unsynced(), 0, "an ingestion is durable");
    let mut expected = large;
    expected.extend(rows(&["local r new"]));
    assert_eq!(contents(&engine), expected);
    assert_eq!(before.get(Cf::Lock, b"b").expect("reads"), Some("old".into()));
}

/// What is to be cleared counts too: keys without values can be as many.
#[test]
fn a_small_snapshot_over_much_old_data_is_an_ingestion_too() {
    let key = |i: u32| format!("c{i:0>2000}");
    let many: Vec<Row> =
        (0..2_500).map(|i| (Cf::Write, key(i).into(), Bytes::from_static(b"x"))).collect();
    let snapshot = received(&sample(), range("b", "e"));
    let engine = engine(&many);
    assert_eq!(install(&engine, &snapshot, &[], &[]).expect("installs"), Wrote::Ingestion);
    assert_eq!(contents(&engine), sample_pairs());
    fill(&engine, &many);
    let wrote = clear(&engine, &[range("c", "d")], WriteBatch::new()).expect("clears");
    assert_eq!(wrote, Wrote::Ingestion);
    let mut expected = sample_pairs();
    expected.retain(|(_, key, _)| !key.starts_with(b"c"));
    assert_eq!(contents(&engine), expected);
}

#[test]
fn what_is_cleared_goes_with_its_record() {
    let engine = engine(&sample());
    let mut local = WriteBatch::new();
    local.put(Cf::Local, b"c", b"soon gone");
    local.delete(Cf::Local, b"b");
    local.delete(Cf::Local, b"c");
    local.put(Cf::Local, b"d", b"left");
    let ranges = [range("c", "d"), range("b", "c"), range("x", "x"), range("b", "cc")];
    assert_eq!(clear(&engine, &ranges, local).expect("clears"), Wrote::Batch);
    let expected = [
        "default a 1",
        "default e 5",
        "write d another-record-that-is-a-little-longer",
        "write da x",
        "write f 6",
        "local d left",
    ];
    assert_eq!(contents(&engine), rows(&expected));
}

/// A write that fails leaves the old state or the new, and the engine takes nothing more.
#[test]
fn a_failed_write_is_the_old_state_or_the_new() {
    let snapshot = received(&sample(), range("b", "e"));
    for (outcome, is_new) in [(FailedWrite::Lost, false), (FailedWrite::Happened, true)] {
        let engine = engine(&rows(&["default c old"]));
        engine.fail_next_write(outcome);
        assert!(install(&engine, &snapshot, &[], &[]).is_err());
        let found = engine.crash(engine.unsynced());
        let expected = if is_new { sample_pairs() } else { rows(&["default c old"]) };
        assert_eq!(contents(&found), expected);
    }
}

#[test]
fn a_snapshot_that_was_installed_is_no_longer_needed() {
    let disk = MemoryDisk::new();
    let folder = open(&disk);
    let received = receive(&folder, &sample_chunks(id(7, 3, 17))).expect("arrives");
    let engine = MemoryEngine::new();
    engine.fail_next_write(FailedWrite::Lost);
    assert!(install(&engine, &received, &[], &[]).is_err());
    let engine = MemoryEngine::new();
    drop(received);
    assert_eq!(folder.collect(at(3)).expect("removes"), [], "it was not installed");
    let received = folder.get(id(7, 3, 17)).expect("is here");
    let _ = install(&engine, &received, &[], &[]).expect("installs");
    assert_eq!(folder.collect(at(3)).expect("removes"), [], "it is held");
    drop(received);
    assert_eq!(folder.collect(at(3)).expect("removes"), [id(7, 3, 17)]);
}

/// A sender whose stream is wrong in itself, though every checksum is right.
#[test]
fn what_does_not_belong_into_a_snapshot_is_not_installed() {
    use super::super::chunk::{Count, Frame};

    let id = id(7, 3, 17);
    let send = |payload: &[u8], pairs: u64| {
        let head = super::super::chunk::head(&meta(id, range("b", "e")));
        let mut frame = Frame::with_capacity(payload.len());
        frame.payload().extend_from_slice(payload);
        let body = frame.finish(Kind::Pairs, id, 1);
        let mut count = Count::default();
        count.add(&head);
        count.add(&body);
        let tail = super::super::chunk::tail(id, count.totals(pairs));
        let chunks: Vec<_> =
            [head, body, tail].iter().map(|chunk| chunk.encoded().clone()).collect();
        let received = receive(&open(&MemoryDisk::new()), &chunks).expect("arrives");
        let engine = engine(&rows(&["default c old"]));
        let outcome = install(&engine, &received, &[], &[]).map(drop);
        if outcome.is_err() {
            assert_eq!(contents(&engine), rows(&["default c old"]));
        }
        outcome.map_err(|error| error.to_string())
    };
    assert_eq!(send(b"d\x01b\x01xl\x01b\x01x", 2), Ok(()));
    let cases: [(&[u8], u64, &str); 8] = [
        (b"d\x01a\x01x", 1, "a key lies outside of its range"),
        (b"d\x01e\x01x", 1, "a key lies outside of its range"),
        (b"z\x01b\x01x", 1, "a pair is in no family that travels"),
        (b"d\x01c\x01xd\x01b\x01x", 2, "its keys do not ascend"),
        (b"l\x01b\x01xd\x01b\x01x", 2, "its keys do not ascend"),
        (b"d\x01b\x01xd\x01b\x01x", 2, "its keys do not ascend"),
        (b"d\x01b\x01x", 2, "its chunks do not add up"),
        (b"d\x01b\x01xd\x01", 1, "its chunks do not add up"),
    ];
    for (payload, pairs, reason) in cases {
        let error = send(payload, pairs).expect_err(reason);
        assert!(error.contains(reason), "{error} instead of {reason}");
    }
    let long = [b"d\x01b".as_slice(), &[0xFF; 9], &[1]].concat();
    assert!(send(&long, 1).expect_err("too long").contains("too long"));
}
