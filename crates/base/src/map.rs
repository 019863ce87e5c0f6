//! Hash maps whose hasher is seeded by an argument, so that two runs iterate alike.
//!
//! The standard map draws its seed from the system: two runs of one seed would differ. Use a
//! `BTreeMap` where order matters, and this where only speed does. The hash is not hardened against
//! chosen keys by itself: give a seed that users cannot guess where they choose the keys.

use std::hash::{BuildHasher, Hasher};

/// A hash map with a given seed.
#[expect(clippy::disallowed_types, reason = "this is the seeded form the rule asks for")]
pub type Map<K, V> = std::collections::HashMap<K, V, Seeded>;

/// A map that is empty and hashes with `seed`.
pub fn with_seed<K, V>(seed: u64) -> Map<K, V> {
    Map::with_hasher(Seeded { seed })
}

/// Makes hashers that begin at a seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seeded {
    seed: u64,
}

impl Seeded {
    /// The maker for this seed.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }
}

impl BuildHasher for Seeded {
    type Hasher = Mix;

    fn build_hasher(&self) -> Mix {
        Mix { state: self.seed ^ 0x9E37_79B9_7F4A_7C15 }
    }
}

/// Folds eight bytes at a time by a multiplication of 128 bits whose halves are combined.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    state: u64,
}

impl Mix {
    fn fold(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(0xA076_1D64_78BD_642F_u64);
        self.state = (product as u64 ^ (product >> 64) as u64).rotate_left(23);
    }
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.fold(u64::from_le_bytes(word.try_into().expect("chunks have eight bytes")));
        }
        let mut last = [0; 8];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        self.fold(u64::from_le_bytes(last));
        self.fold(bytes.len() as u64);
    }

    fn write_u64(&mut self, word: u64) {
        self.fold(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.fold(word as u64);
    }

    fn finish(&self) -> u64 {
        self.state ^ (self.state >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_iterates_alike_and_another_does_not() {
        let order = |seed| {
            let mut map = with_seed(seed);
            map.extend((0..1_000_u64).map(|key| (key, ())));
            map.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }

    #[test]
    fn neighbouring_keys_spread() {
        let slots = |i: u64| Seeded::new(7).hash_one(i.to_be_bytes()) % 64;
        let mut counts = [0_u32; 64];
        (0..6_400).for_each(|i| counts[slots(i) as usize] += 1);
        assert!(counts.iter().all(|&count| (50..170).contains(&count)), "{counts:?}");
    }
}
