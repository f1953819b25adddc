//! The searches for good scales that the block types share.
//!
//! Every search walks many blocks at once, one per lane, in the order of the scalar definition, so its bytes do not
//! hang on the width. **Source:** ggml `make_qx_quants`, `make_q3_quants`, `make_qkx2_quants`, `make_qkx3_quants`,
//! `make_qp_quants`: the candidates, the order and the comparisons are theirs, because equal bytes are the goal.

use super::lanes::{Lanes, WIDEST, round};

/// A block whose largest magnitude is below this counts as zero.
pub(super) const ZERO_BLOCK: f32 = 1e-15;
/// The largest block of a search.
const BLOCK_MAX: usize = 32;

/// How a scale with a minimum is searched.
#[derive(Clone, Copy)]
pub(super) struct MinSearch {
    /// Elements of a block: 16 or 32.
    pub size: usize,
    /// The largest code.
    pub code_max: f32,
    /// The first candidate is `code_max + start` steps wide, each next one `step` more.
    pub start: f32,
    pub step: f32,
    /// The number of the last candidate, from 0.
    pub last: u32,
    /// Measure by absolute instead of squared difference.
    pub absolute: bool,
}

/// Blocks seen one per lane: value `i` of lane `l` at `i * COUNT + l`.
struct TransposedBlocks {
    values: [f32; BLOCK_MAX * WIDEST],
}

impl TransposedBlocks {
    /// Turns up to `V::COUNT` blocks; missing ones repeat the last, their results are dropped.
    #[inline(always)]
    fn new<V: Lanes>(size: usize, blocks: &[f32]) -> TransposedBlocks {
        let mut values = [0.0; BLOCK_MAX * WIDEST];
        let last = blocks.len() / size - 1;
        for lane in 0..V::COUNT {
            let block = &blocks[lane.min(last) * size..][..size];
            for (i, value) in block.iter().enumerate() {
                values[i * V::COUNT + lane] = *value;
            }
        }
        TransposedBlocks { values }
    }

    #[inline(always)]
    fn at<V: Lanes>(&self, i: usize) -> V {
        V::load(&self.values[i * V::COUNT..])
    }
}

/// Writes the codes of the lanes back, block after block.
#[inline(always)]
fn turn_back<V: Lanes>(size: usize, turned: &[f32], codes: &mut [u8]) {
    for (lane, block) in codes.chunks_exact_mut(size).enumerate() {
        for (i, code) in block.iter_mut().enumerate() {
            *code = turned[i * V::COUNT + lane] as u8;
        }
    }
}

/// Fits `x = scale * (code - half)` per block of `size`, codes in `0..2 * half`, `half` given as a float.
///
/// Without weights a value weighs its square. `codes` and `scales` are filled for every block.
#[inline(always)]
pub(super) fn fit_scale<V: Lanes>(
    size: usize,
    half: f32,
    x: &[f32],
    weights: Option<&[f32]>,
    codes: &mut [u8],
    scales: &mut [f32],
) {
    let stride = size * V::COUNT;
    let mut fitted = [0.0; WIDEST];
    let mut turned_codes = [0.0; BLOCK_MAX * WIDEST];
    for (batch, x) in x.chunks(stride).enumerate() {
        let from = batch * stride;
        let values = TransposedBlocks::new::<V>(size, x);
        let weights = weights.map(|all| TransposedBlocks::new::<V>(size, &all[from..from + x.len()]));
        let scale = fit_scale_lanes::<V>(size, half, &values, weights.as_ref(), &mut turned_codes);
        scale.store(&mut fitted);
        let count = x.len() / size;
        scales[batch * V::COUNT..][..count].copy_from_slice(&fitted[..count]);
        turn_back::<V>(size, &turned_codes, &mut codes[from..from + x.len()]);
    }
}

#[inline(always)]
fn weight_at<V: Lanes>(weights: Option<&TransposedBlocks>, x: V, i: usize) -> V {
    match weights {
        Some(weights) => weights.at(i),
        None => x.mul(x),
    }
}

