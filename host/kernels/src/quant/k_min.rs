//! Super-blocks of 256 whose sub-blocks have a scale and a minimum: Q2_K (16 of 16), Q4_K and Q5_K (8 of 32).
//!
//! Value = `d * scale[s] * code - dmin * min[s]`. **Source:** ggml `block_q2_K`, `block_q4_K`, `block_q5_K`.

use super::{SUPER_BLOCK, half_at};

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
