//! `dlm export`: a trained model in the form that a target wants, handed to the target's component: GGUF files, checked after
//! writing, or the adapter as it was trained, for runtimes that fetch the base themselves.
//!
//! Order: everything that can refuse without weights, then the base (cached between exports) or the merged model, the
//! adapter, the check of what was written, the target's files and smoke test, and the records last.

mod adapter;
mod write;

use std::path::{Path, PathBuf};

use dlm_core::Subject;
use dlm_core::manifest::ExportRecord;
use dlm_core::ports::target::{
    ArtifactKind, TargetInfo, TargetRegistration, TargetReport, TargetRun, TargetSmoke, TargetSource, run_target,
};
use dlm_core::training::Precision;
use dlm_plan::export::ExportOptions;
use dlm_plan::{ExportPlan, plan_export};
use dlm_store::metrics::{ExportMetrics, Strictness};
use dlm_store::{Disk, LockWait, Store};
use serde::Serialize;
use serde_json::json;

use crate::failure::Failure;
use crate::inference::{self, Located, Weights};
use crate::surroundings::Surroundings;

/// Seconds that the record waits for another command to leave the store.
const LOCK_WAIT_SECONDS: u64 = 60;
/// The record of an export, beside its files.
const MANIFEST_FILE: &str = "export_manifest.json";

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

/// What the records say about the weights.
#[derive(Clone, Copy)]
struct Recorded {
    quant: &'static str,
    is_merged: bool,
}

