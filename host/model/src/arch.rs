//! What the members of an architecture have in common, a file each: [`Rules`].
//!
//! Invariants: readers of settings, of GGUF files and the export take these facts from here and compare no architecture
//! themselves. The tensor names are one table per architecture, read from GGUF to hub on the way in and from hub to GGUF on the
//! way out. A new architecture is a file here, its line in [`ALL`], and a row in `dlm_core::architecture`.

mod gemma2;
mod gemma3;
mod llama;
mod mistral;
mod mixtral;
pub mod names;
mod olmo2;
mod phi3;
mod qwen2;
mod qwen3;
mod smollm3;

use dlm_core::Architecture;

pub use names::{StoredForm, TensorName};

/// Every architecture's rules.
const ALL: &[&Rules] = &[
    &llama::RULES,
    &smollm3::RULES,
    &qwen2::RULES,
    &qwen3::RULES,
    &gemma2::RULES,
    &gemma3::RULES,
    &phi3::RULES,
    &olmo2::RULES,
    &mistral::RULES,
    &mixtral::RULES,
];

/// Returns the rules of an architecture.
pub fn rules(architecture: Architecture) -> &'static Rules {
    let found = ALL.iter().find(|rules| rules.architecture == architecture);
    found.expect("every architecture has rules")
}

/// What the gate of the feed-forward part goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// The tanh approximation of GELU.
    GeluTanh,
}

/// Where the norms of a block stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlacement {
    /// Before attention and before the feed-forward part: `input_layernorm`, `post_attention_layernorm`.
    Pre,
    /// On the output of both parts, before the residual sum (OLMo-2): `post_attention_layernorm`,
    /// `post_feedforward_layernorm`.
    Post,
    /// Before and after both parts (Gemma-2): `input_layernorm`, `post_attention_layernorm` (after attention),
    /// `pre_feedforward_layernorm`, `post_feedforward_layernorm`.
    Both,
}

/// Norms of the projected queries and keys, before the rotary embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    None,
    /// One weight vector of `head_dim`, each head on its own (Qwen3).
    PerHead,
    /// One weight vector over the whole projection (OLMo-2).
    Whole,
}

/// What the members of an architecture have in common.
#[derive(Debug)]
pub struct Rules {
    pub architecture: Architecture,
    pub norms: NormPlacement,
    /// Norms multiply by `1 + w`; GGUF files hold the sum.
    pub norm_plus_one: bool,
    pub qk_norm: QkNorm,
    /// q, k and v carry a bias whatever the settings say, and the attention output none.
    pub has_qkv_bias: bool,
    /// The activation where the settings name none.
    pub activation: Activation,
    /// The head is the embedding where the settings do not say.
    pub tied: bool,
    /// Embeddings are multiplied by the root of their width.
    pub scales_embeddings: bool,
    /// Where the factor of the attention scores comes from.
    pub attention_scale: AttentionScale,
    /// Scores and logits are capped where the settings say so; elsewhere such settings mean nothing.
    pub has_softcaps: bool,
    pub rotary: RotaryRules,
    pub windows: Windows,
    /// What the class on the hub takes for a setting that is not written.
    pub absent: ClassDefaults,
    /// Settings that would change the numbers in a way that is not computed, and what is expected instead.
    pub refused: &'static [(&'static str, &'static str)],
    pub gguf: GgufRules,
}

/// What a class takes for keys of `config.json` that are not written; one that is `null` says that there is none.
///
/// **Source:** the `configuration_*.py` files of `transformers`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassDefaults {
    /// `rms_norm_eps`.
    pub norm_eps: f64,
    /// `rope_theta`.
    pub theta: f64,
    /// `num_key_value_heads`; without it as many as there are query heads.
    pub n_kv_heads: Option<usize>,
    /// `head_dim`; without it what follows from the other sizes.
    pub head_dim: Option<usize>,
    /// `sliding_window`.
    pub window: Option<usize>,
    /// `max_window_layers`.
    pub window_from: usize,
    /// `attn_logit_softcapping` and `final_logit_softcapping`.
    pub softcaps: Option<(f32, f32)>,
    /// `query_pre_attn_scalar`.
    pub query_scalar: Option<f64>,
}

impl ClassDefaults {
    /// What Llama's class has.
    pub const PLAIN: ClassDefaults = ClassDefaults {
        norm_eps: 1e-6,
        theta: 10_000.0,
        n_kv_heads: None,
        head_dim: None,
        window: None,
        window_from: 28,
        softcaps: None,
        query_scalar: None,
    };
}

/// Where the factor of the attention scores comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionScale {
    /// `1 / sqrt(head_dim)`.
    HeadDim,
    /// `1 / sqrt(query_pre_attn_scalar)`. A GGUF file has no such key: there it is the width of a head, but for the member
    /// with this many layers, where it is `d_model / n_heads`.
    Scalar { layers_by_width: usize },
}

impl AttentionScale {
    /// Returns the width whose inverse root the readers of GGUF files multiply scores with, where no scale is stated.
    pub fn gguf_width(self, n_layers: usize, head_dim: usize, d_model: usize, n_heads: usize) -> usize {
        match self {
            AttentionScale::Scalar { layers_by_width } if layers_by_width == n_layers => d_model / n_heads.max(1),
            _ => head_dim,
        }
    }
}

