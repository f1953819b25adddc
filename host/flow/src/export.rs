//! `dlm export`: a trained model in the form that a target wants, handed to the target's component: GGUF files, checked after
//! writing, or the adapter as it was trained, for runtimes that fetch the base themselves.
//!
//! Order: everything that can refuse without weights, the target on a draft among it; then, aside, the base or the merged
//! model, the adapter, the check of what was written, the target's files and smoke test; then all of it takes its place in
//! one step, and the records are last.

mod adapter;
mod imatrix;
mod ollama;
mod place;
mod record;
mod write;

use std::path::{Path, PathBuf};

use dlm_core::ports::target::{
    ArtifactKind, ExportTarget, Stage, TargetInfo, TargetPlan, TargetReport, TargetRun, TargetSmoke, TargetSource,
    run_target,
};
use dlm_core::shell::quoted_path;
use dlm_core::training::Precision;
use dlm_core::{Quant, Subject};
use dlm_plan::export::{ExportOptions, ImatrixChoice};
use dlm_plan::{ExportPlan, plan_export};
use dlm_store::Store;
use serde::Serialize;

use crate::failure::Failure;
use crate::inference::{self, LocatedModel, Weights};
use crate::surroundings::Surroundings;
use place::Place;

/// The form in which a target wants the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Base and adapter, or both merged, as GGUF.
    Gguf,
    /// The adapter as PEFT wrote it; the runtime fetches the base.
    Adapter,
}

impl Form {
    fn of(info: &TargetInfo) -> Form {
        match info.accepts.first() {
            Some(ArtifactKind::Adapter) => Form::Adapter,
            _ => Form::Gguf,
        }
    }
}

/// What is asked for.
pub struct ExportCommand {
    pub path: PathBuf,
    pub options: ExportOptions,
    /// Named adapter of a document with several.
    pub adapter: Option<String>,
    pub is_smoked: bool,
    pub is_registered: bool,
    pub threads: Option<u32>,
}

/// One file of the export.
#[derive(Clone, Debug, Serialize)]
pub struct ExportedFile {
    pub path: PathBuf,
    pub bytes: u64,
    pub sha256: String,
}

/// What the check of one written model found.
#[derive(Clone, Debug, Serialize)]
pub struct ModelCheck {
    pub file: String,
    pub tensors: usize,
    pub metadata_keys: usize,
    pub tokens_equal: Option<usize>,
    /// Worst relative error of each tensor type, with its bound.
    pub errors: Vec<(String, f64, f64)>,
    /// Mean divergence of the next-token distributions from those in memory, with its bound.
    pub logits_kl: f64,
    pub logits_kl_bound: f64,
    pub argmax_equal: usize,
    pub positions: usize,
}

/// What was exported.
#[derive(Clone, Debug, Serialize)]
pub struct ExportReport {
    /// What was decided before anything was written.
    pub plan: ExportPlan,
    pub target: String,
    pub quant: &'static str,
    pub is_merged: bool,
    pub directory: PathBuf,
    pub files: Vec<ExportedFile>,
    pub verified: Vec<ModelCheck>,
    /// In how many conversations the written chat template was compared with the base's own.
    pub conversations: Option<usize>,
    pub registered: Option<String>,
    /// First line of the smoke test's answer, or why there was none.
    pub smoke: String,
    pub has_answered: bool,
    pub usage: Vec<String>,
    pub notes: Vec<String>,
    /// What it was expected to take.
    #[serde(skip)]
    pub memory_bytes: u64,
    pub seconds: f64,
}

