//! Loading weights into slots: names, shapes and types checked, parts joined, panels packed.

use dlm_core::{Hints, Subject};
use dlm_kernels::{Bytes, Compute, Ctx, Direction, Simd, Weight};

use super::names::{ModuleInfo, SlotPlan, slot_plans};
use super::{Layer, Model, Norms, Part, Slot};
use crate::arena::Arena;
use crate::config::{ConfigMisfit, DecoderConfig, NormPlacement, QkNorm};
use crate::rotary::Rotary;
use crate::weights::{GgmlType, RawTensor, WeightError, WeightSource};

/// Which products get packed copies of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepare {
    /// None: least memory; every product packs again.
    Nothing,
    /// Single tokens only, of quantized weights: they are multiplied as integers, inputs rounded to eight bits per block.
    /// Memory of about the stored size. Prompts decode the stored blocks at every chunk.
    Decode,
    /// Forward in the precision of the products: reading prompts. Two (bf16) or four (f32) bytes per weight.
    Forward,
    /// [`Prepare::Decode`] and [`Prepare::Forward`].
    Inference,
    /// Forward and backward: training.
    Both,
}

/// How frozen weights are kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightStorage {
    /// As in the file; block-quantized ones are multiplied as they are.
    AsStored,
    /// The floats of the blocks' products in NF4 with doubly quantized scales, as QLoRA has them; embedding, head, router and
    /// what the file has in blocks stay as stored.
    FourBits,
    /// Block-quantized ones become `f32` on loading, and every product is exact.
    Dequantized,
}

/// How a model is loaded.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    pub ctx: Ctx,
    /// Precision of the frozen products.
    pub compute: Compute,
    pub storage: WeightStorage,
    pub prepare: Prepare,
}

impl LoadOptions {
    /// Exact products on dequantized weights, nothing packed.
    pub fn exact(ctx: Ctx) -> LoadOptions {
        LoadOptions {
            ctx,
            compute: Compute::F32,
            storage: WeightStorage::Dequantized,
            prepare: Prepare::Nothing,
        }
    }
}

/// A model that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the settings of the model contradict each other: {0}")]
    Config(#[from] ConfigMisfit),
    #[error(transparent)]
    Weight(#[from] WeightError),
    #[error("tensor `{name}`: expected shape {expected:?}, found {found:?}")]
    Shape {
        name: String,
        expected: Vec<usize>,
        found: Vec<usize>,
    },
    #[error("tensor `{name}`: {source}")]
    Storage {
        name: String,
        source: dlm_kernels::WeightError,
    },
    #[error("tensor `{name}` holds a number that is not finite")]
    NotFinite { name: String },
    #[error("this processor has no {compute:?} products")]
    Compute { compute: Compute },
    #[error("the model has no `lm_head.weight`, and its settings say that the head is not tied to the embedding")]
    NoHead,
}

impl Hints for LoadError {
    fn subject(&self) -> Subject {
        Subject::Base
    }

    fn hints(&self) -> Vec<String> {
        match self {
            LoadError::Compute { .. } => {
                vec!["set `training.precision: fp32` in the document, or leave out `--simd`".to_owned()]
            }
            LoadError::NoHead => vec![
                "where the head is the embedding, say so in `config.json`: `\"tie_word_embeddings\": true`; else the weights are not whole".to_owned(),
            ],
            LoadError::Shape { .. } => vec![
                "`config.json` and the weights are not of one model: compare the sizes in both, or get both again".to_owned(),
            ],
            _ => vec!["download or add the base model again: `dlm base add <name> --from <path>`".to_owned()],
        }
    }
}

impl Model {
    /// Loads a model from named tensors.
    ///
    /// **Errors:** settings that contradict each other, a missing tensor, a shape that does not fit, a norm or bias that
    /// is not finite, a precision that this processor does not have.
    /// **Cost:** one pass over the weights; memory as [`LoadOptions`] says.
    pub fn load(config: DecoderConfig, source: &dyn WeightSource, options: LoadOptions) -> Result<Model, LoadError> {
        Model::load_parts(config, source, options, Head::OfTokens)
    }

    /// Looks up every tensor that [`Model::load`] reads, and keeps none.
    ///
    /// **Errors:** as [`Model::load`]: a missing tensor, a shape that does not fit, a norm or bias that is not finite.
    /// **Cost:** reads norms and biases; of the weights only the places.
    pub fn check(config: &DecoderConfig, source: &dyn WeightSource) -> Result<(), LoadError> {
        config.check()?;
        let options = LoadOptions::exact(Ctx::new(1, Simd::Scalar));
        let loader = Loader {
            config,
            source,
            options: &options,
        };
        let table = [config.vocab, config.d_model];
        loader.raw("model.embed_tokens.weight", &table)?;
        if !config.tied && !source.has("lm_head.weight") {
            return Err(LoadError::NoHead);
        }
        if !config.tied {
            loader.raw("lm_head.weight", &table)?;
        }
        loader.norm("model.norm.weight", config.d_model)?;
        (0..config.n_layers).try_for_each(|index| loader.check_layer(index))
    }

    /// Loads a decoder whose hidden states something else reads: no output head is looked for or packed.
    ///
    /// **Errors:** as [`Model::load`].
    pub(crate) fn load_body(
        config: DecoderConfig,
        source: &dyn WeightSource,
        options: LoadOptions,
    ) -> Result<Model, LoadError> {
        Model::load_parts(config, source, options, Head::Unused)
    }

    fn load_parts(
        config: DecoderConfig,
        source: &dyn WeightSource,
        options: LoadOptions,
        head_use: Head,
    ) -> Result<Model, LoadError> {
        config.check()?;
        if !options.ctx.supports(options.compute) {
            return Err(LoadError::Compute {
                compute: options.compute,
            });
        }
        let loader = Loader {
            config: &config,
            source,
            options: &options,
        };
        let embed = loader.weight("model.embed_tokens.weight", config.vocab, config.d_model)?;
        let mut head = if config.tied || head_use == Head::Unused {
            embed.clone()
        } else if source.has("lm_head.weight") {
            loader.weight("lm_head.weight", config.vocab, config.d_model)?
        } else {
            return Err(LoadError::NoHead);
        };
        if head_use == Head::OfTokens {
            loader.prepare(&mut head);
        }
        let final_norm = loader.norm("model.norm.weight", config.d_model)?;
        let mut layers = Vec::with_capacity(config.n_layers);
        let mut modules = Vec::new();
        for index in 0..config.n_layers {
            layers.push(loader.layer(index, &mut modules)?);
            source.release_pages();
        }
        let rotary = Rotary::new(&config);
        let is_packed = matches!(options.prepare, Prepare::Forward | Prepare::Both);
        let is_quantized = weights(&layers, &head).any(Weight::is_quantized);
        let streams_integers = weights(&layers, &head).any(Weight::has_integers);
        Ok(Model {
            pads_few_rows: is_packed && is_quantized,
            streams_integers,
            is_quantized,
            ctx: options.ctx,
            compute: options.compute,
            embed,
            head,
            final_norm,
            layers,
            modules,
            rotary,
            arena: Arena::default(),
            config,
        })
    }
}

/// Whether logits of tokens will be asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Head {
    OfTokens,
    Unused,
}

