//! Four-bit normal floats: blocks of 64 over sixteen levels that follow a normal distribution, with one scale each;
//! the scales may be quantized once more, in blocks of 256.
//!
//! **Source:** QLoRA (Dettmers et al. 2023), section 3; the rules of rounding are those of `tests/golden/quant`.

use super::dynamic::{Codebook, DynamicMap};
use crate::ctx::Ctx;
use crate::lanes::per_simd;

/// Values that share a scale.
pub const NF4_BLOCK: usize = 64;
/// Scales that share a second scale.
pub const NF4_SCALE_BLOCK: usize = 256;

/// The sixteen levels. Level 7 is zero; the eight above it do not mirror the seven below.
#[expect(
    clippy::excessive_precision,
    reason = "the decimal digits that the levels are published with"
)]
pub const NF4_LEVELS: [f32; 16] = [
    -1.0,
    -0.696_192_800_998_687_74,
    -0.525_073_051_452_636_72,
    -0.394_917_488_098_144_53,
    -0.284_441_381_692_886_35,
    -0.184_773_430_228_233_34,
    -0.091_050_036_251_544_952,
    0.0,
    0.079_580_299_556_255_341,
    0.160_930_201_411_247_25,
    0.246_112_301_945_686_34,
    0.337_915_241_718_292_24,
    0.440_709_829_330_444_34,
    0.562_617_003_917_694_09,
    0.722_956_836_223_602_29,
    1.0,
];

/// The values that lie between two levels each: a value above one of them has the upper level.
const MIDPOINTS: [f32; 15] = {
    let mut midpoints = [0.0; 15];
    let mut i = 0;
    while i < 15 {
        midpoints[i] = (NF4_LEVELS[i] + NF4_LEVELS[i + 1]) / 2.0;
        i += 1;
    }
    midpoints
};

/// Scales quantized to eight bits around their mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Nf4Scales {
    /// One code per scale, into the levels of [`DynamicMap::Signed`].
    pub codes: Vec<u8>,
    /// The largest magnitude of each block of 256 scales, after the mean was taken off.
    pub factors: Vec<f32>,
    /// The mean of all scales.
    pub offset: f32,
}

fn greatest_magnitude(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |greatest, x| greatest.max(x.abs()))
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

#[inline(always)]
fn encode_body<const FUSED: bool>(x: &[f32], packed: &mut [u8], scales: &mut [f32]) {
    for ((block, out), scale) in x.chunks(NF4_BLOCK).zip(packed.chunks_mut(NF4_BLOCK / 2)).zip(scales) {
        *scale = greatest_magnitude(block);
        let inverse = inverse(*scale);
        let mut scaled = [0.0f32; NF4_BLOCK];
        scaled.iter_mut().zip(block).for_each(|(z, x)| *z = x * inverse);
        // Counting by level, not by value, keeps whole vectors busy.
        let mut codes = [0u32; NF4_BLOCK];
        for midpoint in MIDPOINTS {
            for (code, z) in codes.iter_mut().zip(&scaled) {
                *code += u32::from(midpoint < *z);
            }
        }
        for (j, out) in out.iter_mut().enumerate() {
            let second = if 2 * j + 1 < block.len() { codes[2 * j + 1] } else { 0 };
            *out = (codes[2 * j] << 4 | second) as u8;
        }
    }
}

per_simd!(fn encode_on(x: &[f32], packed: &mut [u8], scales: &mut [f32]) => encode_body);

/// Encodes values: two codes per byte, the earlier value in the high four bits, and the largest magnitude of each block. The last
/// block may be short.
///
/// **Panics:** when `packed` is not half as long, or `scales` has not one entry per block.
pub fn encode(ctx: &Ctx, x: &[f32], packed: &mut [u8], scales: &mut [f32]) {
    check_lengths(packed, scales.len(), x.len());
    encode_on(ctx.simd, x, packed, scales);
}

fn check_lengths(packed: &[u8], scales: usize, values: usize) {
    assert_eq!(packed.len(), values.div_ceil(2), "two values per byte");
    assert_eq!(scales, values.div_ceil(NF4_BLOCK), "one scale per block");
}

/// Decodes whole blocks (the last may be short) into `out`; `scales` are those of the encoding, or the ones that
/// [`Nf4Scales::decode`] restored.
///
/// **Panics:** when the lengths do not fit each other.
pub fn decode(packed: &[u8], scales: &[f32], out: &mut [f32]) {
    check_lengths(packed, scales.len(), out.len());
    for ((out, packed), scale) in out.chunks_mut(NF4_BLOCK).zip(packed.chunks(NF4_BLOCK / 2)).zip(scales) {
        decode_block(packed, *scale, out);
    }
}

/// Decodes one block, whole or short.
#[inline]
pub(crate) fn decode_block(packed: &[u8], scale: f32, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        if let (Some(packed), Some(out)) = (packed.as_array(), out.as_mut_array())
            && std::arch::is_x86_feature_detected!("avx512f")
        {
            // SAFETY: the feature was just found on this machine.
            unsafe { x86::decode_whole(packed, scale, out) };
            return;
        }
    }
    decode_each(packed, scale, out);
}

