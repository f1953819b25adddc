//! `dlm train`: from a document to a committed adapter.
//!
//! The order is that of `spec/training.md` section 6: everything that can refuse comes before a weight is loaded, the
//! store is locked before it is read, and the adapter's pointer flips before anything is recorded about it.

mod commit;
mod measure;
mod observe;
mod replay;
mod resume;
mod room;

use std::path::PathBuf;

use dlm_core::manifest::{Manifest, RunRecord, RunStatus};
use dlm_core::shell::quoted_path;
use dlm_core::stamp::Stamp;
use dlm_core::training::{self, Ending, LrSchedule};
use dlm_core::{Determinism, Event, FailureKind, Subject};
use dlm_kernels::Ctx;
use dlm_model::text::TextModel;
use dlm_model::{Adapter, AdapterKind, AdapterSpec, LoadOptions, Model, Prepare};
use dlm_plan::base::license::{LicenseDecision, LicenseMoment};
use dlm_plan::lock::{LockFlags, LockMode, decide};
use dlm_plan::plan_train;
use dlm_plan::train::{self as plan, TrainOptions, TrainPlan, TrainRequest, WeightPacking};
use dlm_store::{AdapterSlot, LockWait, PendingVersion, Store, StoreGuard};
use dlm_train::augment::Augment;
use dlm_train::hold::HoldSet;
use dlm_train::run::{Outcome, Recipe, run_digest};
use dlm_train::schedule::{Schedule, ScheduleKind, WarmupStart};
use dlm_train::{PairRecall, SourceRow, TrainInput, recall_pairs};
use serde::Serialize;

use crate::base::{self, ExportProbes, ReadyBase, UsableBase};
use crate::document::{self, Document};
use crate::failure::Failure;
use crate::rows;
use crate::surroundings::Surroundings;

pub use measure::{ProbeScore, Retention};
pub use replay::{DrawnSection, ReplayReport};

/// Steps between two states kept on disk; at most this many are lost when the power fails.
const SNAPSHOT_STEPS: u64 = 25;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct TrainCommand {
    pub path: PathBuf,
    /// Continue an interrupted run, or train the current adapter further.
    pub is_resume: bool,
    pub seed: Option<i64>,
    pub max_steps: Option<u64>,
    pub threads: Option<u32>,
    pub lock: LockFlags,
    pub is_strict_about_metrics: bool,
    pub accepts_license: bool,
    /// Left out under `--skip-export-probes`, its variable, or when the document was made with it.
    pub export_probes: ExportProbes,
}

impl TrainCommand {
    /// The command line that trains the same with `flag`: what makes a run another one is repeated.
    fn again(&self, flag: &str) -> String {
        let mut line = format!("dlm train {} {flag}", quoted_path(&self.path));
        if let Some(steps) = self.max_steps {
            line += &format!(" --max-steps {steps}");
        }
        if let Some(seed) = self.seed {
            line += &format!(" --seed {seed}");
        }
        line
    }
}

/// What a run did.
#[derive(Clone, Debug, Serialize)]
pub struct TrainReport {
    pub phase: &'static str,
    pub version: u32,
    pub adapter: PathBuf,
    pub log: PathBuf,
    pub run_id: u64,
    pub seed: i64,
    pub determinism: Determinism,
    pub steps: u64,
    pub steps_max: u64,
    pub ending: Ending,
    /// Nats per token, over the last step.
    pub loss: f64,
    pub eval_loss: Option<f64>,
    pub tokens: u64,
    pub tokens_per_s: f64,
    pub seconds_training: f64,
    /// From the start of the command to the commit.
    pub seconds_total: f64,
    pub recalled: usize,
    pub recall: Vec<PairRecall>,
    pub probes: Vec<ProbeScore>,
    /// Sections of earlier versions that were rehearsed, kept aside or replaced.
    pub replay: ReplayReport,
    pub retention: Option<Retention>,
    pub plan: TrainPlan,
}

/// A document that is ready to train: opened base, rows, and the plan for them.
pub struct Prepared {
    pub document: Document,
    pub base: ReadyBase,
    pub text: TextModel,
    pub rows: Vec<SourceRow>,
    pub plan: TrainPlan,
    replay: replay::Replay,
    license: LicenseDecision,
}

impl Prepared {
    /// What the run will rehearse of earlier versions of the document.
    pub fn replay(&self) -> &ReplayReport {
        &self.replay.report
    }
}

