//! The run log (one JSON object a line) and the summary of a finished run.
//!
//! Invariants: keys are sorted and every line is handed to the system as soon as it is complete; a line that a kill cut
//! short is the last one and readers skip it. The summary's field set is an interchange contract and never grows: what
//! we record beyond it goes into sidecar files.

use std::fs::File;
use std::path::{Path, PathBuf};

use dlm_core::manifest::RecordProblem;
use dlm_core::stamp::Stamp;
use dlm_core::{Determinism, Hints, Subject};
use dlm_files::DiskError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::delta::Delta;
use crate::json;
use crate::layout::{NameError, StorePaths, file_name};
use crate::record::{self, Flaw};
use crate::store::{Store, StoreGuard};

/// Largest summary that is read; probes are its bulk.
const SUMMARY_BYTES_MAX: u64 = 64 << 20;

/// A log or summary that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("`{}`: run summary is corrupt: {flaw}", path.display())]
    Corrupt {
        path: PathBuf,
        #[source]
        flaw: Flaw,
    },
    #[error("`{}`: the run summary breaks a rule and was not written: {source}", path.display())]
    Refused { path: PathBuf, source: RecordProblem },
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Hints for LogError {
    fn subject(&self) -> Subject {
        match self {
            LogError::Disk(error) => error.subject(),
            _ => Subject::Store,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            LogError::Disk(error) => error.hints(),
            _ => Vec::new(),
        }
    }
}

/// The open log of one run.
#[derive(Debug)]
pub struct RunLog {
    store: Store,
    path: PathBuf,
    file: File,
}

/// First line of a log.
#[derive(Clone, Debug, PartialEq)]
pub struct Banner {
    pub run_id: u64,
    pub seed: i64,
    pub determinism_class: Determinism,
    pub determinism_notes: Vec<String>,
    /// Name and version pairs.
    pub pinned_versions: Vec<(String, String)>,
    /// The plan as shown to the user.
    pub plan: Value,
}

/// One optimizer step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepLine {
    pub step: u64,
    /// Nats per token.
    pub loss: f64,
    pub lr: f64,
    pub grad_norm: Option<f64>,
    pub tokens_per_sec: Option<f64>,
    /// Set on steps with an evaluation.
    pub val_loss: Option<f64>,
    pub timestamp: Stamp,
}

/// Last line of a log.
#[derive(Clone, Debug, PartialEq)]
pub struct CompleteLine {
    pub run_id: u64,
    pub adapter_version: u32,
    pub steps: u64,
    pub elapsed_seconds: f64,
    pub early_stopped: bool,
    /// Relative to the store root.
    pub summary_path: String,
    pub timestamp: Stamp,
}

impl StoreGuard {
    /// Opens the log of a run that began at `started_at`, making `logs/` when it is missing.
    ///
    /// **Errors** name the path.
    pub fn open_run_log(&self, run_id: u64, started_at: Stamp) -> Result<RunLog, LogError> {
        self.disk().create_directories(&self.paths().logs())?;
        let name = format!("{}.jsonl", StorePaths::run_log_stem(run_id, started_at));
        let path = self.paths().root().join(name);
        let file = self.disk().open_for_append(&path)?;
        Ok(RunLog {
            store: Store::clone(self),
            path,
            file,
        })
    }

    /// Writes the summary of a run and returns its path relative to the store root.
    ///
    /// **Errors** when it breaks a rule or the disk fails.
    pub fn write_summary(&self, started_at: Stamp, summary: &RunSummary) -> Result<String, LogError> {
        let relative = format!("{}.summary.json", StorePaths::run_log_stem(summary.run_id, started_at));
        let path = self.paths().root().join(&relative);
        summary.check().map_err(|source| LogError::Refused {
            path: path.clone(),
            source,
        })?;
        self.disk().create_directories(&self.paths().logs())?;
        let value = serde_json::to_value(summary).expect("a summary has only text keys");
        self.disk().write(&path, json::pretty(&value).as_bytes())?;
        Ok(relative)
    }

