//! Gradients of attention: scores are recomputed block by block from the saved log-sum-exp.
//!
//! A task owns one query head of one segment. What it adds to keys and values goes to its own part of a buffer; the
//! parts are then summed in the order of segments and heads, whoever computed them.

use std::ops::Range;

use super::keys::{Block, Keys, PerQuery, QUERIES, Tiles, cap_scores};
use super::{AttentionSaved, AttentionShape};
use crate::ctx::Ctx;
use crate::lanes::{dot as lane_dot, exp, per_simd};
use crate::pool::Disjoint;
use crate::scratch;
use crate::tile::PANEL;

struct Call<'a> {
    shape: &'a AttentionShape,
    tiles: Tiles,
    saved: &'a AttentionSaved<'a>,
    d_out: &'a [f32],
    /// Keys of all segments before each one, and in total.
    offsets: Vec<usize>,
    /// Width of a row of the parts: the head, rounded up to whole panels.
    padded: usize,
}

/// Memory of one task.
struct Buffers<'a> {
    keys: &'a mut [f32],
    packed_keys: &'a mut [f32],
    packed_values: &'a mut [f32],
    scores: &'a mut [f32],
    slopes: &'a mut [f32],
    q_panel: &'a mut [f32],
    d_panel: &'a mut [f32],
    q_rows: &'a mut [f32],
    d_rows: &'a mut [f32],
    result: &'a mut [f32],
}

pub(super) fn backward(
    ctx: &Ctx,
    shape: &AttentionShape,
    saved: &AttentionSaved<'_>,
    d_out: &[f32],
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    let segments = saved.segments;
    let mut offsets = vec![0];
    for segment in segments {
        offsets.push(offsets[offsets.len() - 1] + segment.prefix.len() + segment.q.len());
    }
    let padded = shape.head_dim.next_multiple_of(PANEL);
    let per_head = offsets[segments.len()] * padded;
    let call = Call {
        shape,
        tiles: Tiles::new(ctx.simd),
        saved,
        d_out,
        offsets,
        padded,
    };
    dq.fill(0.0);
    let mut order: Vec<usize> = (0..segments.len()).collect();
    order.sort_by_key(|&index| {
        std::cmp::Reverse((segments[index].prefix.len() + segments[index].q.len()) * segments[index].q.len())
    });
    scratch::with(2 * per_head * shape.n_heads, |parts| {
        let (k_parts, v_parts) = parts.split_at_mut(per_head * shape.n_heads);
        let (dq, k_cells, v_cells) = (
            Disjoint::new(dq),
            Disjoint::new(&mut *k_parts),
            Disjoint::new(&mut *v_parts),
        );
        ctx.pool.run(order.len() * shape.n_heads, |task| {
            let (segment, head) = (order[task / shape.n_heads], task % shape.n_heads);
            let start = head * per_head + call.offsets[segment] * padded;
            let len = (call.offsets[segment + 1] - call.offsets[segment]) * padded;
            // SAFETY: every task owns the part of its head and segment.
            let (dk, dv) = unsafe { (k_cells.range(start, len), v_cells.range(start, len)) };
            dk.fill(0.0);
            dv.fill(0.0);
            call.head(segment, head, &dq, dk, dv);
        });
        let outputs = [(&*k_parts, Disjoint::new(dk)), (&*v_parts, Disjoint::new(dv))];
        ctx.pool.run(2 * shape.n_kv_heads, |task| {
            let (parts, out) = &outputs[task % 2];
            call.reduce(parts, per_head, task / 2, out);
        });
    });
}

