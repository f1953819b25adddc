//! The training loop: step after step, evaluation, and when to stop.
//!
//! Invariants: a run restored from a state and the same inputs repeats the uninterrupted one bit for bit.

use dlm_core::event::StepEvent;
use dlm_core::training::{Ending, TrainPhase};
use dlm_core::{Cancel, Event, Progress};
use dlm_model::engine::Moments;
use dlm_model::{Adapter, Engine, TrainTensors};

use crate::error::RunError;
use crate::learner::{Learner, StepLoss};
use crate::losses::EvalLoss;
use crate::objective::Objective;
use crate::recipe::Recipe;
use crate::rows::{Row, RowKind};
use crate::state::{StateHeader, TrainState};

/// Largest share of a run's time that keeping its states may take.
const SNAPSHOT_SHARE: f64 = 0.02;

/// What a run works on and reports to.
pub struct TrainInput<'a> {
    pub engine: &'a dyn Engine,
    pub objective: &'a dyn Objective,
    pub phase: TrainPhase,
    pub recipe: &'a Recipe,
    pub progress: &'a dyn Progress,
    pub cancel: &'a Cancel,
    /// Revision of the base, kept in states.
    pub base: &'a str,
    /// Seconds since some fixed moment; for reports, and for when to keep a snapshot.
    pub clock: &'a dyn Fn() -> f64,
    /// Seconds of work after which a state is handed to `snapshot`.
    pub snapshot_seconds: f64,
    /// Keeps a state on disk; its error ends the run.
    pub snapshot: &'a dyn Fn(TrainState) -> Result<(), String>,
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
    /// Tokens that these seconds computed.
    pub tokens: u64,
    /// Largest global gradient norm seen.
    pub grad_norm_max: f64,
}

impl Outcome {
    /// Hands the state out, and keeps its header alone.
    pub fn take_state(&mut self) -> TrainState {
        let header = self.state.header.clone();
        let rest = TrainState {
            header,
            tensors: TrainTensors {
                params: Vec::new(),
                moments: Moments::full(0),
                updates: self.state.tensors.updates,
            },
            best: None,
        };
        std::mem::replace(&mut self.state, rest)
    }
}

/// Trains `adapter` on the rows, from the start or from `resume`; `digest` is the run's ([`crate::run_digest`]).
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
    let mut ending = Ending::Complete;
    while run.header.step < steps {
        if input.cancel.is_cancelled() {
            ending = Ending::Cancelled;
            break;
        }
        run.step()?;
        if run.should_stop()? {
            ending = Ending::EarlyStop;
            break;
        }
        if run.header.step < steps && run.is_snapshot_due() {
            run.snapshot()?;
        }
    }
    run.finish(ending)
}

/// The loop's variables.
struct Run<'a> {
    input: &'a TrainInput<'a>,
    learner: Learner<'a>,
    adapter: Adapter,
    /// Rows that are judged and never trained on.
    validation: Vec<(RowKind, Row)>,
    header: StateHeader,
    best: Option<Vec<f32>>,
    grad_norm_max: f64,
    first_step: u64,
    /// Tokens of the steps before this run's.
    first_tokens: u64,
    /// When the run began, by the input's clock.
    start: f64,
    /// When the last snapshot was kept, and how long that took.
    kept: (f64, f64),
}

impl<'a> Run<'a> {
    fn new(
        input: &'a TrainInput<'a>,
        adapter: Adapter,
        digest: &str,
        resume: Option<TrainState>,
    ) -> Result<Self, RunError> {
        if input.objective.is_empty() {
            return Err(RunError::NoRows);
        }
        input.objective.check()?;
        let is_foreign = |state: &TrainState| {
            let tensors = &state.tensors;
            state.header.run_digest != digest
                || tensors.params.len() != adapter.params.len()
                || tensors.moment_type() != input.recipe.moments
                || !tensors.is_whole()
        };
        if resume.as_ref().is_some_and(is_foreign) {
            return Err(RunError::ForeignState);
        }
        let kept = resume.as_ref().map(|state| &state.tensors);
        let learner = Learner::new(input.engine, &adapter, input.recipe, kept)?;
        let (mut header, best) = match resume {
            None => (StateHeader::new(digest, input.base), None),
            Some(state) => (state.header, state.best),
        };
        header.phase = Some(input.phase);
        header.row_losses.resize(input.objective.examples(), None);
        let start = (input.clock)();
        Ok(Self {
            input,
            learner,
            adapter,
            validation: input.objective.validation(),
            first_step: header.step,
            first_tokens: header.tokens,
            header,
            best,
            grad_norm_max: 0.0,
            start,
            kept: (start, 0.0),
        })
    }

