//! The keys and values that the queries of one sequence see, wherever they lie, and blocks of scores over them.
//!
//! Scores are kept transposed, `[keys, 32 queries]`: the softmax then runs down the vectors without a horizontal sum,
//! and the weights are already the panel that the next product wants.

use std::ops::Range;

use super::{AttentionShape, KvCache, KvData, Segment};
use crate::ctx::{Compute, Simd};
use crate::lanes::{exp, per_simd, tanh};
use crate::pack::{Rows, transpose};
use crate::tile::{Kernels, PANEL, Tile, rows_max};

/// Queries of a block: the columns of a panel.
pub(super) const QUERIES: usize = PANEL;

/// Keys and values of one sequence, in order: its prefix, then its own rows.
#[derive(Clone)]
pub(super) struct Keys<'a> {
    pub(super) k: KvData<'a>,
    pub(super) v: KvData<'a>,
    row_step: usize,
    head_step: usize,
    prefix: Range<usize>,
    own: Range<usize>,
    /// Position of each row; without, a row's number.
    positions: Option<&'a [u32]>,
}

impl<'a> Keys<'a> {
    pub(super) fn packed(
        shape: &AttentionShape,
        segment: &Segment,
        positions: &'a [u32],
        k: &'a [f32],
        v: &'a [f32],
    ) -> Keys<'a> {
        Keys {
            k: KvData::F32(k),
            v: KvData::F32(v),
            row_step: shape.n_kv_heads * shape.head_dim,
            head_step: shape.head_dim,
            prefix: segment.prefix.clone(),
            own: segment.q.clone(),
            positions: Some(positions),
        }
    }

    pub(super) fn cached(cache: &KvCache<'a>, rows: usize) -> Keys<'a> {
        Keys {
            k: cache.k,
            v: cache.v,
            row_step: cache.row_stride,
            head_step: cache.head_stride,
            prefix: 0..cache.len - rows,
            own: cache.len - rows..cache.len,
            positions: None,
        }
    }

    /// Keys before the first own row.
    pub(super) fn before(&self) -> usize {
        self.prefix.len()
    }

    pub(super) fn len(&self) -> usize {
        self.prefix.len() + self.own.len()
    }

    /// Returns the row of key `index`.
    pub(super) fn row(&self, index: usize) -> usize {
        match index.checked_sub(self.prefix.len()) {
            None => self.prefix.start + index,
            Some(own) => self.own.start + own,
        }
    }

    fn position(&self, index: usize) -> usize {
        let row = self.row(index);
        self.positions.map_or(row, |positions| positions[row] as usize)
    }

    /// Copies the first `count` keys (or values) of a head to `out` `[count, dim]`.
    pub(super) fn copy(&self, data: &KvData<'_>, head: usize, count: usize, dim: usize, out: &mut [f32]) {
        for (index, out) in out.chunks_exact_mut(dim).take(count).enumerate() {
            let at = self.row(index) * self.row_step + head * self.head_step;
            match data {
                KvData::F32(data) => out.copy_from_slice(&data[at..at + dim]),
                KvData::F16(data) => {
                    for (out, &bits) in out.iter_mut().zip(&data[at..at + dim]) {
                        *out = crate::quant::half_to_f32(bits);
                    }
                }
            }
        }
    }

    /// Returns the first key that any of the own rows `queries` sees.
    pub(super) fn first_visible(&self, shape: &AttentionShape, queries: &Range<usize>) -> usize {
        let Some(window) = shape.window else {
            return 0;
        };
        let before = self.before();
        let oldest = queries.clone().map(|query| self.position(before + query)).min();
        let Some(oldest) = oldest else {
            return 0;
        };
        (0..before + queries.start)
            .find(|&key| self.position(key) + window > oldest)
            .unwrap_or(before + queries.start)
    }

    /// Hides what own rows `queries` do not see among `keys`: later rows and those outside the window.
    pub(super) fn mask(&self, shape: &AttentionShape, queries: &Range<usize>, keys: &Range<usize>, scores: &mut [f32]) {
        let before = self.before();
        for key in keys.clone() {
            let hidden = key.saturating_sub(before + queries.start).min(QUERIES);
            scores[(key - keys.start) * QUERIES..][..hidden].fill(f32::NEG_INFINITY);
        }
        let Some(window) = shape.window else {
            return;
        };
        for key in keys.clone() {
            let end = self.position(key) + window;
            for (lane, query) in queries.clone().enumerate() {
                if self.position(before + query) >= end {
                    scores[(key - keys.start) * QUERIES + lane] = f32::NEG_INFINITY;
                }
            }
        }
    }
}

