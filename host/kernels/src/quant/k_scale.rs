//! Super-blocks of 256 whose sub-blocks of 16 have a signed scale and no minimum: Q3_K, Q6_K; and Q8_K, which only
//! activations use.
//!
//! Value = `d * scale[s] * code`. **Source:** ggml `block_q3_K`, `block_q6_K`, `block_q8_K`.

use super::lanes::{Lanes, round};
use super::search::{ZERO_BLOCK, fit_scale, fit_scale_by_descent};
use super::{SUPER_BLOCK, half_at, importance_weights, put_half};

/// Unpacks the sixteen 6-bit scales of Q3_K (stored plus 32) from their 12 bytes.
#[inline(always)]
pub(super) fn unpack_q3_scales(packed: &[u8]) -> [i8; 16] {
    let mut scales = [0; 16];
    for (j, scale) in scales.iter_mut().enumerate() {
        let low = if j < 8 { packed[j] & 15 } else { packed[j - 8] >> 4 };
        let high = (packed[8 + j % 4] >> (2 * (j / 4))) & 3;
        *scale = (low | high << 4) as i8 - 32;
    }
    scales
}

#[inline(always)]
pub(super) fn decode_q3_k(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes
        .as_chunks::<110>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<SUPER_BLOCK>().0)
    {
        let d = half_at(block, 108);
        let scales = unpack_q3_scales(&block[96..108]);
        for (sub, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let (part, position) = (sub / 8, (sub % 8) / 2);
            let column = 16 * (sub % 2);
            let scale = d * f32::from(scales[sub]);
            for j in 0..16 {
                let low = (block[32 + 32 * part + column + j] >> (2 * position)) & 3;
                let high = (block[column + j] >> (4 * part + position)) & 1;
                out[j] = scale * f32::from((low | high << 2) as i8 - 4);
            }
        }
    }
}

#[inline(always)]
pub(super) fn decode_q6_k(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes
        .as_chunks::<210>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<SUPER_BLOCK>().0)
    {
        let d = half_at(block, 208);
        for part in 0..2 {
            let low = &block[64 * part..64 * part + 64];
            let high = &block[128 + 32 * part..160 + 32 * part];
            let scales = &block[192 + 8 * part..200 + 8 * part];
            let out = &mut out[128 * part..128 * part + 128];
            for quarter in 0..4 {
                for j in 0..32 {
                    let nibbles = low[j + 32 * (quarter % 2)] >> (4 * (quarter / 2)) & 15;
                    let code = (nibbles | (high[j] >> (2 * quarter) & 3) << 4) as i8 - 32;
                    out[32 * quarter + j] = d * f32::from(scales[2 * quarter + j / 16] as i8) * f32::from(code);
                }
            }
        }
    }
}

#[inline(always)]
pub(super) fn decode_q8_k(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes
        .as_chunks::<292>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<SUPER_BLOCK>().0)
    {
        let d = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
        for j in 0..SUPER_BLOCK {
            out[j] = d * f32::from(block[4 + j] as i8);
        }
    }
}

/// The value of largest magnitude, the first of them.
#[inline(always)]
fn peak(values: &[f32]) -> f32 {
    values
        .iter()
        .fold(0.0f32, |peak, x| if x.abs() > peak.abs() { *x } else { peak })
}

/// Re-derives the codes of a sub-block from the scale that was really stored.
#[inline(always)]
fn requantize(x: &[f32], scale: f32, half: f32, codes: &mut [u8]) {
    if scale == 0.0 {
        return;
    }
    for (x, code) in x.iter().zip(codes) {
        *code = (round(x / scale).min(half - 1.0).max(-half) + half) as i32 as u8;
    }
}

