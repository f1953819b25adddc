//! Four bits over sixteen uneven levels: IQ4_NL (blocks of 32) and IQ4_XS (super-blocks with 6-bit scales).
//!
//! **Source:** ggml `block_iq4_nl`, `block_iq4_xs` and its level table.

use super::lanes::round;
use super::search::ZERO_BLOCK;
use super::{BLOCK, SUPER_BLOCK, half_at, importance_weights, put_half};

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

/// Candidates on each side of the first guess.
const TRIES: i8 = 7;

/// Finds the level nearest to `x`; of two equally near the upper one.
#[inline(always)]
fn nearest_level(x: f32) -> u8 {
    if x <= f32::from(LEVELS[0]) {
        return 0;
    }
    let above = LEVELS.partition_point(|level| f32::from(*level) <= x);
    if above == LEVELS.len() {
        return 15;
    }
    let nearer_below = x - f32::from(LEVELS[above - 1]) < f32::from(LEVELS[above]) - x;
    if nearer_below { above as u8 - 1 } else { above as u8 }
}

/// Fits one scale to a block of 32, in the order of the definition.
fn fit_levels(x: &[f32], weights: &[f32]) -> f32 {
    let peak = x
        .iter()
        .fold(0.0f32, |peak, x| if x.abs() > peak.abs() { *x } else { peak });
    if peak.abs() < ZERO_BLOCK {
        return 0.0;
    }
    let sums = |inverse: f32| {
        let (mut sum_qx, mut sum_q2) = (0.0, 0.0);
        for (x, weight) in x.iter().zip(weights) {
            let level = f32::from(LEVELS[usize::from(nearest_level(inverse * x))]);
            sum_qx += weight * level * x;
            sum_q2 += weight * level * level;
        }
        (sum_qx, sum_q2)
    };
    let lowest = f32::from(LEVELS[0]);
    let (sum_qx, sum_q2) = sums(1.0 / (-peak / lowest));
    let mut scale = if sum_q2 > 0.0 { sum_qx / sum_q2 } else { 0.0 };
    let mut best = scale * sum_qx;
    for step in -TRIES..=TRIES {
        let (sum_qx, sum_q2) = sums((f32::from(step) + lowest) / peak);
        if sum_q2 > 0.0 && sum_qx * sum_qx > best * sum_q2 {
            scale = sum_qx / sum_q2;
            best = scale * sum_qx;
        }
    }
    scale
}

fn weights_of(x: &[f32], importance: Option<&[f32]>) -> Vec<f32> {
    match importance {
        Some(importance) => importance_weights(x, importance, x.len(), 2.0),
        None => x.iter().map(|x| x * x).collect(),
    }
}

fn pack_levels(x: &[f32], scale: f32, out: &mut [u8]) {
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    for j in 0..16 {
        out[j] = nearest_level(inverse * x[j]) | nearest_level(inverse * x[j + 16]) << 4;
    }
}

pub(super) fn encode_iq4_nl(x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    for (i, (x, out)) in x
        .as_chunks::<BLOCK>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<18>().0)
        .enumerate()
    {
        let weights = weights_of(x, importance.map(|all| &all[BLOCK * i..][..BLOCK]));
        let scale = fit_levels(x, &weights);
        put_half(out, 0, scale);
        pack_levels(x, scale, &mut out[2..]);
    }
}

pub(super) fn encode_iq4_xs(x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    for (i, (x, out)) in x
        .as_chunks::<SUPER_BLOCK>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<136>().0)
        .enumerate()
    {
        let weights = weights_of(x, importance.map(|all| &all[SUPER_BLOCK * i..][..SUPER_BLOCK]));
        let mut scales = [0.0; 8];
        for (sub, scale) in scales.iter_mut().enumerate() {
            *scale = fit_levels(&x[BLOCK * sub..][..BLOCK], &weights[BLOCK * sub..][..BLOCK]);
        }
        let peak = scales
            .iter()
            .fold(0.0f32, |peak, x| if x.abs() > peak.abs() { *x } else { peak });
        let d = -peak / 32.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        out.fill(0);
        put_half(out, 0, d);
        let mut high = 0u16;
        for (sub, scale) in scales.iter().enumerate() {
            let code = round(inverse * scale).clamp(-32.0, 31.0);
            pack_levels(&x[BLOCK * sub..][..BLOCK], d * code, &mut out[8 + 16 * sub..][..16]);
            let code = (code + 32.0) as u8;
            out[4 + sub / 2] |= (code & 15) << (4 * (sub % 2));
            high |= u16::from(code >> 4) << (2 * sub);
        }
        out[2..4].copy_from_slice(&high.to_le_bytes());
    }
}
