//! Llama, and SmolLM2, which is one; GGUF files of Mistral are read as this one too.

use dlm_core::Architecture;

use super::names::{ATTENTION, FEED_FORWARD, NORMS_PRE};
use super::{GgufRules, Rules, Windows};

/// See [`Rules`].
pub(super) const RULES: Rules = Rules {
    windows: Windows::InGguf,
    gguf: GgufRules {
        interleaves: true,
        tensors: &[NORMS_PRE, ATTENTION, FEED_FORWARD],
        ..GgufRules::PLAIN
    },
    ..Rules::plain(Architecture::Llama)
};
