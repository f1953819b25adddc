//! `config.json` to [`DecoderConfig`]: the key style that is written today and the older one that most published
//! models use, one result for both.
//!
//! Invariants: a setting that would change the numbers and is not understood is an error; keys that only concern
//! training or the tokenizer are left alone. Sizes come from the file, never from the tensors.

mod rope;

use dlm_core::Subject;
use dlm_core::architecture::TOKENS_CLASS;
use serde_json::{Map, Value};

pub(crate) use self::rope::long_rope_attention_factor;
use self::rope::rope;
use super::{Activation, Architecture, ConfigMisfit, DecoderConfig, Experts, LayerKind};
use crate::arch::{AttentionScale, Rules, Windows, rules};

/// Bytes of a `config.json`; real ones have a few thousand.
pub const CONFIG_BYTES_MAX: usize = 4 << 20;
/// Layers, so that a hostile number allocates nothing; the same limit as [`DecoderConfig::check`].
const LAYERS_MAX: usize = 1 << 10;

/// A `config.json` that does not describe a model this program runs.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("it has {bytes} bytes, the limit is {CONFIG_BYTES_MAX}")]
    TooLarge { bytes: usize },
    #[error("it is not valid JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it is not a JSON object")]
    NotObject,
    #[error("it names no architecture (`architectures`)")]
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
    #[error("the settings contradict each other: {0}")]
    Misfit(#[from] ConfigMisfit),
}

impl dlm_core::Hints for ConfigError {
    fn subject(&self) -> Subject {
        Subject::BaseModel
    }

    fn hints(&self) -> Vec<String> {
        match self {
            ConfigError::Architecture { .. } => {
                vec![format!("choose a base of the families {}", Architecture::names())]
            }
            _ => Vec::new(),
        }
    }
}

/// A JSON object; to most readers a key that is absent and one that is null are the same.
struct Settings<'a>(&'a Map<String, Value>);

impl<'a> Settings<'a> {
    /// Whether a key is not written, which lets its class decide; `null` says that there is no value.
    fn is_absent(&self, key: &str) -> bool {
        !self.0.contains_key(key)
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match read(value) {
            Some(value) => Ok(Some(value)),
            None => Err(ConfigError::Value {
                key: key.to_owned(),
                found: shown(value),
                expected,
            }),
        }
    }

    fn size(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        self.typed(key, "a whole number", |v| {
            v.as_u64().and_then(|n| usize::try_from(n).ok())
        })
    }

    fn size_needed(&self, key: &str) -> Result<usize, ConfigError> {
        self.size(key)?
            .ok_or_else(|| ConfigError::Missing { key: key.to_owned() })
    }

    fn number(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        self.typed(key, "a number", Value::as_f64)
    }

    fn flag(&self, key: &str) -> Result<bool, ConfigError> {
        Ok(self.typed(key, "true or false", Value::as_bool)?.unwrap_or(false))
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>, ConfigError> {
        self.typed(key, "a text", Value::as_str)
    }

    fn list(&self, key: &str) -> Result<Option<&'a [Value]>, ConfigError> {
        self.typed(key, "a list", |v| v.as_array().map(Vec::as_slice))
    }

    fn numbers(&self, key: &str) -> Result<Option<Vec<f32>>, ConfigError> {
        self.typed(key, "a list of numbers", |v| {
            v.as_array()?.iter().map(|n| n.as_f64().map(|n| n as f32)).collect()
        })
    }

    fn object(&self, key: &str) -> Result<Option<Settings<'a>>, ConfigError> {
        self.typed(key, "an object", |v| v.as_object().map(Settings))
    }

    fn refuse(&self, key: &str, expected: &'static str) -> ConfigError {
        ConfigError::Value {
            key: key.to_owned(),
            found: self.0.get(key).map_or_else(|| "absent".to_owned(), shown),
            expected,
        }
    }
}

/// A value in a message, not more of it than a line holds.
fn shown(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}

/// What a model's class computes from the hidden states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// `...ForCausalLM`: the next token.
    NextToken,
    /// `...ForSequenceClassification`: labels of the whole text.
    Labels,
}

/// How the class names of sequence classifiers end.
pub(crate) const LABELS_CLASS: &str = "ForSequenceClassification";

impl Task {
    const fn suffix(self) -> &'static str {
        match self {
            Task::NextToken => TOKENS_CLASS,
            Task::Labels => LABELS_CLASS,
        }
    }
}

