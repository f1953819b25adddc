//! Writes down what happens during a run: run log, metrics database, and the progress that the caller draws.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;

use dlm_core::Choice;
use dlm_core::manifest::RunStatus;
use dlm_core::stamp::Stamp;
use dlm_core::training::{Ending, PreferenceMethod};
use dlm_core::{Event, Progress};
use dlm_store::CommitReport;
use dlm_store::log::{Banner, CompleteLine, RunLog, StepLine};
use dlm_store::metrics::{EvalMetrics, MetricsError, MetricsRecorder, RunStart, StepMetrics, Strictness};
use dlm_train::run::Outcome;
use serde::Serialize;
use serde_json::{Map, Value};

use super::job::Job;
use super::measure::Retention;
use super::pins::pinned_versions;
use crate::failure::Failure;
use crate::surroundings::Surroundings;

/// Receives the run's events; the first write that fails under `--strict-metrics` is kept and ends the run at its close.
pub(crate) struct Observer<'a> {
    around: &'a Surroundings,
    run_id: u64,
    started_at: Stamp,
    strictness: Strictness,
    log: RefCell<RunLog>,
    /// None where the database cannot be used, which only `--strict-metrics` takes for a failure.
    metrics: RefCell<Option<MetricsRecorder>>,
    failure: RefCell<Option<Failure>>,
    /// The last step that was taken.
    steps: Cell<u64>,
}

/// Goes on without the database, and says so; under `--strict-metrics` its failure is that of the run.
fn without(
    around: &Surroundings,
    strictness: Strictness,
    error: MetricsError,
) -> Result<Option<MetricsRecorder>, Failure> {
    if strictness == Strictness::Strict {
        return Err(error.into());
    }
    let failure = Failure::from(error);
    around.warn(format!("metrics: this run is not recorded: {}", failure.in_a_line()));
    Ok(None)
}

/// The fields of a line of the log.
fn fields(record: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(record).expect("a record is plain data") {
        Value::Object(fields) => fields,
        _ => unreachable!("a record has fields"),
    }
}

/// Writes what a phase over preferences begins with.
fn start_preferences(job: &Job<'_>, log: &mut RunLog, at: Stamp) -> Result<(), Failure> {
    let Some(preference) = &job.phase.preference else {
        return Ok(());
    };
    let mut fields = Map::new();
    fields.insert("reference_adapter_version".to_owned(), job.turn.version.into());
    if preference.method == PreferenceMethod::Dpo {
        fields.insert("dpo_reference_mode".to_owned(), preference.reference.name().into());
    }
    Ok(log.event(&format!("{}_phase_start", job.phase.phase.word()), at, fields)?)
}

impl<'a> Observer<'a> {
    /// Opens log and database and writes their first lines; run start is recorded in the manifest too.
    pub(crate) fn start(job: &Job<'a>, version: u32) -> Result<Self, Failure> {
        let around = job.around;
        let strictness = if job.command.is_strict_about_metrics {
            Strictness::Strict
        } else {
            Strictness::Lenient
        };
        let begin = || -> Result<(MetricsRecorder, u64), MetricsError> {
            let metrics = job.store.metrics_recorder(strictness)?;
            let last = metrics.last_run_id()?;
            Ok((metrics, last))
        };
        let (metrics, last) = match begin() {
            Ok((metrics, last)) => (Some(metrics), last),
            Err(error) => (without(around, strictness, error)?, 0),
        };
        // A run that died between database and manifest keeps its number.
        let run_id = job.manifest.next_run_id().max(last + 1);
        let started_at = around.now();
        let started = RunStart {
            run_id,
            started_at,
            adapter_version: version,
            phase: job.phase.phase.word(),
            seed: job.prepared.plan.seed.value,
        };
        let metrics = match metrics.as_ref().map(|metrics| metrics.run_started(&started)) {
            Some(Err(error)) => without(around, strictness, error)?,
            Some(Ok(())) | None => metrics,
        };
        job.guard
            .record_run(started_at, job.record(run_id, version, started_at))?;
        let mut log = job.guard.open_run_log(run_id, started_at)?;
        log.banner(&Banner {
            run_id,
            seed: job.prepared.plan.seed.value,
            determinism_class: job.prepared.plan.determinism,
            determinism_notes: Vec::new(),
            pinned_versions: pinned_versions().into_iter().collect(),
            plan: serde_json::to_value(&job.prepared.plan).expect("a plan is plain data"),
        })?;
        let ids: Vec<_> = job
            .prepared
            .document
            .parsed
            .sections()
            .iter()
            .map(|s| s.id().clone())
            .collect();
        log.delta(&dlm_store::delta(&ids, &job.manifest.content_hashes))?;
        log.event("replay", started_at, fields(&job.prepared.replay.report))?;
        start_preferences(job, &mut log, started_at)?;
        Ok(Self {
            around,
            run_id,
            started_at,
            strictness,
            log: RefCell::new(log),
            metrics: RefCell::new(metrics),
            failure: RefCell::new(None),
            steps: Cell::new(0),
        })
    }

