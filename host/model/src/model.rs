//! The frozen model: weights in slots, the table of adaptable modules, and loading.
//!
//! Invariants: after loading nothing here changes, so a model is shared between threads and sessions. A slot is the
//! products of a block that share an input (query, key and value; gate and up), whatever the files join; a module is a
//! named tensor of a slot, which is what adapters are put on.

mod load;
pub(crate) mod names;

use std::ops::Range;

use dlm_kernels::{Compute, Ctx, PrecisionPath, Weight, Write, linear, linear_on};

use crate::arena::Arena;
use crate::config::{DecoderConfig, LayerKind};
use crate::rotary::Rotary;

pub use load::{LoadError, LoadOptions, Prepare, WeightStorage};
pub use names::{ModuleInfo, last_component};

/// Index of the slot of the joined query, key and value projections.
pub const QKV: usize = 0;
/// Index of the slot of the attention output projection.
pub const OUT: usize = 1;

/// Index of the slot of the joined gate and up projections of an expert (0 where there are none).
pub const fn gate_up(expert: usize) -> usize {
    2 + 2 * expert
}

/// Index of the slot of the down projection of an expert (0 where there are none).
pub const fn down(expert: usize) -> usize {
    3 + 2 * expert
}

/// Frozen products `y_i = x W_i^T + bias_i` that share their input.
///
/// Each part has an output of its own (q, k, v; gate, up), also where the file joins them in one tensor.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Input width.
    pub k: usize,
    pub parts: Vec<Part>,
    /// Modules of this slot in [`Model::modules`].
    pub modules: Range<usize>,
}

/// One product of a slot.
#[derive(Debug)]
pub(crate) struct Part {
    pub weight: Weight,
    pub bias: Option<Vec<f32>>,
}

/// Weights of one block.
#[derive(Debug)]
pub(crate) struct Layer {
    pub kind: LayerKind,
    pub norms: Norms,
    pub slots: Vec<Slot>,
    /// Chooses experts; present exactly when the configuration has experts.
    pub router: Option<Weight>,
}

/// Norm weights of a block; which ones exist follows the norm placement. Gemma's `1 +` is already in them.
#[derive(Debug, Default)]
pub(crate) struct Norms {
    pub before_attention: Option<Vec<f32>>,
    pub after_attention: Option<Vec<f32>>,
    pub before_mlp: Option<Vec<f32>>,
    pub after_mlp: Option<Vec<f32>>,
    pub q: Option<Vec<f32>>,
    pub k: Option<Vec<f32>>,
}

/// A loaded, frozen decoder.
#[derive(Debug)]
pub struct Model {
    pub config: DecoderConfig,
    /// Threads and instruction set that every product uses.
    pub ctx: Ctx,
    /// Precision of the frozen products.
    pub compute: Compute,
    pub(crate) embed: Weight,
    /// The output head; a copy of the handle of `embed` where they are tied.
    pub(crate) head: Weight,
    pub(crate) final_norm: Vec<f32>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) modules: Vec<ModuleInfo>,
    pub(crate) rotary: Rotary,
    pub(crate) arena: Arena,
    /// Products of few rows are done as products of [`ROWS_PACKED`] rows.
    pub(crate) pads_few_rows: bool,
    /// Streamed products of quantized weights are of integers.
    pub(crate) streams_integers: bool,
    pub(crate) is_quantized: bool,
}

/// Fewest rows whose products read the packed copies.
const ROWS_PACKED: usize = 5;

impl Model {
    /// Returns every module that an adapter can be put on, in layer order.
    pub fn modules(&self) -> &[ModuleInfo] {
        &self.modules
    }

    /// `y_i[t, n_i] = x[t, k] W_i^T` for weights of equal `k`.
    ///
    /// By rows, products of less than five rows stream the stored weight. Where that is quantized and only the packed copies are
    /// ready, decoding it would take longer than the product itself, so such rows are padded and take the packed copies.
    pub(crate) fn products(
        &self,
        precision_path: PrecisionPath,
        x: &[f32],
        t: usize,
        outputs: &mut [(&Weight, &mut [f32])],
    ) {
        if precision_path != PrecisionPath::ByRows || !self.pads_few_rows || t >= ROWS_PACKED {
            linear_on(&self.ctx, self.compute, precision_path, x, t, outputs, Write::Set);
            return;
        }
        let k = x.len() / t.max(1);
        let mut wide = self.arena.take_zeroed(ROWS_PACKED * k);
        wide[..x.len()].copy_from_slice(x);
        for (weight, y) in outputs {
            let mut out = self.arena.take(ROWS_PACKED * weight.n());
            linear(
                &self.ctx,
                self.compute,
                &wide,
                ROWS_PACKED,
                weight,
                &mut out,
                Write::Set,
            );
            y.copy_from_slice(&out[..y.len()]);
        }
    }

    /// Says whether any product reads block-quantized weights.
    pub fn is_quantized(&self) -> bool {
        self.is_quantized
    }

    /// Returns the bytes that the weights take: as stored, and the packed copies beside them.
    pub fn weight_bytes(&self) -> (usize, usize) {
        let mut stored = self.embed.stored_bytes();
        let mut packed = self.head.prepared_bytes();
        if !self.config.tied {
            stored += self.head.stored_bytes();
        }
        for slot in self.layers.iter().flat_map(|layer| &layer.slots) {
            for part in &slot.parts {
                stored += part.weight.stored_bytes();
                packed += part.weight.prepared_bytes();
            }
        }
        (stored, packed)
    }
}
