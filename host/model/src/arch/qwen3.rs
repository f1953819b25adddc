//! Qwen3: norms on the queries and keys of each head.

use dlm_core::Architecture;

use super::names::{ATTENTION, FEED_FORWARD, NORMS_PRE, NORMS_QK};
use super::{ClassDefaults, GgufRules, QkNorm, Rules, Windows};

/// See [`Rules`].
pub(super) const RULES: Rules = Rules {
    qk_norm: QkNorm::PerHead,
    windows: Windows::Switched {
        from: Some("max_window_layers"),
    },
    absent: ClassDefaults {
        n_kv_heads: Some(32),
        head_dim: Some(128),
        window: Some(4096),
        ..ClassDefaults::PLAIN
    },
    gguf: GgufRules {
        tensors: &[NORMS_PRE, NORMS_QK, ATTENTION, FEED_FORWARD],
        ..GgufRules::PLAIN
    },
    ..Rules::plain(Architecture::Qwen3)
};
