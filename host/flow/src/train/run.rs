//! From a prepared document to a committed adapter: load, train, examine, commit, report.

use std::path::PathBuf;

use dlm_core::manifest::RunStatus;
use dlm_core::training::Ending;
use dlm_core::{Event, FailureKind, Subject};
use dlm_model::{Cpu, CpuEngine, CpuOptions, Engine, Prepare};
use dlm_plan::train::WeightPacking;
use dlm_store::{CurrentVersion, PendingVersion};
use dlm_train::run::Outcome;
use dlm_train::{TrainInput, TrainState, run_digest};

use super::command::TrainCommand;
use super::job::Job;
use super::measure::{Examination, Findings};
use super::observe::Observer;
use super::prepared::PreparedRun;
use super::recipe::{adapter_spec, recipe};
use super::report::{TrainReport, ending};
use super::resume::PlannedRun;
use super::{anchors, commit, resume};
use crate::failure::Failure;
use crate::integrity::check_adapter;
use crate::surroundings::Surroundings;

/// Least seconds of work between two states kept on disk; where keeping one takes long, the run lets more go by.
const SNAPSHOT_SECONDS: f64 = 1.0;

/// Trains a prepared document, phase by phase, and commits what each learned.
pub fn run(around: &Surroundings, command: &TrainCommand, prepared: &PreparedRun) -> Result<Vec<TrainReport>, Failure> {
    let mut engine = None;
    let mut reports = Vec::new();
    for phase in &prepared.plan.phases {
        // Whatever refuses the phase does so before a weight is read.
        let job = Job::begin(around, command, prepared, phase)?;
        let engine = match &engine {
            Some(engine) => engine,
            None => engine.insert(load(around, prepared)?),
        };
        reports.push(job.train(&**engine)?);
    }
    Ok(reports)
}

/// Loads the weights of a prepared document's base as its plan wants them.
///
/// **Errors:** weights that cannot be read.
pub fn load(around: &Surroundings, prepared: &PreparedRun) -> Result<Box<dyn Engine>, Failure> {
    let plan = &prepared.plan;
    let cpu = Cpu::new(plan.threads.value as usize, plan.simd.value);
    let options = CpuOptions {
        precision: plan.precision.value,
        // The packed copies are what a step multiplies with; the weights themselves stay as small as they are stored.
        keep_quantized: true,
        prepare: match plan.packing.value {
            WeightPacking::None => Prepare::Nothing,
            WeightPacking::Forward => Prepare::Forward,
            WeightPacking::Both => Prepare::Both,
        },
    };
    around.note(format!("loading {}", prepared.base.resolved.record.key));
    let engine = CpuEngine::load(&cpu, &prepared.base.opened, &options);
    Ok(Box::new(
        engine.map_err(|e| Failure::from(e).under(Subject::BaseModel))?,
    ))
}