/// Does everything that needs no weight: parse, resolve the base, count rows, plan, refuse.
pub fn prepare(around: &Surroundings, command: &TrainCommand) -> Result<Prepared, Failure> {
    let document = document::load(&command.path)?;
    rows::check_rows(&document)?;
    rows::check_trainable(&document.path, &document.parsed)?;
    let front = document.parsed.frontmatter();
    let store = Store::new(&around.home, &front.dlm_id);
    let moment = LicenseMoment::Train {
        accepts_license: command.accepts_license,
    };
    let UsableBase {
        resolved,
        license,
        manifest,
    } = base::usable(around, &document, moment)?;
    let options = TrainOptions {
        seed: command.seed,
        max_steps: command.max_steps,
        threads: command.threads,
        is_forced: around.is_forced,
        is_resume: command.is_resume,
        ..TrainOptions::default()
    };
    room::check_base(around, &resolved, &options)?;
    let base = base::open_resolved(around, resolved, true)?;
    let export_probes = match crate::init::skips_export_probes(&store)? {
        true => ExportProbes::Skip,
        false => command.export_probes,
    };
    base::check_probes(&base.resolved, &base.opened, export_probes)?;
    let text = base.opened.text_as(base.resolved.record.template)?;
    let seed = command.seed.unwrap_or(front.training.seed);
    let memory = replay::Memory::load(&store, manifest.as_ref(), &document.parsed, seed)?;
    // The plan decides how long a window of prose is, so rows are made for a first count and made again if it differs.
    let make = |window: usize| -> Result<(Vec<SourceRow>, replay::Drawn), Failure> {
        let mut source = rows::source_rows(&document.parsed, &text, seed, window)?;
        let options = replay::DrawOptions {
            text: &text,
            front,
            seed,
            window,
            sequence_len_max: sequence_len_max(front, &base),
        };
        let drawn = memory.draw(&source, &options)?;
        source.extend(drawn.rows.iter().map(|(row, _)| row.clone()));
        Ok((source, drawn))
    };
    let plan_for = |source: &[SourceRow]| -> Result<TrainPlan, Failure> {
        let facts = rows::document_facts(&document.parsed, source, &text)?;
        let request = TrainRequest {
            document: &facts,
            base: &base.facts,
            hardware: &around.hardware,
            options: &options,
        };
        Ok(plan_train(&request)?)
    };
    let (mut source, mut drawn) = make(plan::recipe::PROSE_WINDOW as usize)?;
    let mut plan = plan_for(&source)?;
    let window = plan.prose.window_tokens.value as usize;
    if window != plan::recipe::PROSE_WINDOW as usize {
        (source, drawn) = make(window)?;
        plan = plan_for(&source)?;
    }
    let replay = memory.settle(drawn);
    let longest = plan.rows.instruction_tokens_max + plan.rows.shared_prefix_tokens;
    if longest > u64::from(plan.sequence_len.value) {
        let options = dlm_train::rows::RowOptions {
            system_prompt: front.system_prompt.clone(),
            sequence_len_max: plan.sequence_len.value as usize,
            prose_weight: 1.0,
        };
        rows::check_lengths(&source, &text, &options)?;
    }
    let prepared = Prepared {
        document,
        base,
        text,
        rows: source,
        plan,
        replay,
        license,
    };
    warn_about_the_untrained(around, &prepared);
    if manifest.is_none_or(|manifest| manifest.adapter_version == 0) {
        // What is worth knowing of a base is told before its first training, not at each.
        for note in &prepared.base.resolved.notes {
            around.progress.event(Event::Note(note.clone()));
        }
    }
    Ok(prepared)
}

/// Refuses what [`run`] would refuse before it loads a weight, without a lock on the store and without writing; says
/// what a run with `--resume` would go on from.
pub fn rehearse(around: &Surroundings, command: &TrainCommand, prepared: &Prepared) -> Result<Option<String>, Failure> {
    let store = Store::new(&around.home, &prepared.document.parsed.frontmatter().dlm_id);
    if let Some(manifest) = store.manifest()? {
        let lock = commit::current_lock(around, prepared, &manifest)?;
        check_lock(around, &store, &lock, command.lock.mode()?)?;
    }
    if !command.is_resume {
        return Ok(None);
    }
    resume::check_any(&store)?;
    let kept = store
        .inspect()?
        .and_then(|found| found.resumable_versions.into_iter().next());
    let current = store.current_version(&AdapterSlot::Flat)?;
    Ok(match (kept, current) {
        (Some(kept), _) => Some(format!(
            "goes on from {} after step {}, where document, base and flags are as they were",
            kept.path, kept.step
        )),
        (None, Some(current)) => Some(format!("trains {} further", current.relative)),
        (None, None) => None,
    })
}

