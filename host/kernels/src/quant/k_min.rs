//! Super-blocks of 256 whose sub-blocks have a scale and a minimum: Q2_K (16 of 16), Q4_K and Q5_K (8 of 32).
//!
//! Value = `d * scale[s] * code - dmin * min[s]`. **Source:** ggml `block_q2_K`, `block_q4_K`, `block_q5_K`.

use super::lanes::{Lanes, round};
use super::search::{MinSearch, Weights, fit_positive, fit_scale_min};
use super::{SUPER_BLOCK, half_at, importance_weights, put_half};

/// Unpacks the eight 6-bit scales and eight 6-bit minima of Q4_K and Q5_K from their 12 bytes.
#[inline(always)]
pub(super) fn unpack_scales(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for j in 0..4 {
        scales[j] = packed[j] & 63;
        mins[j] = packed[j + 4] & 63;
        scales[j + 4] = (packed[j + 8] & 15) | (packed[j] >> 6) << 4;
        mins[j + 4] = (packed[j + 8] >> 4) | (packed[j + 4] >> 6) << 4;
    }
    (scales, mins)
}

#[inline(always)]
fn scale_bytes(block: &[u8], at: usize) -> &[u8; 12] {
    block[at..at + 12]
        .first_chunk()
        .expect("the slice is twelve bytes long")
}

#[inline(always)]
pub(super) fn decode_q2_k(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes
        .as_chunks::<84>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<SUPER_BLOCK>().0)
    {
        let (d, d_min) = (half_at(block, 80), half_at(block, 82));
        for (sub, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            // Sub-blocks walk a half of 128: two of 16 bytes share one 2-bit position.
            let (part, shift) = (sub / 8, (sub % 8) / 2 * 2);
            let start = 16 + 32 * part + 16 * (sub % 2);
            let (scale, min) = (d * f32::from(block[sub] & 15), d_min * f32::from(block[sub] >> 4));
            for j in 0..16 {
                out[j] = scale * f32::from((block[start + j] >> shift) & 3) - min;
            }
        }
    }
}

#[inline(always)]
pub(super) fn decode_q4_k(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes
        .as_chunks::<144>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<SUPER_BLOCK>().0)
    {
        let (d, d_min) = (half_at(block, 0), half_at(block, 2));
        let (scales, mins) = unpack_scales(scale_bytes(block, 4));
        for (pair, out) in out.as_chunks_mut::<64>().0.iter_mut().enumerate() {
            let codes = &block[16 + 32 * pair..48 + 32 * pair];
            let (low, high) = (2 * pair, 2 * pair + 1);
            let (scale_low, min_low) = (d * f32::from(scales[low]), d_min * f32::from(mins[low]));
            let (scale_high, min_high) = (d * f32::from(scales[high]), d_min * f32::from(mins[high]));
            for j in 0..32 {
                out[j] = scale_low * f32::from(codes[j] & 15) - min_low;
                out[j + 32] = scale_high * f32::from(codes[j] >> 4) - min_high;
            }
        }
    }
}

#[inline(always)]
pub(super) fn decode_q5_k(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes
        .as_chunks::<176>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<SUPER_BLOCK>().0)
    {
        let (d, d_min) = (half_at(block, 0), half_at(block, 2));
        let (scales, mins) = unpack_scales(scale_bytes(block, 4));
        let fifth = &block[16..48];
        for (pair, out) in out.as_chunks_mut::<64>().0.iter_mut().enumerate() {
            let codes = &block[48 + 32 * pair..80 + 32 * pair];
            let (low, high) = (2 * pair, 2 * pair + 1);
            let (scale_low, min_low) = (d * f32::from(scales[low]), d_min * f32::from(mins[low]));
            let (scale_high, min_high) = (d * f32::from(scales[high]), d_min * f32::from(mins[high]));
            for j in 0..32 {
                let low_code = (codes[j] & 15) | ((fifth[j] >> low) & 1) << 4;
                let high_code = (codes[j] >> 4) | ((fifth[j] >> high) & 1) << 4;
                out[j] = scale_low * f32::from(low_code) - min_low;
                out[j + 32] = scale_high * f32::from(high_code) - min_high;
            }
        }
    }
}

/// The search under an importance vector, for every type of this file.
const WEIGHTED: MinSearch = MinSearch {
    size: 32,
    code_max: 15.0,
    start: -0.9,
    step: 0.05,
    last: 36,
    absolute: false,
};

