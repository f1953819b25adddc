//! Adapters: which modules they sit on, their tensors in one flat buffer, how they start.
//!
//! Invariants: all tensors of an adapter lie in [`Adapter::params`] (`f32` master copies), gradients have the same layout;
//! the low-rank inputs `A` of the modules of one slot lie side by side, so that one product serves them all. A target that
//! names no module is refused, never ignored.

mod few_rows;
mod merge;
mod mix;
mod peft;
mod targets;

use std::ops::Range;

use dlm_core::digest::{Sha256, first_eight};
use dlm_core::random;
use dlm_core::{Hints, Subject};
use dlm_kernels::{Compute, Write, linear};

use crate::model::Model;

pub(crate) use few_rows::FewRows;
pub use merge::{MergedSource, merged_weight};
pub use peft::{PeftFacts, PeftMeta};

/// Prefix of every tensor name in PEFT's file.
pub(crate) const PEFT_PREFIX: &str = "base_model.model.";
/// Largest rank.
pub const RANK_MAX: usize = 256;
/// Products with fewer rows than this may be approximate on quantized weights; norms are computed with at least so many.
const EXACT_ROWS: usize = 8;

/// How an adapter changes a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterKind {
    /// `W + s B A`.
    Lora,
    /// `m / ‖W + s B A‖ (W + s B A)`, row by row.
    Dora,
}

impl AdapterKind {
    /// The name in documents.
    pub fn name(self) -> &'static str {
        match self {
            AdapterKind::Lora => "lora",
            AdapterKind::Dora => "dora",
        }
    }
}

/// What an adapter should be.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterSpec {
    pub kind: AdapterKind,
    /// Rank, 1 to [`RANK_MAX`].
    pub r: usize,
    /// The scale of the correction is `alpha / r`.
    pub alpha: f32,
    /// Probability that an input of the correction is dropped in training, 0 to 0.5.
    pub dropout: f32,
    /// Presets (`auto`, `attention`, `mlp`, `all-linear`), last components or dotted suffixes of module paths.
    pub targets: Vec<String>,
}

impl AdapterSpec {
    /// Returns `alpha / r`.
    pub fn scale(&self) -> f32 {
        self.alpha / self.r as f32
    }

    fn check(&self) -> Result<(), AdapterError> {
        let fits = (1..=RANK_MAX).contains(&self.r)
            && self.alpha.is_finite()
            && self.alpha > 0.0
            && (0.0..=0.5).contains(&self.dropout);
        match fits {
            true => Ok(()),
            false => Err(AdapterError::Spec {
                r: self.r,
                alpha: self.alpha,
                dropout: self.dropout,
            }),
        }
    }
}

/// Where the tensors of one adapted module lie in [`Adapter::params`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdaptedModule {
    /// Path of the module: `model.layers.0.self_attn.q_proj`.
    pub path: String,
    /// `[r, k]`, row-major.
    pub a: Range<usize>,
    /// `[n, r]`, row-major.
    pub b: Range<usize>,
    /// `[n]`, of DoRA.
    pub magnitude: Option<Range<usize>>,
    pub(crate) layer: usize,
    pub(crate) slot: usize,
    /// Parts of the slot that this module's outputs are.
    pub(crate) parts: Range<usize>,
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// Place of this module's rows in per-row tables ([`Gains`]).
    pub(crate) rows: Range<usize>,
}

/// The adapted modules of one slot.
#[derive(Clone, Debug)]
pub(crate) struct AdaptedSlot {
    pub modules: Range<usize>,
    /// All `A` of the slot: `[rank, k]`.
    pub a: Range<usize>,
    /// Sum of the ranks.
    pub rank: usize,
}

/// Row factors of DoRA for the present parameters.
#[derive(Clone, Debug)]
pub(crate) struct Gains {
    /// `m / n`.
    pub gain: Vec<f32>,
    /// `1 / n`, `n` the row norm of `W + s B A`.
    pub inverse_norm: Vec<f32>,
}

