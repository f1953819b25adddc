//! Gemma-2: norms before and after both parts that multiply by `1 + w`, every second layer with a window, soft-caps.

use dlm_core::Architecture;

use super::names::{ATTENTION, FEED_FORWARD, NORMS_BOTH};
use super::{Activation, AttentionScale, ClassDefaults, GgufRules, NormPlacement, Rules, Windows};

/// See [`Rules`].
pub(super) const RULES: Rules = Rules {
    norms: NormPlacement::Both,
    norm_plus_one: true,
    activation: Activation::GeluTanh,
    tied: true,
    scales_embeddings: true,
    attention_scale: AttentionScale::Scalar { layers_by_width: 46 },
    has_softcaps: true,
    windows: Windows::AllBut {
        every: 2,
        stated_as: None,
    },
    absent: ClassDefaults {
        n_kv_heads: Some(4),
        head_dim: Some(256),
        window: Some(4096),
        softcaps: Some((50.0, 30.0)),
        query_scalar: Some(256.0),
        ..ClassDefaults::PLAIN
    },
    gguf: GgufRules {
        tensors: &[NORMS_BOTH, ATTENTION, FEED_FORWARD],
        states_head_dim: true,
        runtime_has_window: true,
        ..GgufRules::PLAIN
    },
    ..Rules::plain(Architecture::Gemma2)
};
