//! How large a range is, from what the tables say of themselves.
//!
//! A table inside the range counts whole. Of a table that reaches over a bound a share counts: its
//! keys are taken to be spread evenly between its first and its last. So the answer is off by less
//! than a table per level and bound, and needs no read.

use bytes::Bytes;
use fjall::{AbstractTree, Keyspace};

pub(super) fn approximate(tree: &Keyspace, (start, end): &(Bytes, Bytes)) -> u64 {
    tree.tree
        .current_version()
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
    let number = |bytes: &[u8]| {
        let mut digits = [0; 8];
        let rest = bytes.get(shared..).unwrap_or_default();
        let len = rest.len().min(digits.len());
        digits[..len].copy_from_slice(&rest[..len]);
        u64::from_be_bytes(digits) as f64
    };
    let (low, high) = (number(first), number(last));
    if high > low {
        ((number(key) - low) / (high - low)).clamp(0.0, 1.0)
    } else {
        0.5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_place_between_the_first_and_the_last() {
        assert_eq!(position(b"a", b"b", b"c"), 0.0);
        assert_eq!(position(b"d", b"b", b"c"), 1.0);
        let middle = position(b"prefix-5", b"prefix-0", b"prefix-9");
        assert!((0.5..0.6).contains(&middle), "{middle}");
        assert_eq!(position(b"k", b"k", b"k"), 0.0);
        assert_eq!(position(b"k\0", b"k", b"k"), 1.0);
    }
}
