//! Blocks of 32 with one scale (Q4_0, Q5_0, Q8_0) or a scale and a minimum (Q4_1, Q5_1).
//!
//! Element `j` of a block sits in the low half of byte `j`, element `j + 16` in the high half; the fifth bits of the
//! Q5 types are one 32-bit word. **Source:** ggml `block_q4_0` and its siblings.

use super::lanes::Lanes;
use super::search::{MinSearch, Weights, fit_scale, fit_scale_min};
use super::{BLOCK, half_at, importance_weights, put_half};

const HALF: usize = BLOCK / 2;

#[inline(always)]
pub(super) fn decode_q4_0(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<18>().0.iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        let scale = half_at(block, 0);
        for j in 0..HALF {
            let byte = block[2 + j];
            out[j] = f32::from((byte & 15) as i8 - 8) * scale;
            out[j + HALF] = f32::from((byte >> 4) as i8 - 8) * scale;
        }
    }
}

#[inline(always)]
pub(super) fn decode_q4_1(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<20>().0.iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        let (scale, min) = (half_at(block, 0), half_at(block, 2));
        for j in 0..HALF {
            let byte = block[4 + j];
            out[j] = f32::from(byte & 15) * scale + min;
            out[j + HALF] = f32::from(byte >> 4) * scale + min;
        }
    }
}

#[inline(always)]
fn fifth_bits(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

#[inline(always)]
pub(super) fn decode_q5_0(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<22>().0.iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        let scale = half_at(block, 0);
        let high = fifth_bits(block, 2);
        for j in 0..HALF {
            let byte = u32::from(block[6 + j]);
            let low_code = (byte & 15) | ((high >> j) & 1) << 4;
            let high_code = (byte >> 4) | ((high >> (j + HALF)) & 1) << 4;
            out[j] = (low_code as i32 - 16) as f32 * scale;
            out[j + HALF] = (high_code as i32 - 16) as f32 * scale;
        }
    }
}

#[inline(always)]
pub(super) fn decode_q5_1(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<24>().0.iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        let (scale, min) = (half_at(block, 0), half_at(block, 2));
        let high = fifth_bits(block, 4);
        for j in 0..HALF {
            let byte = u32::from(block[8 + j]);
            let low_code = (byte & 15) | ((high >> j) & 1) << 4;
            let high_code = (byte >> 4) | ((high >> (j + HALF)) & 1) << 4;
            out[j] = low_code as i32 as f32 * scale + min;
            out[j + HALF] = high_code as i32 as f32 * scale + min;
        }
    }
}

#[inline(always)]
pub(super) fn decode_q8_0(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<34>().0.iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        let scale = half_at(block, 0);
        for j in 0..BLOCK {
            out[j] = f32::from(block[2 + j] as i8) * scale;
        }
    }
}

/// The search of Q4_1 and Q5_1 under an importance vector; the plain encoders span least to greatest.
const MIN_SEARCH: MinSearch = MinSearch {
    size: BLOCK,
    code_max: 15.0,
    start: -0.9,
    step: 0.05,
    last: 36,
    absolute: false,
};

/// The value of largest magnitude, the first of them.
///
/// Magnitudes are compared as integers, because an integer maximum needs no order and so becomes vector code.
#[inline(always)]
fn peak(block: &[f32; BLOCK]) -> f32 {
    let magnitude = block.iter().map(|x| x.to_bits() & 0x7fff_ffff).fold(0, u32::max);
    let first = (0..BLOCK as u32)
        .map(|j| {
            if block[j as usize].to_bits() & 0x7fff_ffff == magnitude {
                j
            } else {
                BLOCK as u32
            }
        })
        .fold(BLOCK as u32, u32::min);
    block.get(first as usize).copied().unwrap_or(0.0)
}

/// Maps a float to an integer of the same order, and back.
#[inline(always)]
fn ordered(bits: i32) -> i32 {
    bits ^ ((bits >> 31) & 0x7fff_ffff)
}

#[inline(always)]
fn span(block: &[f32; BLOCK]) -> (f32, f32) {
    let keys = block.map(|x| ordered(x.to_bits() as i32));
    let least = keys.iter().copied().fold(i32::MAX, i32::min);
    let greatest = keys.iter().copied().fold(i32::MIN, i32::max);
    (
        f32::from_bits(ordered(least) as u32),
        f32::from_bits(ordered(greatest) as u32),
    )
}

#[inline(always)]
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// Packs the low four bits of 32 codes into 16 bytes.
#[inline(always)]
fn pack_nibbles(codes: &[u8; BLOCK], out: &mut [u8]) {
    for j in 0..HALF {
        out[j] = (codes[j] & 15) | codes[j + HALF] << 4;
    }
}

/// Gathers the fifth bits of 32 codes.
#[inline(always)]
fn pack_fifth(codes: &[u8; BLOCK], out: &mut [u8]) {
    let mut high = 0u32;
    for (j, code) in codes.iter().enumerate() {
        high |= u32::from(code >> 4 & 1) << j;
    }
    out[..4].copy_from_slice(&high.to_le_bytes());
}

#[inline(always)]
pub(super) fn encode_q8_0(x: &[f32], out: &mut [u8]) {
    for (x, out) in x.as_chunks::<BLOCK>().0.iter().zip(out.as_chunks_mut::<34>().0) {
        let scale = peak(x).abs() / 127.0;
        let inverse = inverse(scale);
        put_half(out, 0, scale);
        for j in 0..BLOCK {
            // Half away from zero: the nearest float below one half keeps sums just under .5 from rounding up.
            let scaled = x[j] * inverse;
            out[2 + j] = (scaled + 0.499_999_97_f32.copysign(scaled)) as i32 as u8;
        }
    }
}

