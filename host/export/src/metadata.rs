//! The metadata of a model file: what it is, and the numbers of its architecture.
//!
//! Invariants: what another program would compute otherwise than this one is refused or noted, never left out silently.
//! **Source:** `spec/export.md` section 6; llama.cpp's loaders for what they take for granted.

use dlm_core::{Architecture, Quant};
use dlm_model::arch::rules;
use dlm_model::config::{DecoderConfig, LayerKind, LayerRope, RopeScaling};
use dlm_model::gguf::Value;

use crate::error::ExportError;
use crate::writer::Metadata;

/// Version of the quantization formats, written into every quantized file.
const QUANTIZATION_VERSION: u32 = 2;
/// Relative difference below which two scales are one number written twice.
const SAME_SCALE: f32 = 1e-5;

/// Who the model is; every text is written as it is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `general.name`.
    pub name: String,
    pub basename: Option<String>,
    /// Such as `135M`; worked out from the weights when not given.
    pub size_label: Option<String>,
    /// SPDX id or the license's own name.
    pub license: Option<String>,
    /// Name of the model that this one was made from, and its web address where it has one.
    pub base_model: Option<(String, Option<String>)>,
    /// Keys of our own, such as `dlm.id`, written as texts in this order.
    pub provenance: Vec<(String, String)>,
}

/// A list of keys under one prefix.
pub(crate) struct Keys {
    prefix: String,
    pub list: Vec<(String, Value)>,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Keys {
        Keys {
            prefix: prefix.to_owned(),
            list: Vec::new(),
        }
    }

    pub(crate) fn put(&mut self, key: &str, value: Value) {
        self.list.push((format!("{}.{key}", self.prefix), value));
    }

    pub(crate) fn text(&mut self, key: &str, text: &str) {
        self.put(key, Value::String(text.to_owned()));
    }

    fn size(&mut self, key: &str, size: usize) -> Result<(), ExportError> {
        let size = u32::try_from(size).map_err(|_| ExportError::Inexpressible {
            what: format!("`{}.{key}` is {size}, more than a GGUF file can say", self.prefix),
        })?;
        self.put(key, Value::U32(size));
        Ok(())
    }

    fn number(&mut self, key: &str, number: f32) {
        self.put(key, Value::F32(number));
    }
}

/// `general.*` of a model.
pub(crate) fn general(arch: Architecture, identity: &Identity, quant: Quant, parameters: u64) -> Vec<(String, Value)> {
    let mut keys = Keys::new("general");
    keys.text("architecture", arch.facts().gguf);
    keys.text("type", "model");
    keys.text("name", &identity.name);
    if let Some(basename) = &identity.basename {
        keys.text("basename", basename);
    }
    keys.text(
        "size_label",
        &identity.size_label.clone().unwrap_or_else(|| size_label(parameters)),
    );
    if let Some(license) = &identity.license {
        keys.text("license", license);
    }
    if let Some((name, address)) = &identity.base_model {
        keys.put("base_model.count", Value::U32(1));
        keys.text("base_model.0.name", name);
        if let Some(address) = address {
            keys.text("base_model.0.repo_url", address);
        }
    }
    keys.put("file_type", Value::U32(quant.file_type()));
    if quant != Quant::F16 {
        keys.put("quantization_version", Value::U32(QUANTIZATION_VERSION));
    }
    let provenance = identity.provenance.iter();
    keys.list
        .extend(provenance.map(|(key, text)| (key.clone(), Value::String(text.clone()))));
    keys.list
}

/// Writes a number of parameters as people do: `135M`, `1.5B`.
fn size_label(parameters: u64) -> String {
    let (scaled, unit) = match parameters {
        0..1_000_000 => (parameters as f64 / 1e3, "K"),
        1_000_000..1_000_000_000 => (parameters as f64 / 1e6, "M"),
        _ => (parameters as f64 / 1e9, "B"),
    };
    if scaled < 10.0 {
        format!("{scaled:.1}{unit}")
    } else {
        format!("{scaled:.0}{unit}")
    }
}

/// The numbers of the architecture, and remarks on what other programs do otherwise.
pub(crate) fn hyperparameters(config: &DecoderConfig) -> Result<(Metadata, Vec<String>), ExportError> {
    let mut keys = Keys::new(config.arch.facts().gguf);
    let mut notes = Vec::new();
    keys.size("vocab_size", config.vocab)?;
    keys.size("context_length", config.context_max)?;
    keys.size("embedding_length", config.d_model)?;
    keys.size("block_count", config.n_layers)?;
    keys.size("feed_forward_length", config.d_ff)?;
    keys.size("attention.head_count", config.n_heads)?;
    keys.size("attention.head_count_kv", config.n_kv_heads)?;
    keys.number("attention.layer_norm_rms_epsilon", config.norm_eps);
    if config.head_dim * config.n_heads != config.d_model || rules(config.arch).gguf.states_head_dim {
        keys.size("attention.key_length", config.head_dim)?;
        keys.size("attention.value_length", config.head_dim)?;
    }
    if let Some(experts) = config.experts {
        keys.size("expert_count", experts.count)?;
        keys.size("expert_used_count", experts.per_token)?;
    }
    if let Some(cap) = config.attention_softcap {
        keys.number("attn_logit_softcapping", cap);
    }
    if let Some(cap) = config.final_softcap {
        keys.number("final_logit_softcapping", cap);
    }
    scale(config, &mut keys, &mut notes);
    layers(config, &mut keys, &mut notes)?;
    rope(config, &mut keys)?;
    Ok((keys.list, notes))
}

