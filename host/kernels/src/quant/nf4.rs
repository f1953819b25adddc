//! Four-bit normal floats: blocks of 64 over sixteen levels that follow a normal distribution, with one scale each;
//! the scales may be quantized once more, in blocks of 256.
//!
//! **Source:** QLoRA (Dettmers et al. 2023), section 3; the rules of rounding are those of `tests/golden/quant`.

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

/// A matrix in NF4 with one `f32` scale per block.
#[derive(Clone, Debug, PartialEq)]
pub struct Nf4 {
    /// Two codes per byte, the earlier value in the high four bits.
    pub packed: Vec<u8>,
    /// The largest magnitude of each block.
    pub scales: Vec<f32>,
}

/// Scales quantized to eight bits around their mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Nf4Scales {
    /// One code per scale, into [`dynamic_levels`].
    pub codes: Vec<u8>,
    /// The largest magnitude of each block of 256 scales, after the mean was taken off.
    pub factors: Vec<f32>,
    /// The mean of all scales.
    pub offset: f32,
}

/// The midpoint rule: the number of midpoints strictly below, so that a tie goes to the lower level.
fn nearest(levels: &[f32], value: f32) -> u8 {
    levels
        .windows(2)
        .filter(|pair| (pair[0] + pair[1]) / 2.0 < value)
        .count() as u8
}

fn greatest_magnitude(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |greatest, x| greatest.max(x.abs()))
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

impl Nf4 {
    /// Encodes values, row after row; the last block may be short.
    pub fn encode(x: &[f32]) -> Nf4 {
        let mut packed = vec![0; x.len().div_ceil(2)];
        let mut scales = Vec::with_capacity(x.len().div_ceil(NF4_BLOCK));
        for (block, out) in x.chunks(NF4_BLOCK).zip(packed.chunks_mut(NF4_BLOCK / 2)) {
            let scale = greatest_magnitude(block);
            let inverse = inverse(scale);
            scales.push(scale);
            for (j, x) in block.iter().enumerate() {
                out[j / 2] |= nearest(&NF4_LEVELS, x * inverse) << if j % 2 == 0 { 4 } else { 0 };
            }
        }
        Nf4 { packed, scales }
    }

    /// Decodes into `out`, with the given scales (its own, or the ones that [`Nf4Scales::decode`] restored).
    ///
    /// **Panics:** when the lengths do not fit each other.
    pub fn decode(packed: &[u8], scales: &[f32], out: &mut [f32]) {
        assert_eq!(packed.len(), out.len().div_ceil(2), "two values per byte");
        assert_eq!(scales.len(), out.len().div_ceil(NF4_BLOCK), "one scale per block");
        for ((out, packed), scale) in out.chunks_mut(NF4_BLOCK).zip(packed.chunks(NF4_BLOCK / 2)).zip(scales) {
            for (j, x) in out.iter_mut().enumerate() {
                let code = if j % 2 == 0 {
                    packed[j / 2] >> 4
                } else {
                    packed[j / 2] & 15
                };
                *x = NF4_LEVELS[usize::from(code)] * scale;
            }
        }
    }
}

/// The 256 levels of a scale: seven decades, each with twice the steps of the one below, both signs, and 0 and 1.
///
/// **Source:** bitsandbytes `create_dynamic_map`. The edges are counted from the nearer end with one rounding, as the
/// library that computed the published table does; otherwise some levels differ in their last bit.
pub fn dynamic_levels() -> Vec<f32> {
    let mut levels = vec![0.0f32, 1.0];
    for decade in 0..7 {
        let parts = 1u32 << decade;
        let step = (1.0 - 0.1f32) / parts as f32;
        let edge = |k: u32| {
            if k < parts.div_ceil(2) {
                step.mul_add(k as f32, 0.1)
            } else {
                (-step).mul_add((parts - k) as f32, 1.0)
            }
        };
        let factor = 10f64.powi(decade - 6) as f32;
        for part in 0..parts {
            let level = (edge(part) + edge(part + 1)) / 2.0 * factor;
            levels.extend([level, -level]);
        }
    }
    levels.sort_by(f32::total_cmp);
    levels
}

impl Nf4Scales {
    /// Quantizes scales.
    pub fn encode(scales: &[f32]) -> Nf4Scales {
        let levels = dynamic_levels();
        let offset = (scales.iter().map(|scale| f64::from(*scale)).sum::<f64>() / scales.len().max(1) as f64) as f32;
        let (mut codes, mut factors) = (Vec::with_capacity(scales.len()), Vec::new());
        for block in scales.chunks(NF4_SCALE_BLOCK) {
            let centered: Vec<f32> = block.iter().map(|scale| scale - offset).collect();
            let factor = greatest_magnitude(&centered);
            factors.push(factor);
            let inverse = inverse(factor);
            codes.extend(centered.iter().map(|scale| nearest(&levels, scale * inverse)));
        }
        Nf4Scales { codes, factors, offset }
    }

    /// Restores the scales.
    pub fn decode(&self) -> Vec<f32> {
        let levels = dynamic_levels();
        let mut scales = Vec::with_capacity(self.codes.len());
        for (codes, factor) in self.codes.chunks(NF4_SCALE_BLOCK).zip(&self.factors) {
            scales.extend(
                codes
                    .iter()
                    .map(|code| levels[usize::from(*code)] * factor + self.offset),
            );
        }
        scales
    }
}