/// The value of largest magnitude (the first of them) and that magnitude.
#[inline(always)]
fn peak<V: Lanes>(size: usize, values: &TransposedBlocks) -> (V, V) {
    let (mut peak, mut magnitude) = (V::splat(0.0), V::splat(0.0));
    for i in 0..size {
        let x: V = values.at(i);
        let larger = x.abs().greater(magnitude);
        magnitude = V::select(larger, x.abs(), magnitude);
        peak = V::select(larger, x, peak);
    }
    (peak, magnitude)
}

#[inline(always)]
fn signed_code<V: Lanes>(value: V, half: f32) -> V {
    value.round().min(V::splat(half - 1.0)).max(V::splat(-half))
}

/// The sums that tell the best scale for the codes that `inverse` gives: weight times value times code, and times code
/// squared.
///
/// A function, not a closure: only what is inlined is compiled for the wide instructions of its caller.
#[inline(always)]
fn scale_sums<V: Lanes>(
    size: usize,
    half: f32,
    values: &TransposedBlocks,
    weights: Option<&TransposedBlocks>,
    inverse: V,
) -> (V, V) {
    let (mut sum_lx, mut sum_l2) = (V::splat(0.0), V::splat(0.0));
    for i in 0..size {
        let x: V = values.at(i);
        let code = signed_code(inverse.mul(x), half);
        let weight = weight_at(weights, x, i);
        sum_lx = sum_lx.add(weight.mul(x).mul(code));
        sum_l2 = sum_l2.add(weight.mul(code).mul(code));
    }
    (sum_lx, sum_l2)
}

#[inline(always)]
fn fit_scale_lanes<V: Lanes>(
    size: usize,
    half: f32,
    values: &TransposedBlocks,
    weights: Option<&TransposedBlocks>,
    codes: &mut [f32],
) -> V {
    let zero = V::splat(0.0);
    let (peak, magnitude) = peak::<V>(size, values);
    let mut inverse = V::splat(-half).div(peak);
    let (sum_lx, sum_l2) = scale_sums(size, half, values, weights, inverse);
    // A weight may be zero everywhere in a block; the quotient then has no meaning and the scale is zero.
    let mut scale = V::select(sum_l2.abs().greater(zero), sum_lx.div(sum_l2), zero);
    let mut best = scale.mul(sum_lx);
    for step in (-9i8..=9).filter(|step| *step != 0) {
        let candidate = V::splat(-(half + 0.1 * f32::from(step))).div(peak);
        let (sum_lx, sum_l2) = scale_sums(size, half, values, weights, candidate);
        let positive = sum_l2.greater(zero);
        let better = V::and(positive, sum_lx.mul(sum_lx).greater(best.mul(sum_l2)));
        inverse = V::select(better, candidate, inverse);
        scale = V::select(better, sum_lx.div(sum_l2), scale);
        best = V::select(better, scale.mul(sum_lx), best);
    }
    let alive = magnitude.greater(V::splat(ZERO_BLOCK));
    for i in 0..size {
        let code = signed_code(inverse.mul(values.at(i)), half).add(V::splat(half));
        V::select(alive, code, zero).store(&mut codes[i * V::COUNT..]);
    }
    V::select(alive, scale, zero)
}

/// Fits the eight codes of Q3_K without importance by walking one code at a time, five rounds at most.
#[inline(always)]
pub(super) fn fit_scale_by_descent<V: Lanes>(size: usize, half: f32, x: &[f32], codes: &mut [u8], scales: &mut [f32]) {
    let stride = size * V::COUNT;
    let mut fitted = [0.0; WIDEST];
    let mut turned_codes = [0.0; BLOCK_MAX * WIDEST];
    for (batch, x) in x.chunks(stride).enumerate() {
        let values = TransposedBlocks::new::<V>(size, x);
        descent_lanes::<V>(size, half, &values, &mut turned_codes).store(&mut fitted);
        let count = x.len() / size;
        scales[batch * V::COUNT..][..count].copy_from_slice(&fitted[..count]);
        turn_back::<V>(size, &turned_codes, &mut codes[batch * stride..][..x.len()]);
    }
}

