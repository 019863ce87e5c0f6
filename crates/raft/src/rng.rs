//! A seeded generator for election timeouts: the only randomness here, and it is handed in.

/// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
///
/// Not for secrets. The same seed gives the same sequence on every machine.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The generator with this seed. Nodes of one group may share it: a node stirs its id in,
    /// because nodes with the same timeouts would campaign at the same tick for ever.
    pub const fn seeded(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Makes the sequences of two nodes with one seed differ.
    pub(crate) fn stir(&mut self, salt: u64) {
        self.state ^= salt.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
        self.next();
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of `start..end`, each as likely as the others.
    pub(crate) fn draw(&mut self, start: u32, end: u32) -> u32 {
        assert!(start < end, "nothing to draw from {start} to {end}");
        // The high half of a product maps 32 random bits onto the range, with a bias of less than
        // one in a hundred million for ranges this small.
        let span = u64::from(end - start);
        start + (((self.next() >> 32) * span) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_the_range_is_drawn() {
        let mut rng = Rng::seeded(1);
        let mut seen = [0; 10];
        for _ in 0..1_000 {
            seen[rng.draw(10, 20) as usize - 10] += 1;
        }
        assert!(seen.iter().all(|&count| count > 50), "{seen:?}");
    }

    #[test]
    fn nodes_with_one_seed_draw_differently() {
        let draws = |salt| {
            let mut rng = Rng::seeded(7);
            rng.stir(salt);
            (0..20).map(|_| rng.draw(10, 20)).collect::<Vec<_>>()
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        assert_ne!(draws(2), draws(3));
    }
}
