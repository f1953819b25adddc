//! Why a run ends without a result.

use dlm_core::{Hints, Subject};
use dlm_model::EngineError;

use crate::dataset::RowError;

/// Why a run ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("no trainable rows")]
    NoRows,
    #[error("step {step}: the loss is {value}, so no weight was changed and the last good version stays current")]
    NonFiniteLoss { step: u64, value: f64 },
    #[error("step {step}: the held-out loss is {value}, so the last good version stays current")]
    NonFiniteEval { step: u64, value: f64 },
    #[error("step {step}: the gradient of `{tensor}` is not finite, so no weight was changed")]
    NonFiniteGradient { step: u64, tensor: String },
    #[error("step {step}: `{tensor}` gets no gradient, so it would never learn")]
    NoGradient { step: u64, tensor: String },
    #[error("the saved state belongs to another run: document, settings or base have changed since")]
    ForeignState,
    #[error("snapshot failed: {cause}")]
    Snapshot { cause: String },
    #[error(transparent)]
    Row(#[from] RowError),
    #[error("step {step}: a batch that the model refuses: {cause}")]
    Engine { step: u64, cause: EngineError },
}

/// Outside a step.
impl From<EngineError> for RunError {
    fn from(cause: EngineError) -> Self {
        RunError::Engine { step: 0, cause }
    }
}

impl Hints for RunError {
    fn subject(&self) -> Subject {
        match self {
            RunError::ForeignState => Subject::Resume,
            RunError::Snapshot { .. } => Subject::Disk,
            _ => Subject::Training,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            RunError::NoRows => vec!["write some prose or a question with its answer into the document".to_owned()],
            // Nothing was learned yet: the rate is not to blame.
            RunError::NonFiniteLoss { step: 1, .. } | RunError::NonFiniteGradient { step: 1, .. } => vec![
                "the base gives it before anything was learned: set `training.precision: fp32`, or choose another base: \
                 `dlm base list`"
                    .to_owned(),
            ],
            RunError::NonFiniteLoss { .. } | RunError::NonFiniteEval { .. } | RunError::NonFiniteGradient { .. } => {
                vec!["lower `training.learning_rate` in the document and train again".to_owned()]
            }
            RunError::ForeignState => {
                vec!["run `dlm train --fresh` to begin again from the base; earlier versions are kept".to_owned()]
            }
            RunError::Row(error) => error.hints(),
            _ => Vec::new(),
        }
    }
}
