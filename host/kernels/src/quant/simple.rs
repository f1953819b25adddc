//! Blocks of 32 with one scale (Q4_0, Q5_0, Q8_0) or a scale and a minimum (Q4_1, Q5_1).
//!
//! Element `j` of a block sits in the low half of byte `j`, element `j + 16` in the high half; the fifth bits of the
//! Q5 types are one 32-bit word. **Source:** ggml `block_q4_0` and its siblings.

use super::{BLOCK, half_at};

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
