//! Mixtral: Mistral with a mixture of experts as its feed-forward part.

use dlm_core::Architecture;

use super::names::{ATTENTION, NORMS_PRE, ROUTER};
use super::{ClassDefaults, GgufRules, Rules, Windows};

/// See [`Rules`].
pub(super) const RULES: Rules = Rules {
    windows: Windows::Always,
    absent: ClassDefaults {
        norm_eps: 1e-5,
        theta: 1_000_000.0,
        n_kv_heads: Some(8),
        ..ClassDefaults::PLAIN
    },
    gguf: GgufRules {
        interleaves: true,
        tensors: &[NORMS_PRE, ATTENTION, ROUTER],
        ..GgufRules::PLAIN
    },
    ..Rules::plain(Architecture::Mixtral)
};
