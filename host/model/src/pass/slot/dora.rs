//! Weight decomposition on the parts of a slot: `u = W D(x) + s B A D(x)`, `y = W x + g u - W D(x)`, `g = m / n` per row.
//!
//! Invariants: the norm `n` is a constant, no gradient runs through it; without dropout `y = g u` is computed as such, and
//! the frozen product is not done twice.

use std::ops::Range;

use dlm_kernels::{Ctx, PrecisionPath, Weight, Write, axpy, linear_backward_input};

use crate::adapter::Gains;
use crate::arena::Buffer;
use crate::model::Model;

/// The row factors of a model's adapter, and where they are applied.
#[derive(Clone, Copy)]
pub(super) struct Dora<'a> {
    pub model: &'a Model,
    pub gains: &'a Gains,
    pub precision_path: PrecisionPath,
}

impl Dora<'_> {
    /// Turns `out` from `W x` into `y`, and returns `u`.
    ///
    /// `rows` is the part's place in the row tables, `dropped` the input after dropout where there is any, `add_low_rank` adds
    /// `s B A D(x)`.
    pub fn forward(
        &self,
        weight: &Weight,
        rows: Range<usize>,
        dropped: Option<&[f32]>,
        out: &mut [f32],
        add_low_rank: impl Fn(&mut [f32]),
    ) -> Buffer {
        let ctx = &self.model.ctx;
        let gain = &self.gains.gain[rows];
        let mut u = self.model.arena.take(out.len());
        match dropped {
            None => {
                u.copy_from_slice(out);
                add_low_rank(&mut u);
                scale_columns(ctx, &u, gain, out, Write::Set);
            }
            Some(dropped) => {
                let t = out.len() / gain.len();
                self.model
                    .products(self.precision_path, dropped, t, &mut [(weight, &mut u)]);
                axpy(ctx, -1.0, &u, out);
                add_low_rank(&mut u);
                scale_columns(ctx, &u, gain, out, Write::Add);
            }
        }
        u
    }

    /// Adds the gradient of the magnitudes to `d_magnitude` and returns `g dy`.
    pub fn backward(&self, rows: Range<usize>, dy: &[f32], u: &[f32], d_magnitude: &mut [f32]) -> Buffer {
        let ctx = &self.model.ctx;
        column_dots(ctx, dy, u, &self.gains.inverse_norm[rows.clone()], d_magnitude);
        let mut scaled = self.model.arena.take(dy.len());
        scale_columns(ctx, dy, &self.gains.gain[rows], &mut scaled, Write::Set);
        scaled
    }

    /// With dropout: adds `W^T ((g - 1) dy)` to the gradient of the dropped input.
    pub fn dropped_backward(&self, weight: &Weight, t: usize, dy: &[f32], scaled: &[f32], d_dropped: &mut [f32]) {
        let model = self.model;
        let mut less = model.arena.take(scaled.len());
        less.copy_from_slice(scaled);
        axpy(&model.ctx, -1.0, dy, &mut less);
        linear_backward_input(&model.ctx, model.compute, &less, t, weight, d_dropped, Write::Add);
    }
}

/// `y[t, n] (+)= x[t, n] factor[n]`.
fn scale_columns(ctx: &Ctx, x: &[f32], factor: &[f32], y: &mut [f32], write: Write) {
    let n = factor.len();
    ctx.pool.run_chunks(y, n, |row, y| {
        for ((y, x), f) in y.iter_mut().zip(&x[row * n..]).zip(factor) {
            *y = if write == Write::Add { *y + x * f } else { x * f };
        }
    });
}

/// `out[n] += factor[n] sum_t x[t, n] y[t, n]`, in row order.
fn column_dots(ctx: &Ctx, x: &[f32], y: &[f32], factor: &[f32], out: &mut [f32]) {
    const COLUMNS: usize = 64;
    let n = factor.len();
    ctx.pool.run_chunks(out, COLUMNS, |chunk, out| {
        let first = chunk * COLUMNS;
        let mut sums = [0.0f32; COLUMNS];
        for (x, y) in x.chunks_exact(n).zip(y.chunks_exact(n)) {
            let pairs = x[first..first + out.len()].iter().zip(&y[first..]);
            for (sum, (x, y)) in sums.iter_mut().zip(pairs) {
                *sum += x * y;
            }
        }
        for ((out, sum), factor) in out.iter_mut().zip(sums).zip(&factor[first..]) {
            *out += sum * factor;
        }
    });
}
