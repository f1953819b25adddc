//! Eight bits a value on a map whose levels lie closer the nearer they are to zero: seven decades, each with twice the levels of
//! the one below. Blocks of 256 share one scale, their largest magnitude.
//!
//! Invariants: a code is the one that the midpoint rule gives (as many midpoints as lie strictly below the value), whatever the
//! instruction set; zero is a level of both maps, so a block of zeros stays one.
//!
//! **Source:** Dettmers et al. 2022, "8-bit optimizers via block-wise quantization", section 2; the levels are those of
//! bitsandbytes `create_dynamic_map`.

use std::sync::LazyLock;

/// Values that share a scale.
pub const DYNAMIC_BLOCK: usize = 256;
/// The exponents of ten of the map.
const DECADES: i32 = 7;
/// Mantissa bits of a value that pick its bucket: fine enough that no bucket holds two midpoints of either map.
const BUCKET_BITS: u32 = 7;
/// The bits of an `f32` that are no part of its bucket.
const SHIFT: u32 = f32::MANTISSA_DIGITS - 1 - BUCKET_BITS;
/// The bucket of magnitudes below 2^-25, where neither map has a midpoint but that of zero itself.
const FIRST: u32 = (0.5f32.to_bits() >> SHIFT) - 24 * (1 << BUCKET_BITS);
/// Buckets of one sign, the last being that of 1.
const BUCKETS: usize = ((1.0f32.to_bits() >> SHIFT) - FIRST + 1) as usize;

/// Says which numbers a map is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DynamicMap {
    /// -0.99297 to 1.
    Signed,
    /// 0 to 1, with twice the levels.
    Unsigned,
}

/// A map made ready for coding.
pub(crate) struct Codebook {
    levels: [f32; 256],
    /// `midpoints[c]` lies between levels `c` and `c + 1`; above the last level there is none.
    midpoints: [f32; 256],
    /// Midpoints below the least value of each bucket: negative ones in the first half.
    below: Vec<u8>,
}

/// The 256 levels of a map, ascending.
///
/// The edges are counted from the nearer end with one rounding, as the library that computed the published table does;
/// otherwise some levels differ in their last bit.
pub fn dynamic_levels(map: DynamicMap) -> Vec<f32> {
    let mut levels = vec![0.0f32, 1.0];
    for decade in 0..DECADES {
        let parts = match map {
            DynamicMap::Signed => 1u32 << decade,
            DynamicMap::Unsigned => 2 << decade,
        };
        let step = (1.0 - 0.1f32) / parts as f32;
        let edge = |k: u32| {
            if k < parts.div_ceil(2) {
                step.mul_add(k as f32, 0.1)
            } else {
                (-step).mul_add((parts - k) as f32, 1.0)
            }
        };
        let factor = 10f64.powi(decade - (DECADES - 1)) as f32;
        for part in 0..parts {
            let level = (edge(part) + edge(part + 1)) / 2.0 * factor;
            levels.push(level);
            if map == DynamicMap::Signed {
                levels.push(-level);
            }
        }
    }
    levels.sort_by(f32::total_cmp);
    levels
}

impl Codebook {
    fn new(map: DynamicMap) -> Codebook {
        let levels: [f32; 256] = dynamic_levels(map).try_into().expect("a map has 256 levels");
        let midpoints = std::array::from_fn(|c| match levels.get(c + 1) {
            Some(next) => (levels[c] + next) / 2.0,
            None => f32::INFINITY,
        });
        let below = |value: f32| midpoints.iter().filter(|midpoint| **midpoint < value).count() as u8;
        let edge = |bucket: u32| f32::from_bits((FIRST + bucket) << SHIFT);
        let buckets = 0..BUCKETS as u32;
        // The least value of a negative bucket is the one of the largest magnitude that is still in it.
        let negative = buckets.clone().map(|bucket| below(-edge(bucket + 1).next_down()));
        let positive = buckets.map(|bucket| match bucket {
            0 => below(0.0),
            _ => below(edge(bucket)),
        });
        Codebook {
            below: negative.chain(positive).collect(),
            levels,
            midpoints,
        }
    }