#[inline(always)]
fn descent_lanes<V: Lanes>(size: usize, half: f32, values: &TransposedBlocks, codes: &mut [f32]) -> V {
    let zero = V::splat(0.0);
    let (peak, magnitude) = peak::<V>(size, values);
    let inverse = V::splat(-half).div(peak);
    let (mut sum_lx, mut sum_l2) = (zero, zero);
    for i in 0..size {
        let x: V = values.at(i);
        let code = signed_code(inverse.mul(x), half);
        code.store(&mut codes[i * V::COUNT..]);
        let weight = x.mul(x);
        sum_lx = sum_lx.add(weight.mul(x).mul(code));
        sum_l2 = sum_l2.add(weight.mul(code).mul(code));
    }
    // A round that changes nothing leaves the next one nothing to change, so lanes need no early end of their own.
    for _ in 0..5 {
        for i in 0..size {
            let x: V = values.at(i);
            let weight = x.mul(x);
            let old = V::load(&codes[i * V::COUNT..]);
            let rest_lx = sum_lx.sub(weight.mul(x).mul(old));
            let rest_l2 = sum_l2.sub(weight.mul(old).mul(old));
            let new = signed_code(x.mul(rest_l2).div(rest_lx), half);
            let new_lx = rest_lx.add(weight.mul(x).mul(new));
            let new_l2 = rest_l2.add(weight.mul(new).mul(new));
            let possible = V::and(rest_lx.greater(zero), new_l2.greater(zero));
            let gains = new_lx.mul(new_lx).mul(sum_l2).greater(sum_lx.mul(sum_lx).mul(new_l2));
            let differs = new.sub(old).abs().greater(zero);
            let change = V::and(V::and(possible, gains), differs);
            V::select(change, new, old).store(&mut codes[i * V::COUNT..]);
            sum_lx = V::select(change, new_lx, sum_lx);
            sum_l2 = V::select(change, new_l2, sum_l2);
        }
    }
    let alive = magnitude.greater(V::splat(ZERO_BLOCK));
    for i in 0..size {
        let code = V::load(&codes[i * V::COUNT..]).add(V::splat(half));
        V::select(alive, code, zero).store(&mut codes[i * V::COUNT..]);
    }
    V::select(V::and(alive, sum_l2.greater(zero)), sum_lx.div(sum_l2), zero)
}

/// What a value weighs in a search for a scale and a minimum.
#[derive(Clone, Copy)]
pub(super) enum Weights<'a> {
    /// One weight per value.
    Given(&'a [f32]),
    /// The root mean square of the block plus the value's magnitude.
    RmsPlusMagnitude,
    /// The value's magnitude.
    Magnitude,
}

impl Weights<'_> {
    #[inline(always)]
    fn turned<V: Lanes>(self, size: usize, from: usize, len: usize, values: &TransposedBlocks) -> TransposedBlocks {
        let base = match self {
            Weights::Given(all) => return TransposedBlocks::new::<V>(size, &all[from..from + len]),
            Weights::Magnitude => V::splat(0.0),
            Weights::RmsPlusMagnitude => {
                let mut sum = V::splat(0.0);
                for i in 0..size {
                    let x: V = values.at(i);
                    sum = sum.add(x.mul(x));
                }
                sum.div(V::splat(size as f32)).sqrt()
            }
        };
        let mut turned = TransposedBlocks {
            values: [0.0; BLOCK_MAX * WIDEST],
        };
        for i in 0..size {
            let weight = base.add(values.at::<V>(i).abs());
            weight.store(&mut turned.values[i * V::COUNT..]);
        }
        turned
    }
}