    pub(crate) fn run_id(&self) -> u64 {
        self.run_id
    }

    /// Steps that were taken, those before a resume among them.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.get()
    }

    pub(crate) fn started_at(&self) -> Stamp {
        self.started_at
    }

    /// Settles a run that ended with an error.
    pub(crate) fn failed(&self) -> Result<(), Failure> {
        self.ended(RunStatus::Failed)
    }

    /// Settles a run that the user stopped.
    pub(crate) fn cancelled(&self) -> Result<(), Failure> {
        self.ended(RunStatus::Cancelled)
    }

    /// Records how the run ended. What cannot be recorded is told, and is a failure under `--strict-metrics` alone: the
    /// database is a report.
    fn ended(&self, status: RunStatus) -> Result<(), Failure> {
        let metrics = self.metrics.borrow();
        let recorded = metrics
            .as_ref()
            .map(|metrics| metrics.run_ended(self.run_id, self.around.now(), status));
        match recorded {
            Some(Err(error)) => without(self.around, self.strictness, error).map(drop),
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// Writes to the database, where there is one.
    fn measure(&self, write: impl FnOnce(&mut MetricsRecorder) -> Result<Option<MetricsError>, MetricsError>) {
        let result = self.metrics.borrow_mut().as_mut().map_or(Ok(None), write);
        self.settle(result);
    }

    /// Records what was kept of sections that are not rehearsed, beside the last evaluation.
    pub(crate) fn retained(&self, outcome: &Outcome, retention: Option<&Retention>) {
        let Some(retention) = retention else {
            return;
        };
        let eval = EvalMetrics {
            run_id: self.run_id,
            step: outcome.state.header.step,
            val_loss: outcome.eval.map(|eval| eval.loss),
            perplexity: outcome.eval.map(|eval| eval.loss.exp()),
            retention: Some(retention.loss),
            at: self.around.now(),
        };
        self.measure(|metrics| metrics.eval(&eval));
    }

    /// Fails when a metrics row was lost although the user asked that none be.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match self.failure.borrow_mut().take() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    /// Writes the last line and settles the run; returns the log's path.
    pub(crate) fn finished(&self, committed: &CommitReport, outcome: &Outcome) -> Result<PathBuf, Failure> {
        let mut log = self.log.borrow_mut();
        log.complete(&CompleteLine {
            run_id: self.run_id,
            adapter_version: committed.version.number,
            steps: outcome.state.header.step,
            elapsed_seconds: outcome.seconds,
            early_stopped: outcome.ending == Ending::EarlyStop,
            summary_path: committed.summary_path.clone(),
            timestamp: self.around.now(),
        })?;
        self.ended(RunStatus::Completed)?;
        Ok(log.path().to_path_buf())
    }

    /// Takes the outcome of a metrics write: lost rows are told once a stream, or kept as the run's failure.
    fn settle(&self, result: Result<Option<MetricsError>, MetricsError>) {
        match result {
            Ok(None) => {}
            Ok(Some(lost)) => self.around.progress.event(Event::Warning(format!("metrics: {lost}"))),
            Err(error) => {
                self.failure.borrow_mut().get_or_insert(error.into());
                self.around.cancel.cancel();
            }
        }
    }

    fn write_step(&self, step: &dlm_core::event::StepEvent) {
        self.steps.set(step.step);
        let at = self.around.now();
        let line = StepLine {
            step: step.step,
            loss: step.loss,
            lr: step.lr,
            grad_norm: Some(step.grad_norm),
            tokens_per_sec: Some(step.tokens_per_s),
            val_loss: None,
            timestamp: at,
        };
        let mut log = self.log.borrow_mut();
        let mut written = log.step(&line);
        if let (Ok(()), Some(rewards)) = (&written, step.rewards) {
            let mut fields = fields(&rewards);
            fields.insert("step".to_owned(), step.step.into());
            written = log.event("rewards", at, fields);
        }
        if let Err(error) = written {
            self.around.progress.event(Event::Warning(format!("log: {error}")));
        }
        drop(log);
        let step = StepMetrics {
            run_id: self.run_id,
            step: step.step,
            loss: step.loss,
            lr: step.lr,
            grad_norm: Some(step.grad_norm),
            tokens_per_sec: Some(step.tokens_per_s),
            peak_vram_mb: None,
            at,
        };
        self.measure(|metrics| metrics.step(&step));
    }
}

impl Progress for Observer<'_> {
    fn event(&self, event: Event) {
        match &event {
            Event::Step(step) => self.write_step(step),
            Event::Eval { step, loss } => {
                let eval = EvalMetrics {
                    run_id: self.run_id,
                    step: *step,
                    val_loss: Some(*loss),
                    perplexity: Some(loss.exp()),
                    retention: None,
                    at: self.around.now(),
                };
                self.measure(|metrics| metrics.eval(&eval));
            }
            _ => {}
        }
        self.around.progress.event(event);
    }
}
