//! From a prepared document to a committed adapter: load, train, examine, commit, report.

use std::path::PathBuf;
use std::time::Duration;

use dlm_core::manifest::RunStatus;
use dlm_core::training::Ending;
use dlm_core::{Event, FailureKind, Subject};
use dlm_model::{Adapter, Cpu, CpuEngine, CpuOptions, Engine, Prepare, WeightStorage};
use dlm_plan::train::WeightPacking;
use dlm_store::{CurrentVersion, PendingVersion};
use dlm_train::run::Outcome;
use dlm_train::{Objective, Recipe, Supervised, TrainInput, TrainState, run_digest};

use super::command::TrainCommand;
use super::job::{Job, Turn};
use super::measure::{Examination, Findings};
use super::observe::Observer;
use super::prepared::PreparedRun;
use super::recipe::{adapter_spec, recipe};
use super::report::{TrainReport, ending};
use super::resume::{Place, PlannedRun};
use super::{anchors, commit, resume};
use crate::failure::Failure;
use crate::gate::{GateReport, GateWork};
use crate::integrity::check_adapter;
use crate::surroundings::Surroundings;

/// Least seconds of work between two states kept on disk; where keeping one takes long, the run lets more go by.
const SNAPSHOT_SECONDS: f64 = 1.0;

/// Trains the adapters of a document one after the other, phase by phase, on one loaded base; commits what each phase learned and
/// hands its report to `told`. Then the gate between the adapters is made, where the document asks for one.
///
/// With `--resume` an interrupted run goes on where it stood, and what comes after it is trained anew; where none was interrupted
/// every adapter is trained further.
///
/// **Errors:** of the first phase that has one; what was committed before stays.
pub fn run(
    around: &Surroundings,
    command: &TrainCommand,
    prepared: &[PreparedRun],
    told: &mut dyn FnMut(&TrainReport),
) -> Result<Option<GateReport>, Failure> {
    let start = match (command.is_resume, prepared.first()) {
        (true, Some(first)) => {
            let store = around.store(&first.document.parsed.frontmatter().dlm_id);
            resume::interrupted(&store, prepared)?
        }
        _ => None,
    };
    let mut engine = None;
    let mut last_run = None;
    for (adapter, run) in prepared.iter().enumerate() {
        let mut version = run.lane.version;
        for (index, phase) in run.plan.phases.iter().enumerate() {
            let place = Place { adapter, phase: index };
            if start.is_some_and(|start| place < start) {
                continue;
            }
            let turn = Turn {
                version,
                is_resume: command.is_resume && start.map_or(index == 0, |start| place == start),
                is_first: index == 0,
            };
            // Whatever refuses the phase does so before a weight is read.
            let job = Job::begin(around, command, run, phase, turn)?;
            let engine = match &engine {
                Some(engine) => engine,
                None => engine.insert(load(around, prepared)?),
            };
            let report = job.train(&**engine)?;
            version = report.version;
            last_run = Some(report.run_id).filter(|_| phase.preference.is_none()).or(last_run);
            told(&report);
        }
    }
    let made = match (prepared.first(), &engine, last_run) {
        (Some(run), Some(engine), Some(run_id)) => make_gate(around, run, &**engine, run_id),
        _ => Ok(None),
    };
    made.or_else(|failure| match around.cancel.is_cancelled() {
        true => Err(failure),
        // The adapters are trained and current whatever becomes of the gate.
        false => {
            around.warn(format!("the gate is not made: {}", failure.in_a_line()));
            Ok(None)
        }
    })
}