impl Call<'_> {
    /// Sums the parts of one key head in the order of segments, then heads.
    fn reduce(&self, parts: &[f32], per_head: usize, kv_head: usize, out: &Disjoint<'_, f32>) {
        let (dim, rows) = (self.shape.head_dim, self.saved.positions.len());
        let width = self.shape.n_kv_heads * dim;
        let group = self.shape.n_heads / self.shape.n_kv_heads;
        for row in 0..rows {
            // SAFETY: one task per output and key head.
            unsafe { out.range(row * width + kv_head * dim, dim) }.fill(0.0);
        }
        for (segment, offset) in self.saved.segments.iter().zip(&self.offsets) {
            for (index, row) in segment.prefix.clone().chain(segment.q.clone()).enumerate() {
                // SAFETY: as above.
                let sum = unsafe { out.range(row * width + kv_head * dim, dim) };
                for head in kv_head * group..(kv_head + 1) * group {
                    let part = &parts[head * per_head + (offset + index) * self.padded..][..dim];
                    for (sum, part) in sum.iter_mut().zip(part) {
                        *sum += part;
                    }
                }
            }
        }
    }

    fn head(&self, segment: usize, head: usize, dq: &Disjoint<'_, f32>, dk: &mut [f32], dv: &mut [f32]) {
        let (shape, segment) = (self.shape, &self.saved.segments[segment]);
        let dim = shape.head_dim;
        let keys = Keys::packed(shape, segment, self.saved.positions, self.saved.k, self.saved.v);
        let kv_head = head / (shape.n_heads / shape.n_kv_heads);
        let count = keys.len();
        let (rows, lanes, flat) = (count * dim, count * QUERIES, dim * QUERIES);
        let wide = self.padded * QUERIES;
        let sizes = [rows, rows, rows, lanes, lanes, flat, flat, wide, wide, flat];
        scratch::with(sizes.iter().sum(), |mut rest| {
            let mut take = |size: usize| {
                let (part, tail) = std::mem::take(&mut rest).split_at_mut(size);
                rest = tail;
                part
            };
            let mut buffers = Buffers {
                keys: take(sizes[0]),
                packed_keys: take(sizes[1]),
                packed_values: take(sizes[2]),
                scores: take(sizes[3]),
                slopes: take(sizes[4]),
                q_panel: take(sizes[5]),
                d_panel: take(sizes[6]),
                q_rows: take(sizes[7]),
                d_rows: take(sizes[8]),
                result: take(sizes[9]),
            };
            keys.copy(&keys.v, kv_head, count, dim, buffers.keys);
            self.tiles.pack_rows(buffers.keys, count, dim, buffers.packed_values);
            keys.copy(&keys.k, kv_head, count, dim, buffers.keys);
            self.tiles.pack_rows(buffers.keys, count, dim, buffers.packed_keys);
            for start in (0..segment.q.len()).step_by(QUERIES) {
                let rows = start..segment.q.len().min(start + QUERIES);
                self.block(&keys, segment.q.start, head, rows, &mut buffers, dq, dk, dv);
            }
        });
    }

    #[expect(clippy::too_many_arguments, reason = "the buffers of one task")]
    fn block(
        &self,
        keys: &Keys<'_>,
        own: usize,
        head: usize,
        rows: Range<usize>,
        buffers: &mut Buffers<'_>,
        dq: &Disjoint<'_, f32>,
        dk: &mut [f32],
        dv: &mut [f32],
    ) {
        let (shape, saved, tiles) = (self.shape, self.saved, &self.tiles);
        let (dim, width, count) = (shape.head_dim, shape.n_heads * shape.head_dim, keys.len());
        let at = (own + rows.start) * width + head * dim;
        tiles.pack_queries(&saved.q[at..], width, rows.len(), dim, buffers.q_panel);
        tiles.pack_queries(&self.d_out[at..], width, rows.len(), dim, buffers.d_panel);
        self.copy_rows(&saved.q[at..], rows.len(), buffers.q_rows);
        self.copy_rows(&self.d_out[at..], rows.len(), buffers.d_rows);
        let mut block = Block {
            keys: keys.first_visible(shape, &rows)..keys.before() + rows.end,
            queries: rows.len(),
            dim,
            factor: shape.scale,
        };
        tiles.scores(buffers.packed_keys, count, buffers.q_panel, &block, buffers.scores);
        block.factor = 1.0;
        tiles.scores(buffers.packed_values, count, buffers.d_panel, &block, buffers.slopes);
        let seen = block.keys.start * QUERIES..block.keys.end * QUERIES;
        let (scores, slopes) = (&mut buffers.scores[seen.clone()], &mut buffers.slopes[seen]);
        if let Some(cap) = shape.softcap {
            cap_scores(tiles.simd, cap, scores);
        }
        keys.mask(shape, &rows, &block.keys, scores);
        let (lse, delta) = self.per_query(own + rows.start, rows.len(), head);
        differentiate(tiles.simd, shape.scale, shape.softcap, &lse, &delta, scores, slopes);
        tiles.gather(buffers.keys, buffers.slopes, &block, buffers.result);
        assert!(
            at + (rows.len() - 1) * width + dim <= saved.q.len(),
            "the block lies inside q"
        );
        // SAFETY: the block ends inside `dq`, which is as long as `q`; heads and segments do not overlap.
        unsafe { tiles.unpack(buffers.result, None, (rows.len(), dim), dq.pointer(at), width) };
        tiles.spread(buffers.scores, buffers.d_rows, self.padded, &block, dv);
        tiles.spread(buffers.slopes, buffers.q_rows, self.padded, &block, dk);
    }

    /// Copies rows of one head, padded with zeros to whole panels.
    fn copy_rows(&self, from: &[f32], count: usize, out: &mut [f32]) {
        let (dim, width) = (self.shape.head_dim, self.shape.n_heads * self.shape.head_dim);
        for (i, out) in out.chunks_exact_mut(self.padded).take(count).enumerate() {
            out[..dim].copy_from_slice(&from[i * width..][..dim]);
            out[dim..].fill(0.0);
        }
    }

    /// Returns the log-sum-exp of each query and the product of its output with the output's gradient.
    fn per_query(&self, first: usize, count: usize, head: usize) -> (PerQuery, PerQuery) {
        let (dim, width) = (self.shape.head_dim, self.shape.n_heads * self.shape.head_dim);
        let (mut lse, mut delta) = ([0.0; QUERIES], [0.0; QUERIES]);
        lse[..count].copy_from_slice(&self.saved.lse[head * self.saved.positions.len() + first..][..count]);
        for (i, delta) in delta.iter_mut().enumerate().take(count) {
            let at = (first + i) * width + head * dim;
            let (out, d_out) = (&self.saved.out[at..at + dim], &self.d_out[at..at + dim]);
            *delta = dot(self.tiles.simd, out, d_out);
        }
        (lse, delta)
    }
}

