//! Rotary position embedding with half-split pairs.

use crate::ctx::Ctx;
use crate::elementwise::rows_per_task;
use crate::lanes::{fma, per_simd};

/// Angles per row, and how heads lie in a row.
#[derive(Clone, Copy, Debug)]
pub struct Rope<'a> {
    /// Heads in one row.
    pub n_heads: usize,
    /// Values of one head.
    pub head_dim: usize,
    /// Pairs that turn; `2 * half <= head_dim`, the values after `2 * half` stay (partial rotary).
    pub half: usize,
    /// Cosines `[rows, half]`, already gathered by the rows' positions.
    pub cos: &'a [f32],
    /// Sines `[rows, half]`.
    pub sin: &'a [f32],
}

/// Turns each head of each row in place: `(a, b) -> (a cos - b sin, b cos + a sin)` with `a = x[i]`, `b = x[i + half]`.
///
/// **Shapes:** `x` `[rows, n_heads * head_dim]`.
pub fn rope_forward(ctx: &Ctx, rope: &Rope<'_>, x: &mut [f32]) {
    turn(ctx, rope, x, 1.0);
}

/// Turns the gradient back: the transpose of [`rope_forward`], in place.
pub fn rope_backward(ctx: &Ctx, rope: &Rope<'_>, dx: &mut [f32]) {
    turn(ctx, rope, dx, -1.0);
}

fn turn(ctx: &Ctx, rope: &Rope<'_>, x: &mut [f32], sign: f32) {
    let (width, half) = (rope.n_heads * rope.head_dim, rope.half);
    if x.is_empty() {
        return;
    }
    let rows = x.len() / width;
    assert!(2 * half <= rope.head_dim, "the turning part fits into a head");
    assert!(
        x.len() == rows * width && rope.cos.len() == rows * half && rope.sin.len() == rows * half,
        "x is [rows, heads * head_dim], the angles are [rows, half]"
    );
    let group = rows_per_task(width);
    ctx.pool.run_chunks(x, group * width, |index, x| {
        for (i, x) in x.chunks_exact_mut(width).enumerate() {
            let at = (index * group + i) * half;
            turn_row(
                ctx.simd,
                x,
                rope.head_dim,
                &rope.cos[at..][..half],
                &rope.sin[at..][..half],
                sign,
            );
        }
    });
}

#[inline(always)]
fn turn_body<const FUSED: bool>(x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32], sign: f32) {
    let half = cos.len();
    for head in x.chunks_exact_mut(head_dim) {
        let (low, high) = head.split_at_mut(half);
        for (((a, b), c), s) in low.iter_mut().zip(&mut high[..half]).zip(cos).zip(sin) {
            let s = sign * s;
            (*a, *b) = (fma::<FUSED>(-*b, s, *a * c), fma::<FUSED>(*a, s, *b * c));
        }
    }
}

per_simd!(fn turn_row(x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32], sign: f32) => turn_body);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{self, widen};
    use crate::testing::{ELEMENTWISE, assert_near, contexts, values};

    #[test]
    fn turning_agrees_with_the_twin_and_turns_back() {
        for ctx in contexts() {
            for (heads, head_dim, half) in [(1, 2, 1), (3, 64, 32), (2, 80, 16), (5, 7, 3), (2, 128, 64), (1, 5, 0)] {
                let rows = 67;
                let x = values(rows * heads * head_dim, 1);
                let angles: Vec<f32> = values(rows * half, 2).iter().map(|x| 3.0 * x).collect();
                let cos: Vec<f32> = angles.iter().map(|x| x.cos()).collect();
                let sin: Vec<f32> = angles.iter().map(|x| x.sin()).collect();
                let rope = Rope {
                    n_heads: heads,
                    head_dim,
                    half,
                    cos: &cos,
                    sin: &sin,
                };
                let mut y = x.clone();
                rope_forward(&ctx, &rope, &mut y);
                let expected = reference::rope(&widen(&x), heads, head_dim, half, &widen(&cos), &widen(&sin), 1.0);
                assert_near(&y, &expected, ELEMENTWISE, "turned");
                rope_backward(&ctx, &rope, &mut y);
                assert_near(&y, &widen(&x), ELEMENTWISE, "turned back");
            }
        }
    }
}