    /// Takes one step.
    fn step(&mut self) -> Result<(), RunError> {
        let recipe = self.input.recipe;
        let index = self.header.step;
        let began = (self.input.clock)();
        let rows = self.input.objective.rows(index)?;
        let visited = rows.visited.clone();
        // Preferences that are far enough apart give no gradient, and rightly.
        let must_reach_all = index - self.first_step == 1 && rows.pairs.is_empty();
        let losses = self.learner.learn(index, rows)?;
        self.learner.check_gradients(index, must_reach_all)?;
        let lr = recipe.lr * recipe.schedule.multiplier(index);
        let norm = self.learner.update(lr)?;
        self.grad_norm_max = self.grad_norm_max.max(norm);
        self.header.step += 1;
        self.header.tokens += losses.tokens as u64;
        self.header.last_loss = losses.mean;
        for (example, loss) in visited.into_iter().zip(&losses.rows) {
            self.header.row_losses[example] = Some(*loss);
        }
        self.report(began, &losses, lr, norm);
        Ok(())
    }

    fn report(&self, began: f64, losses: &StepLoss, lr: f64, grad_norm: f64) {
        let now = (self.input.clock)();
        let steps = self.input.recipe.schedule.steps;
        let done = (self.header.step - self.first_step) as f64;
        self.input.progress.event(Event::Step(StepEvent {
            step: self.header.step,
            steps_max: steps,
            loss: self.header.last_loss,
            lr,
            grad_norm,
            tokens_per_s: losses.tokens as f64 / (now - began).max(1e-9),
            seconds_left: (now - self.start) / done * (steps - self.header.step) as f64,
            rewards: losses.rewards,
        }));
    }

    /// Evaluates when it is time and says whether the run has reached its goal.
    fn should_stop(&mut self) -> Result<bool, RunError> {
        let recipe = self.input.recipe;
        let step = self.header.step;
        let is_due = step.is_multiple_of(recipe.eval_every) || step == recipe.schedule.steps;
        if is_due && !self.validation.is_empty() && self.has_stalled()? {
            return Ok(true);
        }
        let may_stop = step >= recipe.steps_min && step < recipe.schedule.steps;
        Ok(may_stop && recipe.shows_learning(step.saturating_sub(1)) && self.has_learned())
    }

    /// Evaluates; says whether the loss has not fallen for longer than the recipe's patience.
    fn has_stalled(&mut self) -> Result<bool, RunError> {
        let step = self.header.step;
        let eval = self.evaluate()?;
        self.input.progress.event(Event::Eval { step, loss: eval.loss });
        if !eval.loss.is_finite() {
            return Err(RunError::NonFiniteEval { step, value: eval.loss });
        }
        let obeys = self.input.recipe.obeys_eval;
        if self.header.best_loss.is_none_or(|best| eval.loss < best) {
            self.header.best_loss = Some(eval.loss);
            self.header.best_step = Some(step);
            self.header.evals_since_best = 0;
            if obeys {
                self.best = Some(self.learner.tensors()?.params);
            }
            return Ok(false);
        }
        self.header.evals_since_best += 1;
        Ok(obeys && self.header.evals_since_best >= self.input.recipe.eval_patience)
    }

    /// Says whether every pair's last visit was under the recipe's threshold.
    ///
    /// Only clean visits say what the model answers; reworded and noisy ones are harder than the real question.
    fn has_learned(&self) -> bool {
        let threshold = self.input.recipe.loss_stop;
        threshold.is_some_and(|threshold| self.input.objective.has_learned(&self.header.row_losses, threshold))
    }

    fn evaluate(&mut self) -> Result<EvalLoss, RunError> {
        self.learner.evaluate(self.validation.iter().cloned())
    }

    fn state(&mut self) -> Result<TrainState, RunError> {
        Ok(TrainState {
            header: self.header.clone(),
            tensors: self.learner.tensors()?,
            best: self.best.clone(),
        })
    }

    /// Says whether enough work was done since the last snapshot to be worth another: the time that was asked for, and so
    /// much that keeping states costs a small share of a run.
    fn is_snapshot_due(&self) -> bool {
        let (at, cost) = self.kept;
        (self.input.clock)() - at >= self.input.snapshot_seconds.max(cost / SNAPSHOT_SHARE)
    }

    fn snapshot(&mut self) -> Result<(), RunError> {
        let began = (self.input.clock)();
        let state = self.state()?;
        (self.input.snapshot)(state).map_err(|cause| RunError::Snapshot { cause })?;
        let now = (self.input.clock)();
        self.kept = (now, now - began);
        Ok(())
    }

    fn finish(mut self, ending: Ending) -> Result<Outcome, RunError> {
        let seconds = (self.input.clock)() - self.start;
        let tokens = self.header.tokens - self.first_tokens;
        let state = self.state()?;
        self.adapter.params.clone_from(&state.tensors.params);
        let mut eval = None;
        if ending != Ending::Cancelled {
            if let Some(best) = self.best.take() {
                self.adapter.params.clone_from(&best);
                let mut tensors = state.tensors.clone();
                tensors.params = best;
                self.learner.set_tensors(&tensors)?;
            }
            if !self.validation.is_empty() {
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
            tokens,
            grad_norm_max: self.grad_norm_max,
        })
    }
}
