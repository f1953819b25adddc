//! Rotary position embedding with half-split pairs.

use crate::ctx::Ctx;

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
    ctx.pool.run_chunks(x, width, |row, x| {
        let (cos, sin) = (&rope.cos[row * half..][..half], &rope.sin[row * half..][..half]);
        for head in x.chunks_exact_mut(rope.head_dim) {
            let (low, high) = head.split_at_mut(half);
            for (((a, b), c), s) in low.iter_mut().zip(&mut high[..half]).zip(cos).zip(sin) {
                let s = sign * s;
                (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
            }
        }
    });
}
