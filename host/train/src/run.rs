//! The training loop: rows of a step, forward, backward, update, evaluation, and when to stop.
//!
//! Invariants: a step's rows, rewordings and noise are functions of the seed and the step; the loss of a step is
//! divided by its sum of target weights, so accumulation over several batches changes nothing but rounding; a loss or
//! gradient that is not finite ends the run before any parameter moves.

use dlm_core::digest::Sha256;
use dlm_core::event::StepEvent;
use dlm_core::random::Rng;
use dlm_core::training::Ending;
use dlm_core::{Cancel, Event, Hints, Progress, Subject};
use dlm_kernels::AdamW;
use dlm_model::text::TextModel;
use dlm_model::{Adapter, BatchError, Checkpoint, HeadLoss, Model, StepOptions, Target, TargetKind};
use serde::{Deserialize, Serialize};

use crate::augment::Augment;
use crate::batch::{pack, split_by_tokens, weight_sum};
use crate::hold::HoldSet;
use crate::optim::Optimizer;
use crate::rows::{self, Row, RowCache, RowError, RowKind, RowOptions, SourceRow};
use crate::schedule::Schedule;
use crate::state::{StateHeader, TrainState};

/// Every number that a run depends on, besides its rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    pub seed: u64,
    /// Peak learning rate.
    pub lr: f64,
    pub schedule: Schedule,
    pub rows_per_step: usize,
    /// Most tokens of one forward pass; a step with more is accumulated over several.
    pub batch_tokens_max: usize,
    /// Largest global gradient norm.
    pub clip: Option<f64>,
    pub weight_decay: f64,
    /// Rewording of questions; `None` trains every question as written.
    pub augment: Option<Augment>,
    /// Share of the answer's input tokens that are replaced by random ones.
    pub noise_share: f64,
    /// Share of the steps, at the end, that see no noise and no rewording.
    pub clean_share: f64,
    /// Rows of the base's own output in each step.
    pub hold_rows_per_step: usize,
    /// Weight of the mean divergence on them beside the mean loss on the document.
    pub hold_weight: f64,
    /// Ends the run when the mean answer loss of a whole epoch is at or under this.
    pub loss_stop: Option<f64>,
    /// Steps between evaluations on held-out rows.
    pub eval_every: u64,
    /// Evaluations without improvement after which the run ends.
    pub eval_patience: u32,
    /// Whether the held-out loss decides which weights are kept and when the run ends; otherwise it is only reported.
    pub obeys_eval: bool,
    /// Recompute every block in the backward pass instead of keeping its values.
    pub checkpoint: bool,
    pub system_prompt: Option<String>,
    pub sequence_len_max: usize,
    pub prose_weight: f32,
}

impl Recipe {
    /// Returns how the run's rows become tokens.
    pub fn row_options(&self) -> RowOptions {
        RowOptions {
            system_prompt: self.system_prompt.clone(),
            sequence_len_max: self.sequence_len_max,
            prose_weight: self.prose_weight,
        }
    }

    /// Says whether step `index` is one of the last, clean ones.
    fn is_clean(&self, index: u64) -> bool {
        let clean = (self.clean_share * self.schedule.steps as f64).round() as u64;
        index + clean >= self.schedule.steps
    }
}

/// What a run works on and reports to.
pub struct TrainInput<'a> {
    pub model: &'a Model,
    pub text: &'a TextModel,
    pub rows: &'a [SourceRow],
    pub hold: Option<&'a HoldSet>,
    pub recipe: &'a Recipe,
    pub progress: &'a dyn Progress,
    pub cancel: &'a Cancel,
    /// Seconds since some fixed moment; only for reports.
    pub clock: &'a dyn Fn() -> f64,
    /// Steps between snapshots handed to `snapshot`.
    pub snapshot_every: u64,
    /// Keeps a state on disk; its error ends the run.
    pub snapshot: &'a dyn Fn(&TrainState, &Adapter) -> Result<(), String>,
}

/// What a run produced.
pub struct Outcome {
    /// The adapter to commit: the best evaluated one where there was an evaluation, the last otherwise.
    pub adapter: Adapter,
    /// The state after the last step taken.
    pub state: TrainState,
    pub ending: Ending,
    /// Mean loss of the last step, in nats per token.
    pub loss: f64,
    pub eval: Option<EvalLoss>,
    pub seconds: f64,
    /// Largest global gradient norm seen.
    pub grad_norm_max: f64,
}

