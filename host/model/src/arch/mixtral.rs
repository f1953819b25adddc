//! Mixtral: Mistral with a mixture of experts as its feed-forward part.

use dlm_core::Architecture;

use super::names::{ATTENTION, NORMS_PRE, ROUTER};
use super::{GgufRules, Rules, Windows};

/// See [`Rules`].
pub(super) const RULES: Rules = Rules {
    windows: Windows::Always,
    gguf: GgufRules {
        interleaves: true,
        tensors: &[NORMS_PRE, ATTENTION, ROUTER],
        ..GgufRules::PLAIN
    },
    ..Rules::plain(Architecture::Mixtral)
};
