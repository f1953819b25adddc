//! Attention of single tokens over their caches: reads every key and value of a head group once.
//!
//! **Sketch:** `2 * head_dim` values per key and key head; at 512 entries of a 135M model 0.8 MB per layer, which stays
//! in the cache and is small beside the weights.

use super::{AttentionShape, KvCache, KvData};
use crate::ctx::Ctx;
use crate::lanes::{dot, exp, fma, max, per_simd, sum, tanh};
use crate::pool::Disjoint;
use crate::scratch;

/// Keys and values of one head.
struct Entries<'a> {
    k: KvData<'a>,
    v: KvData<'a>,
    /// First entry in sight and the end.
    range: (usize, usize),
    offset: usize,
    step: usize,
    dim: usize,
}

pub(super) fn decode(ctx: &Ctx, shape: &AttentionShape, q: &[f32], caches: &[KvCache<'_>], out: &mut [f32]) {
    let group = shape.n_heads / shape.n_kv_heads;
    let part = group * shape.head_dim;
    let out = Disjoint::new(out);
    ctx.pool.run(caches.len() * shape.n_kv_heads, |task| {
        let (cache, kv_head) = (&caches[task / shape.n_kv_heads], task % shape.n_kv_heads);
        // Heads of a group lie side by side, and groups and rows follow in the order of tasks.
        let q = &q[task * part..][..part];
        // SAFETY: one range per task.
        let out = unsafe { out.range(task * part, part) };
        let entries = Entries {
            k: cache.k,
            v: cache.v,
            range: (
                shape.window.map_or(0, |window| cache.len.saturating_sub(window)),
                cache.len,
            ),
            offset: kv_head * cache.head_stride,
            step: cache.row_stride,
            dim: shape.head_dim,
        };
        let count = entries.range.1 - entries.range.0;
        scratch::with(group * count + shape.head_dim, |buffer| {
            let (scores, wide) = buffer.split_at_mut(group * count);
            group_attention(ctx.simd, shape, &entries, q, scores, wide, out);
        });
    });
}

/// Returns entry `index` as floats: in place, or widened into `wide`.
#[inline(always)]
fn entry<'a>(data: &KvData<'a>, entries: &Entries<'_>, index: usize, wide: &'a mut [f32]) -> &'a [f32] {
    let at = index * entries.step + entries.offset;
    match data {
        KvData::F32(data) => &data[at..at + entries.dim],
        KvData::F16(data) => {
            let wide = &mut wide[..entries.dim];
            for (wide, &bits) in wide.iter_mut().zip(&data[at..at + entries.dim]) {
                *wide = crate::quant::half_to_f32(bits);
            }
            wide
        }
    }
}

#[inline(always)]
fn group_body<const FUSED: bool>(
    shape: &AttentionShape,
    entries: &Entries<'_>,
    q: &[f32],
    scores: &mut [f32],
    wide: &mut [f32],
    out: &mut [f32],
) {
    let dim = entries.dim;
    let (first, end) = entries.range;
    let count = end - first;
    for index in first..end {
        let key = entry(&entries.k, entries, index, wide);
        for (head, q) in q.chunks_exact(dim).enumerate() {
            let raw = dot::<FUSED>(q, key) * shape.scale;
            scores[head * count + index - first] = match shape.softcap {
                Some(cap) => cap * tanh::<FUSED>(raw / cap),
                None => raw,
            };
        }
    }
    for scores in scores.chunks_exact_mut(count) {
        let top = max(scores);
        for s in scores.iter_mut() {
            *s = exp::<FUSED>(*s - top);
        }
        let inverse = 1.0 / sum(scores, |sum, s| sum + s);
        for s in scores {
            *s *= inverse;
        }
    }
    out.fill(0.0);
    for index in first..end {
        let value = entry(&entries.v, entries, index, wide);
        for (head, out) in out.chunks_exact_mut(dim).enumerate() {
            let weight = scores[head * count + index - first];
            for (out, value) in out.iter_mut().zip(value) {
                *out = fma::<FUSED>(weight, *value, *out);
            }
        }
    }
}

per_simd!(
    fn group_attention(
        shape: &AttentionShape,
        entries: &Entries<'_>,
        q: &[f32],
        scores: &mut [f32],
        wide: &mut [f32],
        out: &mut [f32],
    ) => group_body
);