/// What the search found for up to sixteen sub-blocks.
struct SubBlockFit {
    scales: [f32; 16],
    mins: [f32; 16],
    codes: [u8; 2 * SUPER_BLOCK],
    /// The sum of weights per sub-block; zero without importance.
    weights: [f32; 16],
}

/// Fits the sub-blocks of one or two super-blocks.
#[inline(always)]
fn fit<V: Lanes>(plain: &MinSearch, weights: Weights<'_>, x: &[f32], importance: Option<(&[f32], f32)>) -> SubBlockFit {
    let mut found = SubBlockFit {
        scales: [0.0; 16],
        mins: [0.0; 16],
        codes: [0; 2 * SUPER_BLOCK],
        weights: [0.0; 16],
    };
    let size = plain.size;
    let SubBlockFit {
        scales,
        mins,
        codes,
        weights: sums,
    } = &mut found;
    match importance {
        None => fit_scale_min::<V>(plain, x, weights, codes, scales, mins),
        Some((importance, factor)) => {
            let weights = importance_weights(x, importance, SUPER_BLOCK, factor);
            for (sum, weights) in sums.iter_mut().zip(weights.chunks(size)) {
                *sum = weights.iter().fold(0.0, |sum, weight| sum + weight);
            }
            let search = MinSearch {
                size,
                code_max: plain.code_max,
                ..WEIGHTED
            };
            fit_scale_min::<V>(&search, x, Weights::Given(&weights), codes, scales, mins);
        }
    }
    found
}

/// Quantizes the scales of one super-block: codes and the factor that restores them.
#[inline(always)]
fn scale_codes(code_max: f32, scales: &[f32], weights: Option<&[f32]>, codes: &mut [u8]) -> f32 {
    if let Some(weights) = weights {
        return fit_positive(code_max, scales, weights, codes);
    }
    let greatest = scales
        .iter()
        .fold(0.0f32, |max, scale| if *scale > max { *scale } else { max });
    if greatest <= 0.0 {
        codes.fill(0);
        return 0.0;
    }
    let inverse = code_max / greatest;
    for (code, scale) in codes.iter_mut().zip(scales) {
        *code = round(inverse * scale).min(code_max) as u8;
    }
    greatest / code_max
}

/// Re-derives the codes of a sub-block from the scale and minimum that were really stored.
#[inline(always)]
fn requantize(x: &[f32], scale: f32, min: f32, code_max: f32, codes: &mut [u8]) {
    if scale == 0.0 {
        return;
    }
    for (x, code) in x.iter().zip(codes) {
        *code = round((x + min) / scale).min(code_max).max(0.0) as i32 as u8;
    }
}

/// Packs the scales and minima of Q4_K and Q5_K, the inverse of [`unpack_scales`].
#[inline(always)]
fn pack_scales(scales: &[u8; 8], mins: &[u8; 8], out: &mut [u8]) {
    for j in 0..4 {
        out[j] = scales[j] | (scales[j + 4] >> 4) << 6;
        out[j + 4] = mins[j] | (mins[j + 4] >> 4) << 6;
        out[j + 8] = (scales[j + 4] & 15) | (mins[j + 4] & 15) << 4;
    }
}

/// Fits and writes the heads (scales) of Q4_K or Q5_K super-blocks; hands back the final codes.
#[inline(always)]
fn encode_heads<V: Lanes>(
    plain: &MinSearch,
    x: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
    block_bytes: usize,
) -> [u8; 2 * SUPER_BLOCK] {
    let weighted = importance.map(|importance| (importance, 2.0));
    let mut found = fit::<V>(plain, Weights::RmsPlusMagnitude, x, weighted);
    for (i, (x, out)) in x
        .as_chunks::<SUPER_BLOCK>()
        .0
        .iter()
        .zip(out.chunks_exact_mut(block_bytes))
        .enumerate()
    {
        let range = 8 * i..8 * i + 8;
        let weights = importance.map(|_| &found.weights[range.clone()]);
        let (mut scales, mut mins) = ([0; 8], [0; 8]);
        put_half(
            out,
            0,
            scale_codes(63.0, &found.scales[range.clone()], weights, &mut scales),
        );
        put_half(out, 2, scale_codes(63.0, &found.mins[range], weights, &mut mins));
        pack_scales(&scales, &mins, &mut out[4..16]);
        let (d, d_min) = (half_at(out, 0), half_at(out, 2));
        for sub in 0..8 {
            let codes = &mut found.codes[SUPER_BLOCK * i + 32 * sub..][..32];
            let (scale, min) = (d * f32::from(scales[sub]), d_min * f32::from(mins[sub]));
            requantize(&x[32 * sub..][..32], scale, min, plain.code_max, codes);
        }
    }
    found.codes
}

