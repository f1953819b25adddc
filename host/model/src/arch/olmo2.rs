//! OLMo-2: norms after both parts and on whole queries and keys.

use dlm_core::Architecture;

use super::names::{ATTENTION, FEED_FORWARD, NORMS_POST, NORMS_QK};
use super::{ClassDefaults, GgufRules, NormPlacement, QkNorm, Rules};

/// See [`Rules`].
pub(super) const RULES: Rules = Rules {
    norms: NormPlacement::Post,
    qk_norm: QkNorm::Whole,
    absent: ClassDefaults {
        norm_eps: 1e-5,
        ..ClassDefaults::PLAIN
    },
    gguf: GgufRules {
        tensors: &[NORMS_POST, NORMS_QK, ATTENTION, FEED_FORWARD],
        ..GgufRules::PLAIN
    },
    ..Rules::plain(Architecture::Olmo2)
};