/// Exports a trained document.
pub fn export(
    around: &Surroundings,
    targets: &dyn TargetSource,
    command: &ExportCommand,
) -> Result<ExportReport, Failure> {
    let started = around.clock.seconds();
    if let Some(selector) = &command.options.target {
        targets.check(selector)?;
    }
    let located = inference::locate(
        around,
        &command.path,
        false,
        command.adapter.as_deref(),
        Subject::Export,
    )?;
    let plan = planned(&located, &command.options)?;
    let mut target = targets.open(&plan.target.value)?;
    let is_installed = command.is_registered || !target.info().needs_registration;
    check_programs(target.info(), is_installed, &command.path)?;
    let form = Form::of(target.info());
    let memory_bytes = memory_bytes(around, &located, form, plan.quant.value);
    inference::check_memory(around, &located, memory_bytes).map_err(|failure| failure.under(Subject::Export))?;
    let store = around.store(&located.document.parsed.frontmatter().dlm_id);
    let place = Place::of(&store, form, &plan, target.info())?;
    let staging = place.begin(around)?;
    let directory = staging.directory();
    let mut checked = ollama::CheckedTarget::new(target.as_mut(), &plan.target.value, &located.text, directory);
    if form == Form::Gguf {
        write::warn_of_markup(around, &located);
        write::judge(around, &located, &plan, &mut checked, &place, directory)?;
        staging.clear()?;
    }
    let (made, target_plan) = artifacts(around, form, (&located, &store), &plan, directory, command)?;
    let run = TargetRun {
        is_installed,
        is_smoked: command.is_smoked,
    };
    let stage = write::stage(directory, &made);
    let report = match hand_over(&mut checked, &target_plan, &stage, run, command) {
        Ok(report) => report,
        Err(failure) if checked.is_prepared => return Err(place.keep_failed(staging, failure)),
        Err(failure) => return Err(failure),
    };
    let conversations = checked.compared;
    let files = files_of(directory, &made, &report);
    let (quant, is_merged) = match form {
        Form::Gguf => (plan.quant.value.name(), plan.merged.value),
        Form::Adapter => (adapter::QUANT, false),
    };
    let record = record::Record {
        around,
        plan: &plan,
        located: &located,
        quant,
        is_merged,
        files: &files,
        report: &report,
        imatrix_sha256: made.imatrix_sha256.as_deref(),
    };
    record.write_manifest(directory)?;
    let files = place.take(around, staging, &files)?;
    record.append(&store, started)?;
    Ok(Exported {
        made,
        report,
        files,
        conversations,
        is_installed,
        memory_bytes,
    }
    .report(plan, &place, (quant, is_merged), around.clock.seconds() - started))
}

/// An export in its place.
struct Exported {
    made: write::WrittenArtifacts,
    report: TargetReport,
    files: Vec<ExportedFile>,
    conversations: Option<usize>,
    is_installed: bool,
    memory_bytes: u64,
}