/// Rotary embedding of an architecture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RotaryRules {
    /// Base of the frequencies where files name none.
    pub theta: f64,
    /// Base of the layers with a window, which then have frequencies of their own, where files name none.
    pub local_theta: Option<f64>,
    /// Every layer of this number is not rotated, where settings do not say otherwise; a GGUF file cannot.
    pub unrotated_every: Option<usize>,
}

impl RotaryRules {
    /// One base of 10,000 for all layers, where files name no other.
    pub const PLAIN: RotaryRules = RotaryRules {
        theta: 10_000.0,
        local_theta: None,
        unrotated_every: None,
    };

    /// Says whether a layer is rotated, where settings do not say.
    pub fn rotates(&self, layer: usize) -> bool {
        self.unrotated_every
            .is_none_or(|every| !(layer + 1).is_multiple_of(every))
    }
}

/// Which layers see a sliding window, where `layer_types` does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windows {
    /// None, even where a window is stated.
    Never,
    /// Every layer, where a window is stated.
    Always,
    /// All but every layer of this number, or of the number that the settings state under this key.
    AllBut {
        every: usize,
        stated_as: Option<&'static str>,
    },
    /// Every layer of a GGUF file that states a window, because Mistral's files call themselves Llama; none elsewhere.
    InGguf,
    /// None, unless the settings say `use_sliding_window`: then the layers from the one that the key `from` names on, or all.
    Switched { from: Option<&'static str> },
}

impl Windows {
    /// Says whether a layer has a window in a file that has no more than the window's width; `every` replaces the rule's own
    /// number where a file states it.
    pub fn slides(self, layer: usize, every: Option<usize>) -> bool {
        match self {
            Windows::Never | Windows::Switched { .. } => false,
            Windows::Always | Windows::InGguf => true,
            Windows::AllBut { every: rule, .. } => !(layer + 1).is_multiple_of(every.unwrap_or(rule).max(1)),
        }
    }
}

/// How GGUF files of an architecture differ from the hub's, and what their readers take for granted.
#[derive(Debug)]
pub struct GgufRules {
    /// Rows of queries and keys are re-ordered for rotary pairs that lie side by side.
    pub interleaves: bool,
    /// Names of a block's tensors.
    pub tensors: &'static [&'static [TensorName]],
    /// The head's width is written even where it follows from the other sizes.
    pub states_head_dim: bool,
    /// A window is written even where there is none, as 0.
    pub states_no_window: bool,
    /// The original context is written even where the rotary embedding is not scaled.
    pub states_original_context: bool,
    /// llama.cpp applies the window.
    pub runtime_has_window: bool,
}

impl GgufRules {
    /// A file in the hub's row order, with nothing stated that follows from the rest.
    pub const PLAIN: GgufRules = GgufRules {
        interleaves: false,
        tensors: &[],
        states_head_dim: false,
        states_no_window: false,
        states_original_context: false,
        runtime_has_window: false,
    };
}

impl Rules {
    /// Returns what embeddings are multiplied by.
    pub fn embed_scale(&self, d_model: usize) -> f32 {
        if self.scales_embeddings {
            (d_model as f32).sqrt()
        } else {
            1.0
        }
    }

    /// Pre-norms, SiLU, one rotary base, no window: what most architectures change little of.
    const fn plain(architecture: Architecture) -> Rules {
        Rules {
            architecture,
            norms: NormPlacement::Pre,
            norm_plus_one: false,
            qk_norm: QkNorm::None,
            has_qkv_bias: false,
            activation: Activation::Silu,
            tied: false,
            scales_embeddings: false,
            attention_scale: AttentionScale::HeadDim,
            has_softcaps: false,
            rotary: RotaryRules::PLAIN,
            windows: Windows::Never,
            absent: ClassDefaults::PLAIN,
            refused: &[],
            gguf: GgufRules::PLAIN,
        }
    }
}

#[cfg(test)]
mod tests {
    use dlm_core::architecture::TABLE;

    use super::{ALL, Windows, rules};

    #[test]
    fn every_row_has_rules_with_unique_names() {
        assert_eq!(ALL.len(), TABLE.len());
        for row in TABLE {
            let rules = rules(row.architecture);
            for (index, (gguf, hub)) in rules.tensors().enumerate() {
                for (other_gguf, other_hub) in rules.tensors().skip(index + 1) {
                    assert!(gguf != other_gguf && hub != other_hub, "{}: {gguf}, {hub}", row.name);
                }
            }
        }
    }

    #[test]
    fn windows_follow_the_pattern() {
        let slides = |windows: Windows, every| [0, 1, 2, 3, 4, 5, 6].map(|layer| windows.slides(layer, every));
        let every_sixth = [true, true, true, true, true, false, true];
        let all_but = |every| Windows::AllBut { every, stated_as: None };
        assert_eq!(slides(all_but(6), None), every_sixth);
        let every_second = [true, false, true, false, true, false, true];
        assert_eq!(slides(all_but(2), None), every_second);
        assert_eq!(slides(all_but(6), Some(2)), every_second);
        assert_eq!(slides(Windows::Switched { from: None }, None), [false; 7]);
    }
}
