//! Root-mean-square norm of rows.

use crate::ctx::{Ctx, Write};
use crate::pool::Disjoint;

/// Normalises each row: `y = x * r * (weight + offset)` with `r = 1 / sqrt(mean(x^2) + eps)`.
///
/// `offset` is 1 for the families that store the weight less one, else 0. Heads are normalised the same way: pass a
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
    let d = weight.len();
    let rows = inv_rms.len();
    assert!(x.len() == rows * d && y.len() == rows * d, "x and y are [rows, d]");
    let (y, inv_rms) = (Disjoint::new(y), Disjoint::new(inv_rms));
    ctx.pool.run(rows, |row| {
        // SAFETY: every task owns its row.
        let (y, inv) = unsafe { (y.range(row * d, d), inv_rms.range(row, 1)) };
        let x = &x[row * d..][..d];
        let mean = x.iter().map(|x| x * x).sum::<f32>() / d as f32;
        let r = 1.0 / (mean + eps).sqrt();
        inv[0] = r;
        for i in 0..d {
            y[i] = x[i] * r * (weight[i] + offset);
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
    let d = weight.len();
    let rows = inv_rms.len();
    assert!(
        x.len() == rows * d && dy.len() == rows * d && dx.len() == rows * d,
        "x, dy and dx are [rows, d]"
    );
    ctx.pool.run_chunks(dx, d, |row, dx| {
        let (x, dy, r) = (&x[row * d..][..d], &dy[row * d..][..d], inv_rms[row]);
        let dot: f32 = (0..d).map(|i| dy[i] * (weight[i] + offset) * x[i]).sum();
        let pull = r * r * r * dot / d as f32;
        for i in 0..d {
            let value = r * dy[i] * (weight[i] + offset) - pull * x[i];
            dx[i] = if write == Write::Add { dx[i] + value } else { value };
        }
    });
}