fn scale(config: &DecoderConfig, keys: &mut Keys, notes: &mut Vec<String>) {
    let rule = rules(config.arch).attention_scale;
    let from = rule.gguf_width(config.n_layers, config.head_dim, config.d_model, config.n_heads);
    let usual = 1.0 / (from as f32).sqrt();
    if (config.attention_scale - usual).abs() > SAME_SCALE * usual {
        keys.number("attention.scale", config.attention_scale);
        notes.push(format!(
            "attention scores are scaled by {}; llama.cpp takes {usual} for this architecture",
            config.attention_scale
        ));
    }
}

/// What a layer does, as the end of a sentence about it.
fn described(kind: LayerKind) -> String {
    let sees = match kind.window {
        Some(window) => format!("sees {window} tokens back"),
        None => "sees all tokens".to_owned(),
    };
    match kind.rope {
        LayerRope::None => format!("{sees} and rotates nothing"),
        LayerRope::Main => sees,
        LayerRope::Local => format!("{sees} and has rotary frequencies of its own"),
    }
}

/// Checks the pattern that readers take for granted, and writes the sliding window.
fn layers(config: &DecoderConfig, keys: &mut Keys, notes: &mut Vec<String>) -> Result<(), ExportError> {
    let window = config.layers.iter().find_map(|layer| layer.window);
    let rules = rules(config.arch);
    let expected = |layer: usize| {
        let window = window.filter(|_| rules.windows.slides(layer, None));
        LayerKind::new(rules, rules.rotary.rotates(layer), window)
    };
    if let Some(layer) = (0..config.n_layers).find(|layer| config.layers[*layer] != expected(*layer)) {
        return Err(ExportError::Inexpressible {
            what: format!(
                "layer {layer} {}, but in a GGUF file of architecture `{}` it {}",
                described(config.layers[layer]),
                config.arch.facts().gguf,
                described(expected(layer))
            ),
        });
    }
    match window {
        Some(window) => {
            keys.size("attention.sliding_window", window)?;
            if !rules.gguf.runtime_has_window {
                notes.push(format!(
                    "the model sees {window} tokens back; llama.cpp lets it see all of them"
                ));
            }
        }
        None if rules.gguf.states_no_window => keys.size("attention.sliding_window", 0)?,
        None => {}
    }
    Ok(())
}

fn rope(config: &DecoderConfig, keys: &mut Keys) -> Result<(), ExportError> {
    keys.size("rope.dimension_count", config.rope.dim)?;
    keys.number("rope.freq_base", config.rope.theta as f32);
    if let Some(local) = &config.rope_local {
        if local.scaling != RopeScaling::None {
            return Err(ExportError::Inexpressible {
                what: "the rotary embedding of the layers with a window is scaled, which a GGUF file cannot say"
                    .to_owned(),
            });
        }
        keys.number("rope.freq_base_swa", local.theta as f32);
    }
    match &config.rope.scaling {
        RopeScaling::None | RopeScaling::Llama3 { .. } | RopeScaling::Divisors(_) => {
            if rules(config.arch).gguf.states_original_context {
                keys.size("rope.scaling.original_context_length", config.context_max)?;
            }
        }
        RopeScaling::Linear { factor } => {
            keys.text("rope.scaling.type", "linear");
            keys.number("rope.scaling.factor", *factor);
        }
        RopeScaling::LongRope {
            original_max,
            attention_factor,
            ..
        } => {
            keys.size("rope.scaling.original_context_length", *original_max)?;
            keys.number("rope.scaling.attn_factor", *attention_factor);
        }
    }
    Ok(())
}

/// Tensors that the rotary embedding needs beside the weights.
pub(crate) fn rope_tensors(config: &DecoderConfig) -> Vec<(&'static str, Vec<f32>)> {
    match &config.rope.scaling {
        RopeScaling::None | RopeScaling::Linear { .. } => Vec::new(),
        RopeScaling::Divisors(divisors) => vec![("rope_freqs.weight", divisors.clone())],
        RopeScaling::Llama3 { .. } => vec![("rope_freqs.weight", llama3_divisors(config))],
        RopeScaling::LongRope { short, long, .. } => {
            vec![
                ("rope_factors_long.weight", long.clone()),
                ("rope_factors_short.weight", short.clone()),
            ]
        }
    }
}

/// What each frequency is divided by: 1 for short waves, the factor for long ones, a ramp between.
///
/// **Source:** Llama 3.1's `apply_scaling`.
fn llama3_divisors(config: &DecoderConfig) -> Vec<f32> {
    let RopeScaling::Llama3 {
        factor,
        low_freq_factor,
        high_freq_factor,
        original_max,
    } = config.rope.scaling
    else {
        return Vec::new();
    };
    let [factor, low, high] = [factor, low_freq_factor, high_freq_factor].map(f64::from);
    let original = original_max as f64;
    let divisor = |i: usize| {
        let wave = 2.0 * std::f64::consts::PI * config.rope.theta.powf(2.0 * i as f64 / config.rope.dim as f64);
        if wave < original / high {
            1.0
        } else if wave > original / low {
            factor
        } else {
            let smooth = (original / wave - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    (0..config.rope.dim / 2).map(|i| divisor(i) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::size_label;

    #[test]
    fn sizes_read_as_people_write_them() {
        let found = [64_000, 134_515_008, 1_543_714_304, 46_702_792_704].map(size_label);
        assert_eq!(found, ["64K", "135M", "1.5B", "47B"]);
    }
}
