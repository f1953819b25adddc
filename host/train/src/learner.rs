//! One step on an engine: a step's rows packed into passes, their losses, a look at the gradient, the update.
//!
//! Invariants: a loss or gradient that is not finite ends the step before any parameter moves.

use dlm_core::random::Rng;
use dlm_model::engine::{AdamWOptions, TensorGradient, TrainerOptions};
use dlm_model::{Adapter, Checkpoint, Engine, TrainTensors, Trainer};

use crate::batch::{pack, split_by_tokens};
use crate::error::RunError;
use crate::losses::{EvalLoss, mean_losses};
use crate::objective::StepRows;
use crate::recipe::Recipe;
use crate::rows::{Row, RowKind};

/// An adapter in training.
pub struct Learner<'a> {
    trainer: Box<dyn Trainer + 'a>,
    /// Names of the adapter's tensors, in their order.
    tensors: Vec<String>,
    recipe: &'a Recipe,
}

/// Losses of one step: the weighted mean on the document, and the plain mean of each of its rows.
pub struct StepLoss {
    pub mean: f64,
    pub rows: Vec<f32>,
    /// Tokens that went through the model; what rows share is computed once.
    pub tokens: usize,
}

impl<'a> Learner<'a> {
    /// Starts to train `adapter`, from kept tensors where there are some.
    ///
    /// **Errors:** an engine that cannot take it.
    pub fn new(
        engine: &'a dyn Engine,
        adapter: &Adapter,
        recipe: &'a Recipe,
        kept: Option<&TrainTensors>,
    ) -> Result<Learner<'a>, RunError> {
        let options = TrainerOptions {
            optimizer: AdamWOptions {
                weight_decay: recipe.weight_decay,
                ..AdamWOptions::USUAL
            },
            clip: recipe.clip,
            checkpoint: match recipe.checkpoint {
                true => Checkpoint::EveryBlock,
                false => Checkpoint::None,
            },
        };
        let mut trainer = engine.trainer(adapter, &options)?;
        if let Some(kept) = kept {
            trainer.write(kept)?;
        }
        Ok(Learner {
            trainer,
            tensors: adapter.tensors().map(|(name, ..)| name).collect(),
            recipe,
        })
    }

    /// Forward and backward over the rows of step `index`; leaves the step's gradient in the trainer.
    ///
    /// **Errors:** a row that the model refuses, a loss that is not finite.
    pub fn learn(&mut self, index: u64, step: StepRows) -> Result<StepLoss, RunError> {
        let document = step.visited.len();
        let mut sums = vec![(0.0f64, 0usize); step.rows.len()];
        let mut mean = 0.0;
        let (mut first, mut tokens) = (0, 0);
        let groups = split_by_tokens(step.rows, self.recipe.batch_tokens_max);
        for (part, group) in groups.into_iter().enumerate() {
            let packed = pack(&group, 1.0);
            tokens += packed.batch.len();
            let dropout_seed = Rng::stream(self.recipe.seed, "dropout", &[index, part as u64]).next_u64();
            let losses = self
                .trainer
                .pass(&packed.batch, &packed.targets, dropout_seed)
                .map_err(|cause| RunError::Engine { step: index + 1, cause })?;
            for ((target, owner), loss) in packed.targets.iter().zip(&packed.owners).zip(&losses) {
                let row = first + owner;
                sums[row].0 += f64::from(*loss);
                sums[row].1 += 1;
                if row < document {
                    mean += f64::from(*loss) * f64::from(target.weight);
                }
            }
            if let Some(loss) = losses.iter().find(|loss| !loss.is_finite()) {
                return Err(RunError::NonFiniteLoss {
                    step: index + 1,
                    value: f64::from(*loss),
                });
            }
            first += group.len();
        }
        let rows = sums[..document]
            .iter()
            .map(|(sum, n)| (sum / (*n).max(1) as f64) as f32)
            .collect();
        Ok(StepLoss { mean, rows, tokens })
    }

    /// Refuses a gradient of step `index` that is not finite, and where `must_reach_all` also one that is missing.
    ///
    /// LoRA's A has an exactly zero gradient while B is zero, so a missing one proves something from the second step on.
    ///
    /// **Errors** name the tensor.
    pub fn check_gradients(&mut self, index: u64, must_reach_all: bool) -> Result<(), RunError> {
        let step = index + 1;
        let gradients = self
            .trainer
            .gradients()
            .map_err(|cause| RunError::Engine { step, cause })?;
        for (tensor, gradient) in self.tensors.iter().zip(gradients) {
            match gradient {
                TensorGradient::NotFinite => {
                    let tensor = tensor.clone();
                    return Err(RunError::NonFiniteGradient { step, tensor });
                }
                // An expert that no token was sent to rightly has none.
                TensorGradient::Zero if must_reach_all && !tensor.contains(".experts.") => {
                    let tensor = tensor.clone();
                    return Err(RunError::NoGradient { step, tensor });
                }
                TensorGradient::Zero | TensorGradient::Finite => {}
            }
        }
        Ok(())
    }

    /// Changes the parameters and returns the gradient's norm before clipping.
    pub fn update(&mut self, lr: f64) -> Result<f64, RunError> {
        Ok(self.trainer.update(lr)?)
    }

    /// Returns the mean losses of rows under the present parameters.
    pub fn evaluate(&mut self, rows: impl IntoIterator<Item = (RowKind, Row)>) -> Result<EvalLoss, RunError> {
        Ok(mean_losses(&mut *self.trainer, rows)?)
    }

    /// Copies everything out that training changes.
    pub fn tensors(&mut self) -> Result<TrainTensors, RunError> {
        Ok(self.trainer.read()?)
    }

    /// Replaces everything that training changes.
    pub fn set_tensors(&mut self, tensors: &TrainTensors) -> Result<(), RunError> {
        Ok(self.trainer.write(tensors)?)
    }
}