impl Job<'_> {
    /// Trains on a loaded base, from the start or from where `--resume` goes on, and commits.
    ///
    /// **Errors:** as the parts; a run that was interrupted keeps its state.
    pub fn train(self, engine: &dyn Engine) -> Result<TrainReport, Failure> {
        let (around, prepared) = (self.around, self.prepared);
        let anchors = anchors::anchors(around, prepared, self.phase, engine)?;
        let recipe = recipe(prepared, self.phase);
        let adapter = engine
            .fresh_adapter(&adapter_spec(&prepared.plan), recipe.seed)
            .map_err(|e| Failure::new(Subject::Training, e))?;
        let revision = &prepared.base.resolved.record.revision;
        let digest = run_digest(&recipe, &prepared.dataset, &adapter.spec, revision);
        let (adapter, state) = match self.command.is_resume {
            true => {
                let planned = PlannedRun {
                    command: self.command,
                    digest: &digest,
                    base: revision,
                    fresh: &adapter,
                };
                let point = resume::find(around, &self.store, &prepared.lane, engine, &planned)?;
                around.note(point.note);
                (point.adapter, Some(point.state))
            }
            false => (adapter, None),
        };
        let pending = self.guard.begin_version(prepared.lane.slot.clone())?;
        let number = pending.number();
        let observer = Observer::start(&self, number)?;
        let clock = || around.clock.seconds();
        let snapshot = |state: &TrainState| {
            pending
                .write_state(&resume::to_stored(state))
                .map_err(|e| e.to_string())
        };
        let input = TrainInput {
            engine,
            text: &prepared.text,
            dataset: &prepared.dataset,
            anchors: anchors.as_ref(),
            recipe: &recipe,
            progress: &observer,
            cancel: &around.cancel,
            base: revision,
            clock: &clock,
            snapshot_seconds: SNAPSHOT_SECONDS,
            snapshot: &snapshot,
        };
        let outcome = dlm_train::train(&input, adapter, &digest, state).map_err(Failure::from);
        let report = outcome.and_then(|outcome| self.conclude(engine, pending, &observer, outcome));
        report.map_err(|failure| self.settled(&observer, number, failure))
    }

    /// Keeps the state, asks every question, commits, and reports.
    fn conclude(
        &self,
        engine: &dyn Engine,
        pending: PendingVersion<'_>,
        observer: &Observer<'_>,
        outcome: Outcome,
    ) -> Result<TrainReport, Failure> {
        let plan = &self.prepared.plan;
        let header = &outcome.state.header;
        let steps_max = self.phase.steps.total.value;
        pending.write_state(&resume::to_stored(&outcome.state))?;
        // A metrics row that was lost under `--strict-metrics` stops the run the way Ctrl-C does, and is what to tell.
        observer.check()?;
        if outcome.ending == Ending::Cancelled {
            return Err(self.interrupted(format!("stopped after step {} of {steps_max}", header.step)));
        }
        let learned = self.examine(engine, &outcome)?;
        observer.retained(&outcome, learned.retention.as_ref());
        let seconds_total = self.around.clock.seconds() - self.started;
        let committed = commit::commit(self, pending, &outcome, &learned, observer)?;
        let log = observer.finished(&committed, &outcome)?;
        Ok(TrainReport {
            phase: self.phase.phase,
            version: committed.version.number,
            adapter: committed.version.directory.clone(),
            log,
            run_id: observer.run_id(),
            seed: plan.seed.value,
            determinism: plan.determinism,
            steps: header.step,
            steps_max,
            steps_planned: self.phase.steps.uncapped(),
            ending: ending(&self.phase.steps, outcome.ending),
            loss: outcome.loss,
            eval_loss: outcome.eval.map(|e| e.loss),
            tokens: header.tokens,
            tokens_per_s: outcome.tokens as f64 / outcome.seconds.max(1e-9),
            seconds_training: outcome.seconds,
            seconds_total,
            recalled: learned.recall.iter().filter(|r| r.recalled).count(),
            recall: learned.recall,
            probes: learned.probes,
            replay: self.prepared.replay.report.clone(),
            retention: learned.retention,
            plan: plan.clone(),
        })
    }

    fn examine(&self, engine: &dyn Engine, outcome: &Outcome) -> Result<Findings, Failure> {
        let current = self.prepared.lane.current(&self.store)?;
        let examination = Examination {
            around: self.around,
            prepared: self.prepared,
            engine,
            adapter: &outcome.adapter,
            before: current.and_then(|version| self.whole(version)),
        };
        match examination.examine() {
            Err(_) if self.around.cancel.is_cancelled() => {
                let step = outcome.state.header.step;
                Err(self.interrupted(format!("stopped after the last of {step} steps")))
            }
            other => other,
        }
    }

    /// A version to compare with, where its files are what was written; what is damaged is told, for it stops nothing here.
    fn whole(&self, version: CurrentVersion) -> Option<PathBuf> {
        let slot = &self.prepared.lane.slot;
        match check_adapter(self.around, &self.store, slot, &version, &self.command.path) {
            Ok(()) => Some(version.directory),
            Err(failure) => {
                self.around
                    .warn(format!("retention is not compared: {}", failure.message()));
                None
            }
        }
    }

    fn interrupted(&self, what: String) -> Failure {
        Failure::interrupted(format!("{what}; the state is kept"))
            .hint(format!("go on: `{}`", self.command.again("--resume")))
    }

    /// Records how a run without a report ended. The failure that ended it is the one to tell: what cannot be recorded
    /// on top of it is settled by the next command that writes, and is only warned of.
    fn settled(&self, observer: &Observer<'_>, number: u32, failure: Failure) -> Failure {
        let current = self.prepared.lane.current(&self.store);
        if current.is_ok_and(|current| current.is_some_and(|current| current.number == Some(number))) {
            // The pointer was flipped, so the run did succeed, and the next writer completes its records.
            return failure.hint(format!(
                "v{number:04} is trained and current all the same; the next `dlm train` completes its records"
            ));
        }
        let (is_settled, status) = match failure.kind {
            FailureKind::Interrupted => (observer.cancelled(), RunStatus::Cancelled),
            _ => (observer.failed(), RunStatus::Failed),
        };
        let recorded = self
            .guard
            .end_run(self.around.now(), observer.run_id(), status, observer.steps());
        let problems = [is_settled.err(), recorded.err().map(Failure::from)];
        for problem in problems.into_iter().flatten() {
            let what = format!("the end of the run is not recorded: {}", problem.error);
            self.around.progress.event(Event::Warning(what));
        }
        failure
    }
}