per_simd!(fn dot(a: &[f32], b: &[f32]) -> f32 => lane_dot);

#[inline(always)]
fn differentiate_body<const FUSED: bool>(
    scale: f32,
    softcap: Option<f32>,
    lse: &PerQuery,
    delta: &PerQuery,
    scores: &mut [f32],
    slopes: &mut [f32],
) {
    let rows = scores.as_chunks_mut::<QUERIES>().0;
    let slopes = slopes.as_chunks_mut::<QUERIES>().0;
    for (row, slopes) in rows.iter_mut().zip(slopes) {
        for i in 0..QUERIES {
            let weight = exp::<FUSED>(row[i] - lse[i]);
            let mut slope = weight * (slopes[i] - delta[i]) * scale;
            if let Some(cap) = softcap {
                let ratio = row[i] / cap;
                // A hidden score is minus infinity; its weight is zero and must stay so.
                slope = if weight == 0.0 {
                    0.0
                } else {
                    slope * (1.0 - ratio * ratio)
                };
            }
            row[i] = weight;
            slopes[i] = slope;
        }
    }
}

per_simd!(
    /// Turns scores into weights, and products of gradient and value into gradients of the raw scores.
    fn differentiate(
        scale: f32,
        softcap: Option<f32>,
        lse: &PerQuery,
        delta: &PerQuery,
        scores: &mut [f32],
        slopes: &mut [f32],
    ) => differentiate_body
);