/// Trains a prepared document and commits what it learned.
pub fn run(around: &Surroundings, command: &TrainCommand, prepared: &Prepared) -> Result<TrainReport, Failure> {
    let started = around.clock.seconds();
    let mode = command.lock.mode()?;
    let front = prepared.document.parsed.frontmatter();
    let store = Store::new(&around.home, &front.dlm_id);
    let mut guard = store.lock(&LockWait {
        timeout: std::time::Duration::ZERO,
        cancel: around.cancel.clone(),
        now: now(around),
    })?;
    for notice in guard.take_notices() {
        around.progress.event(Event::Note(format!("store: {notice}")));
    }
    let manifest = ensure_manifest(around, &store, &guard, prepared)?;
    prepared.replay.admit(around, &guard, manifest.adapter_version)?;
    let lock = commit::current_lock(around, prepared, &manifest)?;
    check_lock(around, &store, &lock, mode)?;
    room::check_space(around, prepared)?;
    if command.is_resume {
        resume::check_any(&store)?;
    }
    let model = load_model(around, prepared)?;
    let hold = hold_set(around, prepared, &model)?;
    let adapter = init_adapter(prepared, &model)?;
    let recipe = recipe(prepared);
    let digest = run_digest(
        &recipe,
        &prepared.rows,
        &adapter,
        &prepared.base.resolved.record.revision,
    );
    let resume = match command.is_resume {
        true => Some(resume::find(&store, &model, &adapter, &digest)?),
        false => None,
    };
    let (adapter, state) = match resume {
        Some(found) => {
            around.progress.event(Event::Note(found.note));
            (found.adapter, Some(found.state))
        }
        None => (adapter, None),
    };
    let job = Job {
        around,
        command,
        prepared,
        store: &store,
        guard: &guard,
        manifest,
        lock,
        mode,
        started,
    };
    job.train(&model, hold.as_ref(), &recipe, adapter, &digest, state)
}

/// One run under the store's lock.
struct Job<'a> {
    around: &'a Surroundings,
    command: &'a TrainCommand,
    prepared: &'a Prepared,
    store: &'a Store,
    guard: &'a StoreGuard,
    manifest: Manifest,
    lock: dlm_core::lock::DlmLock,
    mode: LockMode,
    started: f64,
}

