//! The bytes of a lock, and what is refused as none.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

fn plain() -> Lock {
    Lock {
        kind: LockKind::Put,
        primary: Key::from("pk"),
        start_ts: Timestamp(0x0102_0304),
        ttl_ms: 3_000,
        txn_size: 2,
        short_value: None,
        min_commit_ts: Timestamp::ZERO,
        for_update_ts: Timestamp::ZERO,
        async_commit: None,
        rollbacks: Vec::new(),
    }
}

/// The bytes are a format: locks written by an older build must be read by a newer one.
#[test]
fn the_bytes_are_as_documented() {
    assert_eq!(plain().encode(), *b"\x01P\x00\x00\x00\x00\x00\x01\x02\x03\x04\xB8\x17\x02\x02pk");
    let full = Lock {
        short_value: Some(Bytes::from("v")),
        min_commit_ts: Timestamp(5),
        for_update_ts: Timestamp(6),
        async_commit: Some(vec![Key::from("s"), Key::from("")]),
        rollbacks: vec![Timestamp(7)],
        ..plain()
    };
    assert_eq!(
        full.encode(),
        *b"\x01P\x1F\x00\x00\x00\x00\x01\x02\x03\x04\xB8\x17\x02\x02pk\x01v\
           \x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x06\
           \x02\x01s\x00\x01\x00\x00\x00\x00\x00\x00\x00\x07"
    );
    for (kind, byte) in [
        (LockKind::Put, b'P'),
        (LockKind::Delete, b'D'),
        (LockKind::Lock, b'L'),
        (LockKind::Pessimistic, b'S'),
    ] {
        assert_eq!(Lock { kind, ..plain() }.encode()[1], byte);
    }
}

/// Covers 4A-corrupt, the lock's half.
#[test]
fn every_cut_and_every_addition_is_refused() {
    let record = Lock {
        short_value: Some(Bytes::from("value")),
        min_commit_ts: Timestamp(5),
        async_commit: Some(vec![Key::from("s")]),
        rollbacks: vec![Timestamp(7)],
        ..plain()
    }
    .encode();
    for len in 0..record.len() {
        let cut = Bytes::copy_from_slice(&record[..len]);
        assert!(Lock::decode(&cut).is_err(), "cut to {len} bytes");
    }
    let longer = [&record[..], b"\0"].concat();
    assert!(Lock::decode(&longer.into()).is_err());
}

#[test]
fn what_nobody_writes_is_refused() {
    let with = |position: usize, byte| {
        let mut record = plain().encode();
        record[position] = byte;
        Lock::decode(&record.into())
    };
    assert!(with(0, 1).is_ok());
    assert!(with(0, 2).is_err(), "another version");
    assert!(with(1, b'R').is_err(), "another kind");
    assert!(with(2, 0x20).is_err(), "another flag");

    let delete_with_value = b"\x01D\x01\0\0\0\0\0\0\0\x01\0\0\0\x01v";
    assert!(Lock::decode(&Bytes::from_static(delete_with_value)).is_err());
    let zero_min_commit_ts = b"\x01P\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0";
    assert!(Lock::decode(&Bytes::from_static(zero_min_commit_ts)).is_err());
    let long_varint = b"\x01P\x00\0\0\0\0\0\0\0\x01\x80\x00\0\0";
    assert!(Lock::decode(&Bytes::from_static(long_varint)).is_err());
    let absurd_count = b"\x01P\x08\0\0\0\0\0\0\0\x01\0\0\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F";
    assert!(Lock::decode(&Bytes::from_static(absurd_count)).is_err());
}

/// The boundary: a TTL counts from the physical part of the start, and the physical part of now
/// must have passed it. Covers 4C-status-ttl-matrix.
#[test]
fn only_physical_parts_decide_whether_a_lock_is_expired() {
    let lock =
        Lock { start_ts: Timestamp::new(1_000, Timestamp::PER_MS - 1), ttl_ms: 10, ..plain() };
    assert!(!lock.is_expired(Timestamp::new(1_009, Timestamp::PER_MS - 1)));
    assert!(!lock.is_expired(Timestamp::new(1_010, 0)));
    assert!(!lock.is_expired(Timestamp::new(1_010, Timestamp::PER_MS - 1)));
    assert!(lock.is_expired(Timestamp::new(1_011, 0)));
    assert!(!Lock { ttl_ms: u64::MAX, ..lock }.is_expired(Timestamp::MAX));
}

fn locks() -> impl Strategy<Value = Lock> {
    let kinds = prop_oneof![
        Just(LockKind::Put),
        Just(LockKind::Delete),
        Just(LockKind::Lock),
        Just(LockKind::Pessimistic),
    ];
    let keys = || vec(any::<u8>(), 0..20).prop_map(Key::from);
    let timestamps = || prop_oneof![Just(0), any::<u64>()].prop_map(Timestamp);
    (
        (kinds, keys(), timestamps(), any::<u64>(), any::<u64>()),
        option::of(vec(any::<u8>(), 0..=255)),
        (timestamps(), timestamps()),
        option::of(vec(keys(), 0..4)),
        vec(timestamps(), 0..3),
    )
        .prop_map(|(head, value, (min_commit_ts, for_update_ts), async_commit, rollbacks)| {
            let (kind, primary, start_ts, ttl_ms, txn_size) = head;
            Lock {
                kind,
                primary,
                start_ts,
                ttl_ms,
                txn_size,
                short_value: value.filter(|_| kind == LockKind::Put).map(Bytes::from),
                min_commit_ts,
                for_update_ts,
                async_commit,
                rollbacks,
            }
        })
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(lock in locks()) {
        prop_assert_eq!(Lock::decode(&lock.encode().into()), Ok(lock));
    }

    /// Bytes that decode at all are exactly the encoding of what they decode to, and none panic.
    #[test]
    fn mutated_bytes_never_panic_and_one_lock_has_one_encoding(
        lock in locks(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in option::of(any::<prop::sample::Index>()),
    ) {
        let mut record = lock.encode();
        for (position, byte) in changes {
            let position = position.index(record.len());
            record[position] = byte;
        }
        if let Some(cut) = cut {
            record.truncate(cut.index(record.len()));
        }
        if let Ok(decoded) = Lock::decode(&record.clone().into()) {
            prop_assert_eq!(decoded.encode(), record);
        }
    }

    #[test]
    fn garbage_never_panics(bytes: Vec<u8>) {
        let _ = Lock::decode(&bytes.clone().into());
        let _ = Lock::decode(&[&b"\x01P\x1F"[..], &bytes].concat().into());
    }
}
