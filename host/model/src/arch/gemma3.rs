//! Gemma-3 (text): Gemma-2 with norms on queries and keys instead of soft-caps, five layers with a window to one without, and
//! rotary frequencies of their own for the layers with one.

use dlm_core::Architecture;

use super::names::{ATTENTION, FEED_FORWARD, NORMS_BOTH, NORMS_QK};
use super::{Activation, AttentionScale, ClassDefaults, GgufRules, NormPlacement, QkNorm, RotaryRules, Rules, Windows};

/// See [`Rules`]. **Source:** `modeling_gemma3.py` and `configuration_gemma3.py` of transformers; llama.cpp's loader.
pub(super) const RULES: Rules = Rules {
    norms: NormPlacement::Both,
    norm_plus_one: true,
    qk_norm: QkNorm::PerHead,
    activation: Activation::GeluTanh,
    tied: true,
    scales_embeddings: true,
    attention_scale: AttentionScale::Scalar { layers_by_width: 62 },
    rotary: RotaryRules {
        theta: 1_000_000.0,
        local_theta: Some(10_000.0),
        unrotated_every: None,
    },
    windows: Windows::AllBut {
        every: 6,
        stated_as: Some("sliding_window_pattern"),
    },
    // No released member has them, and llama.cpp does not read the first.
    refused: &[
        ("attn_logit_softcapping", "no soft-cap"),
        ("final_logit_softcapping", "no soft-cap"),
    ],
    absent: ClassDefaults {
        theta: 1_000_000.0,
        n_kv_heads: Some(4),
        head_dim: Some(256),
        window: Some(4096),
        query_scalar: Some(256.0),
        ..ClassDefaults::PLAIN
    },
    gguf: GgufRules {
        tensors: &[NORMS_BOTH, NORMS_QK, ATTENTION, FEED_FORWARD],
        states_head_dim: true,
        runtime_has_window: true,
        ..GgufRules::PLAIN
    },
    ..Rules::plain(Architecture::Gemma3)
};