/// The tiles of one instruction set.
pub(super) struct Tiles {
    pub(super) simd: Simd,
    /// Left factor packed or transposed.
    pub(super) plain: Kernels,
    /// Left factor is a block of scores.
    pub(super) scores: Kernels,
}

impl Tiles {
    pub(super) fn new(simd: Simd) -> Tiles {
        Tiles {
            simd,
            plain: Kernels::pick::<1>(simd, Compute::F32),
            scores: Kernels::pick::<QUERIES>(simd, Compute::F32),
        }
    }

    fn height(&self) -> usize {
        rows_max(self.simd, Compute::F32)
    }

    /// Packs `rows` `[count, dim]` in blocks of tile height, each `[dim, height]`.
    pub(super) fn pack_rows(&self, rows: &[f32], count: usize, dim: usize, out: &mut [f32]) {
        for start in (0..count).step_by(self.height()) {
            let height = self.height().min(count - start);
            let from = Rows::of(&rows[start * dim..], dim);
            let out = &mut out[start * dim..][..height * dim];
            transpose(self.simd, Compute::F32, from, height, dim, out, (height, height));
        }
    }

    /// Packs `count` rows of `row_step` into the panel `[dim, 32]`.
    pub(super) fn pack_queries(&self, rows: &[f32], row_step: usize, count: usize, dim: usize, out: &mut [f32]) {
        for half in [0, QUERIES / 2] {
            let here = count.saturating_sub(half).min(QUERIES / 2);
            let from = Rows::of(rows.get(half * row_step..).unwrap_or_default(), row_step);
            let lanes = (PANEL, QUERIES / 2);
            transpose(self.simd, Compute::F32, from, here, dim, &mut out[half..], lanes);
        }
    }

    /// Writes the transposed block `[dim, 32]`, each query times its factor, to `count` rows of `row_step`.
    ///
    /// # Safety
    /// `out` is writable at `i * row_step + j` for `i < count`, `j < dim`, and nobody else touches those elements.
    pub(super) unsafe fn unpack(
        &self,
        block: &[f32],
        factors: Option<&PerQuery>,
        (count, dim): (usize, usize),
        out: *mut f32,
        row_step: usize,
    ) {
        for start in (0..dim).step_by(16) {
            let lanes = 16.min(dim - start);
            let from = Rows::of(&block[start * QUERIES..], QUERIES);
            // Through a strip on the stack, because slices over interleaved heads would overlap between tasks.
            let mut strip = [0.0f32; 16 * QUERIES];
            transpose(self.simd, Compute::F32, from, lanes, count, &mut strip, (16, lanes));
            for (i, strip) in strip.as_chunks_mut::<16>().0.iter_mut().enumerate().take(count) {
                if let Some(factors) = factors {
                    strip.iter_mut().for_each(|x| *x *= factors[i]);
                }
                // SAFETY: promised by the caller; the strip is another object.
                unsafe { std::ptr::copy_nonoverlapping(strip.as_ptr(), out.add(i * row_step + start), lanes) };
            }
        }
    }

    /// `scores[key, query] = factor * packed[key] . panel[query]` for `keys` of `count` packed rows.
    pub(super) fn scores(&self, packed: &[f32], count: usize, panel: &[f32], block: &Block, scores: &mut [f32]) {
        let height = self.height();
        let first = block.keys.start / height * height;
        assert!(
            scores.len() >= (block.keys.end.next_multiple_of(height).min(count)) * QUERIES,
            "a row per key"
        );
        assert!(panel.len() >= block.dim * PANEL, "a panel of queries");
        for start in (first..block.keys.end).step_by(height) {
            let rows = height.min(count - start);
            let tile = Tile {
                k: block.dim,
                a: packed[start * block.dim..][..rows * block.dim].as_ptr(),
                a_step: rows,
                b: panel.as_ptr(),
                b_step: PANEL,
                c: scores[start * QUERIES..].as_mut_ptr(),
                c_step: QUERIES,
                alpha: block.factor,
                add: false,
            };
            // SAFETY: the slices were just cut to the tile: `rows` lanes per step, a panel, and a score row per key.
            unsafe { self.plain.get(rows, block.vectors())(&tile) };
        }
    }

