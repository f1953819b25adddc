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
/// Places of the table for one sign: a power of two, so that a mask keeps an index inside.
const PLACES: usize = BUCKETS.next_power_of_two();

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
    /// Midpoints below the least value of each bucket: positive ones in the first half, negative ones in the second.
    below: [u8; 2 * PLACES],
}

/// Where the table has the bucket of a number from -1 to 1.
#[inline(always)]
fn place(value: f32) -> u32 {
    let bits = value.to_bits();
    let bucket = ((bits & !(1 << 31)) >> SHIFT).saturating_sub(FIRST);
    bucket + (bits >> 31) * PLACES as u32
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
        let mut table = [0; 2 * PLACES];
        for bucket in 0..BUCKETS {
            let (from, to) = (bucket as u32, bucket as u32 + 1);
            table[bucket] = below(if bucket == 0 { 0.0 } else { edge(from) });
            // The least value of a negative bucket is the one of the largest magnitude that is still in it.
            table[PLACES + bucket] = below(-edge(to).next_down());
        }
        Codebook {
            below: table,
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
    #[inline(always)]
    pub(crate) fn code(&self, value: f32) -> u8 {
        self.code_at(place(value), value)
    }

    /// A bucket holds one midpoint at most, so there are two codes to choose from.
    #[inline(always)]
    fn code_at(&self, place: u32, value: f32) -> u8 {
        let code = self.below[place as usize % (2 * PLACES)];
        code + u8::from(self.midpoints[usize::from(code)] < value)
    }

    /// The level of a code.
    #[inline(always)]
    pub(crate) fn level(&self, code: u8) -> f32 {
        self.levels[usize::from(code)]
    }

    /// The codes of a block, and the scale that they are to be multiplied with. The loops that become vectors are apart from
    /// the one that looks up.
    ///
    /// **Panics:** when there are more values than a block has.
    #[inline(always)]
    pub(crate) fn encode(&self, values: &[f32], codes: &mut [u8]) -> f32 {
        let mut lanes = [0.0f32; 16];
        for chunk in values.chunks(16) {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane = lane.max(x.abs());
            }
        }
        let greatest = lanes.iter().fold(0.0f32, |greatest, lane| greatest.max(*lane));
        // The reciprocal of a number below the normal ones may be infinite: a block of such is one of zeros.
        let (scale, inverse) = match greatest >= f32::MIN_POSITIVE {
            true => (greatest, 1.0 / greatest),
            false => (0.0, 0.0),
        };
        let (mut scaled, mut places) = ([0.0f32; DYNAMIC_BLOCK], [0u32; DYNAMIC_BLOCK]);
        let (scaled, places) = (&mut scaled[..values.len()], &mut places[..values.len()]);
        for ((z, place_of), x) in scaled.iter_mut().zip(places.iter_mut()).zip(values) {
            *z = x * inverse;
            *place_of = place(*z);
        }
        for ((code, z), place) in codes.iter_mut().zip(scaled).zip(places) {
            *code = self.code_at(*place, *z);
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
    fn levels_keep_their_codes_and_the_smallest_numbers_are_zeros() {
        for codebook in [DynamicMap::Signed, DynamicMap::Unsigned].map(Codebook::of) {
            let (mut values, mut codes) = ([0.0f32; 256], [0u8; 256]);
            let all: [u8; 256] = std::array::from_fn(|code| code as u8);
            for scale in [1.0, 3.5e-7, 1e30] {
                codebook.decode(&all, scale, &mut values);
                assert_eq!(codebook.encode(&values, &mut codes), scale);
                assert_eq!(codes, all, "scale {scale:e}");
            }
            assert_eq!(
                codebook.encode(&[f32::MIN_POSITIVE, 0.0], &mut codes),
                f32::MIN_POSITIVE
            );
            assert_eq!(codes[..2], [255, codebook.zero()]);
            for tiny in [0.0, -0.0, 1e-45, f32::MIN_POSITIVE.next_down()] {
                assert_eq!(codebook.encode(&[tiny; 256], &mut codes), 0.0);
                assert_eq!(codes, [codebook.zero(); 256]);
            }
        }
    }
}
