//! The blocked product behind every matrix multiplication: packed rows of `A` times panels of `B`.
//!
//! `A` is packed once per call. `B` comes as panels: prepared ones, or packed by the task that needs them, a piece that
//! stays in the second-level cache at a time. Tasks own blocks of the output; the sum runs in blocks of [`SUM_BLOCK`]
//! in ascending order whoever does it, so the split never changes a bit.

mod rows;
mod source;

use rows::{PackedRows, pack_rows};
use source::Place;

use crate::ctx::{Compute, Ctx, Write};
use crate::pack::steps;
use crate::pool::Disjoint;
use crate::scratch;
use crate::tile::{Kernels, PANEL, TILE_ROWS, Tile};

pub use source::Direction;
pub(crate) use source::{Dense, Panels, Source, StoredWeight};

/// Elements of the sum that a tile takes at once: a 12-row block of `A` (36 KiB in `f32`) and a few panels of `B` stay
/// in a second-level cache of 512 KiB or more, and the result is re-read once per 768 steps only. A multiple of 256, so
/// that quantized rows are cut between their blocks.
pub(crate) const SUM_BLOCK: usize = 768;
/// Floats of `B` that one task keeps packed: three quarters of a 512 KiB cache.
const PIECE_FLOATS: usize = 96 * 1024;
/// Multiply-adds below which a task is not worth handing out: about 5 microseconds.
const TASK_WORK_MIN: usize = 512 * 1024;
/// Tasks per thread: enough that a thread which the system disturbs does not hold up the others.
const TASKS_PER_THREAD: usize = 4;

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
