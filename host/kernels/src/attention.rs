//! Grouped-query attention over ragged rows, with shared prefixes, sliding windows and soft-caps.
//!
//! Rows of a batch are packed without padding; a [`Segment`] says which rows see which. No matrix of all scores exists.

mod backward;
mod decode;
mod forward;
mod keys;

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
///
/// A row's result depends on its keys and their order only, so a row behind a shared prefix gets the bits that it gets
/// with a prefix of its own.
///
/// **Panics:** when lengths do not fit, a range lies outside the rows, or a window is zero.
#[expect(
    clippy::too_many_arguments,
    reason = "the op has these slices; a struct would be named once"
)]
pub fn attention_forward(
    ctx: &Ctx,
    shape: &AttentionShape,
    segments: &[Segment],
    positions: &[u32],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &mut [f32],
    lse: &mut [f32],
) {
    let rows = positions.len();
    check(shape, segments, rows);
    let (width, kv_width) = (shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim);
    assert!(
        q.len() == rows * width && out.len() == rows * width,
        "q and out are [rows, heads * head_dim]"
    );
    assert!(
        k.len() == rows * kv_width && v.len() == rows * kv_width,
        "k and v are [rows, kv heads * head_dim]"
    );
    assert!(lse.len() == rows * shape.n_heads, "lse is [heads, rows]");
    let sequences: Vec<forward::Sequence<'_>> = segments
        .iter()
        .map(|segment| forward::Sequence {
            keys: keys::Keys::packed(shape, segment, positions, k, v),
            queries: segment.q.clone(),
        })
        .collect();
    forward::forward(ctx, shape, &sequences, q, out, Some(lse));
}

/// What a forward was given and kept for its backward, under the names and with the shapes of [`attention_forward`].
#[derive(Clone, Copy, Debug)]
pub struct AttentionSaved<'a> {
    /// Which rows see which.
    pub segments: &'a [Segment],
    /// Position of each row in its sequence.
    pub positions: &'a [u32],
    /// Queries.
    pub q: &'a [f32],
    /// Keys.
    pub k: &'a [f32],
    /// Values.
    pub v: &'a [f32],
    /// What the forward returned.
    pub out: &'a [f32],
    /// Log-sum-exp of the scores.
    pub lse: &'a [f32],
}

/// Gradients of [`attention_forward`] from that of its output; recomputes the scores from `lse`.
///
/// **Shapes:** as in the forward; `d_out` like `out`, `dq` like `q`, `dk` like `k`, `dv` like `v`, all overwritten (rows of no segment with
/// zero).
/// **Cost:** two transient buffers of `n_heads * head_dim` floats per key of each segment, so that heads and segments
/// run in parallel and are still summed in one order.
/// **Panics:** as the forward.
pub fn attention_backward(
    ctx: &Ctx,
    shape: &AttentionShape,
    saved: &AttentionSaved<'_>,
    d_out: &[f32],
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    let rows = saved.positions.len();
    check(shape, saved.segments, rows);
    let (width, kv_width) = (shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim);
    for slice in [saved.q, saved.out, d_out, &*dq] {
        assert!(
            slice.len() == rows * width,
            "q, out and their gradients are [rows, heads * head_dim]"
        );
    }
    for slice in [saved.k, saved.v, &*dk, &*dv] {
        assert!(
            slice.len() == rows * kv_width,
            "k, v and their gradients are [rows, kv heads * head_dim]"
        );
    }
    assert!(saved.lse.len() == rows * shape.n_heads, "lse is [heads, rows]");
    backward::backward(ctx, shape, saved, d_out, dq, dk, dv);
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
    for cache in caches {
        check_cache(shape, cache, 1);
    }
    decode::decode(ctx, shape, q, caches, out);
}