impl Job<'_> {
    fn train(
        self,
        model: &Model,
        hold: Option<&HoldSet>,
        recipe: &Recipe,
        adapter: Adapter,
        digest: &str,
        state: Option<dlm_train::TrainState>,
    ) -> Result<TrainReport, Failure> {
        let pending = self.guard.begin_version(AdapterSlot::Flat)?;
        let observer = observe::Observer::start(&self, pending.number())?;
        let clock = || self.around.clock.seconds();
        let snapshot = |state: &dlm_train::TrainState, _: &Adapter| {
            pending
                .write_state(&resume::to_stored(state))
                .map_err(|e| e.to_string())
        };
        let input = TrainInput {
            model,
            text: &self.prepared.text,
            rows: &self.prepared.rows,
            hold,
            recipe,
            progress: &observer,
            cancel: &self.around.cancel,
            clock: &clock,
            snapshot_every: SNAPSHOT_STEPS,
            snapshot: &snapshot,
        };
        let outcome = dlm_train::train(&input, adapter, digest, state).map_err(Failure::from);
        let number = pending.number();
        let report = outcome.and_then(|outcome| self.conclude(model, pending, &observer, outcome));
        report.map_err(|failure| self.settled(&observer, number, failure))
    }

    /// Keeps the state, asks every question, commits, and reports.
    fn conclude(
        &self,
        model: &Model,
        pending: PendingVersion<'_>,
        observer: &observe::Observer<'_>,
        outcome: Outcome,
    ) -> Result<TrainReport, Failure> {
        let run_id = observer.run_id();
        let header = &outcome.state.header;
        let steps_max = self.prepared.plan.steps.total.value;
        pending.write_state(&resume::to_stored(&outcome.state))?;
        // A metrics row that was lost under `--strict-metrics` stops the run the way Ctrl-C does, and is what to tell.
        observer.check()?;
        if outcome.ending == Ending::Cancelled {
            return Err(self.interrupted(format!("stopped after step {} of {steps_max}", header.step)));
        }
        let learned = match self.measure(model, &outcome.adapter) {
            Err(_) if self.around.cancel.is_cancelled() => {
                return Err(self.interrupted(format!("stopped after the last of {} steps", header.step)));
            }
            other => other?,
        };
        observer.retained(&outcome, learned.retention.as_ref());
        let seconds_total = self.around.clock.seconds() - self.started;
        let committed = commit::commit(self, pending, &outcome, &learned, observer)?;
        let log = observer.finished(&committed, &outcome)?;
        Ok(TrainReport {
            phase: "sft",
            version: committed.version.number,
            adapter: committed.version.directory.clone(),
            log,
            run_id,
            seed: self.prepared.plan.seed.value,
            determinism: self.prepared.plan.determinism,
            steps: header.step,
            steps_max,
            ending: ending(&self.prepared.plan, outcome.ending),
            loss: outcome.loss,
            eval_loss: outcome.eval.map(|e| e.loss),
            tokens: header.tokens,
            tokens_per_s: header.tokens as f64 / outcome.seconds.max(1e-9),
            seconds_training: outcome.seconds,
            seconds_total,
            recalled: learned.recall.iter().filter(|r| r.recalled).count(),
            recall: learned.recall,
            probes: learned.probes,
            replay: self.prepared.replay.report.clone(),
            retention: learned.retention,
            plan: self.prepared.plan.clone(),
        })
    }

    fn interrupted(&self, what: String) -> Failure {
        Failure::interrupted(format!("{what}; the state is kept"))
            .hint(format!("go on: `{}`", self.command.again("--resume")))
    }

    /// Records how a run without a report ended. The failure that ended it is the one to tell: what cannot be recorded
    /// on top of it is settled by the next command that writes, and is only warned of.
    fn settled(&self, observer: &observe::Observer<'_>, number: u32, failure: Failure) -> Failure {
        let current = self.store.current_version(&AdapterSlot::Flat);
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
            .end_run(now(self.around), observer.run_id(), status, observer.steps());
        let problems = [is_settled.err(), recorded.err().map(Failure::from)];
        for problem in problems.into_iter().flatten() {
            let what = format!("the end of the run is not recorded: {}", problem.error);
            self.around.progress.event(Event::Warning(what));
        }
        failure
    }

    /// Asks the model what it has learned and what it has kept.
    fn measure(&self, model: &Model, adapter: &Adapter) -> Result<Learned, Failure> {
        self.around
            .progress
            .event(Event::Note("asking every question of the document".into()));
        let recall = self.recall(model, adapter)?;
        Ok(Learned {
            probes: self.probes(model, adapter, &recall)?,
            retention: self.retention(model, adapter, self.version_before()?)?,
            recall,
        })
    }

    fn recall(&self, model: &Model, adapter: &Adapter) -> Result<Vec<PairRecall>, Failure> {
        let system = self.prepared.document.parsed.frontmatter().system_prompt.as_deref();
        let document: Vec<SourceRow> = self
            .prepared
            .rows
            .iter()
            .filter(|r| !r.is_replayed())
            .cloned()
            .collect();
        recall_pairs(
            model,
            Some(adapter),
            &self.prepared.text,
            system,
            &document,
            &self.around.cancel,
        )
        .map_err(|e| Failure::new(Subject::Training, e))
    }
}

/// How a run ended, told by the plan: the loop knows only that every step was taken.
fn ending(plan: &TrainPlan, ending: Ending) -> Ending {
    match ending {
        Ending::Complete if plan.steps.total.value < plan.steps.uncapped() => Ending::MaxSteps,
        other => other,
    }
}

/// What a run's adapter was found to know.
struct Learned {
    recall: Vec<PairRecall>,
    probes: Vec<ProbeScore>,
    retention: Option<Retention>,
}