/// A trainable correction of a frozen model.
#[derive(Clone, Debug)]
pub struct Adapter {
    pub spec: AdapterSpec,
    pub modules: Vec<AdaptedModule>,
    /// Every tensor, `f32`.
    pub params: Vec<f32>,
    slots: Vec<Vec<Option<AdaptedSlot>>>,
    /// Squared row norms of the frozen weights (DoRA only).
    frozen_squares: Vec<f32>,
    /// Shortest names that mean the adapted modules.
    target_names: Vec<String>,
}

/// An adapter that cannot be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    #[error("rank {r}, alpha {alpha}, dropout {dropout}: expected rank 1 to 256, alpha above 0, dropout 0 to 0.5")]
    Spec { r: usize, alpha: f32, dropout: f32 },
    #[error("target module `{target}` matches no module of this model")]
    Target { target: String, known: Vec<String> },
    #[error("no target module is named")]
    NoTargets,
    #[error("read or write `{path}`: {source}")]
    File { path: String, source: std::io::Error },
    #[error("`{path}` is {bytes} bytes long, more than the limit of {limit}")]
    TooLarge { path: String, bytes: u64, limit: u64 },
    #[error("`{path}` is no adapter: {cause}")]
    Malformed { path: String, cause: String },
    #[error("`{path}` asks for `{feature}`, which is not supported")]
    Unsupported { path: String, feature: String },
    #[error("tensor `{name}` in `{path}` belongs to no module of this model")]
    Stray { path: String, name: String },
    #[error("tensor `{name}` is missing from `{path}`")]
    Missing { path: String, name: String },
    #[error("tensor `{name}` in `{path}`: expected {expected}, found {found}")]
    Shape {
        path: String,
        name: String,
        expected: String,
        found: String,
    },
    #[error("tensor `{name}` holds a number that is not finite")]
    NotFinite { name: String },
}

impl Hints for AdapterError {
    fn subject(&self) -> Subject {
        Subject::Adapter
    }

    fn hints(&self) -> Vec<String> {
        match self {
            AdapterError::Target { known, .. } => vec![format!("modules of this model: {}", known.join(", "))],
            AdapterError::NoTargets => vec!["set `target_modules: auto`".to_owned()],
            AdapterError::Stray { .. } | AdapterError::Shape { .. } | AdapterError::Missing { .. } => {
                vec!["use the base model that the adapter was trained on".to_owned()]
            }
            AdapterError::Unsupported { .. } => vec![
                "in PEFT, merge it into its base (`merge_and_unload()`, then `save_pretrained`, the tokenizer too), and teach that: `dlm base add NAME --from DIR`"
                    .to_owned(),
            ],
            _ => Vec::new(),
        }
    }
}

impl Adapter {
    /// Makes a fresh adapter that changes nothing: `A` uniform in `±1/sqrt(k)`, `B` zero, magnitudes the row norms of `W`.
    ///
    /// `A` of the module at `path` comes from its own stream: key = the first 8 bytes (little endian) of
    /// SHA-256(`"dlm adapter init" 0 seed(le) path`), value `j` = SplitMix64 at counter `j` of that key, its top 24 bits
    /// as a fraction in `[0, 1)` mapped to `[-1/sqrt(k), 1/sqrt(k))`. Which other modules are adapted changes nothing.
    ///
    /// **Errors:** numbers out of range, a target without module.
    pub fn init(model: &Model, spec: &AdapterSpec, seed: u64) -> Result<Adapter, AdapterError> {
        let mut adapter = Adapter::zeroed(model, spec)?;
        for module in &adapter.modules {
            let key = stream_key(seed, &module.path);
            let bound = 1.0 / (module.k as f32).sqrt();
            for (j, value) in adapter.params[module.a.clone()].iter_mut().enumerate() {
                *value = bound * (2.0 * uniform(key, j as u64) - 1.0);
            }
            if let Some(magnitude) = &module.magnitude {
                let squares = &adapter.frozen_squares[module.rows.clone()];
                for (m, square) in adapter.params[magnitude.clone()].iter_mut().zip(squares) {
                    *m = square.sqrt();
                }
            }
        }
        Ok(adapter)
    }