fn arch_of(settings: &Settings<'_>, task: Task) -> Result<Architecture, ConfigError> {
    let class = match settings.list("architectures")? {
        Some(list) => list.first().and_then(Value::as_str),
        None => None,
    };
    let class = class.ok_or(ConfigError::NoArchitecture)?;
    let family = class.strip_suffix(task.suffix());
    family
        .and_then(Architecture::of_hub_class)
        .ok_or_else(|| ConfigError::Architecture {
            found: class.to_owned(),
        })
}

/// Says whether a layer sees a sliding window, when `layer_types` does not say.
fn window_by_rule(rules: &Rules, settings: &Settings<'_>, layer: usize) -> Result<bool, ConfigError> {
    let (windows, window_from) = (rules.windows, rules.absent.window_from);
    let size = |key: Option<&str>| key.map_or(Ok(None), |key| settings.size(key));
    Ok(match windows {
        Windows::InGguf => false,
        Windows::Switched { from } => {
            let first = match from {
                Some(key) => size(from)?.unwrap_or(if settings.is_absent(key) { window_from } else { 0 }),
                None => 0,
            };
            settings.flag("use_sliding_window")? && layer >= first
        }
        Windows::AllBut { stated_as, .. } => windows.slides(layer, size(stated_as)?),
        Windows::Never | Windows::Always => windows.slides(layer, None),
    })
}

fn is_rotated(rules: &Rules, settings: &Settings<'_>, layer: usize) -> Result<bool, ConfigError> {
    let Some(every) = rules.rotary.unrotated_every else {
        return Ok(true);
    };
    match settings.list("no_rope_layers")? {
        // Despite the name, 1 stands for a layer that does rotate.
        Some(list) => match list.get(layer).and_then(Value::as_u64) {
            Some(1) => Ok(true),
            Some(0) => Ok(false),
            _ => Err(settings.refuse("no_rope_layers", "a list of 0 or 1, one per layer")),
        },
        None => {
            let interval = settings.size("no_rope_layer_interval")?.unwrap_or(every).max(1);
            Ok(!(layer + 1).is_multiple_of(interval))
        }
    }
}

fn layers(rules: &Rules, settings: &Settings<'_>, n_layers: usize) -> Result<Vec<LayerKind>, ConfigError> {
    let class_window = rules.absent.window.filter(|_| settings.is_absent("sliding_window"));
    let window = settings.size("sliding_window")?.or(class_window);
    let types = settings.list("layer_types")?;
    let n_layers = n_layers.min(LAYERS_MAX + 1);
    let mut kinds = Vec::with_capacity(n_layers);
    for layer in 0..n_layers {
        let slides = match types {
            Some(types) => match types.get(layer).and_then(Value::as_str) {
                Some("sliding_attention") => true,
                Some("full_attention") => false,
                _ => {
                    return Err(
                        settings.refuse("layer_types", "`full_attention` or `sliding_attention` for every layer")
                    );
                }
            },
            None => window.is_some() && window_by_rule(rules, settings, layer)?,
        };
        if slides && window.is_none() {
            return Err(ConfigError::Missing {
                key: "sliding_window".to_owned(),
            });
        }
        let window = window.filter(|_| slides);
        kinds.push(LayerKind::new(rules, is_rotated(rules, settings, layer)?, window));
    }
    Ok(kinds)
}

fn activation(rules: &Rules, settings: &Settings<'_>) -> Result<Activation, ConfigError> {
    let (key, name) = match settings.text("hidden_activation")? {
        Some(name) => ("hidden_activation", name),
        None => match settings.text("hidden_act")? {
            Some(name) => ("hidden_act", name),
            None => return Ok(rules.activation),
        },
    };
    match name {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::GeluTanh),
        _ => Err(settings.refuse(key, "silu or gelu_pytorch_tanh")),
    }
}

fn experts(rules: &Rules, settings: &Settings<'_>) -> Result<Option<Experts>, ConfigError> {
    if !rules.architecture.facts().has_experts {
        return Ok(None);
    }
    Ok(Some(Experts {
        count: settings.size_needed("num_local_experts")?,
        per_token: settings.size_needed("num_experts_per_tok")?,
    }))
}

/// Refuses settings that change the numbers in ways this program does not compute.
fn refuse_unknown(rules: &Rules, settings: &Settings<'_>) -> Result<(), ConfigError> {
    if let Some((key, expected)) = rules.refused.iter().find(|(key, _)| settings.get(key).is_some()) {
        return Err(settings.refuse(key, expected));
    }
    if settings.get("quantization_config").is_some() {
        return Err(settings.refuse("quantization_config", "unquantized weights"));
    }
    if settings.get("clip_qkv").is_some() {
        return Err(settings.refuse("clip_qkv", "no clipping"));
    }
    if settings.flag("use_bidirectional_attention")? {
        return Err(settings.refuse("use_bidirectional_attention", "causal attention"));
    }
    if settings.size("pretraining_tp")?.unwrap_or(1) != 1 {
        return Err(settings.refuse("pretraining_tp", "1"));
    }
    Ok(())
}