/// Makes the gate after an adapter was trained; none where the document asks for none.
fn make_gate(
    around: &Surroundings,
    prepared: &PreparedRun,
    engine: &dyn Engine,
    run_id: u64,
) -> Result<Option<GateReport>, Failure> {
    let front = prepared.document.parsed.frontmatter();
    if !front.training.gate.enabled || front.training.adapters.is_none() {
        return Ok(None);
    }
    let store = around.store(&front.dlm_id);
    let guard = around.lock(&store, Duration::ZERO)?;
    let work = GateWork {
        around,
        document: &prepared.document,
        text: &prepared.text,
        engine,
        revision: &prepared.base.resolved.record.revision,
        seed: prepared.plan.seed.value as u64,
        run_id,
    };
    let made = work.make(&guard, &store);
    guard.release()?;
    made
}

/// Loads the weights of a prepared document's base as the plan wants them of the adapter that leaves them the least room.
///
/// **Errors:** weights that cannot be read.
/// **Panics:** without a prepared adapter.
pub fn load(around: &Surroundings, prepared: &[PreparedRun]) -> Result<Box<dyn Engine>, Failure> {
    let by_room = |run: &&PreparedRun| run.plan.packing.value;
    let prepared = prepared
        .iter()
        .min_by_key(by_room)
        .expect("there is an adapter to train");
    let plan = &prepared.plan;
    let cpu = Cpu::new(plan.threads.value as usize, plan.simd.value);
    let options = CpuOptions {
        precision: plan.precision.value,
        // The packed copies are what a step multiplies with; the weights themselves stay as small as they are stored.
        storage: match plan.four_bits.value {
            true => WeightStorage::FourBits,
            false => WeightStorage::AsStored,
        },
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

/// What one phase teaches.
pub(super) struct Lesson<'a> {
    pub objective: &'a dyn Objective,
    pub recipe: &'a Recipe,
    /// What training begins with where there is no state.
    pub start: &'a Adapter,
    /// Ties a kept state to the lesson.
    pub digest: String,
    /// The rate of dropout, whatever the adapter says.
    pub dropout: f32,
}

impl Job<'_> {
    /// Trains on a loaded base, from the start or from where `--resume` goes on, and commits.
    ///
    /// **Errors:** as the parts; a run that was interrupted keeps its state.
    pub fn train(self, engine: &dyn Engine) -> Result<TrainReport, Failure> {
        match &self.phase.preference {
            Some(preference) => self.train_preferences(engine, preference),
            None => self.train_document(engine),
        }
    }

    /// Teaches questions, answers and prose.
    fn train_document(&self, engine: &dyn Engine) -> Result<TrainReport, Failure> {
        let (around, prepared) = (self.around, self.prepared);
        let anchors = anchors::anchors(around, prepared, self.phase, engine)?;
        let recipe = recipe(prepared, self.phase);
        let start = self.fresh(engine)?;
        let objective = Supervised::new(&prepared.dataset, &prepared.text, anchors.as_ref(), &recipe);
        let weights = prepared.weights_name();
        let lesson = Lesson {
            objective: &objective,
            recipe: &recipe,
            digest: run_digest(&recipe, &prepared.dataset, &start.spec, &weights),
            dropout: start.spec.dropout,
            start: &start,
        };
        self.teach(engine, &lesson, &|outcome| self.examine(engine, outcome))
    }

    /// Makes the adapter that the plan asks for, untrained.
    pub(super) fn fresh(&self, engine: &dyn Engine) -> Result<Adapter, Failure> {
        let plan = &self.prepared.plan;
        let fresh = engine.fresh_adapter(&adapter_spec(plan), plan.seed.value as u64);
        fresh.map_err(|e| Failure::new(Subject::Training, e))
    }

    /// Takes the steps of a lesson, lets `examine` look at what was learned (and better it), and commits.
    pub(super) fn teach(
        &self,
        engine: &dyn Engine,
        lesson: &Lesson<'_>,
        examine: &dyn Fn(&mut Outcome) -> Result<Findings, Failure>,
    ) -> Result<TrainReport, Failure> {
        let (around, prepared) = (self.around, self.prepared);
        let (mut adapter, state) = self.start(engine, lesson)?;
        let spec = adapter.spec.clone();
        adapter.spec.dropout = lesson.dropout;
        let pending = self.guard.begin_version(self.lane.slot.clone())?;
        let number = pending.number();
        let observer = Observer::start(self, number)?;
        let clock = || around.clock.seconds();
        let snapshot = |state: TrainState| pending.write_state(resume::to_stored(state)).map_err(|e| e.to_string());
        let input = TrainInput {
            engine,
            objective: lesson.objective,
            phase: self.phase.phase,
            recipe: lesson.recipe,
            progress: &observer,
            cancel: &around.cancel,
            base: &prepared.base.resolved.record.revision,
            clock: &clock,
            snapshot_seconds: SNAPSHOT_SECONDS,
            snapshot: &snapshot,
        };
        let outcome = dlm_train::train(&input, adapter, &lesson.digest, state).map_err(Failure::from);
        let report = outcome.and_then(|mut outcome| {
            outcome.adapter.spec = spec;
            self.conclude(pending, &observer, outcome, examine)
        });
        report.map_err(|failure| self.settled(&observer, number, failure))
    }

    /// What the lesson begins with: its start, or a state that was kept.
    fn start(&self, engine: &dyn Engine, lesson: &Lesson<'_>) -> Result<(Adapter, Option<TrainState>), Failure> {
        if !self.turn.is_resume {
            return Ok((lesson.start.clone(), None));
        }
        let planned = PlannedRun {
            command: self.command,
            digest: &lesson.digest,
            base: &self.prepared.base.resolved.record.revision,
            fresh: lesson.start,
            moments: lesson.recipe.moments,
        };
        let point = resume::find(self.around, &self.store, &self.lane, engine, &planned)?;
        self.around.note(point.note);
        Ok((point.adapter, Some(point.state)))
    }

    /// Keeps the state, asks every question, commits, and reports.
    fn conclude(
        &self,
        pending: PendingVersion<'_>,
        observer: &Observer<'_>,
        mut outcome: Outcome,
        examine: &dyn Fn(&mut Outcome) -> Result<Findings, Failure>,
    ) -> Result<TrainReport, Failure> {
        let plan = &self.prepared.plan;
        let steps_max = self.phase.steps.total.value;
        pending.write_state(resume::to_stored(outcome.take_state()))?;
        // A metrics row that was lost under `--strict-metrics` stops the run the way Ctrl-C does, and is what to tell.
        observer.check()?;
        if outcome.ending == Ending::Cancelled {
            let step = outcome.state.header.step;
            return Err(self.interrupted(format!("stopped after step {step} of {steps_max}")));
        }
        let learned = match examine(&mut outcome) {
            Err(_) if self.around.cancel.is_cancelled() => {
                let step = outcome.state.header.step;
                return Err(self.interrupted(format!("stopped after the last of {step} steps")));
            }
            other => other?,
        };
        observer.retained(&outcome, learned.retention.as_ref());
        let seconds_total = self.around.clock.seconds() - self.started;
        let committed = commit::commit(self, pending, &outcome, &learned, observer)?;
        let log = observer.finished(&committed, &outcome)?;
        let header = &outcome.state.header;
        Ok(TrainReport {
            phase: self.phase.phase,
            adapter_name: self.lane.name().map(str::to_owned),
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
            preference: learned.preference,
            plan: plan.clone(),
        })
    }

    fn examine(&self, engine: &dyn Engine, outcome: &Outcome) -> Result<Findings, Failure> {
        let current = self.lane.current(&self.store)?;
        let examination = Examination {
            around: self.around,
            prepared: self.prepared,
            engine,
            adapter: &outcome.adapter,
            before: current.and_then(|version| self.whole(version)),
        };
        examination.examine()
    }

    /// A version to compare with, where its files are what was written; what is damaged is told, for it stops nothing here.
    fn whole(&self, version: CurrentVersion) -> Option<PathBuf> {
        let slot = &self.lane.slot;
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
        let current = self.lane.current(&self.store);
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
