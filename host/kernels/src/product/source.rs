//! The right factor of a product, and how pieces of it become panels.

use std::ops::Range;

use super::SUM_BLOCK;
use crate::ctx::{Compute, Ctx};
use crate::pack::{Rows, interleave, steps, transpose};
use crate::scratch::{self, AlignedBuffer};
use crate::stored::Stored;
use crate::tile::PANEL;

/// Panels that cover one super-block of a quantized row; the backward decodes that many columns at once.
const PANELS_PER_SUPER_BLOCK: usize = 256 / PANEL;

/// Which product a right factor serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// `y = x W^T`.
    Forward,
    /// `dx = dy W`.
    Backward,
}

/// A frozen weight `[n, k]` as the product reads it.
#[derive(Clone, Copy)]
pub(crate) struct StoredWeight<'a> {
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) values: &'a Stored,
}

/// A matrix packed for [`product`](super::product), ready to be multiplied many times.
#[derive(Clone, Debug)]
pub(crate) struct Panels {
    pub(crate) compute: Compute,
    pub(super) steps: usize,
    pub(super) data: AlignedBuffer,
}

impl Panels {
    /// Packs a weight for products in one direction.
    pub(crate) fn pack(ctx: &Ctx, compute: Compute, weight: StoredWeight<'_>, direction: Direction) -> Panels {
        let source = Source::Stored(weight, direction);
        let (n, k) = source.shape();
        let (panels, steps) = (n.div_ceil(PANEL), steps(compute, k));
        let mut data = AlignedBuffer::zeroed(panels * steps * PANEL);
        let group = source.panels_at_once().min(panels.max(1));
        ctx.pool
            .run_chunks(data.as_mut_slice(), group * steps * PANEL, |index, out| {
                let first = index * group;
                let count = group.min(panels - first);
                for start in (0..k).step_by(SUM_BLOCK) {
                    let place = Place {
                        panel_step: steps * PANEL,
                        offset: self::steps(compute, start) * PANEL,
                    };
                    source.pack(
                        ctx,
                        compute,
                        first..first + count,
                        start..k.min(start + SUM_BLOCK),
                        out,
                        place,
                    );
                }
            });
        Panels { compute, steps, data }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.data.as_slice().len() * 4
    }
}

/// Where the right factor comes from; it is `[k, n]`.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// Prepared panels of a matrix with these `n` and `k`.
    Panels(&'a Panels, usize, usize),
    /// A stored weight, transposed in the forward.
    Stored(StoredWeight<'a>, Direction),
    /// Strided floats: `n`, `k`, values, row step, column step.
    Dense(Dense<'a>),
}

/// A strided matrix of floats.
#[derive(Clone, Copy)]
pub(crate) struct Dense<'a> {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) values: &'a [f32],
    pub(crate) row_step: usize,
    pub(crate) column_step: usize,
}

/// Where packed panels go: panel `i` at `i * panel_step + offset`.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) panel_step: usize,
    pub(super) offset: usize,
}

