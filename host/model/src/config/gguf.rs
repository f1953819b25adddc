//! GGUF metadata to [`DecoderConfig`].
//!
//! Invariants: sizes come from the metadata and are compared with the tensors that must have them; what the format does
//! not carry (a tied head, biases) follows from which tensors the file holds.

use std::path::PathBuf;

use dlm_core::Subject;
use dlm_kernels::quant::dequantize_row;

use super::json::long_rope_attention_factor;
use super::{ConfigMisfit, DecoderConfig, Experts, LayerKind, Rope, RopeScaling};
use crate::arch::{Rules, rules};
use crate::gguf::{GgufFile, Value};

/// Layers, so that a hostile number allocates nothing; the same limit as [`DecoderConfig::check`].
const LAYERS_MAX: usize = 1 << 10;

/// A GGUF file whose metadata does not describe a model this program runs.
#[derive(Debug, thiserror::Error)]
#[error("read the settings of `{path}`: {cause}")]
pub struct GgufConfigError {
    pub path: PathBuf,
    pub cause: GgufConfigFault,
}

/// What is wrong with the metadata.
#[derive(Debug, thiserror::Error)]
pub enum GgufConfigFault {
    #[error("`general.architecture` is missing")]
    NoArchitecture,
    #[error("architecture `{found}` is not supported")]
    Architecture { found: String },
    #[error("`{key}` is missing")]
    Missing { key: String },
    #[error("`{key}` is {found}, expected {expected}")]
    Value {
        key: String,
        found: String,
        expected: &'static str,
    },
    #[error("tensor `{name}` is missing")]
    NoTensor { name: &'static str },
    #[error("tensor `{name}` has the shape {found:?}, expected {expected}")]
    Shape {
        name: &'static str,
        found: Vec<usize>,
        expected: String,
    },
    #[error("the settings contradict each other: {0}")]
    Misfit(#[from] ConfigMisfit),
}

impl dlm_core::Hints for GgufConfigError {
    fn subject(&self) -> Subject {
        Subject::BaseModel
    }
}

struct Metadata<'a> {
    file: &'a GgufFile,
    architecture: &'a str,
}

impl<'a> Metadata<'a> {
    fn typed<T>(
        &self,
        key: &str,
        expected: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufConfigFault> {
        let key = format!("{}.{key}", self.architecture);
        let Some(value) = self.file.value(&key) else {
            return Ok(None);
        };
        match read(value) {
            Some(value) => Ok(Some(value)),
            None => Err(GgufConfigFault::Value {
                key,
                found: format!("{value:?}").chars().take(80).collect(),
                expected,
            }),
        }
    }

    /// A number, or a list in which every layer has the same number.
    fn size(&self, key: &str) -> Result<Option<usize>, GgufConfigFault> {
        self.typed(key, "a whole number, the same for every layer", |value| {
            usize::try_from(value.as_uniform()?).ok()
        })
    }

    fn size_needed(&self, key: &str) -> Result<usize, GgufConfigFault> {
        self.size(key)?.ok_or_else(|| self.missing(key))
    }

    fn number(&self, key: &str) -> Result<Option<f64>, GgufConfigFault> {
        self.typed(key, "a number", Value::as_number)
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>, GgufConfigFault> {
        self.typed(key, "a text", Value::as_str)
    }

    fn missing(&self, key: &str) -> GgufConfigFault {
        GgufConfigFault::Missing {
            key: format!("{}.{key}", self.architecture),
        }
    }

    fn has(&self, tensor: &str) -> bool {
        self.file.header().tensors.contains_key(tensor)
    }

    /// The values of a small one-dimensional tensor.
    fn factors(&self, name: &'static str, len: usize) -> Result<Option<Vec<f32>>, GgufConfigFault> {
        let Some((info, bytes)) = self.file.raw(name) else {
            return Ok(None);
        };
        let shape = || GgufConfigFault::Shape {
            name,
            found: info.shape.clone(),
            expected: format!("[{len}]"),
        };
        if info.shape != [len] {
            return Err(shape());
        }
        let mut values = vec![0.0; len];
        dequantize_row(info.dtype, bytes, &mut values).map_err(|_| shape())?;
        Ok(Some(values))
    }
}

fn rope(meta: &Metadata<'_>, rules: &Rules, head_dim: usize, context_max: usize) -> Result<Rope, GgufConfigFault> {
    let dim = meta.size("rope.dimension_count")?.unwrap_or(head_dim);
    let half = dim.min(head_dim) / 2;
    let scaling = if let Some(divisors) = meta.factors("rope_freqs.weight", half)? {
        RopeScaling::Divisors(divisors)
    } else if let Some(long) = meta.factors("rope_factors_long.weight", half)? {
        let name = "rope_factors_short.weight";
        let original_max = meta.size_needed("rope.scaling.original_context_length")?;
        RopeScaling::LongRope {
            short: meta.factors(name, half)?.ok_or(GgufConfigFault::NoTensor { name })?,
            long,
            original_max,
            attention_factor: match meta.number("rope.scaling.attn_factor")? {
                Some(factor) => factor as f32,
                None => long_rope_attention_factor(context_max, original_max),
            },
        }
    } else {
        scaling_by_keys(meta)?
    };
    Ok(Rope {
        dim,
        theta: meta.number("rope.freq_base")?.unwrap_or(rules.rotary.theta),
        scaling,
    })
}

/// The scaling that keys alone describe: a factor without a type is linear, and `rope.scale_linear` is its older name.
///
/// **Source:** llama.cpp's `load_hparams`, where a factor of 0 stands for none.
fn scaling_by_keys(meta: &Metadata<'_>) -> Result<RopeScaling, GgufConfigFault> {
    let stated = match meta.number("rope.scaling.factor")? {
        Some(factor) => Some(factor),
        None => meta.number("rope.scale_linear")?,
    };
    let factor = stated.filter(|factor| *factor != 0.0).map(|factor| factor as f32);
    match (meta.text("rope.scaling.type")?, factor) {
        (Some("none"), _) | (None, None) => Ok(RopeScaling::None),
        (Some("linear") | None, Some(factor)) => Ok(RopeScaling::Linear { factor }),
        (Some("linear"), None) => Err(meta.missing("rope.scaling.factor")),
        (Some(found), _) => Err(GgufConfigFault::Value {
            key: format!("{}.rope.scaling.type", meta.architecture),
            found: found.to_owned(),
            expected: "none, linear, or longrope with its factor tensors",
        }),
    }
}

/// The rotary embedding of the layers with a window, which the format never scales.
fn rope_local(meta: &Metadata<'_>, rules: &Rules, dim: usize) -> Result<Option<Rope>, GgufConfigFault> {
    let Some(theta) = rules.rotary.local_theta else {
        return Ok(None);
    };
    Ok(Some(Rope {
        dim,
        theta: meta.number("rope.freq_base_swa")?.unwrap_or(theta),
        scaling: RopeScaling::None,
    }))
}

fn layers(meta: &Metadata<'_>, rules: &Rules, n_layers: usize) -> Result<Vec<LayerKind>, GgufConfigFault> {
    let window = meta.size("attention.sliding_window")?.filter(|window| *window > 0);
    let every = meta.size("attention.sliding_window_pattern")?;
    let kind = |layer| {
        let window = window.filter(|_| rules.windows.slides(layer, every));
        LayerKind::new(rules, rules.rotary.rotates(layer), window)
    };
    Ok((0..n_layers.min(LAYERS_MAX + 1)).map(kind).collect())
}

fn experts(meta: &Metadata<'_>, rules: &Rules) -> Result<Option<Experts>, GgufConfigFault> {
    if !rules.architecture.facts().has_experts {
        return Ok(None);
    }
    Ok(Some(Experts {
        count: meta.size_needed("expert_count")?,
        per_token: meta.size_needed("expert_used_count")?,
    }))
}

/// Vocabulary and width as the embedding has them; the width must be the stated one.
fn vocab(meta: &Metadata<'_>, d_model: usize) -> Result<usize, GgufConfigFault> {
    let name = "token_embd.weight";
    let (info, _) = meta.file.raw(name).ok_or(GgufConfigFault::NoTensor { name })?;
    match *info.shape.as_slice() {
        [vocab, width] if width == d_model => Ok(vocab),
        _ => Err(GgufConfigFault::Shape {
            name,
            found: info.shape.clone(),
            expected: format!("[vocabulary, {d_model}]"),
        }),
    }
}

/// Refuses files of other things than a decoder, and settings that change the numbers in ways this program does not compute.
fn refuse_unknown(meta: &Metadata<'_>) -> Result<(), GgufConfigFault> {
    let wrong = |key: String, found: String, expected| Err(GgufConfigFault::Value { key, found, expected });
    let kind = meta.file.value("general.type").and_then(Value::as_str);
    if let Some(kind) = kind.filter(|kind| *kind != "model") {
        return wrong("general.type".to_owned(), kind.to_owned(), "model");
    }
    let key = "attention.causal";
    if meta.typed(key, "true or false", Value::as_bool)? == Some(false) {
        let key = format!("{}.{key}", meta.architecture);
        return wrong(key, "false".to_owned(), "true: every token sees those before it");
    }
    Ok(())
}

fn read(file: &GgufFile) -> Result<DecoderConfig, GgufConfigFault> {
    let architecture = file.architecture().ok_or(GgufConfigFault::NoArchitecture)?;
    let arch = file.decoder().ok_or_else(|| GgufConfigFault::Architecture {
        found: architecture.to_owned(),
    })?;
    let meta = Metadata { file, architecture };
    let rules = rules(arch);
    refuse_unknown(&meta)?;
    let d_model = meta.size_needed("embedding_length")?;
    let n_layers = meta.size_needed("block_count")?;
    let n_heads = meta.size_needed("attention.head_count")?;
    let head_dim = match meta.size("attention.key_length")? {
        Some(head_dim) => head_dim,
        None => d_model / n_heads.max(1),
    };
    let context_max = meta.size_needed("context_length")?;
    let rope = rope(&meta, rules, head_dim, context_max)?;
    let scale_width = rules.attention_scale.gguf_width(n_layers, head_dim, d_model, n_heads);
    let attention_scale = match meta.number("attention.scale")? {
        Some(stated) => stated as f32,
        None => (1.0 / (scale_width as f64).sqrt()) as f32,
    };
    let eps = "attention.layer_norm_rms_epsilon";
    // Of other architectures runtimes do not read them.
    let cap = |key: &str| -> Result<Option<f32>, GgufConfigFault> {
        let stated = meta.number(key)?.map(|cap| cap as f32);
        Ok(stated.filter(|_| rules.has_softcaps))
    };
    let config = DecoderConfig {
        arch,
        vocab: vocab(&meta, d_model)?,
        d_model,
        n_layers,
        n_heads,
        n_kv_heads: meta.size("attention.head_count_kv")?.unwrap_or(n_heads),
        head_dim,
        d_ff: meta.size_needed("feed_forward_length")?,
        norm_eps: meta.number(eps)?.ok_or_else(|| meta.missing(eps))? as f32,
        norm_plus_one: rules.norm_plus_one,
        norm_placement: rules.norms,
        qk_norm: rules.qk_norm,
        rope_local: rope_local(&meta, rules, rope.dim)?,
        rope,
        layers: layers(&meta, rules, n_layers)?,
        qkv_bias: meta.has("blk.0.attn_q.bias") || meta.has("blk.0.attn_qkv.bias"),
        o_bias: meta.has("blk.0.attn_output.bias"),
        mlp_bias: meta.has("blk.0.ffn_down.bias"),
        fused_projections: arch.facts().is_fused,
        activation: rules.activation,
        attention_scale,
        attention_softcap: cap("attn_logit_softcapping")?,
        final_softcap: cap("final_logit_softcapping")?,
        embed_scale: rules.embed_scale(d_model),
        tied: !meta.has("output.weight"),
        experts: experts(&meta, rules)?,
        context_max,
    };
    config.check()?;
    Ok(config)
}

/// Reads the settings of a GGUF file.
///
/// **Errors:** an unsupported architecture, a missing or unusable value, sizes that do not fit.
pub fn config_from_gguf(file: &GgufFile) -> Result<DecoderConfig, GgufConfigError> {
    read(file).map_err(|cause| GgufConfigError {
        path: file.path().to_owned(),
        cause,
    })
}