fn decode_each(packed: &[u8], scale: f32, out: &mut [f32]) {
    for (j, x) in out.iter_mut().enumerate() {
        let code = (packed[j / 2] >> if j % 2 == 0 { 4 } else { 0 }) & 15;
        *x = NF4_LEVELS[usize::from(code)] * scale;
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{NF4_BLOCK, NF4_LEVELS};

    /// The sixteen levels are one register: each code is looked up by one permutation.
    #[target_feature(enable = "avx512f")]
    pub(super) fn decode_whole(packed: &[u8; NF4_BLOCK / 2], scale: f32, out: &mut [f32; NF4_BLOCK]) {
        // SAFETY: the constant holds sixteen floats.
        let levels = unsafe { _mm512_loadu_ps(NF4_LEVELS.as_ptr()) };
        let levels = _mm512_mul_ps(levels, _mm512_set1_ps(scale));
        let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
        for (packed, out) in packed.as_chunks::<16>().0.iter().zip(out.as_chunks_mut::<32>().0) {
            // SAFETY: sixteen bytes are read.
            let bytes = unsafe { _mm_loadu_si128(packed.as_ptr().cast()) };
            let codes = _mm512_cvtepu8_epi32(bytes);
            let first = _mm512_permutexvar_ps(_mm512_srli_epi32::<4>(codes), levels);
            let second = _mm512_permutexvar_ps(_mm512_and_si512(codes, _mm512_set1_epi32(15)), levels);
            // SAFETY: thirty-two floats are written.
            unsafe {
                _mm512_storeu_ps(out.as_mut_ptr(), _mm512_permutex2var_ps(first, low, second));
                _mm512_storeu_ps(out.as_mut_ptr().add(16), _mm512_permutex2var_ps(first, high, second));
            }
        }
    }
}

impl Nf4Scales {
    /// Quantizes scales.
    pub fn encode(scales: &[f32]) -> Nf4Scales {
        let map = Codebook::of(DynamicMap::Signed);
        let offset = (scales.iter().map(|scale| f64::from(*scale)).sum::<f64>() / scales.len().max(1) as f64) as f32;
        let (mut codes, mut factors) = (Vec::with_capacity(scales.len()), Vec::new());
        for block in scales.chunks(NF4_SCALE_BLOCK) {
            let centered: Vec<f32> = block.iter().map(|scale| scale - offset).collect();
            let factor = greatest_magnitude(&centered);
            factors.push(factor);
            let inverse = inverse(factor);
            codes.extend(centered.iter().map(|scale| map.code(scale * inverse)));
        }
        Nf4Scales { codes, factors, offset }
    }

    /// Restores scale `index`.
    ///
    /// **Panics:** when there is no such scale.
    pub fn at(&self, index: usize) -> f32 {
        Codebook::of(DynamicMap::Signed).level(self.codes[index]) * self.factors[index / NF4_SCALE_BLOCK] + self.offset
    }

    /// Restores the scales.
    pub fn decode(&self) -> Vec<f32> {
        (0..self.codes.len()).map(|index| self.at(index)).collect()
    }

    /// Returns the bytes that they take.
    pub fn bytes(&self) -> usize {
        self.codes.len() + size_of_val(self.factors.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_same_bits, contexts, values};

    /// The midpoint rule: the number of midpoints strictly below, so that a tie goes to the lower level.
    fn nearest(levels: &[f32], value: f32) -> u8 {
        levels
            .windows(2)
            .filter(|pair| (pair[0] + pair[1]) / 2.0 < value)
            .count() as u8
    }

    #[test]
    fn every_instruction_set_encodes_and_decodes_alike() {
        let x = values(5 * NF4_BLOCK + 7, 1);
        let mut found = Vec::new();
        for ctx in contexts() {
            let mut packed = vec![0; x.len().div_ceil(2)];
            let mut scales = vec![0.0; x.len().div_ceil(NF4_BLOCK)];
            encode(&ctx, &x, &mut packed, &mut scales);
            for (block, (z, scale)) in x.chunks(NF4_BLOCK).zip(&scales).enumerate() {
                for (j, x) in z.iter().enumerate() {
                    let at = block * NF4_BLOCK + j;
                    let code = (packed[at / 2] >> if at.is_multiple_of(2) { 4 } else { 0 }) & 15;
                    assert_eq!(code, nearest(&NF4_LEVELS, x * inverse(*scale)), "value {at}");
                }
            }
            found.push((packed, scales));
        }
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]));
        let (packed, scales) = &found[0];
        let (mut fast, mut slow) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        decode(packed, scales, &mut fast);
        for ((out, packed), scale) in slow.chunks_mut(NF4_BLOCK).zip(packed.chunks(NF4_BLOCK / 2)).zip(scales) {
            decode_each(packed, *scale, out);
        }
        assert_same_bits(&fast, &slow, "values");
    }
}
