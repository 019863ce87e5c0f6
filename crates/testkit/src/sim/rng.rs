//! Every choice of a run, from one seed: streams of numbers that do not disturb each other.
//!
//! A run that draws all its choices from one sequence changes from end to end when somebody adds
//! one draw somewhere. Here each part of the world has a stream of its own, named after what it is
//! for, and a stream depends on the seed and its name alone:
//!
//! ```
//! use kiva_testkit::sim::Rng;
//!
//! let mut root = Rng::seeded(42);
//! let before = root.stream("network").next_u64();
//! root.next_u64();
//! root.stream("faults").next_u64();
//! assert_eq!(root.stream("network").next_u64(), before);
//! ```

use std::hash::{BuildHasher, Hasher};
use std::ops::Range;
use std::time::Duration;

use kiva_base::map::Seeded;

/// A stream of numbers: SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number
/// Generators", OOPSLA 2014). Not for secrets.
#[derive(Clone, Debug)]
pub struct Rng {
    /// What the stream was made from: its identity, which drawing does not change.
    key: u64,
    state: u64,
}

impl Rng {
    /// The stream with this seed.
    pub const fn seeded(seed: u64) -> Self {
        Self { key: seed, state: seed }
    }

    /// The stream of this name below this one. It is the same whenever it is asked for.
    pub fn stream(&self, name: &str) -> Self {
        self.numbered(name, 0)
    }

    /// One of many streams of the same name.
    pub fn numbered(&self, name: &str, number: u64) -> Self {
        let mut hasher = Seeded::new(self.key).build_hasher();
        hasher.write(name.as_bytes());
        hasher.write_u64(number);
        // The hash is simple, so its result is stirred before it becomes a state.
        Self::seeded(mixed(hasher.finish()))
    }

    /// The next number, any of them.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed(self.state)
    }

    /// A number of `range`, each as likely as the others.
    ///
    /// # Panics
    ///
    /// When the range is empty.
    pub fn number(&mut self, range: Range<u64>) -> u64 {
        assert!(range.start < range.end, "nothing to draw from {range:?}");
        let span = u128::from(range.end - range.start);
        // The high half of a product maps 64 random bits onto the range; the bias is the length
        // of the range over 2^64.
        range.start + ((u128::from(self.next_u64()) * span) >> 64) as u64
    }

    /// A position of a list of this length.
    ///
    /// # Panics
    ///
    /// When the length is zero.
    pub fn position(&mut self, length: usize) -> usize {
        self.number(0..length as u64) as usize
    }

    /// One of these, unless there is none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.position(from.len())) }
    }

    /// In any order, each as likely as the others (Fisher and Yates).
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for end in (1..list.len()).rev() {
            list.swap(end, self.position(end + 1));
        }
    }

    /// A time of `range`, in whole microseconds; the start of an empty range.
    pub fn duration(&mut self, range: &Range<Duration>) -> Duration {
        let (start, end) = (micros(range.start), micros(range.end));
        Duration::from_micros(if start < end { self.number(start..end) } else { start })
    }

    /// Whether something of this likelihood happens now. Draws a number in any case, so that
    /// making an event impossible does not move the others.
    pub fn happens(&mut self, chance: Chance) -> bool {
        self.number(0..u64::from(Chance::WHOLE)) < u64::from(chance.per_million)
    }
}

fn mixed(state: u64) -> u64 {
    let mut mixed = state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).expect("a simulated time is far below half a million years")
}

/// How likely something is, in millionths. At most one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Chance {
    per_million: u32,
}

impl Chance {
    /// It does not happen.
    pub const NEVER: Self = Self { per_million: 0 };
    /// It always happens.
    pub const ALWAYS: Self = Self { per_million: Self::WHOLE };

    const WHOLE: u32 = 1_000_000;

    /// So many times out of a hundred.
    pub const fn percent(percent: u32) -> Self {
        Self::per_million(percent.saturating_mul(10_000))
    }

    /// So many times out of a million; more than that is always.
    pub const fn per_million(per_million: u32) -> Self {
        let per_million = if per_million > Self::WHOLE { Self::WHOLE } else { per_million };
        Self { per_million }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_depends_on_the_seed_and_its_name_alone() {
        let draws = |mut rng: Rng| (0..8).map(|_| rng.next_u64()).collect::<Vec<_>>();
        let root = Rng::seeded(7);
        let mut used = root.clone();
        used.next_u64();
        assert_eq!(draws(root.stream("disk")), draws(used.stream("disk")));
        assert_ne!(draws(root.stream("disk")), draws(root.stream("network")));
        assert_ne!(draws(root.stream("disk")), draws(Rng::seeded(8).stream("disk")));
        assert_ne!(draws(root.numbered("disk", 1)), draws(root.numbered("disk", 2)));
        assert_ne!(draws(root.stream("a").stream("b")), draws(root.stream("b").stream("a")));
    }

    #[test]
    fn neighbouring_seeds_have_nothing_in_common() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..10_000 {
            let mut stream = Rng::seeded(seed).stream("network");
            assert!(seen.insert(stream.next_u64()), "seed {seed} begins like another");
        }
    }

    #[test]
    fn every_number_of_a_range_is_drawn() {
        let mut rng = Rng::seeded(1);
        let mut seen = [0; 10];
        (0..1_000).for_each(|_| seen[rng.number(10..20) as usize - 10] += 1);
        assert!(seen.iter().all(|&count| count > 50), "{seen:?}");
    }

    #[test]
    fn chances_are_what_they_say() {
        let mut rng = Rng::seeded(1);
        let mut count = |chance| (0..100_000).filter(|_| rng.happens(chance)).count();
        assert_eq!(count(Chance::NEVER), 0);
        assert_eq!(count(Chance::ALWAYS), 100_000);
        assert!((9_500..10_500).contains(&count(Chance::percent(10))));
        assert_eq!(Chance::percent(1_000), Chance::ALWAYS);
    }

    #[test]
    fn a_shuffled_list_holds_what_it_held() {
        let mut list: Vec<_> = (0..100).collect();
        Rng::seeded(3).shuffle(&mut list);
        assert!(!list.is_sorted());
        list.sort_unstable();
        assert!(list.into_iter().eq(0..100));
    }
}
