//! Keys and values that can be recognised, and the choices between them, all from one seed.

use std::ops::RangeInclusive;

use bytes::Bytes;
use kiva_base::KeyRange;

/// Bytes that a value may have: its header at least, and at most what one page of a scan can hold
/// a few of.
pub(crate) const SIZE_RANGE: RangeInclusive<usize> = 16..=1024 * 1024;

/// Steps through 2^64 numbers in an order that looks random (SplitMix64: Steele, Lea, Flood, "Fast
/// splittable pseudorandom number generators", OOPSLA 2014).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// A stream of its own for every pair of numbers.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        Self(mix(seed) ^ mix(stream.wrapping_add(0x5851_F42D_4C95_7F2D)))
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `bound`, which is not zero; all are equally likely, but for one part in
    /// 2^64 / `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// Which keys a run concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Raw keys.
    Raw,
    /// Transactional keys, which must not meet the raw ones of a version 1 cluster.
    Txn,
}

/// The 16 bytes of a key: family, seed, position. Keys sort like their positions.
pub(crate) fn key(family: Family, seed: u64, index: u64) -> Bytes {
    Bytes::from(format!("{}{index:09}", prefix(family, seed)))
}

/// All keys of a family and seed from `index` on.
pub(crate) fn range_from(family: Family, seed: u64, index: u64) -> KeyRange {
    let all = KeyRange::prefix(prefix(family, seed));
    KeyRange::new(key(family, seed, index), all.end().clone())
        .expect("a key lies before the end of its prefix")
}

fn prefix(family: Family, seed: u64) -> String {
    let family = match family {
        Family::Raw => 'r',
        Family::Txn => 't',
    };
    format!("{family}{:05x}/", mix(seed) & 0xF_FFFF)
}

/// The value of the write `sequence` to the key `index`: both, then bytes that follow from them.
pub(crate) fn value(seed: u64, index: u64, sequence: u64, size: usize) -> Bytes {
    let mut out = Vec::with_capacity(size + 8);
    out.extend_from_slice(&sequence.to_be_bytes());
    out.extend_from_slice(&index.to_be_bytes());
    let mut filler = Random::new(seed ^ sequence, index);
    while out.len() < size {
        out.extend_from_slice(&filler.next().to_be_bytes());
    }
    out.truncate(size);
    out.into()
}

/// The number of the write that left this value, if it is a value of this key at all.
pub(crate) fn sequence_of(seed: u64, index: u64, found: &[u8]) -> Option<u64> {
    let sequence = u64::from_be_bytes(found.first_chunk().copied()?);
    (found == value(seed, index, sequence, found.len())).then_some(sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_sixteen_bytes_and_sort_like_their_positions() {
        let keys: Vec<_> = (0..1_000).map(|index| key(Family::Raw, 7, index)).collect();
        assert!(keys.is_sorted() && keys.iter().all(|key| key.len() == 16));
        assert_ne!(key(Family::Raw, 7, 1), key(Family::Raw, 8, 1));
        assert_ne!(key(Family::Raw, 7, 1), key(Family::Txn, 7, 1));
        assert!(range_from(Family::Raw, 7, 5).contains(&keys[999]));
        assert!(!range_from(Family::Raw, 7, 5).contains(&keys[4]));
    }

    #[test]
    fn a_value_tells_its_write_and_nothing_else_passes_for_one() {
        for size in [16, 17, 256] {
            let good = value(1, 5, 9, size);
            assert_eq!(good.len(), size);
            assert_eq!(sequence_of(1, 5, &good), Some(9));
            assert_eq!(sequence_of(1, 6, &good), None);
            let mut bad = good.to_vec();
            bad[size - 1] ^= 1;
            assert_eq!(sequence_of(1, 5, &bad), None);
        }
        assert_eq!(sequence_of(2, 5, &value(1, 5, 9, 32)), None);
        assert_eq!(sequence_of(1, 5, b"short"), None);
    }

    #[test]
    fn choices_follow_from_the_seed_and_reach_everything() {
        let draw = |seed, stream| {
            let mut random = Random::new(seed, stream);
            (0..100).map(|_| random.below(10)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        let drawn = draw(1, 2);
        assert!((0..10).all(|number| drawn.contains(&number)));
    }
}
