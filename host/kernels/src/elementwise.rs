//! Sums and scales of whole slices, and the softmax of rows.

use crate::ctx::Ctx;

/// Elements of one task: long enough to outweigh the dispatch, short enough to share out a hidden state.
pub(crate) const CHUNK: usize = 16 * 1024;

/// `y += x`.
pub fn add(ctx: &Ctx, x: &[f32], y: &mut [f32]) {
    axpy(ctx, 1.0, x, y);
}

/// `y += a x`.
pub fn axpy(ctx: &Ctx, a: f32, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "both slices have one length");
    ctx.pool.run_chunks(y, CHUNK, |index, y| {
        let start = index * CHUNK;
        for (y, x) in y.iter_mut().zip(&x[start..]) {
            *y += a * x;
        }
    });
}

/// `x *= a`.
pub fn scale(ctx: &Ctx, a: f32, x: &mut [f32]) {
    ctx.pool.run_chunks(x, CHUNK, |_, x| {
        for x in x {
            *x *= a;
        }
    });
}

/// Replaces each row of `width` values by its softmax.
pub fn softmax_rows(ctx: &Ctx, x: &mut [f32], width: usize) {
    assert!(width > 0 && x.len().is_multiple_of(width), "whole rows");
    ctx.pool.run_chunks(x, width, |_, row| {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        for x in row.iter_mut() {
            *x = (*x - max).exp();
            sum += *x;
        }
        for x in row {
            *x /= sum;
        }
    });
}
