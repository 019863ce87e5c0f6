//! Memcomparable keys: any bytes decode or do not, any two keys keep their order, and a version
//! comes off again.
#![no_main]

use bytes::Bytes;
use kiva_base::codec::{decode_varint, encode_varint, split_timestamp_desc};
use kiva_base::{EncodedKey, Key, Timestamp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: (&[u8], &[u8], u64)| {
    let (left, right, number) = data;

    // Bytes as they may stand on a disk. The encoding has one form, so what decodes encodes back.
    let stored = EncodedKey(Bytes::copy_from_slice(left));
    if let Ok(key) = stored.decode() {
        assert_eq!(key.encode(), stored, "a key has one encoding");
    }

    let (a, b) = (Key(Bytes::copy_from_slice(left)), Key(Bytes::copy_from_slice(right)));
    let (encoded_a, encoded_b) = (a.encode(), b.encode());
    assert_eq!(a.cmp(&b), encoded_a.cmp(&encoded_b), "encoded keys sort like keys");
    assert_eq!(encoded_a.decode().as_ref(), Ok(&a), "a key comes back");

    let version = encoded_a.at(Timestamp(number));
    let (key, ts) = split_timestamp_desc(&version).expect("a version was put there");
    assert_eq!((key, ts), (encoded_a.as_bytes(), Timestamp(number)), "a version comes off");

    let mut varint = Vec::new();
    encode_varint(number, &mut varint);
    assert_eq!(decode_varint(&varint).map(|(value, rest)| (value, rest.len())), Ok((number, 0)));
    // Any outcome but a panic will do.
    let _ = decode_varint(left);
});
