//! The left factor of a product: its rows, packed once per call in blocks that fit the register tiles.

use std::ops::Range;

use super::{Dense, TASK_WORK_MIN};
use crate::ctx::{Compute, Ctx};
use crate::pack::{Rows, narrow, steps, transpose};
use crate::pool::Disjoint;
use crate::scratch;
use crate::tile::{reads_rows, rows_max};

/// The rows of a product, packed in blocks of nearly equal height.
pub(super) struct PackedRows<'a> {
    pub(super) rows: usize,
    pub(super) blocks: usize,
    steps: usize,
    data: &'a [f32],
    order: Order,
}

/// How the packed rows lie.
#[derive(Clone, Copy)]
enum Order {
    /// The lanes of a step side by side, block by block.
    Lanes,
    /// As `Lanes`, with this distance between steps: a transposed factor, which tiles read where it lies.
    InPlace(usize),
    /// Row by row.
    Rows,
}

impl PackedRows<'_> {
    /// Returns the first row of block `index`.
    pub(super) fn first(&self, index: usize) -> usize {
        index * self.rows / self.blocks
    }

    /// Returns the elements of rows `first..first + height` from step `offset` on, and the `a_step` of their tiles.
    pub(super) fn block(&self, first: usize, height: usize, offset: usize, count: usize) -> (&[f32], usize) {
        let from = first * self.steps;
        match self.order {
            _ if count == 0 => (&[], 0),
            Order::InPlace(step) => (&self.data[first + offset * step..][..(count - 1) * step + height], step),
            Order::Lanes => (&self.data[from + offset * height..][..count * height], height),
            Order::Rows => (
                &self.data[from + offset..][..(height - 1) * self.steps + count],
                self.steps,
            ),
        }
    }
}

/// Packs the rows of `a` and hands them to `body`.
pub(super) fn pack_rows<R>(ctx: &Ctx, compute: Compute, a: &Dense<'_>, body: impl FnOnce(&PackedRows<'_>) -> R) -> R {
    let (m, k) = (a.rows, a.columns);
    let steps = steps(compute, k);
    let blocks = m.div_ceil(rows_max(ctx.simd, compute)).max(1);
    if compute == Compute::F32 && a.row_step == 1 {
        return body(&PackedRows {
            rows: m,
            blocks,
            steps,
            data: a.values,
            order: Order::InPlace(a.column_step),
        });
    }
    scratch::with(m * steps, |data| {
        let cells = Disjoint::new(data);
        let pack = |index: usize| {
            let (first, end) = (index * m / blocks, (index + 1) * m / blocks);
            // SAFETY: blocks do not overlap.
            let out = unsafe { cells.range(first * steps, (end - first) * steps) };
            pack_row_block(ctx, compute, a, first..end, out);
        };
        if m * k < TASK_WORK_MIN / 8 {
            (0..blocks).for_each(pack);
        } else {
            ctx.pool.run(blocks, pack);
        }
        body(&PackedRows {
            rows: m,
            blocks,
            steps,
            data,
            order: if reads_rows(ctx.simd, compute) {
                Order::Rows
            } else {
                Order::Lanes
            },
        })
    })
}

fn pack_row_block(ctx: &Ctx, compute: Compute, a: &Dense<'_>, rows: Range<usize>, out: &mut [f32]) {
    let (height, k) = (rows.len(), a.columns);
    let values = a.values.get(rows.start * a.row_step..).unwrap_or_default();
    if a.column_step == 1 {
        let from = Rows::of(values, a.row_step);
        if reads_rows(ctx.simd, compute) {
            narrow(ctx.simd, from, height, k, out);
        } else {
            transpose(ctx.simd, compute, from, height, k, out, (height, height));
        }
        return;
    }
    assert!(compute == Compute::F32, "only dense f32 products have strided rows");
    for (p, out) in out.chunks_exact_mut(height.max(1)).take(k).enumerate() {
        for (i, out) in out.iter_mut().enumerate() {
            *out = values[i * a.row_step + p * a.column_step];
        }
    }
}