/// Reads a `config.json`.
///
/// **Errors:** no valid JSON, an unsupported architecture, a missing or unusable setting, sizes that do not fit.
pub fn parse_config(content: &[u8]) -> Result<DecoderConfig, ConfigError> {
    let value = object(content)?;
    decoder_config(&Settings(&value), Task::NextToken)
}

/// A sequence classifier: the decoder under it, and what its head needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassifierConfig {
    /// The decoder; it has no output head, so it counts as tied.
    pub decoder: DecoderConfig,
    pub labels: usize,
    /// The last token that is not this one is what the head looks at.
    pub pad: Option<u32>,
}

/// Says whether a `config.json` is that of a sequence classifier, by its class alone.
///
/// **Errors:** no valid JSON, or no class.
pub fn is_classifier(content: &[u8]) -> Result<bool, ConfigError> {
    let value = object(content)?;
    match Settings(&value)
        .list("architectures")?
        .and_then(|list| list.first()?.as_str())
    {
        Some(class) => Ok(class.ends_with(Task::Labels.suffix())),
        None => Err(ConfigError::NoArchitecture),
    }
}

/// Reads the `config.json` of a sequence classifier.
///
/// **Errors:** as [`parse_config`], with the classes `...ForSequenceClassification`.
pub fn parse_classifier_config(content: &[u8]) -> Result<ClassifierConfig, ConfigError> {
    let value = object(content)?;
    let settings = Settings(&value);
    let mut decoder = decoder_config(&settings, Task::Labels)?;
    decoder.tied = true;
    // The reference takes two labels where nothing is said.
    let labels = match settings.size("num_labels")? {
        Some(labels) => labels,
        None => settings.object("id2label")?.map_or(2, |names| names.0.len()),
    };
    let pad = settings.typed("pad_token_id", "a token id", |v| {
        v.as_i64().map(|id| u32::try_from(id).ok())
    })?;
    Ok(ClassifierConfig {
        decoder,
        labels,
        pad: pad.flatten(),
    })
}

fn object(content: &[u8]) -> Result<Map<String, Value>, ConfigError> {
    if content.len() > CONFIG_BYTES_MAX {
        return Err(ConfigError::TooLarge { bytes: content.len() });
    }
    match serde_json::from_slice(content)? {
        Value::Object(object) => Ok(object),
        _ => Err(ConfigError::NotObject),
    }
}

