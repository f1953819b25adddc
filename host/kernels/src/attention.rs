//! Grouped-query attention over ragged rows, with shared prefixes, sliding windows and soft-caps.
//!
//! Rows of a batch are packed without padding; a [`Segment`] says which rows see which. No matrix of all scores exists.

use std::ops::Range;

use crate::ctx::Ctx;

/// Sizes and score function of one attention layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; query head `h` reads head `h / (n_heads / n_kv_heads)`.
    pub n_kv_heads: usize,
    /// Values of one head.
    pub head_dim: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// `score -> cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// A query sees the keys whose position is less than `window` behind its own.
    pub window: Option<usize>,
}

/// Rows `q` attend to all rows of `prefix`, and causally to themselves.
///
/// The rows of the prefix have a segment of their own. Query ranges of different segments do not overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The rows whose outputs this segment defines.
    pub q: Range<usize>,
    /// Rows before them in the sequence, possibly shared with other segments; may be empty.
    pub prefix: Range<usize>,
}

/// Keys or values of a cache in `f32` or half precision (bit patterns).
#[derive(Clone, Copy, Debug)]
pub enum KvData<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision.
    F16(&'a [u16]),
}

/// The cached keys and values of one sequence.
///
/// Entry `j` of head `h` starts at `j * row_stride + h * head_stride`; its position is `j`.
#[derive(Clone, Copy, Debug)]
pub struct KvCache<'a> {
    /// Keys.
    pub k: KvData<'a>,
    /// Values.
    pub v: KvData<'a>,
    /// Entries in use, the newest token's own included.
    pub len: usize,
    /// Distance between two entries of one head.
    pub row_stride: usize,
    /// Distance between two heads of one entry.
    pub head_stride: usize,
}

/// Attention of packed rows.
///
/// **Shapes:** `q`, `out` `[rows, n_heads * head_dim]`; `k`, `v` `[rows, n_kv_heads * head_dim]`; `positions` `[rows]`;
/// `lse` `[n_heads, rows]` (log-sum-exp of the scores, kept for the backward). Rows of no segment are left as they are.
#[expect(
    clippy::too_many_arguments,
    reason = "the op has these slices; a struct would be named once"
)]
pub fn attention_forward(
    _ctx: &Ctx,
    shape: &AttentionShape,
    segments: &[Segment],
    positions: &[u32],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &mut [f32],
    lse: &mut [f32],
) {
    use crate::reference::widen;
    let (wide, wide_lse) =
        crate::reference::attention_forward(shape, segments, positions, &widen(q), &widen(k), &widen(v));
    for (out, value) in out.iter_mut().zip(wide) {
        *out = value as f32;
    }
    for (lse, value) in lse.iter_mut().zip(wide_lse) {
        *lse = value as f32;
    }
}

/// Gradients of [`attention_forward`]; recomputes the scores from `lse`.
///
/// **Shapes:** as in the forward; `dq` like `q`, `dk` like `k`, `dv` like `v`, all overwritten.
#[expect(
    clippy::too_many_arguments,
    reason = "the op has these slices; a struct would be named once"
)]
pub fn attention_backward(
    _ctx: &Ctx,
    shape: &AttentionShape,
    segments: &[Segment],
    positions: &[u32],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    _out: &[f32],
    _lse: &[f32],
    d_out: &[f32],
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    use crate::reference::widen;
    let qkv = (&*widen(q), &*widen(k), &*widen(v));
    let (wide_q, wide_k, wide_v) = crate::reference::attention_backward(shape, segments, positions, qkv, &widen(d_out));
    for (out, wide) in [(dq, wide_q), (dk, wide_k), (dv, wide_v)] {
        for (out, value) in out.iter_mut().zip(wide) {
            *out = value as f32;
        }
    }
}

/// Attention of the newest token of several sequences, each over its own cache (a batch of one is the common case).
///
/// **Shapes:** `q`, `out` `[caches.len(), n_heads * head_dim]`.
pub fn attention_decode(ctx: &Ctx, shape: &AttentionShape, q: &[f32], caches: &[KvCache<'_>], out: &mut [f32]) {
    let width = shape.n_heads * shape.head_dim;
    assert!(
        q.len() == caches.len() * width && out.len() == q.len(),
        "q and out are [caches, heads * head_dim]"
    );
    for (row, cache) in caches.iter().enumerate() {
        attention_cached(
            ctx,
            shape,
            &q[row * width..][..width],
            1,
            cache,
            &mut out[row * width..][..width],
        );
    }
}

/// Attention of the newest `rows` tokens of one sequence over its cache, which already holds their keys and values.
///
/// **Shapes:** `q`, `out` `[rows, n_heads * head_dim]`; row `i` has position `len - rows + i`.
pub fn attention_cached(
    _ctx: &Ctx,
    shape: &AttentionShape,
    q: &[f32],
    rows: usize,
    cache: &KvCache<'_>,
    out: &mut [f32],
) {
    let width = shape.n_heads * shape.head_dim;
    assert!(rows <= cache.len, "the cache holds the rows' own keys");
    assert!(
        q.len() == rows * width && out.len() == rows * width,
        "q and out are [rows, heads * head_dim]"
    );
    let (k, v) = (gather(shape, &cache.k, cache), gather(shape, &cache.v, cache));
    let old = cache.len - rows;
    let mut wide = vec![0.0; cache.len * width];
    for (wide, q) in wide[old * width..].iter_mut().zip(q) {
        *wide = f64::from(*q);
    }
    let positions: Vec<u32> = (0..cache.len as u32).collect();
    let segment = Segment {
        q: old..cache.len,
        prefix: 0..old,
    };
    let (result, _) = crate::reference::attention_forward(shape, &[segment], &positions, &wide, &k, &v);
    for (out, value) in out.iter_mut().zip(&result[old * width..]) {
        *out = *value as f32;
    }
}

fn gather(shape: &AttentionShape, data: &KvData<'_>, cache: &KvCache<'_>) -> Vec<f64> {
    let mut values = Vec::with_capacity(cache.len * shape.n_kv_heads * shape.head_dim);
    for row in 0..cache.len {
        for head in 0..shape.n_kv_heads {
            for i in 0..shape.head_dim {
                let at = row * cache.row_stride + head * cache.head_stride + i;
                values.push(match data {
                    KvData::F32(data) => f64::from(data[at]),
                    KvData::F16(data) => half::f16::from_bits(data[at]).to_f64(),
                });
            }
        }
    }
    values
}
