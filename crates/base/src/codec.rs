//! Encodings that sort like what they encode.
//!
//! **Memcomparable bytes.** The input is cut into groups of eight; the last group is padded with
//! zeros; after each group stands one marker, `0xFF - padding`. A full last group is followed by
//! an empty one. Encoded strings sort like their inputs and none is a prefix of another, so a
//! suffix (a timestamp) can follow without disturbing the order.
//!
//! | input | encoded |
//! |---|---|
//! | `""` | `00 00 00 00 00 00 00 00 F7` |
//! | `"a"` | `61 00 00 00 00 00 00 00 F8` |
//! | `"abcdefgh"` | `61 62 63 64 65 66 67 68 FF 00 00 00 00 00 00 00 00 F7` |
//!
//! **Timestamps** that follow a key are inverted, so that the newest version comes first.

use crate::timestamp::Timestamp;

const GROUP: usize = 8;
const MARKER: u8 = 0xFF;

/// Bytes of an encoded timestamp.
pub const TIMESTAMP_SIZE: usize = 8;

/// Why bytes could not be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ends inside a field.
    #[error("the input ends inside {0}")]
    Truncated(&'static str),
    /// The input is long enough and still cannot be what it claims to be.
    #[error("{0} is malformed")]
    Malformed(&'static str),
}

/// Length of the memcomparable form of `len` bytes.
pub const fn encoded_len(len: usize) -> usize {
    (len / GROUP + 1) * (GROUP + 1)
}

/// Appends the memcomparable form of `input`.
pub fn encode_bytes(input: &[u8], out: &mut Vec<u8>) {
    out.reserve(encoded_len(input.len()));
    let mut groups = input.chunks_exact(GROUP);
    for group in &mut groups {
        out.extend_from_slice(group);
        out.push(MARKER);
    }
    let rest = groups.remainder();
    let padding = GROUP - rest.len();
    out.extend_from_slice(rest);
    out.extend_from_slice(&[0; GROUP][..padding]);
    out.push(MARKER - padding as u8);
}

/// Splits one memcomparable string off the front of `input`: what it encodes, and what follows.
///
/// Accepts exactly what [`encode_bytes`] produces: a marker below `0xF7`, or padding that is not
/// zero, is an error, so that no two encodings mean the same key.
pub fn decode_bytes(mut input: &[u8]) -> Result<(Vec<u8>, &[u8]), DecodeError> {
    let mut decoded = Vec::with_capacity(input.len() / (GROUP + 1) * GROUP);
    loop {
        let (group, rest) =
            input.split_at_checked(GROUP + 1).ok_or(DecodeError::Truncated("an encoded key"))?;
        input = rest;
        let padding = usize::from(MARKER - group[GROUP]);
        if padding > GROUP {
            return Err(DecodeError::Malformed("the marker of an encoded key"));
        }
        let (data, zeros) = group[..GROUP].split_at(GROUP - padding);
        decoded.extend_from_slice(data);
        if padding > 0 {
            if zeros.iter().any(|&byte| byte != 0) {
                return Err(DecodeError::Malformed("the padding of an encoded key"));
            }
            return Ok((decoded, input));
        }
    }
}

/// Appends `ts` so that larger timestamps sort first.
pub fn encode_timestamp_desc(ts: Timestamp, out: &mut Vec<u8>) {
    out.extend_from_slice(&(!ts.0).to_be_bytes());
}

/// Splits a key of one version into the encoded user key and its timestamp.
pub fn split_timestamp_desc(key: &[u8]) -> Result<(&[u8], Timestamp), DecodeError> {
    let (key, ts) =
        key.split_last_chunk::<TIMESTAMP_SIZE>().ok_or(DecodeError::Truncated("a timestamp"))?;
    Ok((key, Timestamp(!u64::from_be_bytes(*ts))))
}

/// Appends `value` in seven-bit groups, least significant first, as protobuf does.
pub fn encode_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Splits one varint off the front of `input`.
pub fn decode_varint(input: &[u8]) -> Result<(u64, &[u8]), DecodeError> {
    let mut value = 0_u64;
    for (position, &byte) in input.iter().enumerate() {
        let bits = u64::from(byte & 0x7F);
        let shift = 7 * position as u32;
        if shift > 63 || (shift == 63 && bits > 1) {
            return Err(DecodeError::Malformed("a varint"));
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Ok((value, &input[position + 1..]));
        }
    }
    Err(DecodeError::Truncated("a varint"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(input: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_bytes(input, &mut out);
        out
    }

    #[test]
    fn known_strings_encode_as_documented() {
        let cases: [(&[u8], &[u8]); 4] = [
            (b"", b"\0\0\0\0\0\0\0\0\xF7"),
            (b"a", b"a\0\0\0\0\0\0\0\xF8"),
            (b"abcdefgh", b"abcdefgh\xFF\0\0\0\0\0\0\0\0\xF7"),
            (b"abcdefghi", b"abcdefgh\xFFi\0\0\0\0\0\0\0\xF8"),
        ];
        for (input, expected) in cases {
            assert_eq!(encoded(input), expected);
            assert_eq!(encoded(input).len(), encoded_len(input.len()));
        }
    }

    #[test]
    fn damaged_encodings_are_refused() {
        assert!(decode_bytes(b"").is_err());
        assert!(decode_bytes(b"abcdefgh\xFF").is_err());
        assert!(decode_bytes(b"a\0\0\0\0\0\0\x01\xF8").is_err());
        assert!(decode_bytes(b"a\0\0\0\0\0\0\0\xF6").is_err());
        assert!(decode_varint(&[0x80; 11]).is_err());
        assert!(decode_varint(&[0x80]).is_err());
        assert!(split_timestamp_desc(b"1234567").is_err());
    }

    proptest! {
        #[test]
        fn order_survives_encoding(a: Vec<u8>, b: Vec<u8>) {
            prop_assert_eq!(a.cmp(&b), encoded(&a).cmp(&encoded(&b)));
        }

        #[test]
        fn what_is_encoded_is_decoded(key: Vec<u8>, suffix: Vec<u8>, number: u64) {
            let mut bytes = encoded(&key);
            bytes.extend_from_slice(&suffix);
            prop_assert_eq!(decode_bytes(&bytes), Ok((key, &suffix[..])));
            let mut bytes = Vec::new();
            encode_varint(number, &mut bytes);
            prop_assert_eq!(decode_varint(&bytes), Ok((number, &[][..])));
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = decode_bytes(&bytes);
            let _ = decode_varint(&bytes);
            let _ = split_timestamp_desc(&bytes);
        }
    }
}
