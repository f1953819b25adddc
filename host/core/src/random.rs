//! Random numbers as a function of a seed, a stream's name and a position.
//!
//! Invariants: no stream consumes another's draws, so switching one feature on never shifts another; a stream can be
//! made again at any position without replaying what came before, which is what makes resuming exact; every number is
//! the same on every machine.

use crate::digest::{Sha256, first_eight};

/// Step of the counter: 2^64 divided by the golden ratio, odd.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A SplitMix64 generator.
///
/// **Source:** Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", section 3.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// Makes the generator that starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Makes the generator of stream `name` at position `index` under `seed`.
    pub fn stream(seed: u64, name: &str, index: &[u64]) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        for i in index {
            hash.update(i.to_le_bytes());
        }
        Self::new(u64::from_le_bytes(first_eight(&hash.finish())))
    }

    /// Returns the next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        mix(self.state)
    }

    /// Returns a number in `0..n`; `n` must not be 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// Returns a number in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        unit(self.next_u64())
    }

    /// Returns a number strictly between 0 and 1.
    pub fn unit_open(&mut self) -> f64 {
        ((self.next_u64() >> 11) as f64 + 0.5) / UNIT_STEPS
    }

    /// Says yes with the given probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Shuffles in place (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// Fractions that the top 53 bits tell apart: as many as a double holds.
const UNIT_STEPS: f64 = (1u64 << 53) as f64;

/// Draw number `index` of the generator that starts at `seed`: no state, so any draw can be repeated alone.
pub fn draw(seed: u64, index: u64) -> u64 {
    mix(seed.wrapping_add((index + 1).wrapping_mul(GAMMA)))
}

/// Random bits as a number in `[0, 1)`.
pub fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / UNIT_STEPS
}

/// The output function of SplitMix64: spreads every bit of `z` over all bits of the result.
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// **Source:** the author's `splitmix64.c` (Vigna 2015), started at 1234567.
    const FROM_1234567: [u64; 5] = [
        6_457_827_717_110_365_317,
        3_203_168_211_198_807_973,
        9_817_491_932_198_370_423,
        4_593_380_528_125_082_431,
        16_408_922_859_458_223_821,
    ];

    #[test]
    fn the_published_numbers_come_out() {
        let mut random = Rng::new(1_234_567);
        for (index, expected) in FROM_1234567.into_iter().enumerate() {
            assert_eq!(random.next_u64(), expected);
            assert_eq!(draw(1_234_567, index as u64), expected, "the same draw alone");
        }
    }

    /// The adapters that were trained so far depend on these.
    #[test]
    fn streams_keep_their_numbers() {
        let first = |seed, name, index: &[u64]| Rng::stream(seed, name, index).next_u64();
        assert_eq!(first(1, "noise", &[0, 0]), 8_786_492_638_705_543_942);
        assert_eq!(first(42, "shuffle", &[3]), 2_072_660_638_963_902_256);
    }

    #[test]
    fn streams_differ_by_seed_name_and_position() {
        let first = |seed, name, index: &[u64]| Rng::stream(seed, name, index).next_u64();
        let base = first(1, "noise", &[0, 0]);
        assert_eq!(base, first(1, "noise", &[0, 0]));
        assert_ne!(base, first(2, "noise", &[0, 0]));
        assert_ne!(base, first(1, "shuffle", &[0, 0]));
        assert_ne!(base, first(1, "noise", &[0, 1]));
    }

    #[test]
    fn below_stays_in_range_and_reaches_both_ends() {
        let mut random = Rng::stream(7, "test", &[]);
        let seen: std::collections::BTreeSet<usize> = (0..200).map(|_| random.below(5)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), vec![0, 1, 2, 3, 4]);
    }

    #[test]
    fn shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..50).collect();
        Rng::stream(3, "shuffle", &[1]).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