/// Mean losses on held-out rows, in nats per token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EvalLoss {
    pub loss: f64,
    pub sft: Option<f64>,
    pub cpt: Option<f64>,
}

/// Why a run ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("no trainable rows")]
    NoRows,
    #[error("step {step}: the loss is {value}, so no weight was changed and the last good version stays current")]
    NonFiniteLoss { step: u64, value: f64 },
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
    Batch { step: u64, cause: BatchError },
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
            RunError::NonFiniteLoss { .. } | RunError::NonFiniteGradient { .. } => {
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

/// Returns the digest that ties a saved state to its run.
pub fn run_digest(recipe: &Recipe, rows: &[SourceRow], adapter: &Adapter, base: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(recipe).expect("a recipe is plain data"));
    hash.update(format!("{:?}", adapter.spec));
    hash.update(base);
    for row in rows {
        hash.update(format!("{row:?}"));
    }
    hash.finish_hex()
}

/// Trains `adapter` on the rows, from the start or from `resume`.
///
/// **Errors:** no rows, a row that is too long, a loss or gradient that is not finite, a tensor without gradient, a
/// snapshot that could not be kept, a state of another run.
pub fn train(
    input: &TrainInput<'_>,
    adapter: Adapter,
    digest: &str,
    resume: Option<TrainState>,
) -> Result<Outcome, RunError> {
    let mut run = Run::new(input, adapter, digest, resume)?;
    let steps = input.recipe.schedule.steps;
    let start = (input.clock)();
    let mut ending = Ending::Complete;
    while run.header.step < steps {
        if input.cancel.is_cancelled() {
            ending = Ending::Cancelled;
            break;
        }
        run.step(start)?;
        if run.should_stop()? {
            ending = Ending::EarlyStop;
            break;
        }
        if run.header.step.is_multiple_of(input.snapshot_every) && run.header.step < steps {
            run.snapshot()?;
        }
    }
    run.finish(ending, start)
}

/// The loop's variables.
struct Run<'a> {
    input: &'a TrainInput<'a>,
    cache: RowCache<'a>,
    /// Indices into `input.rows` of the rows that are trained on, and of those held out.
    train_rows: Vec<usize>,
    held_rows: Vec<usize>,
    adapter: Adapter,
    optimizer: Optimizer,
    grads: Vec<f32>,
    header: StateHeader,
    best: Option<Vec<f32>>,
    grad_norm_max: f64,
    first_step: u64,
}

impl<'a> Run<'a> {
    fn new(
        input: &'a TrainInput<'a>,
        mut adapter: Adapter,
        digest: &str,
        resume: Option<TrainState>,
    ) -> Result<Self, RunError> {
        let (held_rows, train_rows): (Vec<usize>, Vec<usize>) =
            (0..input.rows.len()).partition(|&i| input.rows[i].is_validation);
        if train_rows.is_empty() {
            return Err(RunError::NoRows);
        }
        let settings = AdamW {
            lr: input.recipe.lr,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: input.recipe.weight_decay,
        };
        let mut optimizer = Optimizer::new(adapter.params.len(), settings, input.recipe.clip);
        let mut best = None;
        let header = match resume {
            None => StateHeader {
                step: 0,
                updates: 0,
                run_digest: digest.to_owned(),
                best_loss: None,
                best_step: None,
                evals_since_best: 0,
                last_loss: 0.0,
                row_losses: vec![None; input.rows.len()],
                tokens: 0,
            },
            Some(state) => {
                if state.header.run_digest != digest || state.params.len() != adapter.params.len() {
                    return Err(RunError::ForeignState);
                }
                adapter.params = state.params;
                (optimizer.m, optimizer.v) = (state.m, state.v);
                optimizer.step = state.header.updates;
                best = state.best;
                state.header
            }
        };
        let mut header = header;
        header.row_losses.resize(input.rows.len(), None);
        Ok(Self {
            input,
            cache: RowCache::new(input.rows, input.text, input.recipe.row_options()),
            train_rows,
            held_rows,
            grads: vec![0.0; adapter.params.len()],
            adapter,
            optimizer,
            first_step: header.step,
            header,
            best,
            grad_norm_max: 0.0,
        })
    }