impl Exported {
    fn report(self, plan: ExportPlan, place: &Place, form: (&'static str, bool), seconds: f64) -> ExportReport {
        let (TargetSmoke::Passed { detail: smoke } | TargetSmoke::Skipped { reason: smoke }) = &self.report.smoke;
        ExportReport {
            target: plan.target.value.clone(),
            quant: form.0,
            is_merged: form.1,
            directory: place.directory().to_owned(),
            files: self.files,
            verified: self.made.verified,
            conversations: self.conversations,
            usage: usage_of(&self.report, self.is_installed),
            registered: self.report.registration.as_ref().map(|r| r.name.clone()),
            smoke: smoke.clone(),
            has_answered: matches!(self.report.smoke, TargetSmoke::Passed { .. }),
            notes: self.made.notes,
            memory_bytes: self.memory_bytes,
            plan,
            seconds,
        }
    }
}

/// A written file is larger than its level's mean, where rows are no whole super-blocks or embeddings weigh much.
const WRITTEN_MARGIN: f64 = 1.3;

/// Bytes of the model in memory and of the file that is read back to be compared with it, as it was written.
fn memory_bytes(around: &Surroundings, located: &LocatedModel, form: Form, quant: Quant) -> u64 {
    if form == Form::Adapter {
        return 0;
    }
    let written = located.base.facts.params as f64 * quant.bytes_per_parameter() * WRITTEN_MARGIN;
    inference::memory_bytes(around, located, Weights::Exact) + written as u64
}

/// Plans the export of what was found, with the quantization that the document names.
fn planned(located: &LocatedModel, options: &ExportOptions) -> Result<ExportPlan, Failure> {
    let front = located.document.parsed.frontmatter();
    let mut options = options.clone();
    options.default_quant = front
        .wrote("export.default_quant")
        .then_some(front.export.default_quant);
    Ok(plan_export(&located.base.facts, &options)?)
}

/// Writes the model's files in the form that the target wants, and says what the target is told about them.
fn artifacts(
    around: &Surroundings,
    form: Form,
    (located, store): (&LocatedModel, &Store),
    plan: &ExportPlan,
    directory: &Path,
    command: &ExportCommand,
) -> Result<(write::WrittenArtifacts, TargetPlan), Failure> {
    match form {
        Form::Gguf => {
            let loaded = inference::load(around, located, Weights::Exact, Precision::Fp32, command.threads)?;
            let calibration = match &plan.imatrix.value {
                ImatrixChoice::Off => None,
                ImatrixChoice::Own => Some(imatrix::own(around, located, &loaded, store)?),
                ImatrixChoice::File(path) => Some(imatrix::given(Path::new(path))?),
            };
            let matrix = calibration.as_ref().map(|c| &c.matrix);
            let mut made = write::artifacts(around, located, &loaded, plan, matrix, directory)?;
            if let Some(calibration) = &calibration {
                made.beside = calibration.copy_to(around, directory)?;
                made.imatrix_sha256 = Some(calibration.sha256.clone());
            }
            let target_plan = write::target_plan(around, located, &loaded, plan, &made)?;
            Ok((made, target_plan))
        }
        Form::Adapter => {
            adapter::warn_of_unused(around, &plan.target.value, command);
            let made = adapter::artifacts(located)?;
            Ok((made, adapter::target_plan(around, located, plan)))
        }
    }
}

/// Gives the files to the target: its own files, the registration, the smoke test.
fn hand_over(
    target: &mut dyn ExportTarget,
    plan: &TargetPlan,
    stage: &Stage,
    run: TargetRun,
    command: &ExportCommand,
) -> Result<TargetReport, Failure> {
    let needs_registration = target.info().needs_registration;
    run_target(target, plan, stage, run).map_err(|error| {
        let failure = Failure::from(error);
        match run.is_installed && needs_registration {
            // The files are written and checked by now; only the hand-over to the program failed.
            true => failure.hint(files_alone(&command.path)),
            false => failure,
        }
    })
}

/// What to type to use the export; what was left out comes first, for without it the rest does not work.
fn usage_of(report: &TargetReport, is_installed: bool) -> Vec<String> {
    let mut usage = match is_installed {
        true => Vec::new(),
        false => report.prepared.install_preview.clone(),
    };
    usage.extend(report.prepared.usage.iter().cloned());
    usage
}

/// Refuses, before a weight is read, a registration with a program that is not here.
fn check_programs(info: &TargetInfo, is_installed: bool, path: &Path) -> Result<(), Failure> {
    match info.missing.first() {
        // Other targets use their program for the smoke test alone, which is then left out.
        Some(program) if is_installed && info.needs_registration => Err(Failure::new(
            Subject::Runtime(info.name.clone()),
            format!("the program `{program}` is not installed"),
        )
        .hint(files_alone(path))),
        _ => Ok(()),
    }
}

fn files_alone(path: &Path) -> String {
    format!(
        "the model files alone: `dlm export {} --skip-ollama`; for another program: `--target llama-server`",
        quoted_path(path)
    )
}

fn files_of(directory: &Path, made: &write::WrittenArtifacts, report: &TargetReport) -> Vec<ExportedFile> {
    let staged = made.artifacts.iter().filter(|a| a.staged_path.is_some());
    let own = staged.map(|a| ExportedFile {
        path: a.path.clone(),
        bytes: a.size,
        sha256: a.sha256.clone(),
    });
    let theirs = report.prepared.files.iter().map(|f| ExportedFile {
        path: directory.join(&f.name),
        bytes: f.size,
        sha256: f.sha256.clone(),
    });
    own.chain(made.beside.iter().cloned()).chain(theirs).collect()
}
