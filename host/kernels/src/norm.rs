//! Root-mean-square norm of rows, one pass over memory in each direction.

use crate::ctx::{Ctx, Write};
use crate::elementwise::rows_per_task;
use crate::lanes::{dot, dot3, fma, per_simd};
use crate::pool::Disjoint;

#[inline(always)]
fn forward_body<const FUSED: bool>(x: &[f32], weight: &[f32], offset: f32, eps: f32, y: &mut [f32]) -> f32 {
    let d = weight.len();
    let (x, y) = (&x[..d], &mut y[..d]);
    let mean = dot::<FUSED>(x, x) / d as f32;
    let r = 1.0 / (mean + eps).sqrt();
    for i in 0..d {
        y[i] = x[i] * r * (weight[i] + offset);
    }
    r
}

per_simd!(fn forward_row(x: &[f32], weight: &[f32], offset: f32, eps: f32, y: &mut [f32]) -> f32 => forward_body);

#[inline(always)]
fn backward_body<const FUSED: bool>(
    x: &[f32],
    weight: &[f32],
    (offset, r): (f32, f32),
    dy: &[f32],
    dx: &mut [f32],
    write: Write,
) {
    let d = weight.len();
    let (x, dy, dx) = (&x[..d], &dy[..d], &mut dx[..d]);
    let dot = dot3::<FUSED>(dy, (weight, offset), x);
    let pull = -(r * r * r * (dot / d as f32));
    let value = |i: usize| fma::<FUSED>(pull, x[i], r * dy[i] * (weight[i] + offset));
    match write {
        Write::Set => (0..d).for_each(|i| dx[i] = value(i)),
        Write::Add => (0..d).for_each(|i| dx[i] += value(i)),
    }
}

per_simd!(
    fn backward_row(
        x: &[f32],
        weight: &[f32],
        offset_and_r: (f32, f32),
        dy: &[f32],
        dx: &mut [f32],
        write: Write,
    ) => backward_body
);

/// Normalizes each row: `y = x * r * (weight + offset)` with `r = 1 / sqrt(mean(x^2) + eps)`.
///
/// `offset` is 1 for the families that store the weight less one, else 0. Heads are normalized the same way: pass a
/// weight of `head_dim` values.
///
/// **Shapes:** `x`, `y` `[rows, d]`, `weight` `[d]`, `inv_rms` `[rows]` (kept for the backward).
pub fn rmsnorm_forward(
    ctx: &Ctx,
    x: &[f32],
    weight: &[f32],
    offset: f32,
    eps: f32,
    y: &mut [f32],
    inv_rms: &mut [f32],
) {
    let (d, rows) = (weight.len(), inv_rms.len());
    assert!(x.len() == rows * d && y.len() == rows * d, "x and y are [rows, d]");
    let (group, y) = (rows_per_task(d), Disjoint::new(y));
    ctx.pool.run_chunks(inv_rms, group, |index, inv_rms| {
        for (i, inv) in inv_rms.iter_mut().enumerate() {
            let at = (index * group + i) * d;
            // SAFETY: every task owns the rows of its chunk.
            let y = unsafe { y.range(at, d) };
            *inv = forward_row(ctx.simd, &x[at..at + d], weight, offset, eps, y);
        }
    });
}

/// Gradient of [`rmsnorm_forward`] with respect to `x` (the weight is frozen).
///
/// **Shapes:** `x`, `dy`, `dx` `[rows, d]`, `weight` `[d]`, `inv_rms` `[rows]`.
#[expect(
    clippy::too_many_arguments,
    reason = "the op has these slices; a struct would be named once"
)]
pub fn rmsnorm_backward(
    ctx: &Ctx,
    x: &[f32],
    weight: &[f32],
    offset: f32,
    inv_rms: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    write: Write,
) {
    let (d, rows) = (weight.len(), inv_rms.len());
    assert!(
        x.len() == rows * d && dy.len() == rows * d && dx.len() == rows * d,
        "x, dy and dx are [rows, d]"
    );
    let group = rows_per_task(d);
    ctx.pool.run_chunks(dx, group * d, |index, dx| {
        for (i, dx) in dx.chunks_exact_mut(d).enumerate() {
            let row = index * group + i;
            let (x, dy) = (&x[row * d..][..d], &dy[row * d..][..d]);
            backward_row(ctx.simd, x, weight, (offset, inv_rms[row]), dy, dx, write);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{self, widen};
    use crate::testing::{
        DIFFERENCES, ELEMENTWISE, F32_SUM, SIZES, assert_gradient, assert_near, assert_same_bits, contexts, values,
    };

    const EPS: f32 = 1e-5;

    #[test]
    fn both_directions_agree_with_the_twin() {
        for ctx in contexts() {
            for d in SIZES {
                for offset in [0.0, 1.0] {
                    let (x, weight, dy) = (values(5 * d, 1), values(d, 2), values(5 * d, 3));
                    let (mut y, mut inv) = (vec![0.0; 5 * d], vec![0.0; 5]);
                    rmsnorm_forward(&ctx, &x, &weight, offset, EPS, &mut y, &mut inv);
                    let (wx, ww, wdy) = (widen(&x), widen(&weight), widen(&dy));
                    let (wo, we) = (f64::from(offset), f64::from(EPS));
                    assert_near(&y, &reference::rmsnorm_forward(&wx, &ww, wo, we), ELEMENTWISE, "y");
                    let expected = reference::rmsnorm_backward(&wx, &ww, wo, we, &wdy);
                    let mut dx = vec![f32::NAN; 5 * d];
                    rmsnorm_backward(&ctx, &x, &weight, offset, &inv, &dy, &mut dx, Write::Set);
                    assert_near(&dx, &expected, F32_SUM, "dx");
                    rmsnorm_backward(&ctx, &x, &weight, offset, &inv, &dy, &mut dx, Write::Add);
                    let doubled: Vec<f64> = expected.iter().map(|x| 2.0 * x).collect();
                    assert_near(&dx, &doubled, F32_SUM, "dx added twice");
                }
            }
        }
    }

    #[test]
    fn the_gradient_is_the_slope() {
        let (x, weight, dy) = (widen(&values(21, 1)), widen(&values(7, 2)), widen(&values(21, 3)));
        let eps = f64::from(EPS);
        let gradient = reference::rmsnorm_backward(&x, &weight, 1.0, eps, &dy);
        assert_gradient(&x, &gradient, DIFFERENCES, "rmsnorm", |x| {
            let y = reference::rmsnorm_forward(x, &weight, 1.0, eps);
            y.iter().zip(&dy).map(|(y, dy)| y * dy).sum()
        });
    }

    #[test]
    fn threads_change_nothing() {
        let (x, weight) = (values(100 * 576, 1), values(576, 2));
        let mut results = Vec::new();
        for threads in [1, 3] {
            let ctx = Ctx::new(threads, crate::Simd::detect());
            let (mut y, mut inv) = (vec![0.0; x.len()], vec![0.0; 100]);
            rmsnorm_forward(&ctx, &x, &weight, 0.0, EPS, &mut y, &mut inv);
            results.push(y);
        }
        assert_same_bits(&results[0], &results[1], "rows");
    }
}