    /// The map, made once.
    pub(crate) fn of(map: DynamicMap) -> &'static Codebook {
        static SIGNED: LazyLock<Codebook> = LazyLock::new(|| Codebook::new(DynamicMap::Signed));
        static UNSIGNED: LazyLock<Codebook> = LazyLock::new(|| Codebook::new(DynamicMap::Unsigned));
        match map {
            DynamicMap::Signed => &SIGNED,
            DynamicMap::Unsigned => &UNSIGNED,
        }
    }

    /// The code of zero.
    pub(crate) fn zero(&self) -> u8 {
        self.code(0.0)
    }

    /// The code of a number from -1 to 1.
    ///
    /// A bucket holds one midpoint at most, so there are two codes to choose from.
    #[inline(always)]
    pub(crate) fn code(&self, value: f32) -> u8 {
        let bits = value.to_bits();
        let bucket = ((bits & 0x7fff_ffff) >> SHIFT).saturating_sub(FIRST) as usize;
        let half = if bits >> 31 == 0 { BUCKETS } else { 0 };
        let code = self.below[half + bucket.min(BUCKETS - 1)];
        code + u8::from(self.midpoints[usize::from(code)] < value)
    }

    /// The level of a code.
    #[inline(always)]
    pub(crate) fn level(&self, code: u8) -> f32 {
        self.levels[usize::from(code)]
    }

    /// The codes of a block, and the scale that they are to be multiplied with.
    #[inline(always)]
    pub(crate) fn encode(&self, values: &[f32], codes: &mut [u8]) -> f32 {
        let mut lanes = [0.0f32; 16];
        for chunk in values.chunks(16) {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane = lane.max(x.abs());
            }
        }
        let scale = lanes.iter().fold(0.0f32, |greatest, lane| greatest.max(*lane));
        // A quotient, where bitsandbytes takes the product with a reciprocal: that of the least numbers is infinite.
        let divisor = if scale == 0.0 { 1.0 } else { scale };
        for (code, x) in codes.iter_mut().zip(values) {
            *code = self.code(x / divisor);
        }
        scale
    }

    /// The values of a block.
    #[inline(always)]
    pub(crate) fn decode(&self, codes: &[u8], scale: f32, values: &mut [f32]) {
        for (x, code) in values.iter_mut().zip(codes) {
            *x = self.level(*code) * scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_the_rule(levels: &[f32], value: f32) -> u8 {
        levels
            .windows(2)
            .filter(|pair| (pair[0] + pair[1]) / 2.0 < value)
            .count() as u8
    }

    #[test]
    fn the_table_gives_the_codes_of_the_midpoint_rule() {
        for map in [DynamicMap::Signed, DynamicMap::Unsigned] {
            let codebook = Codebook::of(map);
            let levels = dynamic_levels(map);
            let check = |value: f32| assert_eq!(codebook.code(value), by_the_rule(&levels, value), "{map:?} {value:e}");
            // Around every level and every midpoint, and around every edge of a bucket.
            let midpoints = levels.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0);
            let edges = (0..BUCKETS as u32).map(|bucket| f32::from_bits((FIRST + bucket) << SHIFT));
            for value in levels.iter().copied().chain(midpoints).chain(edges) {
                for value in [value, -value] {
                    for near in [value.next_down(), value, value.next_up()] {
                        check(near.clamp(-1.0, 1.0));
                    }
                }
            }
            for value in [0.0, -0.0, f32::MIN_POSITIVE, 1e-45, -1e-45, 1.0, -1.0] {
                check(value);
            }
            assert_eq!(codebook.level(codebook.zero()).to_bits(), 0);
        }
    }

    #[test]
    fn levels_keep_their_codes_and_the_smallest_numbers_do_not_overflow() {
        for codebook in [DynamicMap::Signed, DynamicMap::Unsigned].map(Codebook::of) {
            let (mut values, mut codes) = ([0.0f32; 256], [0u8; 256]);
            let all: [u8; 256] = std::array::from_fn(|code| code as u8);
            for scale in [1.0, 3.5e-7, 1e30] {
                codebook.decode(&all, scale, &mut values);
                assert_eq!(codebook.encode(&values, &mut codes), scale);
                assert_eq!(codes, all, "scale {scale:e}");
            }
            assert_eq!(codebook.encode(&[1e-45, 0.0], &mut codes), 1e-45);
            assert_eq!(codes[..2], [255, codebook.zero()]);
            assert_eq!(codebook.encode(&[0.0; 256], &mut codes), 0.0);
            assert_eq!(codes, [codebook.zero(); 256]);
        }
    }
}
