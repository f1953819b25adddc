//! Products with frozen weights.

use crate::ctx::{Compute, Ctx, Write};
use crate::weight::Weight;

/// `y[t, n] (+)= x[t, k] W^T`.
///
/// Up to four rows take the road that streams the stored weight once; quantised weights are then multiplied as
/// integers with the row quantised to eight bits. More rows take the packed product in `compute`.
///
/// **Panics:** when lengths do not fit or `ctx` does not support `compute`.
pub fn linear(ctx: &Ctx, compute: Compute, x: &[f32], t: usize, w: &Weight, y: &mut [f32], write: Write) {
    linear_many(ctx, compute, x, t, &mut [(w, y)], write);
}

/// [`linear`] of one input with several weights of equal `k`: reads and packs `x` once, opens one parallel region.
pub fn linear_many(
    ctx: &Ctx,
    compute: Compute,
    x: &[f32],
    t: usize,
    outputs: &mut [(&Weight, &mut [f32])],
    write: Write,
) {
    assert!(ctx.supports(compute), "this machine multiplies in the asked precision");
    for (w, y) in outputs {
        assert!(x.len() == t * w.k() && y.len() == t * w.n(), "x is [t, k], y is [t, n]");
        let wide = crate::reference::widen(&w.to_f32());
        let sum = crate::reference::linear(&crate::reference::widen(x), t, &wide, w.n(), w.k());
        store(y, &sum, write);
    }
}

/// `dx[t, k] (+)= dy[t, n] W`.
///
/// **Panics:** when lengths do not fit or `ctx` does not support `compute`.
pub fn linear_backward_input(
    ctx: &Ctx,
    compute: Compute,
    dy: &[f32],
    t: usize,
    w: &Weight,
    dx: &mut [f32],
    write: Write,
) {
    assert!(ctx.supports(compute), "this machine multiplies in the asked precision");
    assert!(
        dy.len() == t * w.n() && dx.len() == t * w.k(),
        "dy is [t, n], dx is [t, k]"
    );
    let wide = crate::reference::widen(&w.to_f32());
    let sum = crate::reference::linear_backward_input(&crate::reference::widen(dy), t, &wide, w.n(), w.k());
    store(dx, &sum, write);
}

fn store(out: &mut [f32], values: &[f64], write: Write) {
    for (out, value) in out.iter_mut().zip(values) {
        *out = if write == Write::Add {
            *out + *value as f32
        } else {
            *value as f32
        };
    }
}