#[inline(always)]
pub(super) fn encode_q4_k<V: Lanes>(x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let plain = MinSearch {
        size: 32,
        code_max: 15.0,
        start: -1.0,
        step: 0.1,
        last: 20,
        absolute: false,
    };
    for (pair, (x, out)) in x.chunks(2 * SUPER_BLOCK).zip(out.chunks_mut(2 * 144)).enumerate() {
        let importance = importance.map(|all| &all[2 * SUPER_BLOCK * pair..][..x.len()]);
        let codes = encode_heads::<V>(&plain, x, importance, out, 144);
        for (codes, out) in codes
            .as_chunks::<SUPER_BLOCK>()
            .0
            .iter()
            .zip(out.as_chunks_mut::<144>().0)
        {
            for (codes, out) in codes.as_chunks::<64>().0.iter().zip(out[16..].as_chunks_mut::<32>().0) {
                for j in 0..32 {
                    out[j] = codes[j] | codes[j + 32] << 4;
                }
            }
        }
    }
}

#[inline(always)]
pub(super) fn encode_q5_k<V: Lanes>(x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let plain = MinSearch {
        size: 32,
        code_max: 31.0,
        start: -0.5,
        step: 0.1,
        last: 15,
        absolute: false,
    };
    for (pair, (x, out)) in x.chunks(2 * SUPER_BLOCK).zip(out.chunks_mut(2 * 176)).enumerate() {
        let importance = importance.map(|all| &all[2 * SUPER_BLOCK * pair..][..x.len()]);
        let codes = encode_heads::<V>(&plain, x, importance, out, 176);
        for (codes, out) in codes
            .as_chunks::<SUPER_BLOCK>()
            .0
            .iter()
            .zip(out.as_chunks_mut::<176>().0)
        {
            let (fifth, low) = out[16..].split_at_mut(32);
            fifth.fill(0);
            for (pair, (codes, out)) in codes
                .as_chunks::<64>()
                .0
                .iter()
                .zip(low.as_chunks_mut::<32>().0)
                .enumerate()
            {
                for j in 0..32 {
                    out[j] = (codes[j] & 15) | (codes[j + 32] & 15) << 4;
                    fifth[j] |= (codes[j] >> 4) << (2 * pair) | (codes[j + 32] >> 4) << (2 * pair + 1);
                }
            }
        }
    }
}

#[inline(always)]
pub(super) fn encode_q2_k<V: Lanes>(x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let plain = MinSearch {
        size: 16,
        code_max: 3.0,
        start: -0.5,
        step: 0.1,
        last: 15,
        absolute: true,
    };
    for (i, (x, out)) in x
        .as_chunks::<SUPER_BLOCK>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<84>().0)
        .enumerate()
    {
        let weighted = importance.map(|all| (&all[SUPER_BLOCK * i..][..SUPER_BLOCK], 1.0));
        let mut found = fit::<V>(&plain, Weights::Magnitude, x, weighted);
        let weights = importance.map(|_| &found.weights[..]);
        let (mut scales, mut mins) = ([0; 16], [0; 16]);
        put_half(out, 80, scale_codes(15.0, &found.scales, weights, &mut scales));
        put_half(out, 82, scale_codes(15.0, &found.mins, weights, &mut mins));
        let (d, d_min) = (half_at(out, 80), half_at(out, 82));
        for sub in 0..16 {
            out[sub] = scales[sub] | mins[sub] << 4;
            let (scale, min) = (d * f32::from(scales[sub]), d_min * f32::from(mins[sub]));
            requantize(
                &x[16 * sub..][..16],
                scale,
                min,
                3.0,
                &mut found.codes[16 * sub..][..16],
            );
        }
        for (codes, out) in found
            .codes
            .as_chunks::<128>()
            .0
            .iter()
            .zip(out[16..80].as_chunks_mut::<32>().0)
        {
            for j in 0..32 {
                out[j] = codes[j] | codes[j + 32] << 2 | codes[j + 64] << 4 | codes[j + 96] << 6;
            }
        }
    }
}