    /// Lays out an adapter with every tensor zero.
    pub(crate) fn zeroed(model: &Model, spec: &AdapterSpec) -> Result<Adapter, AdapterError> {
        spec.check()?;
        Adapter::laid_out(model, spec)
    }

    /// [`Adapter::zeroed`] of any rank: that of a mix is the sum of its parts'.
    fn laid_out(model: &Model, spec: &AdapterSpec) -> Result<Adapter, AdapterError> {
        let chosen = targets::choose(model, &spec.targets)?;
        let mut adapter = Adapter {
            spec: spec.clone(),
            modules: Vec::new(),
            params: Vec::new(),
            slots: model.layers.iter().map(|layer| vec![None; layer.slots.len()]).collect(),
            frozen_squares: Vec::new(),
            target_names: Vec::new(),
        };
        let mut len = 0;
        let mut rows = 0;
        for (layer, slots) in model.layers.iter().enumerate() {
            for (slot, shape) in slots.slots.iter().enumerate() {
                let modules: Vec<usize> = shape.modules.clone().filter(|index| chosen[*index]).collect();
                if !modules.is_empty() {
                    adapter.slots[layer][slot] = Some(adapter.lay_out(model, &modules, &mut len, &mut rows));
                }
            }
        }
        adapter.params = vec![0.0; len];
        adapter.target_names = targets::names(&adapter.modules, model);
        if spec.kind == AdapterKind::Dora {
            adapter.frozen_squares = frozen_squares(model, &adapter.modules, rows);
        }
        Ok(adapter)
    }

    fn lay_out(&mut self, model: &Model, modules: &[usize], len: &mut usize, rows: &mut usize) -> AdaptedSlot {
        let r = self.spec.r;
        let mut reserve = |size: usize| {
            *len += size;
            *len - size..*len
        };
        let first = self.modules.len();
        let start = reserve(0).start;
        for &index in modules {
            let info = &model.modules[index];
            self.modules.push(AdaptedModule {
                path: info.path.clone(),
                a: reserve(r * info.k),
                b: 0..0,
                magnitude: None,
                layer: info.layer,
                slot: info.slot,
                parts: info.parts.clone(),
                n: info.n,
                k: info.k,
                rows: *rows..*rows + info.n,
            });
            *rows += info.n;
        }
        let a = start..reserve(0).start;
        for module in &mut self.modules[first..] {
            module.b = reserve(module.n * r);
            module.magnitude = (self.spec.kind == AdapterKind::Dora).then(|| reserve(module.n));
        }
        AdaptedSlot {
            modules: first..self.modules.len(),
            a,
            rank: r * modules.len(),
        }
    }

    /// Returns the names for `target_modules` of PEFT's settings.
    pub fn target_names(&self) -> &[String] {
        &self.target_names
    }

    /// Returns what is adapted of a slot.
    pub(crate) fn slot(&self, layer: usize, slot: usize) -> Option<&AdaptedSlot> {
        self.slots[layer][slot].as_ref()
    }

    /// Returns the lowest layer with an adapted module.
    pub(crate) fn first_layer(&self) -> usize {
        self.modules.iter().map(|module| module.layer).min().unwrap_or(0)
    }