/// The longest row that a document with this frontmatter may have on this base.
fn sequence_len_max(front: &dlm_doc::Frontmatter, base: &ReadyBase) -> usize {
    let written = front.written_knobs().sequence_len;
    let wanted = written.unwrap_or(plan::recipe::SEQUENCE_LEN);
    wanted.min(base.facts.context_usable) as usize
}

/// The present as a stamp.
pub(crate) fn now(around: &Surroundings) -> Stamp {
    Stamp::from_unix_ms(around.clock.unix_ms() as i64)
}

/// Returns the manifest, making the store when `dlm init` did not, and records a license accepted by flag.
fn ensure_manifest(
    around: &Surroundings,
    store: &Store,
    guard: &StoreGuard,
    prepared: &Prepared,
) -> Result<Manifest, Failure> {
    let front = prepared.document.parsed.frontmatter();
    if store.manifest()?.is_none() {
        guard.initialize(&Manifest::new(front.dlm_id.as_str(), &front.base_model, now(around)))?;
    }
    if let LicenseDecision::Record { url, spdx, via } = &prepared.license {
        guard.update_manifest(now(around), |manifest| {
            manifest.license_acceptance = Some(dlm_core::base::LicenseAcceptance {
                accepted_at: now(around).naive(),
                license_url: url.clone(),
                license_spdx: spdx.clone(),
                via: *via,
            });
        })?;
    }
    store
        .manifest()?
        .ok_or_else(|| Failure::new(Subject::Store, "the manifest vanished while the store was locked"))
}

fn check_lock(
    around: &Surroundings,
    store: &Store,
    current: &dlm_core::lock::DlmLock,
    mode: LockMode,
) -> Result<(), Failure> {
    let recorded = match store.determinism_lock() {
        Ok(recorded) => recorded,
        Err(_) if mode.replaces_unreadable() => None,
        Err(error) => return Err(error.into()),
    };
    let decision = decide(recorded.as_ref(), current, mode, &store.paths().determinism_lock())?;
    for warning in decision.warnings() {
        around.progress.event(Event::Warning(format!("lock: {warning}")));
    }
    Ok(())
}

/// Says what the document holds that this run does not teach.
fn warn_about_the_untrained(around: &Surroundings, prepared: &Prepared) {
    if prepared.plan.rows.preference_rows > 0 {
        around.progress.event(Event::Warning(
            "the preference sections are not trained: the preference phase is not built yet in this version".into(),
        ));
    }
    for warning in &prepared.plan.warnings {
        around.progress.event(Event::Warning(warning.clone()));
    }
}

fn load_model(around: &Surroundings, prepared: &Prepared) -> Result<Model, Failure> {
    let plan = &prepared.plan;
    let ctx = Ctx::new(plan.threads.value as usize, crate::inference::simd(plan.simd.value));
    let options = LoadOptions {
        ctx,
        compute: crate::inference::compute(plan.precision.value),
        // The packed copies are what a step multiplies with; the weights themselves stay as small as they are stored.
        keep_quantized: true,
        prepare: match plan.packing.value {
            WeightPacking::None => Prepare::Nothing,
            WeightPacking::Forward => Prepare::Forward,
            WeightPacking::Both => Prepare::Both,
        },
    };
    around
        .progress
        .event(Event::Note(format!("loading {}", prepared.base.resolved.record.key)));
    prepared
        .base
        .opened
        .load(options)
        .map_err(|e| Failure::from(e).under(Subject::BaseModel))
}

/// Reads the cached hold set of the base, or prepares and caches it.
fn hold_set(around: &Surroundings, prepared: &Prepared, model: &Model) -> Result<Option<HoldSet>, Failure> {
    let hold = &prepared.plan.hold.value;
    if !hold.is_on || hold.rows_per_step == 0 {
        return Ok(None);
    }
    let options = dlm_train::hold::HoldOptions {
        rows: hold.set_rows as usize,
        greedy_share: hold.greedy_share,
        tokens_max: hold.row_tokens_max as usize,
        top: hold.top_k as usize,
    };
    let name = format!(
        "{}-{}.hold",
        &prepared.base.resolved.record.revision,
        options.tag(prepared.plan.precision.value.name())
    );
    let path = around.home.bases().join(".hold").join(name);
    if let Ok(bytes) = std::fs::read(&path) {
        match HoldSet::from_bytes(&bytes) {
            Ok(set) => return Ok(Some(set)),
            Err(error) => around
                .progress
                .event(Event::Warning(format!("{}: {error}; it is made again", path.display()))),
        }
    }
    around.progress.event(Event::Note(
        "the base is asked what to hold on to: once for this base and precision, kept for every later run".into(),
    ));
    let set =
        HoldSet::prepare(model, &prepared.text, &options, &*around.progress, &around.cancel).map_err(|e| match e {
            dlm_train::hold::HoldError::Cancelled => Failure::interrupted(""),
            other => Failure::new(Subject::Training, other),
        })?;
    let disk = dlm_store::Disk::new();
    let directory = path.parent().expect("the path has a directory");
    disk.create_directories(directory)?;
    disk.write(&path, &set.to_bytes())?;
    Ok(Some(set))
}

