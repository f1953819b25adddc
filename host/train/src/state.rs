//! Everything that a run needs to go on as if it had never stopped, as values.
//!
//! Invariants: a run restored from these and the same inputs takes the same steps bit for bit. Random numbers are not
//! here, because they are functions of seed and position.

use dlm_core::training::TrainPhase;
use dlm_model::TrainTensors;
use serde::{Deserialize, Serialize};

/// The state after a whole number of steps.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainState {
    pub header: StateHeader,
    pub tensors: TrainTensors,
    /// Parameters at the best evaluation, when there was one.
    pub best: Option<Vec<f32>>,
}

/// The small part of the state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateHeader {
    /// Steps taken.
    pub step: u64,
    /// Digest of recipe, rows and base: a state belongs to one run only.
    pub run_digest: String,
    /// Revision of the base; states of earlier versions of dlm do not say it.
    #[serde(default)]
    pub base: Option<String>,
    /// What the run teaches; states of earlier versions of dlm do not say it, and are of questions, answers and prose.
    #[serde(default)]
    pub phase: Option<TrainPhase>,
    pub best_loss: Option<f64>,
    pub best_step: Option<u64>,
    /// Evaluations since the best one.
    pub evals_since_best: u32,
    /// Loss of the last step, in nats per token.
    pub last_loss: f64,
    /// Last unchanged-question loss of every row, by row index; `None` until it was visited.
    pub row_losses: Vec<Option<f32>>,
    /// Tokens processed so far.
    pub tokens: u64,
}

impl StateHeader {
    /// The header of a run that begins.
    pub fn new(run_digest: impl Into<String>, base: impl Into<String>) -> Self {
        Self {
            step: 0,
            run_digest: run_digest.into(),
            base: Some(base.into()),
            phase: None,
            best_loss: None,
            best_step: None,
            evals_since_best: 0,
            last_loss: 0.0,
            row_losses: Vec::new(),
            tokens: 0,
        }
    }
}