/// The frozen weights that rows are multiplied with.
fn weights<'a>(layers: &'a [Layer], head: &'a Weight) -> impl Iterator<Item = &'a Weight> {
    let slots = layers.iter().flat_map(|layer| &layer.slots);
    let parts = slots.flat_map(|slot| &slot.parts);
    parts.map(|part| &part.weight).chain([head])
}

struct Loader<'a> {
    config: &'a DecoderConfig,
    source: &'a dyn WeightSource,
    options: &'a LoadOptions,
}

impl Loader<'_> {
    fn raw(&self, name: &str, shape: &[usize]) -> Result<RawTensor<'_>, LoadError> {
        let raw = self.source.tensor(name)?;
        if raw.shape != shape {
            return Err(LoadError::Shape {
                name: name.to_owned(),
                expected: shape.to_vec(),
                found: raw.shape,
            });
        }
        Ok(raw)
    }

    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        let raw = self.raw(name, &[len])?;
        let storage = |source| LoadError::Storage {
            name: name.to_owned(),
            source,
        };
        let row = Weight::from_bytes(raw.dtype, 1, len, Bytes::from_vec(raw.bytes.into_owned())).map_err(storage)?;
        let values = row.to_f32();
        if values.iter().any(|value| !value.is_finite()) {
            return Err(LoadError::NotFinite { name: name.to_owned() });
        }
        Ok(values)
    }

    /// A norm weight as the kernels multiply by it.
    fn norm(&self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        let mut values = self.vector(name, len)?;
        if self.config.norm_plus_one {
            values.iter_mut().for_each(|value| *value += 1.0);
        }
        Ok(values)
    }

    /// Type that a weight has in memory.
    fn kept_type(&self, stored: GgmlType) -> GgmlType {
        match stored {
            GgmlType::F32 | GgmlType::F16 | GgmlType::BF16 => stored,
            _ => match self.options.storage {
                WeightStorage::AsStored | WeightStorage::FourBits => stored,
                WeightStorage::Dequantized => GgmlType::F32,
            },
        }
    }

    fn weight(&self, name: &str, n: usize, k: usize) -> Result<Weight, LoadError> {
        let raw = self.raw(name, &[n, k])?;
        self.stored(name, n, k, raw.dtype, raw.bytes.into_owned())
    }

    fn stored(&self, name: &str, n: usize, k: usize, dtype: GgmlType, bytes: Vec<u8>) -> Result<Weight, LoadError> {
        let storage = |source| LoadError::Storage {
            name: name.to_owned(),
            source,
        };
        let weight = Weight::from_bytes(dtype, n, k, Bytes::from_vec(bytes)).map_err(storage)?;
        if self.kept_type(dtype) == dtype {
            return Ok(weight);
        }
        Weight::from_f32(n, k, &weight.to_f32()).map_err(storage)
    }

    fn prepare(&self, weight: &mut Weight) {
        let (ctx, compute) = (&self.options.ctx, self.options.compute);
        let prepare = self.options.prepare;
        if matches!(prepare, Prepare::Forward | Prepare::Inference | Prepare::Both) {
            weight.prepare(ctx, compute, Direction::Forward);
        }
        if prepare == Prepare::Both {
            weight.prepare(ctx, compute, Direction::Backward);
        }
        if matches!(prepare, Prepare::Decode | Prepare::Inference) {
            // Plain floats have no integer product and read their stored values.
            let _ = weight.prepare_decode(ctx);
        }
    }

    fn check_layer(&self, index: usize) -> Result<(), LoadError> {
        for plan in slot_plans(self.config, index) {
            for (path, rows) in &plan.modules {
                let n = rows.iter().sum();
                self.raw(&format!("{path}.weight"), &[n, plan.k])?;
                if plan.bias {
                    self.vector(&format!("{path}.bias"), n)?;
                }
            }
        }
        if let Some(experts) = self.config.experts {
            let name = format!("model.layers.{index}.block_sparse_moe.gate.weight");
            self.raw(&name, &[experts.count, self.config.d_model])?;
        }
        self.norms(index).map(drop)
    }

    fn layer(&self, index: usize, modules: &mut Vec<ModuleInfo>) -> Result<Layer, LoadError> {
        let mut slots = Vec::new();
        for (slot, plan) in slot_plans(self.config, index).into_iter().enumerate() {
            slots.push(self.slot(index, slot, &plan, modules)?);
        }
        let router = match self.config.experts {
            Some(experts) => {
                let name = format!("model.layers.{index}.block_sparse_moe.gate.weight");
                Some(self.weight(&name, experts.count, self.config.d_model)?)
            }
            None => None,
        };
        Ok(Layer {
            kind: self.config.layers[index],
            norms: self.norms(index)?,
            slots,
            router,
        })
    }

    fn slot(
        &self,
        layer: usize,
        slot: usize,
        plan: &SlotPlan,
        modules: &mut Vec<ModuleInfo>,
    ) -> Result<Slot, LoadError> {
        let first = modules.len();
        let mut parts = Vec::new();
        for (path, rows) in &plan.modules {
            let n = rows.iter().sum();
            modules.push(ModuleInfo {
                path: path.clone(),
                n,
                k: plan.k,
                layer,
                slot,
                parts: parts.len()..parts.len() + rows.len(),
            });
            self.module_parts(path, rows, plan, &mut parts)?;
        }
        Ok(Slot {
            k: plan.k,
            parts,
            modules: first..modules.len(),
        })
    }

    /// Reads the tensor of a module and cuts it into parts.
    fn module_parts(
        &self,
        path: &str,
        rows: &[usize],
        plan: &SlotPlan,
        parts: &mut Vec<Part>,
    ) -> Result<(), LoadError> {
        let n: usize = rows.iter().sum();
        let name = format!("{path}.weight");
        let raw = self.raw(&name, &[n, plan.k])?;
        let bias = match plan.bias {
            true => Some(self.vector(&format!("{path}.bias"), n)?),
            false => None,
        };
        let row_bytes = raw.bytes.len() / n;
        let mut start = 0;
        for &count in rows {
            let bytes = match rows.len() {
                1 => raw.bytes.to_vec(),
                _ => raw.bytes[start * row_bytes..(start + count) * row_bytes].to_vec(),
            };
            let mut weight = self.stored(&name, count, plan.k, raw.dtype, bytes)?;
            if self.options.storage == WeightStorage::FourBits {
                weight = weight.to_nf4(&self.options.ctx).unwrap_or(weight);
            }
            self.prepare(&mut weight);
            parts.push(Part {
                weight,
                bias: bias.as_ref().map(|bias| bias[start..start + count].to_vec()),
            });
            start += count;
        }
        Ok(())
    }

    fn norms(&self, layer: usize) -> Result<Norms, LoadError> {
        let d = self.config.d_model;
        let load = |name: &str, len: usize| self.norm(&format!("model.layers.{layer}.{name}.weight"), len).map(Some);
        let mut norms = match self.config.norm_placement {
            NormPlacement::Pre => Norms {
                before_attention: load("input_layernorm", d)?,
                before_mlp: load("post_attention_layernorm", d)?,
                ..Norms::default()
            },
            NormPlacement::Post => Norms {
                after_attention: load("post_attention_layernorm", d)?,
                after_mlp: load("post_feedforward_layernorm", d)?,
                ..Norms::default()
            },
            NormPlacement::Both => Norms {
                before_attention: load("input_layernorm", d)?,
                after_attention: load("post_attention_layernorm", d)?,
                before_mlp: load("pre_feedforward_layernorm", d)?,
                after_mlp: load("post_feedforward_layernorm", d)?,
                ..Norms::default()
            },
        };
        let widths = match self.config.qk_norm {
            QkNorm::None => return Ok(norms),
            QkNorm::PerHead => (self.config.head_dim, self.config.head_dim),
            QkNorm::Whole => (self.config.q_width(), self.config.kv_width()),
        };
        norms.q = load("self_attn.q_norm", widths.0)?;
        norms.k = load("self_attn.k_norm", widths.1)?;
        Ok(norms)
    }
}
