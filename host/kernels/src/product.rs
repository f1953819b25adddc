//! The blocked product behind every matrix multiplication: packed rows of `A` times panels of `B`.
//!
//! `A` is packed once per call. `B` comes as panels: prepared ones, or packed by the task that needs them, a piece that
//! stays in the second-level cache at a time. Tasks own blocks of the output; the sum runs in blocks of [`SUM_BLOCK`]
//! in ascending order whoever does it, so the split never changes a bit.

use crate::ctx::{Compute, Ctx, Write};
use crate::pack::{Float, Rows, interleave, narrow, steps, transpose};
use crate::pool::Disjoint;
use crate::quant::GgmlType;
use crate::scratch::{self, Aligned};
use crate::tile::{Kernels, PANEL, TILE_ROWS, Tile, reads_rows, rows_max};
use crate::weight::{Direction, Weight};

/// Elements of the sum that a tile takes at once: a 12-row block of `A` (36 KiB in `f32`) and a few panels of `B` stay
/// in a second-level cache of 512 KiB or more, and the result is re-read once per 768 steps only. A multiple of 256, so
/// that quantised rows are cut between their blocks.
pub(crate) const SUM_BLOCK: usize = 768;
/// Floats of `B` that one task keeps packed: three quarters of a 512 KiB cache.
const PIECE_FLOATS: usize = 96 * 1024;
/// Panels that cover one super-block of a quantised row; the backward decodes that many columns at once.
const PANELS_PER_SUPER_BLOCK: usize = 256 / PANEL;
/// Multiply-adds below which a task is not worth handing out: about 5 microseconds.
const TASK_WORK_MIN: usize = 512 * 1024;
/// Tasks per thread: enough that a thread which the system disturbs does not hold up the others.
const TASKS_PER_THREAD: usize = 4;

/// A matrix packed for [`product`], ready to be multiplied many times.
#[derive(Clone, Debug)]
pub(crate) struct Panels {
    pub(crate) compute: Compute,
    steps: usize,
    data: Aligned,
}

