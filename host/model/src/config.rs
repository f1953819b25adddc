//! A decoder described by data: everything that tells one architecture from another.
//!
//! Invariants: one block implementation reads this and branches on nothing else. The readers in `config/` translate
//! `config.json` (both key styles) and GGUF metadata into this value, by the rules of [`crate::arch`]; this file knows no file
//! format.

pub mod gguf;
pub mod json;

use crate::arch::Rules;

pub use crate::arch::{Activation, NormPlacement, QkNorm};
pub use dlm_core::Architecture;
pub use gguf::{GgufConfigError, GgufConfigFault, config_from_gguf};
pub use json::{ClassifierConfig, ConfigError, is_classifier, parse_classifier_config, parse_config};

/// How the rotary frequencies `theta^(-2i/dim)` are changed.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    None,
    /// Every frequency divided by `factor`.
    Linear {
        factor: f32,
    },
    /// Llama 3.1: long waves divided by `factor`, short ones kept, a ramp between.
    Llama3 {
        factor: f32,
        low_freq_factor: f32,
        high_freq_factor: f32,
        original_max: usize,
    },
    /// Phi-3.5/4: frequency `i` divided by `short[i]` up to `original_max` tokens, by `long[i]` beyond.
    LongRope {
        short: Vec<f32>,
        long: Vec<f32>,
        original_max: usize,
        /// Cosine and sine are multiplied by this.
        attention_factor: f32,
    },
    /// Frequency `i` divided by the i-th number (`rope_freqs.weight` of a GGUF file).
    Divisors(Vec<f32>),
}

/// Rotary position embedding, split-half form.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Leading dimensions of a head that turn; even; the rest passes through.
    pub dim: usize,
    pub theta: f64,
    pub scaling: RopeScaling,
}

impl Rope {
    fn check(&self) -> Result<(), ConfigMisfit> {
        let scalars: [f32; 3] = match &self.scaling {
            RopeScaling::Linear { factor } => [*factor, 1.0, 1.0],
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                ..
            } => [*factor, *low_freq_factor, *high_freq_factor],
            RopeScaling::LongRope { attention_factor, .. } => [*attention_factor, 1.0, 1.0],
            RopeScaling::None | RopeScaling::Divisors(_) => [1.0; 3],
        };
        if let Some(value) = scalars
            .into_iter()
            .find(|factor| !(factor.is_finite() && *factor > 0.0))
        {
            return Err(ConfigMisfit::NotPositive {
                name: "rope_scaling factor",
                value: f64::from(value),
            });
        }
        let divisors: [&[f32]; 2] = match &self.scaling {
            RopeScaling::LongRope { short, long, .. } => [short, long],
            RopeScaling::Divisors(factors) => [factors, factors],
            RopeScaling::None | RopeScaling::Linear { .. } | RopeScaling::Llama3 { .. } => [&[], &[]],
        };
        for factors in divisors {
            if !factors.is_empty() && factors.len() != self.dim / 2 {
                return Err(ConfigMisfit::Misfit(
                    "the rotary factors are not half as many as the rotary dimension",
                ));
            }
            if factors.iter().any(|f| !(f.is_finite() && *f > 0.0)) {
                return Err(ConfigMisfit::Misfit("a rotary factor is not a positive number"));
            }
        }
        Ok(())
    }
}

/// How the queries and keys of a layer are rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerRope {
    /// Not at all (every fourth layer of SmolLM3).
    None,
    /// By [`DecoderConfig::rope`].
    Main,
    /// By [`DecoderConfig::rope_local`].
    Local,
}

/// What differs between the layers of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerKind {
    pub rope: LayerRope,
    /// A token sees at most this many tokens, itself included; `None`: all before it.
    pub window: Option<usize>,
}

impl LayerKind {
    /// A layer of an architecture, whose queries and keys are rotated or not.
    pub fn new(rules: &Rules, is_rotated: bool, window: Option<usize>) -> LayerKind {
        let rope = match (window, rules.rotary.local_theta) {
            _ if !is_rotated => LayerRope::None,
            (Some(_), Some(_)) => LayerRope::Local,
            _ => LayerRope::Main,
        };
        LayerKind { rope, window }
    }
}

/// A mixture of experts in place of the feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Experts {
    pub count: usize,
    /// Experts that a token goes through; their softmax weights are renormalized to sum 1.
    pub per_token: usize,
}

