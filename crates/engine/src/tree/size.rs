//! How large a range is, from what the tables say of themselves.
//!
//! A table inside the range counts whole. Of a table that reaches over a bound a share counts: its
//! keys are taken to be spread evenly between its first and its last, as bytes or, where they are
//! decimal digits, as these. So the answer is off by less than a table per level and bound, and
//! needs no read.

use bytes::Bytes;
use lsm_tree::AbstractTree;

/// So many bytes behind what the keys of a table share tell them apart well enough.
const DIGITS: usize = 12;

pub(super) fn approximate(tree: &impl AbstractTree, (start, end): &(Bytes, Bytes)) -> u64 {
    tree.current_version()
        .iter_tables()
        .map(|table| {
            let keys = &table.metadata.key_range;
            let (first, last) = (keys.min(), keys.max());
            let from = position(start, first, last);
            let to = position(end, first, last);
            (table.metadata.file_size as f64 * (to - from).max(0.0)) as u64
        })
        .sum()
}

/// Where `key` lies between `first` and `last`, from 0 to 1.
fn position(key: &[u8], first: &[u8], last: &[u8]) -> f64 {
    if key <= first {
        return 0.0;
    }
    if key > last {
        return 1.0;
    }
    let shared = first.iter().zip(last).take_while(|(a, b)| a == b).count();
    // Read as fractions whose digits are bytes, or decimal where all three keys have a digit.
    let (mut low, mut at, mut high) = (0.0, 0.0, 0.0);
    let mut weight = 1.0;
    for place in shared..shared + DIGITS {
        let byte = |bytes: &[u8]| bytes.get(place).copied();
        let bytes = [byte(first), byte(key), byte(last)];
        let decimal = bytes.iter().all(|byte| byte.is_none_or(|byte| byte.is_ascii_digit()));
        let (zero, base) = if decimal { (b'0', 10.0) } else { (0, 256.0) };
        weight /= base;
        let [a, b, c] = bytes.map(|byte| f64::from(byte.unwrap_or(zero) - zero) * weight);
        (low, at, high) = (low + a, at + b, high + c);
    }
    if high > low { ((at - low) / (high - low)).clamp(0.0, 1.0) } else { 0.5 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_place_between_the_first_and_the_last() {
        assert_eq!(position(b"a", b"b", b"c"), 0.0);
        assert_eq!(position(b"d", b"b", b"c"), 1.0);
        let middle = position(b"prefix-5", b"prefix-0", b"prefix-9");
        assert!((0.55..0.56).contains(&middle), "{middle}");
        let middle = position(b"\x80", b"\x00", b"\xFF\xFF");
        assert!((0.49..0.51).contains(&middle), "{middle}");
        assert_eq!(position(b"k", b"k", b"k"), 0.0);
        assert_eq!(position(b"k\0", b"k", b"k"), 1.0);
    }
}
