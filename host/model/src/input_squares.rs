//! How strongly each input column of each product is used: what an importance matrix is made of.
//!
//! Invariants: rows are added in their order and in `f64`, so that the sums hang neither on threads nor on how rows are batched
//! beyond the last bits of the activations.
//! **Source:** llama.cpp's `imatrix`: the sum of the squares of what a matrix reads, column by column, and the rows that it read.

use crate::model::{Model, ModuleInfo};

/// The sums of every product of a model.
#[derive(Clone, Debug)]
pub struct InputSquares {
    /// By layer and slot.
    slots: Vec<Vec<SlotSquares>>,
}

/// The sums of one slot, whose products read the same rows.
#[derive(Clone, Debug, Default)]
struct SlotSquares {
    /// By input column.
    sums: Vec<f64>,
    rows: u64,
}

impl InputSquares {
    /// Nothing was read yet.
    pub fn new(model: &Model) -> InputSquares {
        let slots = model.layers.iter().map(|layer| {
            let slots = layer.slots.iter().map(|slot| SlotSquares {
                sums: vec![0.0; slot.k],
                rows: 0,
            });
            slots.collect()
        });
        InputSquares { slots: slots.collect() }
    }

    /// Adds rows `x[t, k]` that a slot reads.
    pub(crate) fn add(&mut self, layer: usize, slot: usize, x: &[f32], k: usize) {
        let slot = &mut self.slots[layer][slot];
        for row in x.chunks_exact(k) {
            for (sum, x) in slot.sums.iter_mut().zip(row) {
                *sum += f64::from(*x) * f64::from(*x);
            }
            slot.rows += 1;
        }
    }

    /// The sums of a module's input, by column, and the rows that it read.
    ///
    /// **Panics:** when the module is none of the model that the sums are of.
    pub fn of(&self, module: &ModuleInfo) -> (&[f64], u64) {
        let slot = &self.slots[module.layer][module.slot];
        (&slot.sums, slot.rows)
    }
}