impl Source<'_> {
    /// Returns `(n, k)`.
    pub(super) fn shape(&self) -> (usize, usize) {
        match *self {
            Source::Panels(_, n, k) => (n, k),
            Source::Stored(w, Direction::Forward) => (w.n, w.k),
            Source::Stored(w, Direction::Backward) => (w.k, w.n),
            Source::Dense(dense) => (dense.columns, dense.rows),
        }
    }

    /// Panels that must be packed together.
    pub(super) fn panels_at_once(&self) -> usize {
        match self {
            Source::Stored(w, Direction::Backward) if w.values.block_size() > PANEL => PANELS_PER_SUPER_BLOCK,
            _ => 1,
        }
    }

    pub(super) fn pack(
        &self,
        ctx: &Ctx,
        compute: Compute,
        panels: Range<usize>,
        sum: Range<usize>,
        out: &mut [f32],
        place: Place,
    ) {
        match *self {
            Source::Panels(..) => {}
            Source::Stored(weight, direction) => {
                pack_weight(ctx, compute, &weight, direction, panels, sum, out, place);
            }
            Source::Dense(dense) => {
                for (index, panel) in panels.enumerate() {
                    let out = &mut out[index * place.panel_step + place.offset..];
                    pack_dense(ctx, &dense, panel * PANEL, sum.clone(), out);
                }
            }
        }
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "one place of one weight; a struct would be named once"
)]
fn pack_weight(
    ctx: &Ctx,
    compute: Compute,
    weight: &StoredWeight<'_>,
    direction: Direction,
    panels: Range<usize>,
    sum: Range<usize>,
    out: &mut [f32],
    place: Place,
) {
    let columns = panels.start * PANEL..(panels.end * PANEL).min(match direction {
        Direction::Forward => weight.n,
        Direction::Backward => weight.k,
    });
    // The rectangle of the stored weight that is needed.
    let (rows, across) = match direction {
        Direction::Forward => (columns.clone(), sum.clone()),
        Direction::Backward => (sum.clone(), columns.clone()),
    };
    if let Some((float, stored)) = weight.values.floats() {
        let row_bytes = weight.k * float.size();
        let from = Rows {
            float,
            bytes: &stored[rows.start * row_bytes + across.start * float.size()..],
            row_bytes,
        };
        pack_rectangle(ctx, compute, direction, from, columns.len(), sum.len(), out, place);
        return;
    }
    let width = across.len();
    scratch::with(rows.len() * width, |decoded| {
        for (row, decoded) in rows.clone().zip(decoded.chunks_exact_mut(width)) {
            weight.values.decode(weight.k, row, across.clone(), decoded);
        }
        let from = Rows::of(decoded, width);
        pack_rectangle(ctx, compute, direction, from, columns.len(), sum.len(), out, place);
    });
}

/// Packs `columns` output columns of a rectangle that starts at its first element.
#[expect(
    clippy::too_many_arguments,
    reason = "one place of one weight; a struct would be named once"
)]
fn pack_rectangle(
    ctx: &Ctx,
    compute: Compute,
    direction: Direction,
    from: Rows<'_>,
    columns: usize,
    k: usize,
    out: &mut [f32],
    place: Place,
) {
    for (index, start) in (0..columns).step_by(PANEL).enumerate() {
        let out = &mut out[index * place.panel_step + place.offset..];
        let count = PANEL.min(columns - start);
        match direction {
            Direction::Forward => pack_lanes(ctx, compute, from, start, count, k, out),
            Direction::Backward => {
                let from = Rows {
                    bytes: &from.bytes[start * from.float.size()..],
                    ..from
                };
                interleave(ctx.simd, compute, from, count, k, out);
            }
        }
    }
}

/// Turns `count` rows from `start` on into the columns of one panel.
fn pack_lanes(ctx: &Ctx, compute: Compute, from: Rows<'_>, start: usize, count: usize, k: usize, out: &mut [f32]) {
    for half in [0, 16] {
        let rows = count.saturating_sub(half).min(16);
        let from = Rows {
            bytes: from.bytes.get((start + half) * from.row_bytes..).unwrap_or_default(),
            ..from
        };
        transpose(ctx.simd, compute, from, rows, k, &mut out[half..], (PANEL, 16));
    }
}

fn pack_dense(ctx: &Ctx, dense: &Dense<'_>, column: usize, sum: Range<usize>, out: &mut [f32]) {
    let count = PANEL.min(dense.columns - column);
    let at = sum.start * dense.row_step + column * dense.column_step;
    let values = dense.values.get(at..).unwrap_or_default();
    if dense.column_step == 1 {
        interleave(
            ctx.simd,
            Compute::F32,
            Rows::of(values, dense.row_step),
            count,
            sum.len(),
            out,
        );
    } else if dense.row_step == 1 {
        pack_lanes(
            ctx,
            Compute::F32,
            Rows::of(values, dense.column_step),
            0,
            count,
            sum.len(),
            out,
        );
    } else {
        for (p, out) in out.chunks_exact_mut(PANEL).take(sum.len()).enumerate() {
            for (j, out) in out.iter_mut().enumerate() {
                *out = if j < count {
                    values[p * dense.row_step + j * dense.column_step]
                } else {
                    0.0
                };
            }
        }
    }
}