#[inline(always)]
pub(super) fn encode_q6_k<V: Lanes>(x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    for (i, (x, out)) in x
        .as_chunks::<SUPER_BLOCK>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<210>().0)
        .enumerate()
    {
        let importance = importance.map(|all| &all[SUPER_BLOCK * i..][..SUPER_BLOCK]);
        let (mut codes, mut scales) = ([0; SUPER_BLOCK], [0.0; 16]);
        fit_scale::<V>(16, 32.0, x, importance, &mut codes, &mut scales);
        let peak = peak(&scales);
        if peak.abs() < ZERO_BLOCK {
            out.fill(0);
            continue;
        }
        let inverse = -128.0 / peak;
        put_half(out, 208, 1.0 / inverse);
        let d = half_at(out, 208);
        for sub in 0..16 {
            let scale = round(inverse * scales[sub]).min(127.0) as i8;
            out[192 + sub] = scale as u8;
            requantize(
                &x[16 * sub..][..16],
                d * f32::from(scale),
                32.0,
                &mut codes[16 * sub..][..16],
            );
        }
        let (low, rest) = out.split_at_mut(128);
        let halves = low
            .as_chunks_mut::<64>()
            .0
            .iter_mut()
            .zip(rest[..64].as_chunks_mut::<32>().0);
        for (codes, (low, high)) in codes.as_chunks::<128>().0.iter().zip(halves) {
            for j in 0..32 {
                low[j] = (codes[j] & 15) | (codes[j + 64] & 15) << 4;
                low[j + 32] = (codes[j + 32] & 15) | (codes[j + 96] & 15) << 4;
                high[j] = codes[j] >> 4 | codes[j + 32] >> 4 << 2 | codes[j + 64] >> 4 << 4 | codes[j + 96] >> 4 << 6;
            }
        }
    }
}

/// Quantizes the sixteen scales of Q3_K without importance: codes 0..64, and the factor.
#[inline(always)]
fn plain_q3_scales(scales: &[f32; 16], codes: &mut [u8; 16]) -> f32 {
    let peak = peak(scales);
    if peak == 0.0 {
        return 0.0;
    }
    let inverse = -32.0 / peak;
    for (code, scale) in codes.iter_mut().zip(scales) {
        *code = (round(inverse * scale).clamp(-32.0, 31.0) + 32.0) as u8;
    }
    1.0 / inverse
}

#[inline(always)]
pub(super) fn encode_q3_k<V: Lanes>(x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    for (i, (x, out)) in x
        .as_chunks::<SUPER_BLOCK>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<110>().0)
        .enumerate()
    {
        let (mut codes, mut scales) = ([0; SUPER_BLOCK], [0.0; 16]);
        let mut scale_codes = [0; 16];
        let d = match importance {
            None => {
                fit_scale_by_descent::<V>(16, 4.0, x, &mut codes, &mut scales);
                plain_q3_scales(&scales, &mut scale_codes)
            }
            Some(all) => {
                let weights = importance_weights(x, &all[SUPER_BLOCK * i..][..SUPER_BLOCK], SUPER_BLOCK, 2.0);
                fit_scale::<V>(16, 4.0, x, Some(&weights), &mut codes, &mut scales);
                let mut sums = [0.0; 16];
                for (sum, weights) in sums.iter_mut().zip(weights.as_chunks::<16>().0) {
                    *sum = weights.iter().fold(0.0, |sum, weight| sum + weight);
                }
                let mut factor = [0.0];
                fit_scale::<f32>(16, 32.0, &scales, Some(&sums), &mut scale_codes, &mut factor);
                factor[0]
            }
        };
        out.fill(0);
        put_half(out, 108, d);
        for (j, code) in scale_codes.iter().enumerate() {
            let at = if j < 8 { 96 + j } else { 88 + j };
            out[at] |= (code & 15) << if j < 8 { 0 } else { 4 };
            out[104 + j % 4] |= (code >> 4) << (2 * (j / 4));
        }
        let d = half_at(out, 108);
        let stored = unpack_q3_scales(&out[96..108]);
        for sub in 0..16 {
            requantize(
                &x[16 * sub..][..16],
                d * f32::from(stored[sub]),
                4.0,
                &mut codes[16 * sub..][..16],
            );
        }
        for (j, code) in codes.iter().enumerate() {
            let (part, position, column) = (j / 128, j % 128 / 32, j % 32);
            out[column] |= (code >> 2 & 1) << (4 * part + position);
            out[32 + 32 * part + column] |= (code & 3) << (2 * position);
        }
    }
}