/// Fits `x = scale * code - min` per block, `min` not negative.
#[inline(always)]
pub(super) fn fit_scale_min<V: Lanes>(
    search: &MinSearch,
    x: &[f32],
    weights: Weights<'_>,
    codes: &mut [u8],
    scales: &mut [f32],
    mins: &mut [f32],
) {
    let size = search.size;
    let stride = size * V::COUNT;
    let mut fitted = [0.0; WIDEST];
    let mut turned_codes = [0.0; BLOCK_MAX * WIDEST];
    for (batch, x) in x.chunks(stride).enumerate() {
        let from = batch * stride;
        let values = TransposedBlocks::new::<V>(size, x);
        let weights = weights.turned::<V>(size, from, x.len(), &values);
        let (scale, min) = fit_scale_min_lanes::<V>(search, &values, &weights, &mut turned_codes);
        let count = x.len() / size;
        scale.store(&mut fitted);
        scales[batch * V::COUNT..][..count].copy_from_slice(&fitted[..count]);
        min.store(&mut fitted);
        mins[batch * V::COUNT..][..count].copy_from_slice(&fitted[..count]);
        turn_back::<V>(size, &turned_codes, &mut codes[from..from + x.len()]);
    }
}

#[inline(always)]
fn plain_code<V: Lanes>(value: V, code_max: V) -> V {
    value.max(V::splat(0.0)).min(code_max).round()
}

/// The weighted sums of a block: weight, weight times value, least value (at most 0), greatest value.
#[inline(always)]
fn block_sums<V: Lanes>(size: usize, values: &TransposedBlocks, weights: &TransposedBlocks) -> (V, V, V, V) {
    let x: V = values.at(0);
    let mut sum_w: V = weights.at(0);
    let mut sum_x = sum_w.mul(x);
    let (mut min, mut max) = (x, x);
    for i in 1..size {
        let (x, weight): (V, V) = (values.at(i), weights.at(i));
        min = x.min(min);
        max = x.max(max);
        sum_w = sum_w.add(weight);
        sum_x = sum_x.add(weight.mul(x));
    }
    let zero = V::splat(0.0);
    (sum_w, sum_x, V::select(min.greater(zero), zero, min), max)
}

/// A scale and a minimum, and what gave the codes that they belong to.
#[derive(Clone, Copy)]
struct Fit<V> {
    scale: V,
    min: V,
    inverse: V,
    code_min: V,
}

/// The weighted error of a fit.
#[inline(always)]
fn fit_error<V: Lanes>(search: &MinSearch, values: &TransposedBlocks, weights: &TransposedBlocks, fit: Fit<V>) -> V {
    let code_max = V::splat(search.code_max);
    let mut error = V::splat(0.0);
    for i in 0..search.size {
        let x: V = values.at(i);
        let code = plain_code(fit.inverse.mul(x.sub(fit.code_min)), code_max);
        let difference = fit.scale.mul(code).add(fit.min).sub(x);
        let cost = if search.absolute {
            difference.abs()
        } else {
            difference.mul(difference)
        };
        error = error.add(weights.at::<V>(i).mul(cost));
    }
    error
}

