//! Everything that a run needs to go on as if it had never stopped, as bytes.
//!
//! Invariants: a run restored from these bytes and the same inputs takes the same steps bit for bit. Random numbers are
//! not here, because they are functions of seed and position.

use serde::{Deserialize, Serialize};

/// The state after a whole number of steps.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainState {
    pub header: StateHeader,
    /// The adapter's flat parameters.
    pub params: Vec<f32>,
    /// First and second moments of the optimizer, as long as `params`.
    pub m: Vec<f32>,
    pub v: Vec<f32>,
    /// Parameters at the best evaluation, when there was one.
    pub best: Option<Vec<f32>>,
}

/// The small part of the state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateHeader {
    /// Steps taken.
    pub step: u64,
    /// Updates the optimizer has taken; more than `step` when a finished run was continued.
    pub updates: u64,
    /// Digest of recipe, rows and base: a state belongs to one run only.
    pub run_digest: String,
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
