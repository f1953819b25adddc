//! Mistral: Llama with a sliding window on every layer.

use dlm_core::Architecture;

use super::names::{ATTENTION, FEED_FORWARD, NORMS_PRE};
use super::{ClassDefaults, GgufRules, Rules, Windows};

/// See [`Rules`].
pub(super) const RULES: Rules = Rules {
    windows: Windows::Always,
    absent: ClassDefaults {
        n_kv_heads: Some(8),
        window: Some(4096),
        ..ClassDefaults::PLAIN
    },
    gguf: GgufRules {
        interleaves: true,
        tensors: &[NORMS_PRE, ATTENTION, FEED_FORWARD],
        ..GgufRules::PLAIN
    },
    ..Rules::plain(Architecture::Mistral)
};