#[inline(always)]
fn fit_scale_min_lanes<V: Lanes>(
    search: &MinSearch,
    values: &TransposedBlocks,
    weights: &TransposedBlocks,
    codes: &mut [f32],
) -> (V, V) {
    let size = search.size;
    let (zero, code_max) = (V::splat(0.0), V::splat(search.code_max));
    let (sum_w, sum_x, mut min, max) = block_sums::<V>(size, values, weights);
    let alive = max.greater(min);
    let mut inverse = code_max.div(max.sub(min));
    let mut scale = V::splat(1.0).div(inverse);
    let mut code_min = min;
    let mut best = fit_error(
        search,
        values,
        weights,
        Fit {
            scale,
            min,
            inverse,
            code_min: min,
        },
    );
    for step in 0..=search.last {
        let width = search.start + search.step * step as f32 + search.code_max;
        let candidate = V::splat(width).div(max.sub(min));
        let (mut sum_l, mut sum_l2, mut sum_xl) = (zero, zero, zero);
        for i in 0..size {
            let (x, weight): (V, V) = (values.at(i), weights.at(i));
            let code = plain_code(candidate.mul(x.sub(min)), code_max);
            let weighted = weight.mul(code);
            sum_l = sum_l.add(weighted);
            sum_l2 = sum_l2.add(weighted.mul(code));
            sum_xl = sum_xl.add(weighted.mul(x));
        }
        let determinant = sum_w.mul(sum_l2).sub(sum_l.mul(sum_l));
        let new_min = sum_l2.mul(sum_x).sub(sum_l.mul(sum_xl)).div(determinant);
        let new_scale = sum_w.mul(sum_xl).sub(sum_x.mul(sum_l)).div(determinant);
        let above = new_min.greater(zero);
        let new_scale = V::select(above, sum_xl.div(sum_l2), new_scale);
        let new_min = V::select(above, zero, new_min);
        let fit = Fit {
            scale: new_scale,
            min: new_min,
            inverse: candidate,
            code_min: min,
        };
        let error = fit_error(search, values, weights, fit);
        let better = V::and(determinant.greater(zero), best.greater(error));
        inverse = V::select(better, candidate, inverse);
        code_min = V::select(better, min, code_min);
        best = V::select(better, error, best);
        scale = V::select(better, new_scale, scale);
        min = V::select(better, new_min, min);
    }
    for i in 0..size {
        let code = plain_code(inverse.mul(values.at::<V>(i).sub(code_min)), code_max);
        V::select(alive, code, zero).store(&mut codes[i * V::COUNT..]);
    }
    (V::select(alive, scale, zero), zero.sub(min))
}

/// Fits the scales of a super-block to `scale * code`, codes `0..=code_max`, weighted: a few values, so one at a time.
pub(super) fn fit_positive(code_max: f32, x: &[f32], weights: &[f32], codes: &mut [u8]) -> f32 {
    let max = x.iter().fold(0.0f32, |max, x| if *x > max { *x } else { max });
    if max < ZERO_BLOCK {
        codes.fill(0);
        return 0.0;
    }
    let mut inverse = code_max / max;
    let error_at = |inverse: f32| {
        let scale = 1.0 / inverse;
        let mut error = 0.0;
        for (x, weight) in x.iter().zip(weights) {
            let difference = x - scale * round(inverse * x).min(code_max);
            error += weight * difference * difference;
        }
        error
    };
    let mut best = error_at(inverse);
    for step in (-4i8..=4).filter(|step| *step != 0) {
        let candidate = (0.1 * f32::from(step) + code_max) / max;
        let error = error_at(candidate);
        if error < best {
            best = error;
            inverse = candidate;
        }
    }
    let (mut sum_lx, mut sum_l2) = (0.0, 0.0);
    for ((x, weight), code) in x.iter().zip(weights).zip(codes.iter_mut()) {
        let level = round(inverse * x).min(code_max);
        *code = level as u8;
        sum_lx += weight * x * level;
        sum_l2 += weight * level * level;
    }
    for _ in 0..5 {
        if !improve_codes(code_max, x, weights, codes, &mut sum_lx, &mut sum_l2) {
            break;
        }
    }
    if sum_l2 > 0.0 { sum_lx / sum_l2 } else { 0.0 }
}

/// Moves each code to where the others want it; says whether any moved.
fn improve_codes(
    code_max: f32,
    x: &[f32],
    weights: &[f32],
    codes: &mut [u8],
    sum_lx: &mut f32,
    sum_l2: &mut f32,
) -> bool {
    let mut changed = false;
    for ((x, weight), code) in x.iter().zip(weights).zip(codes) {
        let old = f32::from(*code);
        let rest_lx = *sum_lx - weight * x * old;
        let rest_l2 = *sum_l2 - weight * old * old;
        if rest_lx <= 0.0 || rest_l2 <= 0.0 {
            continue;
        }
        let new = round((x * rest_l2 / rest_lx).min(code_max));
        if new == old {
            continue;
        }
        let new_lx = rest_lx + weight * x * new;
        let new_l2 = rest_l2 + weight * new * new;
        if new_lx * new_lx * *sum_l2 > *sum_lx * *sum_lx * new_l2 {
            *code = new as u8;
            (*sum_lx, *sum_l2) = (new_lx, new_l2);
            changed = true;
        }
    }
    changed
}
