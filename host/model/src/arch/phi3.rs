//! Phi-3, Phi-3.5 and Phi-4-mini: joined projections, a window on every layer.

use dlm_core::Architecture;

use super::names::{FUSED, NORMS_PRE, QKV};
use super::{ClassDefaults, GgufRules, Rules, Windows};

/// See [`Rules`].
pub(super) const RULES: Rules = Rules {
    windows: Windows::Always,
    absent: ClassDefaults {
        norm_eps: 1e-5,
        ..ClassDefaults::PLAIN
    },
    gguf: GgufRules {
        tensors: &[NORMS_PRE, FUSED, QKV],
        states_no_window: true,
        states_original_context: true,
        ..GgufRules::PLAIN
    },
    ..Rules::plain(Architecture::Phi3)
};