    /// Writes a file of ours beside a run's summary, `<stem>.<kind>.json`, and returns its path relative to the root.
    ///
    /// **Errors** when `kind` is not a plain name or the disk fails.
    pub fn write_run_sidecar(
        &self,
        run_id: u64,
        started_at: Stamp,
        kind: &str,
        value: &Value,
    ) -> Result<String, LogError> {
        let stem = StorePaths::run_log_stem(run_id, started_at);
        let relative = format!("{stem}.{}.json", file_name(kind)?);
        self.disk().create_directories(&self.paths().logs())?;
        let path = self.paths().root().join(&relative);
        self.disk().write(&path, json::pretty(value).as_bytes())?;
        Ok(relative)
    }
}

impl RunLog {
    /// The log's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the first line.
    ///
    /// **Errors** name the path.
    pub fn banner(&mut self, banner: &Banner) -> Result<(), DiskError> {
        self.line(json!({
            "type": "banner",
            "run_id": banner.run_id,
            "seed": banner.seed,
            "determinism_class": banner.determinism_class.run_word(),
            "determinism_notes": banner.determinism_notes,
            "pinned_versions": banner.pinned_versions,
            "plan": banner.plan,
        }))
    }

    /// Writes which sections are new, unchanged and gone.
    ///
    /// **Errors** name the path.
    pub fn delta(&mut self, delta: &Delta) -> Result<(), DiskError> {
        self.line(json!({
            "type": "delta", "new": delta.new, "unchanged": delta.unchanged, "removed": delta.removed,
        }))
    }

    /// Writes one step.
    ///
    /// **Errors** name the path.
    pub fn step(&mut self, step: &StepLine) -> Result<(), DiskError> {
        self.line(json!({
            "type": "step",
            "step": step.step,
            "loss": step.loss,
            "lr": step.lr,
            "grad_norm": step.grad_norm,
            "tokens_per_sec": step.tokens_per_sec,
            "val_loss": step.val_loss,
            "timestamp": step.timestamp,
        }))
    }

    /// Writes an event of any other type.
    ///
    /// **Errors** name the path.
    pub fn event(&mut self, kind: &str, timestamp: Stamp, fields: Map<String, Value>) -> Result<(), DiskError> {
        let mut line = fields;
        line.insert("type".to_owned(), kind.into());
        line.insert("timestamp".to_owned(), timestamp.naive().into());
        self.line(Value::Object(line))
    }

    /// Writes the last line.
    ///
    /// **Errors** name the path.
    pub fn complete(&mut self, complete: &CompleteLine) -> Result<(), DiskError> {
        self.line(json!({
            "type": "run_complete",
            "run_id": complete.run_id,
            "adapter_version": complete.adapter_version,
            "steps": complete.steps,
            "elapsed_seconds": complete.elapsed_seconds,
            "early_stopped": complete.early_stopped,
            "summary_path": complete.summary_path,
            "timestamp": complete.timestamp,
        }))
    }

    fn line(&mut self, value: Value) -> Result<(), DiskError> {
        let text = json::line(&value);
        self.store.disk().write_to(&mut self.file, &self.path, text.as_bytes())
    }
}

/// The report of a finished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSummary {
    pub run_id: u64,
    pub adapter_version: u32,
    pub seed: i64,
    #[serde(default)]
    pub steps: u64,
    #[serde(default)]
    pub final_train_loss: Option<f64>,
    #[serde(default)]
    pub final_val_loss: Option<f64>,
    #[serde(default)]
    pub final_val_perplexity: Option<f64>,
    #[serde(default)]
    pub retention_loss: Option<f64>,
    /// Against the previous run.
    #[serde(default)]
    pub retention_loss_delta: Option<f64>,
    #[serde(default)]
    pub train_loss_cpt: Option<f64>,
    #[serde(default)]
    pub train_loss_sft: Option<f64>,
    #[serde(default)]
    pub val_loss_cpt: Option<f64>,
    #[serde(default)]
    pub val_loss_sft: Option<f64>,
    #[serde(default)]
    pub retention_cpt: Option<f64>,
    #[serde(default)]
    pub retention_sft: Option<f64>,
    #[serde(default)]
    pub probes: Vec<ProbeRecord>,
    #[serde(default)]
    pub early_stopped: bool,
    #[serde(default)]
    pub duration_seconds: f64,
    #[serde(default = "determinism_class_default", with = "dlm_core::determinism::run_word")]
    pub determinism_class: Determinism,
    #[serde(default)]
    pub source_directives: Vec<DirectiveRecord>,
}

