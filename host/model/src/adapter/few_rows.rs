//! The factors of an adapter as passes of few rows read them: streamed, not packed.
//!
//! Invariants: a copy of the parameters at the moment it was made, so only what does not train may keep one.

use std::ops::Range;

use dlm_kernels::{Ctx, Weight, axpy};

use super::{AdaptedSlot, Adapter};
use crate::model::Model;

/// The factors of an adapter for passes of few rows.
#[derive(Debug)]
pub(crate) struct FewRows {
    /// Per layer and slot, the `A` of its modules: `[rank, k]`.
    a: Vec<Vec<Option<Weight>>>,
    /// The `B` of every part turned to `[r, n]`, in the order of the row tables.
    b: Vec<f32>,
    r: usize,
}

impl FewRows {
    /// Lays the factors of an adapter out.
    pub fn new(adapter: &Adapter, model: &Model) -> FewRows {
        let r = adapter.spec.r;
        let weight = |slot: &Option<AdaptedSlot>| {
            let slot = slot.as_ref()?;
            let a = &adapter.params[slot.a.clone()];
            Some(Weight::from_f32(slot.rank, a.len() / slot.rank, a).expect("`A` is [rank, k]"))
        };
        let mut b = Vec::with_capacity(adapter.modules.iter().map(|module| module.b.len()).sum());
        for module in &adapter.modules {
            let mut start = module.b.start;
            for part in &model.layers[module.layer].slots[module.slot].parts[module.parts.clone()] {
                let rows = &adapter.params[start..start + part.weight.n() * r];
                start += rows.len();
                b.extend((0..r).flat_map(|column| rows.iter().skip(column).step_by(r)));
            }
        }
        let layers = adapter.slots.iter();
        FewRows {
            a: layers.map(|slots| slots.iter().map(weight).collect()).collect(),
            b,
            r,
        }
    }

    /// Returns the `A` of the modules of a slot.
    pub fn a(&self, layer: usize, slot: usize) -> Option<&Weight> {
        self.a[layer][slot].as_ref()
    }

    /// `y[t, n] += scale h[t, r] B^T`, row by row, for the part whose place in the row tables is `rows`.
    ///
    /// Rows of `h` lie `stride` apart.
    pub fn add_b(&self, ctx: &Ctx, scale: f32, (h, stride): (&[f32], usize), rows: Range<usize>, y: &mut [f32]) {
        let (n, r) = (rows.len(), self.r);
        let b = &self.b[rows.start * r..][..n * r];
        ctx.pool.run_chunks(y, n, |row, y| {
            for (h, b) in h[row * stride..][..r].iter().zip(b.chunks_exact(n)) {
                axpy(ctx, scale * h, b, y);
            }
        });
    }
}