    /// Lists every tensor: PEFT name, shape, and where it lies in [`Adapter::params`] (and in gradients).
    pub fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>, Range<usize>)> + '_ {
        let r = self.spec.r;
        self.modules.iter().flat_map(move |module| {
            let name = |tensor: &str| format!("{PEFT_PREFIX}{}.{tensor}", module.path);
            let a = (name("lora_A.weight"), vec![r, module.k], module.a.clone());
            let b = (name("lora_B.weight"), vec![module.n, r], module.b.clone());
            let m = module
                .magnitude
                .clone()
                .map(|range| (name("lora_magnitude_vector"), vec![module.n], range));
            [Some(a), Some(b), m].into_iter().flatten()
        })
    }

    /// Computes the row factors of DoRA; `None` for LoRA.
    ///
    /// The squared norm of a row of `W + s B A` is `‖w‖² + 2 s b·(A w) + s² b·(A Aᵀ b)`; no dense matrix is made.
    pub(crate) fn gains(&self, model: &Model) -> Option<Gains> {
        if self.spec.kind == AdapterKind::Lora {
            return None;
        }
        let len = self.frozen_squares.len();
        let mut gains = Gains {
            gain: vec![0.0; len],
            inverse_norm: vec![0.0; len],
        };
        for module in &self.modules {
            self.module_gains(model, module, &mut gains);
        }
        Some(gains)
    }

    fn module_gains(&self, model: &Model, module: &AdaptedModule, gains: &mut Gains) {
        let (r, k) = (self.spec.r, module.k);
        let s = f64::from(self.spec.scale());
        let a = &self.params[module.a.clone()];
        let gram: Vec<f64> = (0..r * r)
            .map(|at| {
                let (i, j) = (at / r, at % r);
                let pairs = a[i * k..][..k].iter().zip(&a[j * k..][..k]);
                pairs.map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
            })
            .collect();
        let rows = r.max(EXACT_ROWS);
        let mut padded = model.arena.take_zeroed(rows * k);
        padded[..r * k].copy_from_slice(a);
        let magnitude = module.magnitude.clone().expect("a DoRA module has a magnitude");
        let mut row = 0;
        for part in &model.layers[module.layer].slots[module.slot].parts[module.parts.clone()] {
            let n = part.weight.n();
            let mut product = model.arena.take(rows * n);
            linear(
                &model.ctx,
                Compute::F32,
                &padded,
                rows,
                &part.weight,
                &mut product,
                Write::Set,
            );
            for i in 0..n {
                let b = &self.params[module.b.start + (row + i) * r..][..r];
                let at = module.rows.start + row + i;
                let mut square = f64::from(self.frozen_squares[at]);
                for (j, bj) in b.iter().enumerate() {
                    let bj = f64::from(*bj);
                    square += 2.0 * s * bj * f64::from(product[j * n + i]);
                    let inner: f64 = b.iter().zip(&gram[j * r..]).map(|(bl, g)| f64::from(*bl) * g).sum();
                    square += s * s * bj * inner;
                }
                let inverse = 1.0 / square.max(f64::MIN_POSITIVE).sqrt();
                gains.inverse_norm[at] = inverse as f32;
                gains.gain[at] = (f64::from(self.params[magnitude.start + row + i]) * inverse) as f32;
            }
            row += n;
        }
    }
}

fn frozen_squares(model: &Model, modules: &[AdaptedModule], rows: usize) -> Vec<f32> {
    let mut squares = Vec::with_capacity(rows);
    for module in modules {
        let mut row = vec![0.0; module.k];
        for part in &model.layers[module.layer].slots[module.slot].parts[module.parts.clone()] {
            for i in 0..part.weight.n() {
                part.weight.row_f32(i, &mut row);
                let square: f64 = row.iter().map(|w| f64::from(*w) * f64::from(*w)).sum();
                squares.push(square as f32);
            }
        }
    }
    squares
}

fn stream_key(seed: u64, path: &str) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update(b"dlm adapter init\0");
    hasher.update(seed.to_le_bytes());
    hasher.update(path.as_bytes());
    u64::from_le_bytes(first_eight(&hasher.finish()))
}

/// SplitMix64 at a counter, as a fraction in `[0, 1)`.
fn uniform(key: u64, counter: u64) -> f32 {
    (random::draw(key, counter) >> 40) as f32 / (1u64 << 24) as f32
}