/// The codes of a block whose value of largest magnitude becomes the lowest code.
#[inline(always)]
fn plain_codes(x: &[f32; BLOCK], half: f32) -> (f32, [u8; BLOCK]) {
    let scale = peak(x) / -half;
    let inverse = inverse(scale);
    (
        scale,
        x.map(|x| (x * inverse + (half + 0.5)).min(2.0 * half - 1.0) as i32 as u8),
    )
}

/// The codes of a block that spans from its least to its greatest value.
#[inline(always)]
fn plain_codes_min(x: &[f32; BLOCK], code_max: f32) -> (f32, f32, [u8; BLOCK]) {
    let (least, greatest) = span(x);
    let scale = (greatest - least) / code_max;
    let inverse = inverse(scale);
    (
        scale,
        least,
        x.map(|x| ((x - least) * inverse + 0.5).min(code_max) as i32 as u8),
    )
}

#[inline(always)]
pub(super) fn encode_q4_0<V: Lanes>(x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let searched = importance.map(|importance| search_scales::<V>(x, importance, 8.0));
    for (i, (x, out)) in x
        .as_chunks::<BLOCK>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<18>().0)
        .enumerate()
    {
        let (scale, codes) = searched
            .as_ref()
            .map_or_else(|| plain_codes(x, 8.0), |found| found.block(i));
        put_half(out, 0, scale);
        pack_nibbles(&codes, &mut out[2..]);
    }
}

#[inline(always)]
pub(super) fn encode_q5_0<V: Lanes>(x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let searched = importance.map(|importance| search_scales::<V>(x, importance, 16.0));
    for (i, (x, out)) in x
        .as_chunks::<BLOCK>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<22>().0)
        .enumerate()
    {
        let (scale, codes) = searched
            .as_ref()
            .map_or_else(|| plain_codes(x, 16.0), |found| found.block(i));
        put_half(out, 0, scale);
        pack_fifth(&codes, &mut out[2..]);
        pack_nibbles(&codes, &mut out[6..]);
    }
}

#[inline(always)]
pub(super) fn encode_q4_1<V: Lanes>(x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let searched = importance.map(|importance| search_scales_min::<V>(x, importance, 15.0));
    for (i, (x, out)) in x
        .as_chunks::<BLOCK>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<20>().0)
        .enumerate()
    {
        let (scale, min, codes) = searched
            .as_ref()
            .map_or_else(|| plain_codes_min(x, 15.0), |found| found.block_min(i));
        put_half(out, 0, scale);
        put_half(out, 2, min);
        pack_nibbles(&codes, &mut out[4..]);
    }
}

#[inline(always)]
pub(super) fn encode_q5_1<V: Lanes>(x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let searched = importance.map(|importance| search_scales_min::<V>(x, importance, 31.0));
    for (i, (x, out)) in x
        .as_chunks::<BLOCK>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<24>().0)
        .enumerate()
    {
        let (scale, min, codes) = searched
            .as_ref()
            .map_or_else(|| plain_codes_min(x, 31.0), |found| found.block_min(i));
        put_half(out, 0, scale);
        put_half(out, 2, min);
        pack_fifth(&codes, &mut out[4..]);
        pack_nibbles(&codes, &mut out[8..]);
    }
}

/// What a search found for every block of a row.
struct ScaleSearch {
    scales: Vec<f32>,
    /// Subtracted from `scale * code`; empty for types without a minimum.
    mins: Vec<f32>,
    codes: Vec<u8>,
}

impl ScaleSearch {
    fn block(&self, i: usize) -> (f32, [u8; BLOCK]) {
        let codes = self.codes[i * BLOCK..]
            .first_chunk()
            .expect("one code per value was searched");
        (self.scales[i], *codes)
    }

    fn block_min(&self, i: usize) -> (f32, f32, [u8; BLOCK]) {
        let (scale, codes) = self.block(i);
        // 0 - x, not -x: no minimum is written as plus zero.
        (scale, 0.0 - self.mins[i], codes)
    }
}

#[inline(always)]
fn search_scales<V: Lanes>(x: &[f32], importance: &[f32], half: f32) -> ScaleSearch {
    let weights = importance_weights(x, importance, x.len(), 1.0);
    let blocks = x.len() / BLOCK;
    let mut found = ScaleSearch {
        scales: vec![0.0; blocks],
        mins: Vec::new(),
        codes: vec![0; x.len()],
    };
    fit_scale::<V>(BLOCK, half, x, Some(&weights), &mut found.codes, &mut found.scales);
    found
}

#[inline(always)]
fn search_scales_min<V: Lanes>(x: &[f32], importance: &[f32], code_max: f32) -> ScaleSearch {
    let weights = importance_weights(x, importance, x.len(), 1.0);
    let blocks = x.len() / BLOCK;
    let mut found = ScaleSearch {
        scales: vec![0.0; blocks],
        mins: vec![0.0; blocks],
        codes: vec![0; x.len()],
    };
    let search = MinSearch { code_max, ..MIN_SEARCH };
    let weights = Weights::Given(&weights);
    fit_scale_min::<V>(
        &search,
        x,
        weights,
        &mut found.codes,
        &mut found.scales,
        &mut found.mins,
    );
    found
}