fn determinism_class_default() -> Determinism {
    Determinism::BestEffort
}

/// One probe and what the model answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeRecord {
    pub prompt: String,
    pub response: String,
    #[serde(default)]
    pub reference: Option<String>,
    #[serde(default)]
    pub section_id: String,
}

/// What one source directive brought in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectiveRecord {
    pub path: String,
    #[serde(default)]
    pub file_count: u64,
    #[serde(default)]
    pub total_bytes: u64,
    #[serde(default)]
    pub skipped_binary: u64,
    #[serde(default)]
    pub skipped_encoding: u64,
    #[serde(default)]
    pub skipped_over_size: u64,
}

impl RunSummary {
    /// Makes the summary of a run about which nothing is known but its numbers.
    pub fn new(run_id: u64, adapter_version: u32, seed: i64) -> Self {
        Self {
            run_id,
            adapter_version,
            seed,
            steps: 0,
            final_train_loss: None,
            final_val_loss: None,
            final_val_perplexity: None,
            retention_loss: None,
            retention_loss_delta: None,
            train_loss_cpt: None,
            train_loss_sft: None,
            val_loss_cpt: None,
            val_loss_sft: None,
            retention_cpt: None,
            retention_sft: None,
            probes: Vec::new(),
            early_stopped: false,
            duration_seconds: 0.0,
            determinism_class: determinism_class_default(),
            source_directives: Vec::new(),
        }
    }

    fn check(&self) -> Result<(), RecordProblem> {
        let losses = [
            ("final_train_loss", self.final_train_loss),
            ("final_val_loss", self.final_val_loss),
            ("final_val_perplexity", self.final_val_perplexity),
            ("retention_loss", self.retention_loss),
            ("retention_loss_delta", self.retention_loss_delta),
            ("train_loss_cpt", self.train_loss_cpt),
            ("train_loss_sft", self.train_loss_sft),
            ("val_loss_cpt", self.val_loss_cpt),
            ("val_loss_sft", self.val_loss_sft),
            ("retention_cpt", self.retention_cpt),
            ("retention_sft", self.retention_sft),
            ("duration_seconds", Some(self.duration_seconds)),
        ];
        for (field, value) in losses {
            if let Some(value) = value.filter(|value| !value.is_finite()) {
                return Err(problem(field, value.to_string(), "a finite number or null"));
            }
        }
        if self.run_id == 0 {
            return Err(problem("run_id", "0".to_owned(), "1 or more"));
        }
        if self.adapter_version == 0 {
            return Err(problem("adapter_version", "0".to_owned(), "1 or more"));
        }
        Ok(())
    }
}

fn problem(field: &str, found: String, expected: &'static str) -> RecordProblem {
    RecordProblem {
        field: field.to_owned(),
        found,
        expected,
    }
}

impl Store {
    /// Reads a summary by its path relative to the store root, as a run record has it; none when the file is gone.
    ///
    /// **Errors** name the path and what is wrong.
    pub fn summary(&self, relative: &str) -> Result<Option<RunSummary>, LogError> {
        let name = relative.strip_prefix("logs/").unwrap_or(relative);
        let path = self.paths().logs().join(file_name(name)?);
        let corrupt = |flaw| LogError::Corrupt {
            path: path.clone(),
            flaw,
        };
        let Some(bytes) = dlm_files::read(&path, SUMMARY_BYTES_MAX)? else {
            return Ok(None);
        };
        let summary: RunSummary = record::parse(&bytes).map_err(corrupt)?;
        summary.check().map_err(|problem| corrupt(Flaw::Rule(problem)))?;
        Ok(Some(summary))
    }
}