fn decoder_config(settings: &Settings<'_>, task: Task) -> Result<DecoderConfig, ConfigError> {
    let arch = arch_of(settings, task)?;
    let rules = rules(arch);
    refuse_unknown(rules, settings)?;
    let n_layers = settings.size_needed("num_hidden_layers")?;
    let n_heads = settings.size_needed("num_attention_heads")?;
    let d_model = settings.size_needed("hidden_size")?;
    let absent = &rules.absent;
    let head_dim = match settings.size("head_dim")? {
        Some(head_dim) => head_dim,
        None => {
            let of_class = absent.head_dim.filter(|_| settings.is_absent("head_dim"));
            of_class.unwrap_or(d_model / n_heads.max(1))
        }
    };
    let context_max = settings.size_needed("max_position_embeddings")?;
    let attention_bias = settings.flag("attention_bias")?;
    let scalar = settings.number("query_pre_attn_scalar")?;
    let scalar = scalar.or(absent
        .query_scalar
        .filter(|_| settings.is_absent("query_pre_attn_scalar")));
    let scale_from = match scalar {
        Some(scalar) if rules.attention_scale != AttentionScale::HeadDim => scalar,
        _ => head_dim as f64,
    };
    let cap = |key: &str, of_class: Option<f32>| -> Result<Option<f32>, ConfigError> {
        let stated = settings.number(key)?.map(|cap| cap as f32);
        let cap = stated.or(of_class.filter(|_| settings.is_absent(key)));
        Ok(cap.filter(|_| rules.has_softcaps))
    };
    let (attention_cap, final_cap) = absent.softcaps.unzip();
    let (rope, rope_local) = rope(settings, rules, head_dim, context_max)?;
    let config = DecoderConfig {
        arch,
        vocab: settings.size_needed("vocab_size")?,
        d_model,
        n_layers,
        n_heads,
        n_kv_heads: settings.size("num_key_value_heads")?.unwrap_or_else(|| {
            let of_class = absent.n_kv_heads.filter(|_| settings.is_absent("num_key_value_heads"));
            of_class.unwrap_or(n_heads)
        }),
        head_dim,
        d_ff: settings.size_needed("intermediate_size")?,
        norm_eps: settings.number("rms_norm_eps")?.unwrap_or(absent.norm_eps) as f32,
        norm_plus_one: rules.norm_plus_one,
        norm_placement: rules.norms,
        qk_norm: rules.qk_norm,
        rope,
        rope_local,
        layers: layers(rules, settings, n_layers)?,
        qkv_bias: rules.has_qkv_bias || attention_bias,
        o_bias: attention_bias && !rules.has_qkv_bias,
        mlp_bias: settings.flag("mlp_bias")?,
        fused_projections: arch.facts().is_fused,
        activation: activation(rules, settings)?,
        attention_scale: (1.0 / scale_from.sqrt()) as f32,
        attention_softcap: cap("attn_logit_softcapping", attention_cap)?,
        final_softcap: cap("final_logit_softcapping", final_cap)?,
        embed_scale: rules.embed_scale(d_model),
        tied: match settings.get("tie_word_embeddings") {
            Some(_) => settings.flag("tie_word_embeddings")?,
            None => rules.tied,
        },
        experts: experts(rules, settings)?,
        context_max,
    };
    config.check()?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small model of a class with the sizes alone; `more` is written behind them.
    fn config(class: &str, more: &str) -> DecoderConfig {
        let text = format!(
            r#"{{"architectures":["{class}"],"hidden_size":256,"num_hidden_layers":2,"num_attention_heads":32,
            "intermediate_size":64,"vocab_size":100,"max_position_embeddings":8192{more}}}"#
        );
        parse_config(text.as_bytes()).unwrap_or_else(|error| panic!("{class} {more}: {error}"))
    }

    /// The numbers are those of the classes in `transformers` 4.57.
    #[test]
    fn a_key_that_is_absent_is_what_its_class_says() {
        let sizes = |class: &str| {
            let config = config(class, "");
            (
                config.n_kv_heads,
                config.head_dim,
                config.norm_eps,
                config.rope.theta,
                config.layers[0].window,
            )
        };
        assert_eq!(sizes("LlamaForCausalLM"), (32, 8, 1e-6, 10_000.0, None));
        assert_eq!(sizes("MistralForCausalLM"), (8, 8, 1e-6, 10_000.0, Some(4096)));
        assert_eq!(sizes("Qwen2ForCausalLM"), (32, 8, 1e-6, 10_000.0, None));
        assert_eq!(sizes("Qwen3ForCausalLM"), (32, 128, 1e-6, 10_000.0, None));
        assert_eq!(sizes("Gemma2ForCausalLM"), (4, 256, 1e-6, 10_000.0, Some(4096)));
        assert_eq!(sizes("Phi3ForCausalLM"), (32, 8, 1e-5, 10_000.0, None));
        assert_eq!(sizes("Olmo2ForCausalLM"), (32, 8, 1e-5, 10_000.0, None));
        assert_eq!(sizes("SmolLM3ForCausalLM"), (4, 8, 1e-6, 2_000_000.0, None));
        let gemma = config("Gemma2ForCausalLM", "");
        assert_eq!((gemma.attention_softcap, gemma.final_softcap), (Some(50.0), Some(30.0)));
        assert_eq!(gemma.attention_scale, 1.0 / 16.0);
    }

    #[test]
    fn a_key_that_is_null_says_that_there_is_none() {
        let gemma = config(
            "Gemma2ForCausalLM",
            r#","attn_logit_softcapping":null,"final_logit_softcapping":null"#,
        );
        assert_eq!((gemma.attention_softcap, gemma.final_softcap), (None, None));
        let mistral = config(
            "MistralForCausalLM",
            r#","sliding_window":null,"num_key_value_heads":null"#,
        );
        assert_eq!((mistral.layers[0].window, mistral.n_kv_heads), (None, 32));
    }

    #[test]
    fn windows_begin_at_the_layer_that_the_class_says() {
        let windows = |more: &str| {
            let config = config("Qwen2ForCausalLM", &format!(r#","use_sliding_window":true{more}"#));
            config.layers.iter().map(|layer| layer.window).collect::<Vec<_>>()
        };
        assert_eq!(windows(""), [None, None], "28 layers see everything");
        assert_eq!(windows(r#","max_window_layers":1"#), [None, Some(4096)]);
    }
}
