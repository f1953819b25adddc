//! Attention of single tokens over their caches: reads every key and value of a head group once.
//!
//! **Sketch:** `2 * head_dim` values per key and key head; at 512 entries of a 135M model 0.8 MB per layer, which stays
//! in the cache and is small beside the weights.

use super::{AttentionShape, KvCache, KvData};
use crate::ctx::{Ctx, Simd};
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
            scores_of(ctx.simd, &entries, q, scores, wide);
            group_attention(ctx.simd, shape, &entries, scores, wide, out);
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

/// Writes the dot products of every head of the group with every key, `[heads, keys]`.
fn scores_of(simd: Simd, entries: &Entries<'_>, q: &[f32], scores: &mut [f32], wide: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if simd >= Simd::Avx512 {
        // SAFETY: `Ctx::new` lowers the set to what this machine has.
        unsafe { x86::scores(entries, q, scores) };
        return;
    }
    plain_scores(simd, entries, q, scores, wide);
}

#[inline(always)]
fn plain_body<const FUSED: bool>(entries: &Entries<'_>, q: &[f32], scores: &mut [f32], wide: &mut [f32]) {
    let (first, end) = entries.range;
    for index in first..end {
        let key = entry(&entries.k, entries, index, wide);
        for (head, q) in q.chunks_exact(entries.dim).enumerate() {
            scores[head * (end - first) + index - first] = dot::<FUSED>(q, key);
        }
    }
}

per_simd!(fn plain_scores(entries: &Entries<'_>, q: &[f32], scores: &mut [f32], wide: &mut [f32]) => plain_body);

/// Turns scores into weights and sums the values.
#[inline(always)]
fn group_body<const FUSED: bool>(
    shape: &AttentionShape,
    entries: &Entries<'_>,
    scores: &mut [f32],
    wide: &mut [f32],
    out: &mut [f32],
) {
    let dim = entries.dim;
    let (first, end) = entries.range;
    let count = end - first;
    for s in scores.iter_mut() {
        *s *= shape.scale;
        if let Some(cap) = shape.softcap {
            *s = cap * tanh::<FUSED>(*s / cap);
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
        scores: &mut [f32],
        wide: &mut [f32],
        out: &mut [f32],
    ) => group_body
);

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Entries, KvData};
    use crate::lanes::x86::sum4;

    /// Keys that are dotted together: one horizontal sum serves them all.
    const KEYS: usize = 4;

    /// # Safety
    /// AVX-512 F, BW and VL are there.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub(super) unsafe fn scores(entries: &Entries<'_>, q: &[f32], scores: &mut [f32]) {
        let (first, end) = entries.range;
        let count = end - first;
        for start in (first..end).step_by(KEYS) {
            let here = KEYS.min(end - start);
            // The last group repeats its last key instead of reading past it.
            let at: [usize; KEYS] = std::array::from_fn(|i| (start + i.min(here - 1)) * entries.step + entries.offset);
            for (head, q) in q.chunks_exact(entries.dim).enumerate() {
                let out = &mut scores[head * count + start - first..][..here];
                // SAFETY: handed on.
                let sums = unsafe {
                    match entries.k {
                        KvData::F32(data) => dot4(q, at.map(|at| &data[at..at + q.len()])),
                        KvData::F16(data) => dot4_half(q, at.map(|at| &data[at..at + q.len()])),
                    }
                };
                out.copy_from_slice(&sums[..here]);
            }
        }
    }

    /// # Safety
    /// AVX-512 F is there; all slices have the length of `q`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn dot4(q: &[f32], keys: [&[f32]; KEYS]) -> [f32; KEYS] {
        let mut sums = [_mm512_setzero_ps(); KEYS];
        for p in (0..q.len()).step_by(16) {
            let mask = mask(q.len() - p);
            // SAFETY: masked lanes are not read.
            unsafe {
                let q = _mm512_maskz_loadu_ps(mask, q.as_ptr().add(p));
                for (sum, key) in sums.iter_mut().zip(keys) {
                    *sum = _mm512_fmadd_ps(q, _mm512_maskz_loadu_ps(mask, key.as_ptr().add(p)), *sum);
                }
            }
        }
        sum4(sums)
    }

    /// # Safety
    /// AVX-512 F, BW and VL are there; all slices have the length of `q`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn dot4_half(q: &[f32], keys: [&[u16]; KEYS]) -> [f32; KEYS] {
        let mut sums = [_mm512_setzero_ps(); KEYS];
        for p in (0..q.len()).step_by(16) {
            let mask = mask(q.len() - p);
            // SAFETY: masked lanes are not read.
            unsafe {
                let q = _mm512_maskz_loadu_ps(mask, q.as_ptr().add(p));
                for (sum, key) in sums.iter_mut().zip(keys) {
                    let key = _mm256_maskz_loadu_epi16(mask, key.as_ptr().add(p).cast());
                    *sum = _mm512_fmadd_ps(q, _mm512_cvtph_ps(key), *sum);
                }
            }
        }
        sum4(sums)
    }

    #[inline(always)]
    fn mask(left: usize) -> __mmask16 {
        if left >= 16 { 0xffff } else { (1 << left) - 1 }
    }
}
