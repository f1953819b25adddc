//! One pass of rows through the decoder: what its parts share, and the parts.
//!
//! Invariants: arrows inside run one way, `slot` (products with their adapters), `gated` (one feed-forward unit), `moe`,
//! `block`, `train` and, beside them, `head`; sessions run blocks of their own and use nothing above `block`.

pub(crate) mod block;
mod gated;
mod head;
mod moe;
pub(crate) mod slot;
mod train;

use std::sync::Mutex;

use dlm_core::Cancel;
use dlm_kernels::PrecisionPath;

use crate::adapter::{Adapter, FewRows, Gains};
use crate::input_squares::InputSquares;
use crate::model::Model;

pub use head::HeadLoss;
pub use train::{Forward, StepOptions};

/// Everything that is the same for all blocks of one pass.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    pub model: &'a Model,
    pub adapter: Option<&'a Adapter>,
    /// Row factors, present exactly for DoRA.
    pub gains: Option<&'a Gains>,
    /// Seed of the dropout masks; `None` where nothing is dropped.
    pub dropout_seed: Option<u64>,
    /// The adapter's factors as passes of few rows read them.
    pub few: Option<&'a FewRows>,
    /// A backward will follow.
    pub is_training: bool,
    /// How the frozen products of the pass are computed.
    pub precision_path: PrecisionPath,
    /// Ends the pass between two blocks once raised. Its rows mean nothing then: whoever gave the flag looks at it again and
    /// throws them away.
    pub stop: Option<&'a Cancel>,
    /// Takes down the squares of what every product reads.
    pub watch: Option<&'a Mutex<InputSquares>>,
}

impl Pass<'_> {
    /// Says whether the blocks that are left are left out.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_some_and(Cancel::is_cancelled)
    }
}
