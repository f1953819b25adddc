//! SmolLM3: Llama with every fourth layer not rotated.

use dlm_core::Architecture;

use super::names::{ATTENTION, FEED_FORWARD, NORMS_PRE};
use super::{GgufRules, RotaryRules, Rules, Windows};

/// See [`Rules`].
pub(super) const RULES: Rules = Rules {
    tied: true,
    rotary: RotaryRules {
        unrotated_every: Some(4),
        ..RotaryRules::PLAIN
    },
    windows: Windows::Switched { from: None },
    gguf: GgufRules {
        interleaves: true,
        tensors: &[NORMS_PRE, ATTENTION, FEED_FORWARD],
        ..GgufRules::PLAIN
    },
    ..Rules::plain(Architecture::Smollm3)
};
