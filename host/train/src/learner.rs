//! One step on an engine: a step's rows packed into passes, their losses, a look at the gradient, the update.
//!
//! Invariants: a loss or gradient that is not finite ends the step before any parameter moves.

use dlm_core::event::Rewards;
use dlm_core::random::Rng;
use dlm_model::engine::{AdamWOptions, TensorGradient, TrainerOptions};
use dlm_model::{Adapter, Engine, TrainTensors, Trainer};

use crate::batch::{PackedBatch, pack, split_by_tokens};
use crate::error::RunError;
use crate::losses::{EvalLoss, mean_losses};
use crate::objective::{PairTerm, StepRows};
use crate::preference::Both;
use crate::recipe::Recipe;
use crate::rows::{Row, RowKind};

/// An adapter in training.
pub struct Learner<'a> {
    trainer: Box<dyn Trainer + 'a>,
    /// Names of the adapter's tensors, in their order.
    tensors: Vec<String>,
    recipe: &'a Recipe,
}

/// Losses of one step: the weighted mean on the examples, and the plain mean of each example's row, or the loss of each pair.
#[derive(Default)]
pub struct StepLoss {
    pub mean: f64,
    pub rows: Vec<f32>,
    /// Tokens that went through the model; what rows share is computed once.
    pub tokens: usize,
    /// Of a step over preferences.
    pub rewards: Option<Rewards>,
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
                moments: recipe.moments,
                ..AdamWOptions::USUAL
            },
            clip: recipe.clip,
            checkpointing: recipe.checkpointing,
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
        match step.pairs.is_empty() {
            true => self.learn_rows(index, step),
            false => self.learn_pairs(index, step),
        }
    }

    fn learn_rows(&mut self, index: u64, step: StepRows) -> Result<StepLoss, RunError> {
        let document = step.visited.len();
        let mut sums = vec![(0.0f64, 0usize); step.rows.len()];
        let mut loss = StepLoss::default();
        let mut first = 0;
        let groups = split_by_tokens(step.rows, self.recipe.batch_tokens_max, 1);
        for (part, group) in groups.into_iter().enumerate() {
            let packed = pack(&group, 1.0);
            loss.tokens += packed.batch.len();
            let losses = self
                .trainer
                .pass(&packed.batch, &packed.targets, self.dropout_seed(index, part))
                .map_err(|cause| RunError::Engine { step: index + 1, cause })?;
            for ((target, owner), value) in packed.targets.iter().zip(&packed.owners).zip(&losses) {
                let row = first + owner;
                sums[row].0 += f64::from(*value);
                sums[row].1 += 1;
                if row < document {
                    loss.mean += f64::from(*value) * f64::from(target.weight);
                }
            }
            check_finite(index, losses.iter().map(|loss| f64::from(*loss)))?;
            first += group.len();
        }
        loss.rows = sums[..document]
            .iter()
            .map(|(sum, n)| (sum / (*n).max(1) as f64) as f32)
            .collect();
        Ok(loss)
    }

    fn learn_pairs(&mut self, index: u64, step: StepRows) -> Result<StepLoss, RunError> {
        let mut loss = StepLoss::default();
        let mut rewards = Vec::with_capacity(step.pairs.len());
        let mut pairs = step.pairs.as_slice();
        let groups = split_by_tokens(step.rows, self.recipe.batch_tokens_max, 2);
        for (part, group) in groups.into_iter().enumerate() {
            let (terms, rest) = pairs.split_at(group.len() / 2);
            pairs = rest;
            let packed = pack(&group, 1.0);
            loss.tokens += packed.batch.len();
            let mut judged = None;
            let seed = self.dropout_seed(index, part);
            self.trainer
                .pass_weighed(&packed.batch, &packed.targets, seed, &mut |losses| {
                    std::mem::take(&mut judged.insert(judge(&packed, terms, losses)).weights)
                })
                .map_err(|cause| RunError::Engine { step: index + 1, cause })?;
            let judged = judged.expect("every pass is weighed");
            check_finite(index, judged.losses.iter().copied().chain([judged.sum]))?;
            loss.mean += judged.sum;
            loss.rows.extend(judged.losses.iter().map(|loss| *loss as f32));
            rewards.extend(judged.rewards.into_iter().map(|both| (both.chosen, both.rejected)));
        }
        loss.rewards = Some(Rewards::mean(rewards));
        Ok(loss)
    }

    fn dropout_seed(&self, index: u64, part: usize) -> u64 {
        Rng::stream(self.recipe.seed, "dropout", &[index, part as u64]).next_u64()
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

fn check_finite(index: u64, mut losses: impl Iterator<Item = f64>) -> Result<(), RunError> {
    match losses.find(|loss| !loss.is_finite()) {
        None => Ok(()),
        Some(value) => Err(RunError::NonFiniteLoss { step: index + 1, value }),
    }
}

/// What the pairs of one pass are worth.
struct JudgedPairs {
    /// Weight of every target.
    weights: Vec<f32>,
    /// The loss of every pair, its likelihood left out.
    losses: Vec<f64>,
    rewards: Vec<Both<f64>>,
    /// Part of the step's loss.
    sum: f64,
}

/// Weighs the targets of a pass over pairs, rows `2 i` and `2 i + 1` of which are pair `i`.
fn judge(packed: &PackedBatch, terms: &[PairTerm], losses: &[f32]) -> JudgedPairs {
    let mut targets_left = vec![0usize; terms.len() * 2];
    packed.owners.iter().for_each(|owner| targets_left[*owner] += 1);
    let length = |row: usize| {
        let Both { chosen, rejected } = terms[row / 2].lengths;
        if row.is_multiple_of(2) { chosen } else { rejected }
    };
    // Targets come in the order of their rows and positions, and the completion is what a row ends with.
    let is_completion: Vec<bool> = packed
        .owners
        .iter()
        .map(|owner| {
            targets_left[*owner] -= 1;
            targets_left[*owner] < length(*owner)
        })
        .collect();
    let mut logprobs = vec![0.0f64; terms.len() * 2];
    for ((owner, loss), _) in packed
        .owners
        .iter()
        .zip(losses)
        .zip(&is_completion)
        .filter(|(_, is)| **is)
    {
        logprobs[*owner] -= f64::from(*loss);
    }
    let policy = |pair: usize| Both {
        chosen: logprobs[2 * pair],
        rejected: logprobs[2 * pair + 1],
    };
    let judged: Vec<_> = terms
        .iter()
        .enumerate()
        .map(|(pair, term)| term.rule.pair_loss(policy(pair), term.reference, term.lengths))
        .collect();
    let weight = |owner: usize| {
        let slopes = judged[owner / 2].slopes;
        let slope = if owner.is_multiple_of(2) {
            slopes.chosen
        } else {
            slopes.rejected
        };
        // A target's loss is a negative log-probability.
        -slope * terms[owner / 2].scale
    };
    let mut sum: f64 = judged
        .iter()
        .zip(terms)
        .map(|(pair, term)| pair.loss * term.scale)
        .sum();
    let mut weights = Vec::with_capacity(losses.len());
    for (((target, owner), loss), is_completion) in
        packed.targets.iter().zip(&packed.owners).zip(losses).zip(is_completion)
    {
        let own = f64::from(target.weight);
        sum += own * f64::from(*loss);
        weights.push((own + if is_completion { weight(*owner) } else { 0.0 }) as f32);
    }
    JudgedPairs {
        weights,
        sum,
        losses: judged.iter().map(|pair| pair.loss).collect(),
        rewards: terms
            .iter()
            .enumerate()
            .map(|(pair, term)| term.rule.rewards(policy(pair), term.reference, term.lengths))
            .collect(),
    }
}
