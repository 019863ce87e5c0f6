//! Where things lie, to the byte: the keys and records that one writer leaves.

use bytes::Bytes;
use kiva_base::fault::LockKind;
use kiva_base::{Key, Timestamp, codec};
use kiva_engine::{Cf, Op};
use kiva_txn::lock::Lock;
use kiva_txn::write::{Write, WriteKind};
use kiva_txn::writer::MvccWriter;

fn lock() -> Lock {
    Lock {
        kind: LockKind::Put,
        primary: Key::from("pk"),
        start_ts: Timestamp(100),
        ttl_ms: 3,
        txn_size: 1,
        short_value: Some(Bytes::from("v")),
        min_commit_ts: Timestamp::ZERO,
        for_update_ts: Timestamp::ZERO,
        async_commit: None,
        rollbacks: Vec::new(),
    }
}

fn expect_only(writer: MvccWriter, op: Op<'_>) {
    let batch = writer.into_batch();
    assert_eq!(batch.ops().collect::<Vec<_>>(), [op]);
}

/// Covers 4A-put-lock.
#[test]
fn a_lock_is_one_put_under_the_key_alone() {
    let mut writer = MvccWriter::new();
    writer.put_lock(&Key::from("key").encode(), &lock());
    expect_only(
        writer,
        Op::Put {
            cf: Cf::Lock,
            key: b"key\0\0\0\0\0\xFA",
            value: b"\x01P\x01\0\0\0\0\0\0\0\x64\x03\x01\x02pk\x01v",
        },
    );
}

/// Covers 4A-put-write.
#[test]
fn a_record_is_one_put_at_its_commit_timestamp() {
    let mut writer = MvccWriter::new();
    let write = Write::of_lock(&lock()).expect("not a pessimistic lock");
    writer.put_write(&Key::from("key").encode(), Timestamp(0x0110), &write);
    expect_only(
        writer,
        Op::Put {
            cf: Cf::Write,
            key: b"key\0\0\0\0\0\xFA\xFF\xFF\xFF\xFF\xFF\xFF\xFE\xEF",
            value: b"\x01P\x01\0\0\0\0\0\0\0\x64\x01v",
        },
    );
}

/// Covers 4A-put-value.
#[test]
fn a_value_is_one_put_at_the_start_timestamp() {
    let mut writer = MvccWriter::new();
    writer.put_value(&Key::from("key").encode(), Timestamp(1), b"value");
    expect_only(
        writer,
        Op::Put {
            cf: Cf::Default,
            key: b"key\0\0\0\0\0\xFA\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFE",
            value: b"value",
        },
    );
}

/// Covers 4A-delete-lock.
#[test]
fn unlocking_is_one_delete() {
    let mut writer = MvccWriter::new();
    writer.delete_lock(&Key::from("key").encode());
    expect_only(writer, Op::Delete { cf: Cf::Lock, key: b"key\0\0\0\0\0\xFA" });
}

/// Covers 4A-delete-value.
#[test]
fn a_value_goes_by_one_delete_whatever_bytes_its_key_has() {
    let mut writer = MvccWriter::new();
    let key = Key::from(&b"\xFF\x00\xFFk\x00"[..]).encode();
    writer.delete_value(&key, Timestamp(0));
    expect_only(
        writer,
        Op::Delete {
            cf: Cf::Default,
            key: b"\xFF\x00\xFFk\x00\0\0\0\xFC\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        },
    );
}

/// Covers 4A-encode.
#[test]
fn versions_sort_by_key_and_then_newest_first() {
    let at = |key: &'static str, ts| Key::from(key).encode().at(Timestamp(ts));
    assert_eq!(at("", 0), *b"\0\0\0\0\0\0\0\0\xF7\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF");
    assert_eq!(at("abc", u64::MAX), *b"abc\0\0\0\0\0\xFA\0\0\0\0\0\0\0\0");
    let in_order = [
        at("", u64::MAX),
        at("", 1),
        at("", 0),
        at("\0", u64::MAX),
        at("\0", 0),
        at("a", u64::MAX),
        at("a", 1 << 60),
        at("a", 0),
        at("a\0", u64::MAX),
        at("ab", 0),
        at("abc", 7),
        at("abcdefgh", 7),
        at("abcdefgh\0", 7),
        at("b", u64::MAX),
    ];
    assert!(in_order.is_sorted_by(|a, b| a < b));
}

/// Covers 4A-decode.
#[test]
fn the_user_key_and_the_timestamp_come_back() {
    for user_key in ["", "abc", "abcdefgh", "a\0"] {
        for ts in [0, 1, 1 << 60, u64::MAX].map(Timestamp) {
            let key = Key::from(user_key).encode();
            let stored = key.at(ts);
            let (encoded, found_ts) = codec::split_timestamp_desc(&stored).unwrap();
            assert_eq!((encoded, found_ts), (key.as_bytes(), ts));
            let (decoded, rest) = codec::decode_bytes(encoded).unwrap();
            assert_eq!((&decoded[..], rest), (user_key.as_bytes(), &[][..]));
        }
    }
}

#[test]
fn a_pessimistic_lock_leaves_no_record() {
    let pessimistic = Lock { kind: LockKind::Pessimistic, short_value: None, ..lock() };
    assert_eq!(Write::of_lock(&pessimistic), None);
    let kinds = [
        (LockKind::Put, WriteKind::Put),
        (LockKind::Delete, WriteKind::Delete),
        (LockKind::Lock, WriteKind::Lock),
    ];
    for (kind, expected) in kinds {
        let short_value = (kind == LockKind::Put).then(Bytes::new);
        let lock = Lock { kind, short_value, ..lock() };
        assert_eq!(Write::of_lock(&lock).map(|write| write.kind), Some(expected));
    }
}