/// What is asked for.
pub struct ExportCommand {
    pub path: PathBuf,
    pub options: ExportOptions,
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
pub struct Verified {
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
    pub target: String,
    pub quant: &'static str,
    pub is_merged: bool,
    pub directory: PathBuf,
    pub files: Vec<ExportedFile>,
    pub verified: Vec<Verified>,
    pub registered: Option<String>,
    /// First line of the smoke test's answer, or why there was none.
    pub smoke: String,
    pub has_answered: bool,
    pub usage: Vec<String>,
    pub notes: Vec<String>,
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
    let located = inference::locate(around, &command.path, false, Subject::Export)?;
    let front = located.document.parsed.frontmatter();
    let mut options = command.options.clone();
    options.default_quant = front
        .wrote("export.default_quant")
        .then_some(front.export.default_quant);
    let plan = plan_export(&located.base.facts, &options)?;
    let quant = plan.quant.value;
    let mut target = targets.open(&plan.target.value)?;
    let is_installed = command.is_registered || plan.target.value != "ollama";
    check_programs(target.info(), is_installed, &command.path)?;
    let form = Form::of(target.info());
    if form == Form::Gguf {
        // What was written is loaded and compared with the model in memory.
        inference::check_memory(around, &located, 2 * inference::weights_bytes(&located, Weights::Exact))
            .map_err(|failure| failure.under(Subject::Export))?;
    }
    let store = Store::new(&around.home, &front.dlm_id);
    let directory = match form {
        Form::Gguf => quant.name(),
        Form::Adapter => target.info().name.as_str(),
    };
    let directory = store
        .paths()
        .export(directory)
        .map_err(|e| Failure::new(Subject::Export, e))?;
    Disk::new().create_directories(&directory)?;
    let (made, target_plan) = match form {
        Form::Gguf => {
            let loaded = inference::load(around, &located, Weights::Exact, Precision::Fp32, command.threads)?;
            let made = write::artifacts(around, &located, &loaded, &plan, quant, &directory)?;
            let target_plan = write::target_plan(around, &located, &loaded, &plan, &made)?;
            (made, target_plan)
        }
        Form::Adapter => {
            adapter::warn_of_unused(around, &plan.target.value, command);
            let made = adapter::artifacts(&located)?;
            let target_plan = adapter::target_plan(around, &located, &plan);
            (made, target_plan)
        }
    };
    let recorded = match form {
        Form::Gguf => Recorded {
            quant: quant.name(),
            is_merged: plan.merged.value,
        },
        Form::Adapter => Recorded {
            quant: adapter::QUANT,
            is_merged: false,
        },
    };
    let stage = write::stage(&directory, &made);
    let run = TargetRun {
        is_installed,
        is_smoked: command.is_smoked,
    };
    let report = run_target(target.as_mut(), &target_plan, &stage, run).map_err(|error| {
        let failure = Failure::from(error);
        match run.is_installed && plan.target.value == "ollama" {
            // The files are written and checked by now; only the hand-over to the program failed.
            true => failure.hint(without_ollama(&command.path)),
            false => failure,
        }
    })?;
    let files = files_of(&directory, &made, &report);
    if form == Form::Adapter {
        adapter::remove_stale(&directory, &files)?;
    }
    write_manifest(around, &directory, &plan, recorded, &located, &files, &report)?;
    record(around, &store, &plan, recorded, &located, &files, &report, started)?;
    // What was left out comes first: without it the rest does not work.
    let mut usage = match run.is_installed {
        true => Vec::new(),
        false => report.prepared.install_preview,
    };
    usage.extend(report.prepared.usage);
    let (smoke, has_answered) = match &report.smoke {
        TargetSmoke::Passed { detail } => (detail.clone(), true),
        TargetSmoke::Skipped { reason } => (reason.clone(), false),
    };
    Ok(ExportReport {
        target: plan.target.value.clone(),
        quant: recorded.quant,
        is_merged: recorded.is_merged,
        directory,
        files,
        verified: made.verified,
        registered: report.registration.map(|r| r.name),
        smoke,
        has_answered,
        usage,
        notes: made.notes,
        seconds: around.clock.seconds() - started,
    })
}

/// Refuses, before a weight is read, a registration with a program that is not here.
fn check_programs(info: &TargetInfo, is_installed: bool, path: &Path) -> Result<(), Failure> {
    match info.missing.first() {
        // Other targets use their program for the smoke test alone, which is then left out.
        Some(program) if is_installed && info.name == "ollama" => Err(Failure::new(
            Subject::Runtime(info.name.clone()),
            format!("the program `{program}` is not installed"),
        )
        .hint(without_ollama(path))),
        _ => Ok(()),
    }
}

fn without_ollama(path: &Path) -> String {
    format!(
        "the model files alone: `dlm export {} --skip-ollama`; for another program: `--target llama-server`",
        path.display()
    )
}

fn files_of(directory: &Path, made: &write::Made, report: &TargetReport) -> Vec<ExportedFile> {
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
    own.chain(theirs).collect()
}

fn write_manifest(
    around: &Surroundings,
    directory: &Path,
    plan: &ExportPlan,
    recorded: Recorded,
    located: &Located,
    files: &[ExportedFile],
    report: &TargetReport,
) -> Result<(), Failure> {
    let artifacts: Vec<_> = files
        .iter()
        .map(|f| {
            let name = f.path.strip_prefix(directory).unwrap_or(&f.path).display().to_string();
            json!({ "path": name, "sha256": f.sha256, "size_bytes": f.bytes })
        })
        .collect();
    let value = json!({
        "target": plan.target.value,
        "quant": recorded.quant,
        "merged": recorded.is_merged,
        "dequantized": false,
        "ollama_name": report.registration.as_ref().map(|r| r.name.clone()),
        "created_at": around.now().naive(),
        "created_by": format!("dlm-{}", around.version),
        "llama_cpp_tag": null,
        "base_model_hf_id": located.base.resolved.record.hf_id,
        "base_model_revision": located.base.resolved.record.revision,
        "adapter_version": located.adapter.as_ref().map(|(_, version)| version),
        "target_plugin": { "name": report.info.name, "version": report.info.version, "sha256": report.info.sha256 },
        "artifacts": artifacts,
    });
    let text = serde_json::to_string_pretty(&value).expect("a manifest is plain data") + "\n";
    Ok(Disk::new().write(&directory.join(MANIFEST_FILE), text.as_bytes())?)
}

/// Appends the export to the store's manifest and the metrics database.
#[expect(clippy::too_many_arguments, reason = "one call, everything named in it")]
fn record(
    around: &Surroundings,
    store: &Store,
    plan: &ExportPlan,
    recorded: Recorded,
    located: &Located,
    files: &[ExportedFile],
    report: &TargetReport,
    started: f64,
) -> Result<(), Failure> {
    let guard = store.lock(&LockWait {
        timeout: std::time::Duration::from_secs(LOCK_WAIT_SECONDS),
        cancel: around.cancel.clone(),
        now: around.now(),
    })?;
    let digest = |suffix: &str| {
        let is_it = |f: &&ExportedFile| {
            f.path
                .file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with(suffix))
        };
        files.iter().find(is_it).map(|f| f.sha256.clone())
    };
    let (name, version): (Option<String>, Option<String>) = match &report.registration {
        Some(TargetRegistration { name, runtime_version }) => (Some(name.clone()), runtime_version.clone()),
        None => (None, None),
    };
    guard.record_export(
        around.now(),
        ExportRecord {
            exported_at: around.now(),
            target: plan.target.value.clone(),
            quant: recorded.quant.to_owned(),
            merged: recorded.is_merged,
            ollama_name: name.clone(),
            ollama_version: version,
            llama_cpp_tag: None,
            base_gguf_sha256: digest(if recorded.is_merged { "merged." } else { "base." }),
            adapter_gguf_sha256: digest("adapter."),
            smoke_output_first_line: match &report.smoke {
                TargetSmoke::Passed { detail } => Some(detail.clone()),
                TargetSmoke::Skipped { .. } => None,
            },
            adapter_name: None,
            adapter_mix: None,
        },
    )?;
    debug_assert!(located.adapter.is_some());
    let mut metrics = store.metrics_recorder(Strictness::Lenient)?;
    let lost = metrics.export(&ExportMetrics {
        exported_at: around.now(),
        quant: recorded.quant.to_owned(),
        merged: recorded.is_merged,
        ollama_name: name,
        size_bytes: files.iter().map(|f| f.bytes).sum(),
        duration_s: around.clock.seconds() - started,
    })?;
    if let Some(lost) = lost {
        around.warn(format!("metrics: {lost}"));
    }
    Ok(())
}
