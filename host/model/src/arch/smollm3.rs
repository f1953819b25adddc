//! SmolLM3: Llama with every fourth layer not rotated.

use dlm_core::Architecture;

use super::names::{ATTENTION, FEED_FORWARD, NORMS_PRE};
use super::{ClassDefaults, GgufRules, RotaryRules, Rules, Windows};

/// See [`Rules`].
pub(super) const RULES: Rules = Rules {
    tied: true,
    rotary: RotaryRules {
        unrotated_every: Some(4),
        ..RotaryRules::PLAIN
    },
    windows: Windows::Switched { from: None },
    absent: ClassDefaults {
        theta: 2_000_000.0,
        n_kv_heads: Some(4),
        ..ClassDefaults::PLAIN
    },
    gguf: GgufRules {
        interleaves: true,
        tensors: &[NORMS_PRE, ATTENTION, FEED_FORWARD],
        ..GgufRules::PLAIN
    },
    ..Rules::plain(Architecture::Smollm3)
};