fn init_adapter(prepared: &Prepared, model: &Model) -> Result<Adapter, Failure> {
    let plan = &prepared.plan;
    let spec = AdapterSpec {
        kind: match plan.adapter.value {
            training::AdapterKind::Lora | training::AdapterKind::Qlora => AdapterKind::Lora,
            training::AdapterKind::Dora => AdapterKind::Dora,
        },
        r: plan.lora_r.value as usize,
        alpha: plan.lora_alpha.value as f32,
        dropout: plan.lora_dropout.value as f32,
        targets: plan.target_modules.value.clone(),
    };
    Adapter::init(model, &spec, plan.seed.value as u64).map_err(|e| Failure::new(Subject::Training, e))
}

/// The loop's numbers, from the plan's.
pub(crate) fn recipe(prepared: &Prepared) -> Recipe {
    let plan = &prepared.plan;
    let kind = match plan.schedule.kind.value {
        LrSchedule::Cosine if plan.schedule.floor.value > 0.0 => ScheduleKind::CosineWithFloor {
            floor: plan.schedule.floor.value,
        },
        LrSchedule::Cosine => ScheduleKind::Cosine,
        LrSchedule::Linear => ScheduleKind::Linear,
        LrSchedule::Constant => ScheduleKind::Constant,
    };
    let (augment, noise, hold) = (&plan.augment.value, &plan.noise.value, &plan.hold.value);
    let has_pairs = plan.rows.instruction_rows > 0;
    Recipe {
        seed: plan.seed.value as u64,
        lr: plan.learning_rate.value,
        schedule: Schedule {
            kind,
            steps: plan.steps.total.value,
            warmup: plan.schedule.warmup_steps.value,
            start: WarmupStart::First,
        },
        rows_per_step: plan.batch.effective_rows as usize,
        batch_tokens_max: plan.batch.tokens_max as usize,
        clip: Some(plan.clip_norm.value),
        weight_decay: 0.0,
        augment: augment.is_on.then_some(Augment {
            share: augment.share,
            drop_function: augment.drop_function,
            drop_content: augment.drop_content,
        }),
        noise_share: if noise.is_on { noise.share } else { 0.0 },
        clean_share: noise.clean_tail,
        hold_rows_per_step: if hold.is_on { hold.rows_per_step as usize } else { 0 },
        hold_weight: hold.strength,
        loss_stop: plan.stop.answer_loss.value,
        eval_every: plan.steps.eval_every.max(1),
        eval_patience: plan.steps.eval_patience,
        // Held-out prose says nothing about whether the facts are learned: beside pairs it is reported, not obeyed.
        obeys_eval: !has_pairs
            || prepared
                .rows
                .iter()
                .any(|r| r.is_validation && matches!(r.body, dlm_train::SourceBody::Pair { .. })),
        checkpoint: plan.checkpointing.value,
        system_prompt: prepared.document.parsed.frontmatter().system_prompt.clone(),
        sequence_len_max: plan.sequence_len.value as usize,
        prose_weight: plan.prose.weight.value as f32,
    }
}

/// The record of a run that begins.
pub(crate) fn run_record(prepared: &Prepared, run_id: u64, version: u32, started_at: Stamp) -> RunRecord {
    RunRecord {
        run_id,
        started_at,
        ended_at: None,
        adapter_version: version,
        base_model_revision: Some(prepared.base.resolved.record.revision.clone()),
        seed: prepared.plan.seed.value,
        steps: 0,
        final_train_loss: None,
        final_val_loss: None,
        status: RunStatus::Running,
        pinned_versions: commit::pinned_versions(),
        summary_path: None,
        adapter_name: None,
        weight_distribution: None,
    }
}
