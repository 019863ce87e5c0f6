//! The bytes of a write record, and what is refused as none.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

fn put(short_value: Option<Bytes>) -> Write {
    Write {
        kind: WriteKind::Put,
        start_ts: Timestamp(0x0102_0304),
        short_value,
        is_rolled_back_too: false,
        is_protected: false,
    }
}

/// The bytes are a format: records written by an older build must be read by a newer one.
#[test]
fn the_bytes_are_as_documented() {
    assert_eq!(put(None).encode(), *b"\x01P\x00\0\0\0\0\x01\x02\x03\x04");
    let short = Write { is_rolled_back_too: true, ..put(Some(Bytes::from("value"))) };
    assert_eq!(short.encode(), *b"\x01P\x03\0\0\0\0\x01\x02\x03\x04\x05value");
    let rollback = |is_protected| Write::rollback(Timestamp(9), is_protected).encode();
    assert_eq!(rollback(false), *b"\x01R\x00\0\0\0\0\0\0\0\x09");
    assert_eq!(rollback(true), *b"\x01R\x04\0\0\0\0\0\0\0\x09");
    for (kind, byte) in [(WriteKind::Delete, b'D'), (WriteKind::Lock, b'L')] {
        assert_eq!(Write { kind, ..put(None) }.encode()[1], byte);
    }
}

/// Covers 4A-empty-value, the record's half.
#[test]
fn an_empty_value_is_not_a_missing_one() {
    let empty = put(Some(Bytes::new()));
    assert_eq!(Write::decode(&empty.encode().into()), Ok(empty.clone()));
    assert!(!empty.has_long_value());
    assert!(put(None).has_long_value());
}

/// Covers 4A-corrupt, the write record's half.
#[test]
fn every_cut_and_every_addition_is_refused() {
    let record = put(Some(Bytes::from("value"))).encode();
    for len in 0..record.len() {
        let cut = Bytes::copy_from_slice(&record[..len]);
        assert!(Write::decode(&cut).is_err(), "cut to {len} bytes");
    }
    let longer = [&record[..], b"\0"].concat();
    assert!(Write::decode(&longer.into()).is_err());
}

#[test]
fn what_nobody_writes_is_refused() {
    let decode = |head: &'static [u8]| {
        let record = [head, b"\0\0\0\0\0\0\0\x01", if head[2] & 1 == 1 { b"\0" } else { b"" }];
        Write::decode(&record.concat().into())
    };
    assert!(decode(b"\x01P\x00").is_ok());
    assert!(decode(b"\x02P\x00").is_err(), "another version");
    assert!(decode(b"\x01S\x00").is_err(), "another kind");
    assert!(decode(b"\x01P\x08").is_err(), "another flag");
    assert!(decode(b"\x01P\x04").is_err(), "a protected put");
    assert!(decode(b"\x01D\x01").is_err(), "a delete with a value");
    assert!(decode(b"\x01R\x02").is_err(), "a rollback of two");
}

fn writes() -> impl Strategy<Value = Write> {
    let kinds = prop_oneof![
        Just(WriteKind::Put),
        Just(WriteKind::Delete),
        Just(WriteKind::Lock),
        Just(WriteKind::Rollback),
    ];
    (kinds, any::<u64>(), option::of(vec(any::<u8>(), 0..=255)), any::<bool>()).prop_map(
        |(kind, start_ts, value, flag)| Write {
            kind,
            start_ts: Timestamp(start_ts),
            short_value: value.filter(|_| kind == WriteKind::Put).map(Bytes::from),
            is_rolled_back_too: flag && kind != WriteKind::Rollback,
            is_protected: flag && kind == WriteKind::Rollback,
        },
    )
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(write in writes()) {
        prop_assert_eq!(Write::decode(&write.encode().into()), Ok(write));
    }

    /// Bytes that decode at all are exactly the encoding of what they decode to, and none panic.
    #[test]
    fn mutated_bytes_never_panic_and_one_record_has_one_encoding(
        write in writes(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in option::of(any::<prop::sample::Index>()),
    ) {
        let mut record = write.encode();
        for (position, byte) in changes {
            let position = position.index(record.len());
            record[position] = byte;
        }
        if let Some(cut) = cut {
            record.truncate(cut.index(record.len()));
        }
        if let Ok(decoded) = Write::decode(&record.clone().into()) {
            prop_assert_eq!(decoded.encode(), record);
        }
    }

    #[test]
    fn garbage_never_panics(bytes: Vec<u8>) {
        let _ = Write::decode(&bytes.clone().into());
        let _ = Write::decode(&[&b"\x01P\x01"[..], &bytes].concat().into());
    }
}