impl Panels {
    /// Packs a weight for products in one direction.
    pub(crate) fn pack(ctx: &Ctx, compute: Compute, weight: &Weight, direction: Direction) -> Panels {
        let source = Source::Weight(weight, direction);
        let (n, k) = source.shape();
        let (panels, steps) = (n.div_ceil(PANEL), steps(compute, k));
        let mut data = Aligned::zeroed(panels * steps * PANEL);
        let group = source.panels_at_once().min(panels.max(1));
        ctx.pool
            .run_chunks(data.as_mut_slice(), group * steps * PANEL, |index, out| {
                let first = index * group;
                let count = group.min(panels - first);
                for start in (0..k).step_by(SUM_BLOCK) {
                    let place = Place {
                        panel_step: steps * PANEL,
                        offset: crate::pack::steps(compute, start) * PANEL,
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
    Weight(&'a Weight, Direction),
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
struct Place {
    panel_step: usize,
    offset: usize,
}

impl Source<'_> {
    /// Returns `(n, k)`.
    fn shape(&self) -> (usize, usize) {
        match *self {
            Source::Panels(_, n, k) => (n, k),
            Source::Weight(w, Direction::Forward) => (w.n(), w.k()),
            Source::Weight(w, Direction::Backward) => (w.k(), w.n()),
            Source::Dense(dense) => (dense.columns, dense.rows),
        }
    }

    /// Panels that must be packed together.
    fn panels_at_once(&self) -> usize {
        match self {
            Source::Weight(w, Direction::Backward) if w.ggml_type().block_size() > PANEL => PANELS_PER_SUPER_BLOCK,
            _ => 1,
        }
    }

    fn pack(
        &self,
        ctx: &Ctx,
        compute: Compute,
        panels: std::ops::Range<usize>,
        sum: std::ops::Range<usize>,
        out: &mut [f32],
        place: Place,
    ) {
        match *self {
            Source::Panels(..) => {}
            Source::Weight(weight, direction) => {
                pack_weight(ctx, compute, weight, direction, panels, sum, out, place);
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

/// Returns how the type stores plain floats, if it does.
pub(crate) fn float_of(ty: GgmlType) -> Option<Float> {
    match ty {
        GgmlType::F32 => Some(Float::F32),
        GgmlType::BF16 => Some(Float::Bf16),
        GgmlType::F16 => Some(Float::F16),
        _ => None,
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "one place of one weight; a struct would be named once"
)]
fn pack_weight(
    ctx: &Ctx,
    compute: Compute,
    weight: &Weight,
    direction: Direction,
    panels: std::ops::Range<usize>,
    sum: std::ops::Range<usize>,
    out: &mut [f32],
    place: Place,
) {
    let columns = panels.start * PANEL..(panels.end * PANEL).min(match direction {
        Direction::Forward => weight.n(),
        Direction::Backward => weight.k(),
    });
    // The rectangle of the stored weight that is needed.
    let (rows, across) = match direction {
        Direction::Forward => (columns.clone(), sum.clone()),
        Direction::Backward => (sum.clone(), columns.clone()),
    };
    let stored = weight.bytes();
    if let Some(float) = float_of(weight.ggml_type()) {
        let row_bytes = weight.k() * float.size();
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
            weight.decode_part(row, across.clone(), decoded);
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

fn pack_dense(ctx: &Ctx, dense: &Dense<'_>, column: usize, sum: std::ops::Range<usize>, out: &mut [f32]) {
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

/// The rows of a product, packed in blocks of nearly equal height.
struct PackedRows<'a> {
    rows: usize,
    blocks: usize,
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
    fn first(&self, index: usize) -> usize {
        index * self.rows / self.blocks
    }

    /// Returns the elements of rows `first..first + height` from step `offset` on, and the `a_step` of their tiles.
    fn block(&self, first: usize, height: usize, offset: usize, count: usize) -> (&[f32], usize) {
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

fn pack_rows<R>(ctx: &Ctx, compute: Compute, a: &Dense<'_>, body: impl FnOnce(&PackedRows<'_>) -> R) -> R {
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

fn pack_row_block(ctx: &Ctx, compute: Compute, a: &Dense<'_>, rows: std::ops::Range<usize>, out: &mut [f32]) {
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

/// One result of [`product`]: `c[m, n] (+)= alpha A B`.
pub(crate) struct Output<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) c: &'a mut [f32],
    pub(crate) c_step: usize,
}

/// A rectangle of one output.
#[derive(Clone, Copy, Debug)]
struct Task {
    output: usize,
    panels: (usize, usize),
    blocks: (usize, usize),
}

/// Multiplies one left factor with several right ones.
///
/// **Panics:** when a result does not hold `m` rows of `n` columns.
pub(crate) fn product(
    ctx: &Ctx,
    compute: Compute,
    a: &Dense<'_>,
    outputs: &mut [Output<'_>],
    alpha: f32,
    write: Write,
) {
    if a.rows == 0 {
        return;
    }
    for output in outputs.iter() {
        let (n, k) = output.source.shape();
        assert!(k == a.columns, "both factors have one length of sum");
        assert!(n <= output.c_step, "rows of a result do not overlap");
        assert!(
            (a.rows - 1) * output.c_step + n <= output.c.len(),
            "the result has m rows of n columns"
        );
    }
    assert!(
        compute == Compute::F32 || alpha == 1.0,
        "products in bf16 are not scaled"
    );
    let kernels = Kernels::pick::<1>(ctx.simd, compute);
    pack_rows(ctx, compute, a, |rows| {
        let tasks = plan(ctx, rows, outputs);
        let outputs: Vec<(Source<'_>, Disjoint<'_, f32>, usize)> = outputs
            .iter_mut()
            .map(|output| (output.source, Disjoint::new(&mut *output.c), output.c_step))
            .collect();
        ctx.pool.run(tasks.len(), |index| {
            let task = tasks[index];
            let (source, c, c_step) = &outputs[task.output];
            let call = Call {
                ctx,
                compute,
                kernels: &kernels,
                rows,
                source: *source,
                c,
                c_step: *c_step,
                alpha,
                write,
            };
            call.run(task);
            kernels.leave();
        });
    });
}

/// Cuts the outputs into rectangles; the cut depends on the threads, the results do not.
fn plan(ctx: &Ctx, rows: &PackedRows<'_>, outputs: &[Output<'_>]) -> Vec<Task> {
    let work = |output: &Output<'_>| {
        let (n, k) = output.source.shape();
        rows.rows * n * k.max(16)
    };
    let total: usize = outputs.iter().map(work).sum();
    let threads = ctx.pool.threads();
    let wanted = if threads == 1 {
        1
    } else {
        (total / TASK_WORK_MIN).clamp(1, threads * TASKS_PER_THREAD)
    };
    let mut tasks = Vec::with_capacity(wanted + outputs.len());
    for (index, output) in outputs.iter().enumerate() {
        let share = (wanted * work(output)).div_ceil(total.max(1)).max(1);
        let group = output.source.panels_at_once();
        let groups = output.source.shape().0.div_ceil(PANEL * group);
        let across = share.min(groups).max(1);
        // Splitting the rows of a factor that is not prepared packs it once per split: only to feed idle threads.
        let down = match output.source {
            Source::Panels(..) => share / across,
            _ if across < threads => share.min(threads).div_ceil(across),
            _ => 1,
        };
        let down = down.clamp(1, rows.blocks);
        let panels = output.source.shape().0.div_ceil(PANEL);
        for i in 0..across {
            for j in 0..down {
                tasks.push(Task {
                    output: index,
                    panels: (
                        i * groups / across * group,
                        ((i + 1) * groups / across * group).min(panels),
                    ),
                    blocks: (j * rows.blocks / down, (j + 1) * rows.blocks / down),
                });
            }
        }
    }
    tasks
}

/// Everything a task needs to compute its rectangle.
struct Call<'a> {
    ctx: &'a Ctx,
    compute: Compute,
    kernels: &'a Kernels,
    rows: &'a PackedRows<'a>,
    source: Source<'a>,
    c: &'a Disjoint<'a, f32>,
    c_step: usize,
    alpha: f32,
    write: Write,
}

/// Panels of one piece of the sum: panel `i` starts at `i * panel_step`.
struct Piece<'a> {
    data: &'a [f32],
    panel_step: usize,
    /// First and number of steps of the sum, in 32-bit elements.
    sum: (usize, usize),
    add: bool,
}

impl Call<'_> {
    fn run(&self, task: Task) {
        let (n, k) = self.source.shape();
        let block = SUM_BLOCK.min(k.max(1));
        let group = self.source.panels_at_once();
        let fit = PIECE_FLOATS / (steps(self.compute, block) * PANEL);
        let piece_panels = (fit / group * group).max(group);
        let mut first = task.panels.0;
        while first < task.panels.1 {
            let panels = first..(first + piece_panels).min(task.panels.1);
            first = panels.end;
            // A sum of no elements still has to write its zeros, hence one round at least.
            for start in (0..k.max(1)).step_by(SUM_BLOCK) {
                let sum = start..k.min(start + SUM_BLOCK);
                let count = steps(self.compute, sum.len());
                let offset = steps(self.compute, start);
                let add = start > 0 || self.write == Write::Add;
                if let Source::Panels(prepared, ..) = self.source {
                    let piece = Piece {
                        data: &prepared.data.as_slice()[(panels.start * prepared.steps + offset) * PANEL..],
                        panel_step: prepared.steps * PANEL,
                        sum: (offset, count),
                        add,
                    };
                    self.multiply(&piece, panels.clone(), task.blocks, n);
                    continue;
                }
                scratch::with(panels.len() * count * PANEL, |packed| {
                    let place = Place {
                        panel_step: count * PANEL,
                        offset: 0,
                    };
                    self.source
                        .pack(self.ctx, self.compute, panels.clone(), sum.clone(), packed, place);
                    let piece = Piece {
                        data: packed,
                        panel_step: count * PANEL,
                        sum: (offset, count),
                        add,
                    };
                    self.multiply(&piece, panels.clone(), task.blocks, n);
                });
            }
        }
    }

    fn multiply(&self, piece: &Piece<'_>, panels: std::ops::Range<usize>, blocks: (usize, usize), n: usize) {
        let (offset, count) = piece.sum;
        for block in blocks.0..blocks.1 {
            let (first, end) = (self.rows.first(block), self.rows.first(block + 1));
            let height = end - first;
            let (a, a_step) = self.rows.block(first, height, offset, count);
            self.kernels.enter(height);
            for (index, panel) in panels.clone().enumerate() {
                let column = panel * PANEL;
                let width = PANEL.min(n - column);
                let tile = Tile {
                    k: count,
                    a: a.as_ptr(),
                    a_step,
                    b: piece.data[index * piece.panel_step..][..count * PANEL].as_ptr(),
                    b_step: PANEL,
                    c: self.c.pointer(first * self.c_step + column),
                    c_step: self.c_step,
                    alpha: self.alpha,
                    add: piece.add,
                };
                self.tile(&tile, height, width);
            }
        }
    }

    fn tile(&self, tile: &Tile, height: usize, width: usize) {
        let kernel = self.kernels.get(height, width.div_ceil(16));
        if width.is_multiple_of(16) {
            // SAFETY: `product` checked that `c` has `m` rows of `n` columns; `a` holds `height` lanes per step and `b`
            // a panel row per step (slices were cut to that); tiles of different tasks do not overlap.
            unsafe { kernel(tile) };
            return;
        }
        let mut edge = [0.0f32; TILE_ROWS * PANEL];
        let inner = Tile {
            c: edge.as_mut_ptr(),
            c_step: PANEL,
            add: false,
            ..*tile
        };
        // SAFETY: as above, with a result of full width on the stack.
        unsafe { kernel(&inner) };
        for (i, row) in edge.chunks_exact(PANEL).take(height).enumerate() {
            for (j, value) in row.iter().enumerate().take(width) {
                // SAFETY: inside the rectangle of this task.
                unsafe {
                    let c = tile.c.add(i * tile.c_step + j);
                    *c = if tile.add { *c + value } else { *value };
                }
            }
        }
    }
}
