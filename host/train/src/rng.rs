//! Random numbers as a function of a seed, a stream's name and a position.
//!
//! Invariants: no stream consumes another's draws, so switching one feature on never shifts another; a stream can be
//! made again at any position without replaying what came before, which is what makes resuming exact.

use sha2::{Digest, Sha256};

/// A SplitMix64 generator.
///
/// **Source:** Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", section 3.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// Makes the generator of stream `name` at position `index` under `seed`.
    pub fn stream(seed: u64, name: &str, index: &[u64]) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
        for i in index {
            hash.update(i.to_le_bytes());
        }
        let digest = hash.finalize();
        let mut first = [0u8; 8];
        first.copy_from_slice(&digest[..8]);
        Self {
            state: u64::from_le_bytes(first),
        }
    }

    /// Returns the next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a number in `0..n`; `n` must not be 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// Returns a number in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
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

#[cfg(test)]
mod tests {
    use super::Rng;

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
        let mut rng = Rng::stream(7, "test", &[]);
        let seen: std::collections::BTreeSet<usize> = (0..200).map(|_| rng.below(5)).collect();
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