    /// Takes one optimizer step.
    fn step(&mut self, start: f64) -> Result<(), RunError> {
        let index = self.header.step;
        let began = (self.input.clock)();
        let visits = self.visits(index);
        let document = self.document_rows(index, &visits)?;
        let hold = self.hold_rows(index);
        let tokens: usize = document.iter().chain(&hold).map(|r| r.ids.len()).sum();
        let losses = self.accumulate(index, document, hold)?;
        self.check_gradients(index)?;
        let lr = self.input.recipe.lr * self.input.recipe.schedule.multiplier(index);
        let norm = self
            .optimizer
            .update(&self.input.model.ctx, &mut self.adapter.params, &self.grads, lr);
        self.grad_norm_max = self.grad_norm_max.max(norm);
        self.header.step += 1;
        self.header.updates = self.optimizer.step;
        self.header.tokens += tokens as u64;
        self.header.last_loss = losses.mean;
        for (visit, loss) in visits.iter().zip(&losses.rows) {
            self.header.row_losses[visit.row] = Some(*loss);
        }
        self.report(start, began, tokens, lr, norm);
        Ok(())
    }

    fn report(&self, start: f64, began: f64, tokens: usize, lr: f64, grad_norm: f64) {
        let now = (self.input.clock)();
        let steps = self.input.recipe.schedule.steps;
        let done = (self.header.step - self.first_step) as f64;
        self.input.progress.event(Event::Step(StepEvent {
            step: self.header.step,
            steps_max: steps,
            loss: self.header.last_loss,
            lr,
            grad_norm,
            tokens_per_s: tokens as f64 / (now - began).max(1e-9),
            seconds_left: (now - start) / done * (steps - self.header.step) as f64,
        }));
    }

    /// The rows of one step: consecutive places in an endless series of shuffled epochs.
    fn visits(&self, index: u64) -> Vec<Visit> {
        let (n, per_step) = (self.train_rows.len() as u64, self.input.recipe.rows_per_step as u64);
        let mut order = (u64::MAX, Vec::new());
        (index * per_step..(index + 1) * per_step)
            .map(|place| {
                let epoch = place / n;
                if order.0 != epoch {
                    order = (epoch, self.train_rows.clone());
                    Rng::stream(self.input.recipe.seed, "epoch", &[epoch]).shuffle(&mut order.1);
                }
                Visit {
                    epoch,
                    row: order.1[(place % n) as usize],
                }
            })
            .collect()
    }

    fn document_rows(&self, index: u64, visits: &[Visit]) -> Result<Vec<Row>, RunError> {
        let recipe = self.input.recipe;
        let clean = recipe.is_clean(index);
        visits
            .iter()
            .map(|visit| {
                let source = &self.input.rows[visit.row];
                let position = [visit.epoch, visit.row as u64];
                let mut row = match &recipe.augment {
                    Some(augment) if !clean => {
                        let mut rng = Rng::stream(recipe.seed, "augment", &position);
                        self.cache.reworded(visit.row, augment, &mut rng)?
                    }
                    _ => self.cache.plain(visit.row)?,
                };
                if !clean && recipe.noise_share > 0.0 && source.kind() == RowKind::Sft {
                    let mut rng = Rng::stream(recipe.seed, "noise", &position);
                    rows::add_noise(&mut row, recipe.noise_share, self.input.text, &mut rng);
                }
                Ok(row)
            })
            .collect()
    }

    fn hold_rows(&self, index: u64) -> Vec<Row> {
        match self.input.hold {
            Some(hold) if self.input.recipe.hold_rows_per_step > 0 => {
                hold.rows_of_step(self.input.recipe.seed, index, self.input.recipe.hold_rows_per_step)
            }
            _ => Vec::new(),
        }
    }

