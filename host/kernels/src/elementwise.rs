//! Sums and scales of whole slices, and the softmax of rows.

use crate::ctx::Ctx;
use crate::lanes::{exp, max, per_simd, sum};

/// Elements of one task: long enough to outweigh the dispatch, short enough to share out a hidden state.
pub(crate) const CHUNK: usize = 16 * 1024;

/// Returns how many rows of `width` values one task takes.
pub(crate) fn rows_per_task(width: usize) -> usize {
    (CHUNK / width.max(1)).max(1)
}

#[inline(always)]
fn axpy_body<const FUSED: bool>(a: f32, x: &[f32], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = crate::lanes::fma::<FUSED>(a, *x, *y);
    }
}

per_simd!(fn axpy_chunk(a: f32, x: &[f32], y: &mut [f32]) => axpy_body);

#[inline(always)]
fn scale_body<const FUSED: bool>(a: f32, x: &mut [f32]) {
    for x in x {
        *x *= a;
    }
}

per_simd!(fn scale_chunk(a: f32, x: &mut [f32]) => scale_body);

#[inline(always)]
fn softmax_body<const FUSED: bool>(row: &mut [f32]) {
    let top = max(row);
    for x in row.iter_mut() {
        *x = exp::<FUSED>(*x - top);
    }
    let scale = 1.0 / sum(row, |sum, x| sum + x);
    for x in row {
        *x *= scale;
    }
}

per_simd!(fn softmax_row(row: &mut [f32]) => softmax_body);

/// `y += x`.
pub fn add(ctx: &Ctx, x: &[f32], y: &mut [f32]) {
    axpy(ctx, 1.0, x, y);
}

/// `y += a x`.
pub fn axpy(ctx: &Ctx, a: f32, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "both slices have one length");
    ctx.pool.run_chunks(y, CHUNK, |index, y| {
        axpy_chunk(ctx.simd, a, &x[index * CHUNK..][..y.len()], y);
    });
}

/// `x *= a`.
pub fn scale(ctx: &Ctx, a: f32, x: &mut [f32]) {
    ctx.pool.run_chunks(x, CHUNK, |_, x| scale_chunk(ctx.simd, a, x));
}

/// Replaces each row of `width` values by its softmax.
pub fn softmax_rows(ctx: &Ctx, x: &mut [f32], width: usize) {
    assert!(width > 0 && x.len().is_multiple_of(width), "whole rows");
    ctx.pool.run_chunks(x, rows_per_task(width) * width, |_, rows| {
        for row in rows.chunks_exact_mut(width) {
            softmax_row(ctx.simd, row);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::widen;
    use crate::testing::{ELEMENTWISE, SIZES, assert_near, contexts, values};

    #[test]
    fn sums_and_scales_are_the_formula() {
        for ctx in contexts() {
            for len in SIZES.into_iter().chain([CHUNK + 5]) {
                let (x, old) = (values(len, 1), values(len, 2));
                let mut y = old.clone();
                axpy(&ctx, 0.5, &x, &mut y);
                add(&ctx, &x, &mut y);
                scale(&ctx, -3.0, &mut y);
                let expected: Vec<f64> = widen(&x)
                    .iter()
                    .zip(widen(&old))
                    .map(|(x, y)| -3.0 * (1.5 * x + y))
                    .collect();
                assert_near(&y, &expected, ELEMENTWISE, "axpy, add, scale");
            }
        }
    }

    #[test]
    fn softmax_sums_to_one_and_keeps_ratios() {
        for ctx in contexts() {
            for width in SIZES {
                let mut x: Vec<f32> = values(3 * width, 3).iter().map(|x| 20.0 * x).collect();
                let expected: Vec<f64> = widen(&x)
                    .chunks(width)
                    .flat_map(|row| {
                        let total: f64 = row.iter().map(|x| x.exp()).sum();
                        row.iter().map(move |x| x.exp() / total).collect::<Vec<_>>()
                    })
                    .collect();
                softmax_rows(&ctx, &mut x, width);
                assert_near(&x, &expected, ELEMENTWISE, "softmax");
            }
        }
    }
}