/// One decoder-only text model.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    /// Names, reports and files use it; numbers depend on the other fields.
    pub arch: Architecture,
    pub vocab: usize,
    pub d_model: usize,
    pub n_layers: usize,
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub head_dim: usize,
    /// Width of the feed-forward part, or of one expert.
    pub d_ff: usize,
    pub norm_eps: f32,
    /// Norms multiply by `1 + w` (Gemma) instead of `w`. Weights are kept as the Hugging Face files have them.
    pub norm_plus_one: bool,
    pub norm_placement: NormPlacement,
    pub qk_norm: QkNorm,
    pub rope: Rope,
    /// The second rotary embedding, of the layers that have [`LayerRope::Local`].
    pub rope_local: Option<Rope>,
    /// One entry per layer.
    pub layers: Vec<LayerKind>,
    /// q, k and v carry a bias.
    pub qkv_bias: bool,
    /// The attention output carries a bias.
    pub o_bias: bool,
    /// The feed-forward projections carry a bias.
    pub mlp_bias: bool,
    /// Files and adapters hold `qkv_proj` and `gate_up_proj` (Phi-3) instead of the separate projections.
    pub fused_projections: bool,
    pub activation: Activation,
    /// Scores are multiplied by this before softmax (`1/sqrt(head_dim)`, or from `query_pre_attn_scalar`).
    pub attention_scale: f32,
    /// `c * tanh(score / c)` on the scores.
    pub attention_softcap: Option<f32>,
    /// `c * tanh(logit / c)` on the logits.
    pub final_softcap: Option<f32>,
    /// Embeddings are multiplied by this (Gemma: `sqrt(d_model)`), otherwise 1.
    pub embed_scale: f32,
    /// The head is the embedding matrix.
    pub tied: bool,
    pub experts: Option<Experts>,
    /// Longest context that the model was made for.
    pub context_max: usize,
}

impl DecoderConfig {
    /// Returns the width of the query projection.
    pub fn q_width(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Returns the width of the key projection, and of the value projection.
    pub fn kv_width(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    /// Checks that the numbers fit each other and stay in sane bounds; the readers call it last.
    ///
    /// **Errors:** the first misfit, named.
    pub fn check(&self) -> Result<(), ConfigMisfit> {
        let limits: [(&'static str, usize, usize); 9] = [
            ("vocab", self.vocab, 1 << 22),
            ("d_model", self.d_model, 1 << 17),
            ("n_layers", self.n_layers, 1 << 10),
            ("n_heads", self.n_heads, 1 << 12),
            ("n_kv_heads", self.n_kv_heads, 1 << 12),
            ("head_dim", self.head_dim, 1 << 12),
            ("d_ff", self.d_ff, 1 << 19),
            ("context_max", self.context_max, 1 << 28),
            ("rope.dim", self.rope.dim, self.head_dim),
        ];
        for (name, value, max) in limits {
            if value == 0 || value > max {
                return Err(ConfigMisfit::OutOfRange { name, value, max });
            }
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            return Err(ConfigMisfit::Misfit(
                "the number of query heads is not a multiple of the key/value heads",
            ));
        }
        if !self.rope.dim.is_multiple_of(2) {
            return Err(ConfigMisfit::Misfit("the rotary dimension is odd"));
        }
        if self.layers.len() != self.n_layers {
            return Err(ConfigMisfit::Misfit("there is not one layer kind per layer"));
        }
        if self.layers.iter().any(|layer| layer.window == Some(0)) {
            return Err(ConfigMisfit::Misfit("a sliding window of 0 tokens"));
        }
        let is_local = |layer: &LayerKind| layer.rope == LayerRope::Local;
        if self.rope_local.is_none() && self.layers.iter().any(is_local) {
            return Err(ConfigMisfit::Misfit(
                "a layer has local rotary frequencies, the model none",
            ));
        }
        if self.rope_local.as_ref().is_some_and(|local| local.dim != self.rope.dim) {
            return Err(ConfigMisfit::Misfit(
                "the two rotary embeddings turn different dimensions",
            ));
        }
        let is_long = |local: &Rope| matches!(local.scaling, RopeScaling::LongRope { .. });
        if self.rope_local.as_ref().is_some_and(is_long) {
            return Err(ConfigMisfit::Misfit(
                "the local rotary frequencies depend on the length",
            ));
        }
        self.check_numbers()
    }

    fn check_numbers(&self) -> Result<(), ConfigMisfit> {
        let local_theta = self.rope_local.as_ref().map_or(1.0, |local| local.theta);
        let positive = [
            ("norm_eps", f64::from(self.norm_eps)),
            ("rope.theta", self.rope.theta),
            ("rope_local.theta", local_theta),
            ("attention_scale", f64::from(self.attention_scale)),
            ("embed_scale", f64::from(self.embed_scale)),
            ("attention_softcap", f64::from(self.attention_softcap.unwrap_or(1.0))),
            ("final_softcap", f64::from(self.final_softcap.unwrap_or(1.0))),
        ];
        for (name, value) in positive {
            if !(value.is_finite() && value > 0.0) {
                return Err(ConfigMisfit::NotPositive { name, value });
            }
        }
        self.rope.check()?;
        self.rope_local.as_ref().map_or(Ok(()), Rope::check)?;
        if let Some(experts) = self.experts
            && (experts.count == 0
                || experts.count > 1 << 10
                || experts.per_token == 0
                || experts.per_token > experts.count)
        {
            return Err(ConfigMisfit::Misfit(
                "the experts per token are not between 1 and the number of experts",
            ));
        }
        Ok(())
    }
}

/// Numbers of a model description that contradict each other.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConfigMisfit {
    #[error("`{name}` is {value}, expected 1 to {max}")]
    OutOfRange {
        name: &'static str,
        value: usize,
        max: usize,
    },
    #[error("`{name}` is {value}, expected a positive number")]
    NotPositive { name: &'static str, value: f64 },
    #[error("{0}")]
    Misfit(&'static str),
}