    /// Forward and backward over all rows of the step; leaves the gradient of the whole step in `grads`.
    fn accumulate(&mut self, index: u64, document: Vec<Row>, hold: Vec<Row>) -> Result<StepLoss, RunError> {
        self.grads.fill(0.0);
        let document_count = document.len();
        let document_sum = weight_sum(&document).max(1e-12);
        let hold_scale = self.input.recipe.hold_weight / weight_sum(&hold).max(1e-12);
        // Rows of both kinds share a pass, and their targets carry the weights that make the step's loss one sum.
        let mut all = document;
        for row in &mut all {
            scale_targets(row, 1.0 / document_sum);
        }
        all.extend(hold.into_iter().map(|mut row| {
            scale_targets(&mut row, hold_scale);
            row
        }));
        let mut row_sums = vec![(0.0f64, 0usize); all.len()];
        let mut mean = 0.0;
        let mut first_row = 0;
        for (part, group) in split_by_tokens(all, self.input.recipe.batch_tokens_max)
            .into_iter()
            .enumerate()
        {
            let packed = pack(&group, 1.0);
            let options = StepOptions {
                dropout_seed: Some(Rng::stream(self.input.recipe.seed, "dropout", &[index, part as u64]).next_u64()),
                checkpoint: if self.input.recipe.checkpoint {
                    Checkpoint::EveryBlock
                } else {
                    Checkpoint::None
                },
            };
            let forward = self
                .input
                .model
                .forward_train(Some(&self.adapter), &packed.batch, &options)
                .map_err(|cause| RunError::Batch { step: index + 1, cause })?;
            let mut d_hidden = vec![0.0; forward.hidden().len()];
            let loss = self
                .input
                .model
                .head_loss(forward.hidden(), &packed.targets, &mut d_hidden);
            let values = in_target_order(&packed.targets, &loss);
            for ((target, owner), value) in packed.targets.iter().zip(&packed.owners).zip(&values) {
                let row = first_row + owner;
                row_sums[row].0 += f64::from(*value);
                row_sums[row].1 += 1;
                if row < document_count {
                    mean += f64::from(*value) * f64::from(target.weight);
                }
            }
            if let Some(value) = values.iter().find(|v| !v.is_finite()) {
                return Err(RunError::NonFiniteLoss {
                    step: index + 1,
                    value: f64::from(*value),
                });
            }
            self.input
                .model
                .backward(forward, &self.adapter, &d_hidden, &mut self.grads);
            first_row += group.len();
        }
        let rows = row_sums[..document_count]
            .iter()
            .map(|(sum, n)| (sum / (*n).max(1) as f64) as f32)
            .collect();
        Ok(StepLoss { mean, rows })
    }

    /// Refuses a gradient that is not finite; after the first backward passes also one that is missing.
    ///
    /// LoRA's A has an exactly zero gradient while B is zero, so only the second pass proves anything about it.
    fn check_gradients(&self, index: u64) -> Result<(), RunError> {
        let taken = index - self.first_step;
        for (name, _, range) in self.adapter.tensors() {
            let grads = &self.grads[range];
            if grads.iter().any(|g| !g.is_finite()) {
                return Err(RunError::NonFiniteGradient {
                    step: index + 1,
                    tensor: name,
                });
            }
            // An expert that no token was sent to rightly has none.
            if taken == 1 && !name.contains(".experts.") && grads.iter().all(|g| *g == 0.0) {
                return Err(RunError::NoGradient {
                    step: index + 1,
                    tensor: name,
                });
            }
        }
        Ok(())
    }

    /// Evaluates when it is time and says whether the run has reached its goal.
    fn should_stop(&mut self) -> Result<bool, RunError> {
        let recipe = self.input.recipe;
        let step = self.header.step;
        if !self.held_rows.is_empty() && (step.is_multiple_of(recipe.eval_every) || step == recipe.schedule.steps) {
            let eval = self.evaluate()?;
            self.input.progress.event(Event::Eval { step, loss: eval.loss });
            if !eval.loss.is_finite() {
                return Err(RunError::NonFiniteLoss { step, value: eval.loss });
            }
            if !recipe.obeys_eval {
                self.header.best_loss = Some(eval.loss);
            } else if self.header.best_loss.is_none_or(|best| eval.loss < best) {
                self.header.best_loss = Some(eval.loss);
                self.header.best_step = Some(step);
                self.header.evals_since_best = 0;
                self.best = Some(self.adapter.params.clone());
            } else {
                self.header.evals_since_best += 1;
                if self.header.evals_since_best >= recipe.eval_patience {
                    return Ok(true);
                }
            }
        }
        let Some(threshold) = recipe.loss_stop else {
            return Ok(false);
        };
        // Only clean visits say what the model answers; reworded and noisy ones are harder than the real question.
        let losses: Option<Vec<f32>> = self
            .train_rows
            .iter()
            .filter(|&&i| self.input.rows[i].kind() == RowKind::Sft)
            .map(|&i| self.header.row_losses[i])
            .collect();
        let learned = losses.is_some_and(|l| !l.is_empty() && l.iter().all(|l| f64::from(*l) <= threshold));
        Ok(learned && recipe.is_clean(step.saturating_sub(1)) && step < recipe.schedule.steps)
    }

