//! Qwen2 and Qwen2.5: biases on queries, keys and values.

use dlm_core::Architecture;

use super::names::{ATTENTION, FEED_FORWARD, NORMS_PRE};
use super::{ClassDefaults, GgufRules, Rules, Windows};

/// See [`Rules`].
pub(super) const RULES: Rules = Rules {
    has_qkv_bias: true,
    windows: Windows::Switched {
        from: Some("max_window_layers"),
    },
    absent: ClassDefaults {
        n_kv_heads: Some(32),
        window: Some(4096),
        ..ClassDefaults::PLAIN
    },
    gguf: GgufRules {
        tensors: &[NORMS_PRE, ATTENTION, FEED_FORWARD],
        ..GgufRules::PLAIN
    },
    ..Rules::plain(Architecture::Qwen2)
};
