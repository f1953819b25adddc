//! `dlm export`: a trained model in the form that a target wants, handed to the target's component: GGUF files, checked after
//! writing, or the adapter as it was trained, for runtimes that fetch the base themselves.
//!
//! Order: everything that can refuse without weights, the target on a draft among it; then, aside, the base or the merged
//! model, the adapter, the check of what was written, the target's files and smoke test; then all of it takes its place in
//! one step, and the records are last.

mod adapter;
mod artifact;
mod chosen;
mod describe;
mod imatrix;
mod ollama;
mod place;
mod quality;
mod record;
mod reuse;
mod run;
mod sway;
mod write;

use std::path::{Path, PathBuf};

use dlm_core::ports::target::{ArtifactKind, TargetInfo, TargetReport, TargetSmoke, TargetSource};
use dlm_core::shell::quoted_path;
use dlm_core::training::MixMethod;
use dlm_core::{Quant, Subject};
use dlm_plan::ExportPlan;
use dlm_plan::export::ExportOptions;
use serde::Serialize;

use crate::failure::Failure;
use crate::inference::{self, LocatedModel, Weights};
use crate::surroundings::Surroundings;
pub use quality::{LevelQuality, QualityReport, TextQuality, quant_report};

use place::Place;
use run::{Job, Shared};

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
    /// What holds for every target and quantization.
    pub options: ExportOptions,
    /// Named adapter of a document with several.
    pub adapter: Option<String>,
    /// An adapter in a directory of PEFT's, in the place of the document's own.
    pub adapter_directory: Option<PathBuf>,
    /// Several adapters as one: names with weights as they are typed, and how they are mixed.
    pub mix: Option<(String, MixMethod)>,
    /// In the order of the exports; at least one.
    pub targets: Vec<String>,
    /// In the order of the exports; none for the document's own.
    pub quants: Vec<Quant>,
    pub is_smoked: bool,
    /// Write a suite of probes beside each export.
    pub emits_sway: bool,
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
    /// The base's file is that of the export before, which would be written the same again.
    pub is_base_cached: bool,
    /// In how many conversations the written chat template was compared with the base's own.
    pub conversations: Option<usize>,
    pub registered: Option<String>,
    /// First line of the smoke test's answer, or why there was none.
    pub smoke: String,
    pub has_answered: bool,
    pub usage: Vec<String>,
    pub notes: Vec<String>,
    /// The suite of probes, where one was asked for.
    pub sway: Option<PathBuf>,
    /// What it was expected to take.
    #[serde(skip)]
    pub memory_bytes: u64,
    pub seconds: f64,
}

/// What would be exported.
#[derive(Clone, Debug, Serialize)]
pub struct ExportPreview {
    pub plan: ExportPlan,
    pub directory: PathBuf,
    pub files: Vec<PlannedFile>,
    pub memory_bytes: u64,
}

/// One file that would be written.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedFile {
    pub name: String,
    /// Where it is known before the file is there.
    pub bytes: Option<u64>,
}

/// Exports a trained document to every target at every quantization.
///
/// **Errors:** everything that can be refused without weights is refused before anything is written, for all of them.
pub fn export(
    around: &Surroundings,
    targets: &dyn TargetSource,
    command: &ExportCommand,
) -> Result<Vec<ExportReport>, Failure> {
    let (mut shared, mut jobs) = planned(around, targets, command)?;
    if jobs.iter().any(|job| Form::of(job.info()) == Form::Gguf) {
        write::warn_of_markup(around, &shared.chosen.located);
    }
    for job in &mut jobs {
        shared.judge(job)?;
    }
    let mut reports: Vec<ExportReport> = Vec::new();
    for job in jobs {
        let at_the_same_place = |report: &&ExportReport| report.directory == job.directory();
        let before: Vec<ExportedFile> = reports
            .iter()
            .filter(at_the_same_place)
            .flat_map(|r| r.files.clone())
            .collect();
        match shared.run(job, &before) {
            Ok(report) => reports.push(report),
            Err(failure) => {
                let made = reports.iter().map(|report| &report.directory);
                made.for_each(|made| around.note(format!("exported before that: {}", made.display())));
                return Err(failure);
            }
        }
    }
    Ok(reports)
}

/// Says what an export would write, and refuses what it would refuse without weights.
///
/// **Errors:** as [`export`], up to the loading of weights.
pub fn preview(
    around: &Surroundings,
    targets: &dyn TargetSource,
    command: &ExportCommand,
) -> Result<Vec<ExportPreview>, Failure> {
    let (shared, mut jobs) = planned(around, targets, command)?;
    jobs.iter_mut().map(|job| shared.judge(job)).collect()
}

fn planned<'a>(
    around: &'a Surroundings,
    targets: &dyn TargetSource,
    command: &'a ExportCommand,
) -> Result<(Shared<'a>, Vec<Job>), Failure> {
    for selector in &command.targets {
        targets.check(selector)?;
    }
    check_once(&command.targets, |target| target.clone())?;
    check_once(&command.quants, |quant| quant.name().to_owned())?;
    let shared = Shared::new(around, command)?;
    let jobs = shared.jobs(targets)?;
    Ok((shared, jobs))
}

/// Refuses what is asked for twice.
fn check_once<T: PartialEq>(asked: &[T], name: impl Fn(&T) -> String) -> Result<(), Failure> {
    let twice = asked.iter().enumerate().find(|(at, one)| asked[..*at].contains(one));
    match twice {
        Some((_, one)) => Err(
            Failure::misuse(Subject::Export, format!("`{}` is asked for twice", name(one)))
                .hint("name each of them once"),
        ),
        None => Ok(()),
    }
}

/// An export in its place.
struct Exported {
    made: artifact::WrittenArtifacts,
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
            is_base_cached: self.made.is_base_cached,
            conversations: self.conversations,
            usage: usage_of(&self.report, self.is_installed),
            registered: self.report.registration.as_ref().map(|r| r.name.clone()),
            smoke: smoke.clone(),
            has_answered: matches!(self.report.smoke, TargetSmoke::Passed { .. }),
            notes: self.made.notes,
            sway: None,
            memory_bytes: self.memory_bytes,
            plan,
            seconds,
        }
    }
}

/// A written file is larger than its level's mean, where rows are no whole super-blocks or embeddings weigh much.
const WRITTEN_MARGIN: f64 = 1.3;

/// Bytes of the model in memory and of the file that is read back to be compared with it, as it was written.
fn memory_bytes(around: &Surroundings, located: &LocatedModel, form: Form, quant: Quant, is_mix: bool) -> u64 {
    match (form, is_mix) {
        (Form::Adapter, false) => return 0,
        // A mix is laid out on the weights that it is for.
        (Form::Adapter, true) => return inference::memory_bytes(around, located, Weights::Published),
        (Form::Gguf, _) => {}
    }
    let written = located.base.facts.params as f64 * quant.bytes_per_parameter() * WRITTEN_MARGIN;
    inference::memory_bytes(around, located, Weights::Published) + written as u64
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

fn files_of(directory: &Path, made: &artifact::WrittenArtifacts, report: &TargetReport) -> Vec<ExportedFile> {
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