    fn evaluate(&self) -> Result<EvalLoss, RunError> {
        let held = self.held_rows.iter().map(|&index| {
            let row = self.cache.plain(index)?;
            Ok((self.input.rows[index].kind(), row))
        });
        mean_losses(self.input.model, &self.adapter, held)
    }

    fn state(&self) -> TrainState {
        TrainState {
            header: self.header.clone(),
            params: self.adapter.params.clone(),
            m: self.optimizer.m.clone(),
            v: self.optimizer.v.clone(),
            best: self.best.clone(),
        }
    }

    fn snapshot(&self) -> Result<(), RunError> {
        (self.input.snapshot)(&self.state(), &self.adapter).map_err(|cause| RunError::Snapshot { cause })
    }

    fn finish(mut self, ending: Ending, start: f64) -> Result<Outcome, RunError> {
        let seconds = (self.input.clock)() - start;
        let state = self.state();
        let mut eval = None;
        if ending != Ending::Cancelled {
            if let Some(best) = self.best.take() {
                self.adapter.params = best;
            }
            if !self.held_rows.is_empty() {
                eval = Some(self.evaluate()?);
            }
        }
        Ok(Outcome {
            adapter: self.adapter,
            loss: state.header.last_loss,
            state,
            ending,
            eval,
            seconds,
            grad_norm_max: self.grad_norm_max,
        })
    }
}

/// One row of one step.
struct Visit {
    epoch: u64,
    row: usize,
}

/// Losses of one step: the weighted mean on the document, and the plain mean of each row.
struct StepLoss {
    mean: f64,
    rows: Vec<f32>,
}

/// Puts the losses of one call, which come by kind, back into the order of the targets.
fn in_target_order(targets: &[Target], loss: &HeadLoss) -> Vec<f32> {
    let (mut nll, mut kl) = (loss.nll.iter(), loss.kl.iter());
    targets
        .iter()
        .map(|target| match target.kind {
            TargetKind::Token(_) => nll.next(),
            TargetKind::TopK { .. } => kl.next(),
        })
        .map(|value| *value.expect("one loss per target"))
        .collect()
}

fn scale_targets(row: &mut Row, scale: f64) {
    for target in &mut row.targets {
        target.weight = (f64::from(target.weight) * scale) as f32;
    }
}

/// Returns the mean losses of rows under `adapter`, each row on its own.
///
/// **Errors:** a row that cannot be made or that the model refuses.
pub fn mean_losses(
    model: &Model,
    adapter: &Adapter,
    rows: impl IntoIterator<Item = Result<(RowKind, Row), RowError>>,
) -> Result<EvalLoss, RunError> {
    let mut sums = [(0.0f64, 0usize); 2];
    for row in rows {
        let (kind, row) = row?;
        let values = row_losses(model, Some(adapter), &row).map_err(|cause| RunError::Batch { step: 0, cause })?;
        let slot = usize::from(kind == RowKind::Cpt);
        sums[slot].0 += values.iter().map(|v| f64::from(*v)).sum::<f64>();
        sums[slot].1 += values.len();
    }
    let mean = |(sum, n): (f64, usize)| (n > 0).then(|| sum / n as f64);
    let all = (sums[0].0 + sums[1].0, sums[0].1 + sums[1].1);
    Ok(EvalLoss {
        loss: mean(all).unwrap_or(0.0),
        sft: mean(sums[0]),
        cpt: mean(sums[1]),
    })
}

/// Returns the loss of every token target of one row, in nats, without training.
pub fn row_losses(model: &Model, adapter: Option<&Adapter>, row: &Row) -> Result<Vec<f32>, BatchError> {
    let packed = pack(std::slice::from_ref(row), 1.0);
    let forward = model.forward_eval(adapter, &packed.batch)?;
    let pairs: Vec<(usize, u32)> = packed
        .targets
        .iter()
        .filter_map(|t| match t.kind {
            TargetKind::Token(token) => Some((t.row, token)),
            TargetKind::TopK { .. } => None,
        })
        .collect();
    Ok(model
        .logprobs(forward.hidden(), &pairs)
        .into_iter()
        .map(|p| -p)
        .collect())
}
