//! Super-blocks of 256 whose sub-blocks of 16 have a signed scale and no minimum: Q3_K, Q6_K; and Q8_K, which only
//! activations use.
//!
//! Value = `d * scale[s] * code`. **Source:** ggml `block_q3_K`, `block_q6_K`, `block_q8_K`.

use super::{SUPER_BLOCK, half_at};

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