/// Attention of the newest `rows` tokens of one sequence over its cache, which already holds their keys and values.
///
/// **Shapes:** `q`, `out` `[rows, n_heads * head_dim]`; row `i` has position `len - rows + i`.
pub fn attention_cached(
    ctx: &Ctx,
    shape: &AttentionShape,
    q: &[f32],
    rows: usize,
    cache: &KvCache<'_>,
    out: &mut [f32],
) {
    let width = shape.n_heads * shape.head_dim;
    assert!(
        q.len() == rows * width && out.len() == rows * width,
        "q and out are [rows, heads * head_dim]"
    );
    check_cache(shape, cache, rows);
    if rows == 1 {
        decode::decode(ctx, shape, q, std::slice::from_ref(cache), out);
        return;
    }
    let sequence = forward::Sequence {
        keys: keys::Keys::cached(cache, rows),
        queries: 0..rows,
    };
    forward::forward(ctx, shape, &[sequence], q, out, None);
}

/// Rows of a pass that are the newest tokens of one cache.
#[derive(Clone, Debug)]
pub struct CachedRows<'a> {
    /// Rows of `q` and `out`.
    pub rows: Range<usize>,
    /// The cache, which already holds the rows' keys and values at its end.
    pub cache: KvCache<'a>,
}

/// [`attention_cached`] of several sequences in one pass. A single row takes the same steps as many, so a row's result
/// does not depend on how a prompt is cut into passes.
///
/// **Shapes:** `q`, `out` `[rows, n_heads * head_dim]`; rows of no sequence are left as they are.
/// **Panics:** when lengths do not fit or rows belong to two sequences.
pub fn attention_cached_rows(
    ctx: &Ctx,
    shape: &AttentionShape,
    q: &[f32],
    sequences: &[CachedRows<'_>],
    out: &mut [f32],
) {
    let width = shape.n_heads * shape.head_dim;
    assert!(
        q.len().is_multiple_of(width) && out.len() == q.len(),
        "q and out are [rows, heads * head_dim]"
    );
    let mut next = 0;
    for sequence in sequences {
        assert!(
            sequence.rows.start >= next && sequence.rows.end * width <= q.len(),
            "rows in order, each of one sequence"
        );
        next = sequence.rows.end;
        check_cache(shape, &sequence.cache, sequence.rows.len());
    }
    let sequences: Vec<forward::Sequence<'_>> = sequences
        .iter()
        .map(|sequence| forward::Sequence {
            keys: keys::Keys::cached(&sequence.cache, sequence.rows.len()),
            queries: sequence.rows.clone(),
        })
        .collect();
    forward::forward(ctx, shape, &sequences, q, out, None);
}

fn check_shape(shape: &AttentionShape) {
    assert!(
        shape.n_kv_heads > 0 && shape.n_heads.is_multiple_of(shape.n_kv_heads) && shape.head_dim > 0,
        "query heads share key heads evenly"
    );
    assert!(shape.window != Some(0), "a window holds the query's own key");
}

fn check(shape: &AttentionShape, segments: &[Segment], rows: usize) {
    check_shape(shape);
    let mut taken = vec![false; rows];
    for segment in segments {
        assert!(
            segment.q.end <= rows && segment.prefix.end <= rows,
            "segments lie inside the rows"
        );
        for row in segment.q.clone() {
            assert!(!taken[row], "query ranges of segments do not overlap");
            taken[row] = true;
        }
    }
}

fn check_cache(shape: &AttentionShape, cache: &KvCache<'_>, rows: usize) {
    check_shape(shape);
    assert!(rows <= cache.len, "the cache holds the rows' own keys");
    let end = match cache.len {
        0 => 0,
        len => (len - 1) * cache.row_stride + (shape.n_kv_heads - 1) * cache.head_stride + shape.head_dim,
    };
    for data in [cache.k, cache.v] {
        let len = match data {
            KvData::F32(data) => data.len(),
            KvData::F16(data) => data.len(),
        };
        assert!(end <= len, "every entry of every head lies inside the cache");
    }
}

#[cfg(test)]
mod tests;
