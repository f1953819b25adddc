//! Attention of many rows: blocks of 32 queries against all keys in sight.
//!
//! **Sketch:** a task copies and packs the keys of one head group once, then spends `4 * head_dim` flops per query and
//! key in register tiles and one exponential per query and key. Its memory is 32 scores per key (64 KiB at 512 keys),
//! never rows times rows.

use std::ops::Range;

use super::AttentionShape;
use super::keys::{Block, Keys, QUERIES, Tiles, cap_scores, softmax};
use crate::ctx::Ctx;
use crate::pool::Disjoint;
use crate::scratch;

/// Blocks of queries that one task takes at most: keys are packed once per task, so more would save a few per cent, and
/// fewer spread better over threads.
const BLOCKS_PER_TASK: usize = 4;
/// Tasks per thread that are wanted before tasks grow.
const TASKS_PER_THREAD: usize = 6;

/// Keys and the rows of `q` and `out` that look at them.
pub(super) struct Sequence<'a> {
    pub(super) keys: Keys<'a>,
    pub(super) queries: Range<usize>,
}

struct Task {
    sequence: usize,
    kv_head: usize,
    /// Own rows, counted from the first of the sequence.
    rows: Range<usize>,
}

struct Call<'a> {
    shape: &'a AttentionShape,
    tiles: Tiles,
    q: &'a [f32],
    out: Disjoint<'a, f32>,
    lse: Option<Disjoint<'a, f32>>,
}

pub(super) fn forward(
    ctx: &Ctx,
    shape: &AttentionShape,
    sequences: &[Sequence<'_>],
    q: &[f32],
    out: &mut [f32],
    lse: Option<&mut [f32]>,
) {
    let tasks = plan(ctx, shape, sequences);
    let call = Call {
        shape,
        tiles: Tiles::new(ctx.simd),
        q,
        out: Disjoint::new(out),
        lse: lse.map(Disjoint::new),
    };
    ctx.pool.run(tasks.len(), |index| {
        let task = &tasks[index];
        call.run(&sequences[task.sequence], task);
    });
}

/// Cuts the queries into tasks, the longest first; the cut depends on the threads, the results do not.
fn plan(ctx: &Ctx, shape: &AttentionShape, sequences: &[Sequence<'_>]) -> Vec<Task> {
    let blocks: usize = sequences.iter().map(|s| s.queries.len().div_ceil(QUERIES)).sum();
    let wanted = ctx.pool.threads() * TASKS_PER_THREAD;
    let per_task = (blocks * shape.n_kv_heads / wanted).clamp(1, BLOCKS_PER_TASK) * QUERIES;
    let mut tasks = Vec::new();
    for (index, sequence) in sequences.iter().enumerate() {
        for start in (0..sequence.queries.len()).step_by(per_task) {
            for kv_head in 0..shape.n_kv_heads {
                tasks.push(Task {
                    sequence: index,
                    kv_head,
                    rows: start..sequence.queries.len().min(start + per_task),
                });
            }
        }
    }
    tasks.sort_by_key(|task| {
        let keys = sequences[task.sequence].keys.before() + task.rows.end;
        std::cmp::Reverse(keys * task.rows.len())
    });
    tasks
}

impl Call<'_> {
    fn run(&self, sequence: &Sequence<'_>, task: &Task) {
        let dim = self.shape.head_dim;
        let keys = &sequence.keys;
        let count = keys.before() + task.rows.end;
        let group = self.shape.n_heads / self.shape.n_kv_heads;
        let sizes = [count * dim, count * dim, dim * QUERIES, dim * QUERIES, count * QUERIES];
        scratch::with(sizes.iter().sum(), |buffer| {
            let (packed, rest) = buffer.split_at_mut(sizes[0]);
            let (values, rest) = rest.split_at_mut(sizes[1]);
            let (panel, rest) = rest.split_at_mut(sizes[2]);
            let (result, scores) = rest.split_at_mut(sizes[3]);
            // The values' place holds the keys until they are packed.
            keys.copy(&keys.k, task.kv_head, count, dim, values);
            self.tiles.pack_rows(values, count, dim, packed);
            keys.copy(&keys.v, task.kv_head, count, dim, values);
            for head in task.kv_head * group..(task.kv_head + 1) * group {
                for start in task.rows.clone().step_by(QUERIES) {
                    let rows = start..task.rows.end.min(start + QUERIES);
                    self.block(sequence, head, rows, (packed, values, count), panel, result, scores);
                }
            }
        });
    }

    #[expect(clippy::too_many_arguments, reason = "the buffers of one task")]
    fn block(
        &self,
        sequence: &Sequence<'_>,
        head: usize,
        rows: Range<usize>,
        (packed, values, count): (&[f32], &[f32], usize),
        panel: &mut [f32],
        result: &mut [f32],
        scores: &mut [f32],
    ) {
        let (shape, keys, tiles) = (self.shape, &sequence.keys, &self.tiles);
        let (dim, width) = (shape.head_dim, shape.n_heads * shape.head_dim);
        let first = sequence.queries.start + rows.start;
        let at = first * width + head * dim;
        tiles.pack_queries(&self.q[at..], width, rows.len(), dim, panel);
        let block = Block {
            keys: keys.first_visible(shape, &rows)..keys.before() + rows.end,
            queries: rows.len(),
            dim,
            factor: shape.scale,
        };
        tiles.scores(packed, count, panel, &block, scores);
        let seen = &mut scores[block.keys.start * QUERIES..block.keys.end * QUERIES];
        if let Some(cap) = shape.softcap {
            cap_scores(tiles.simd, cap, seen);
        }
        keys.mask(shape, &rows, &block.keys, seen);
        let (mut lse, mut inverse) = ([0.0; QUERIES], [0.0; QUERIES]);
        softmax(tiles.simd, seen, &mut lse, &mut inverse);
        tiles.gather(values, scores, &block, result);
        let end = at + (rows.len() - 1) * width + dim;
        assert!(end <= self.q.len(), "q and out have one length");
        // SAFETY: the block ends inside `out`; blocks of different tasks, heads and rows do not overlap.
        unsafe { tiles.unpack(result, Some(&inverse), (rows.len(), dim), self.out.pointer(at), width) };
        if let Some(all) = &self.lse {
            let total = self.q.len() / width;
            // SAFETY: as above.
            let slot = unsafe { all.range(head * total + first, rows.len()) };
            slot.copy_from_slice(&lse[..rows.len()]);
        }
    }
}