    /// `out[i, query] = sum over keys of rows[key, i] * weights[key, query]`, transposed like the scores.
    pub(super) fn gather(&self, rows: &[f32], weights: &[f32], block: &Block, out: &mut [f32]) {
        let keys = block.keys.clone();
        assert!(
            keys.end * block.dim <= rows.len() && keys.end * QUERIES <= weights.len(),
            "a row per key"
        );
        assert!(out.len() >= block.dim * QUERIES, "a lane per query");
        let blocks = block.dim.div_ceil(self.height());
        for index in 0..blocks {
            let (start, end) = (index * block.dim / blocks, (index + 1) * block.dim / blocks);
            let tile = Tile {
                k: keys.len(),
                a: rows[keys.start * block.dim + start..].as_ptr(),
                a_step: block.dim,
                b: weights[keys.start * QUERIES..].as_ptr(),
                b_step: QUERIES,
                c: out[start * QUERIES..].as_mut_ptr(),
                c_step: QUERIES,
                alpha: 1.0,
                add: false,
            };
            // SAFETY: lengths were asserted; `a` ends at element `(keys.end - 1) * dim + end`.
            unsafe { self.plain.get(end - start, block.vectors())(&tile) };
        }
    }

    /// `out[key, i] += sum over queries of weights[key, query] * rows[query, i]`; `rows` and `out` are `padded` wide.
    pub(super) fn spread(&self, weights: &[f32], rows: &[f32], padded: usize, block: &Block, out: &mut [f32]) {
        let (keys, count) = (block.keys.clone(), block.queries);
        assert!(
            padded.is_multiple_of(PANEL) && rows.len() >= count * padded,
            "a padded row per query"
        );
        assert!(
            keys.end * QUERIES <= weights.len() && keys.end * padded <= out.len(),
            "a row per key"
        );
        for start in keys.clone().step_by(self.height()) {
            let height = self.height().min(keys.end - start);
            for column in (0..padded).step_by(PANEL) {
                let tile = Tile {
                    k: count,
                    a: weights[start * QUERIES..].as_ptr(),
                    a_step: 1,
                    b: rows[column..].as_ptr(),
                    b_step: padded,
                    c: out[start * padded + column..].as_mut_ptr(),
                    c_step: padded,
                    alpha: 1.0,
                    add: true,
                };
                // SAFETY: lengths were asserted; every tile is `height` keys by one panel of columns.
                unsafe { self.scores.get(height, 2)(&tile) };
            }
        }
    }
}

/// A block of scores.
pub(super) struct Block {
    /// Keys in sight.
    pub(super) keys: Range<usize>,
    /// Queries in use, at most [`QUERIES`].
    pub(super) queries: usize,
    pub(super) dim: usize,
    /// Factor of the scores.
    pub(super) factor: f32,
}

impl Block {
    fn vectors(&self) -> usize {
        self.queries.div_ceil(16)
    }
}

/// One value per query of a block.
pub(super) type PerQuery = [f32; QUERIES];

#[inline(always)]
fn cap_body<const FUSED: bool>(cap: f32, scores: &mut [f32]) {
    for s in scores {
        *s = cap * tanh::<FUSED>(*s / cap);
    }
}

per_simd!(
    /// Soft-caps scores.
    pub(super) fn cap_scores(cap: f32, scores: &mut [f32]) => cap_body
);

#[inline(always)]
fn softmax_body<const FUSED: bool>(scores: &mut [f32], lse: &mut PerQuery, inverse: &mut PerQuery) {
    let rows = scores.as_chunks_mut::<QUERIES>().0;
    let mut top = [f32::NEG_INFINITY; QUERIES];
    for row in rows.iter() {
        for (top, &s) in top.iter_mut().zip(row) {
            *top = if s > *top { s } else { *top };
        }
    }
    let mut sums = [0.0f32; QUERIES];
    for row in rows.iter_mut() {
        for ((s, top), sum) in row.iter_mut().zip(&top).zip(&mut sums) {
            *s = exp::<FUSED>(*s - top);
            *sum += *s;
        }
    }
    for i in 0..QUERIES {
        lse[i] = top[i] + sums[i].ln();
        inverse[i] = 1.0 / sums[i];
    }
}

per_simd!(
    /// Replaces scores by their exponentials, less the largest of each query; `inverse` is one over their sums.
    pub(super) fn softmax(scores: &mut [f32], lse: &mut PerQuery, inverse: &mut PerQuery) => softmax_body
);
