//! Four bits over sixteen uneven levels: IQ4_NL (blocks of 32) and IQ4_XS (super-blocks with 6-bit scales).
//!
//! **Source:** ggml `block_iq4_nl`, `block_iq4_xs` and its level table.

use super::{BLOCK, SUPER_BLOCK, half_at};

/// The sixteen levels, ascending.
pub(super) const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

#[inline(always)]
pub(super) fn decode_iq4_nl(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<18>().0.iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        let scale = half_at(block, 0);
        for j in 0..16 {
            out[j] = scale * f32::from(LEVELS[usize::from(block[2 + j] & 15)]);
            out[j + 16] = scale * f32::from(LEVELS[usize::from(block[2 + j] >> 4)]);
        }
    }
}

#[inline(always)]
pub(super) fn decode_iq4_xs(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes
        .as_chunks::<136>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<SUPER_BLOCK>().0)
    {
        let d = half_at(block, 0);
        let scales_high = u16::from_le_bytes([block[2], block[3]]);
        for (sub, out) in out.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            let low = (block[4 + sub / 2] >> (4 * (sub % 2))) & 15;
            let high = (scales_high >> (2 * sub)) as u8 & 3;
            let scale = d * f32::from((low | high << 4) as i8 - 32);
            for j in 0..16 {
                let byte = block[8 + 16 * sub + j];
                out[j] = scale * f32::from(LEVELS[usize::from(byte & 15)]);
                out[j + 16] = scale * f32::from(LEVELS[usize::from(byte >> 4)]);
            }
        }
    }
}
