//! The record that `manifest.json` holds: identity, base, adapter versions, runs, exports and section ids of one store.
//!
//! Invariants: plain data; reading and writing files is the store's work. The field set is an interchange contract with
//! the reference implementation and never grows: unknown keys are refused at every level.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::base::{AcceptedVia, LicenseAcceptance};
use crate::choice::Choice;
use crate::stamp::Stamp;

/// The manifest format that this program reads and writes.
pub const MANIFEST_SCHEMA_VERSION: u32 = 1;

/// Everything that a store knows about its document's training history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always [`MANIFEST_SCHEMA_VERSION`] in a value that was loaded.
    #[serde(default = "schema_version_default")]
    pub schema_version: u32,
    /// The document's ULID.
    pub dlm_id: String,
    /// When the store was made.
    pub created_at: Stamp,
    /// When the manifest was last written.
    pub updated_at: Stamp,
    /// Registry key or local name of the base model.
    pub base_model: String,
    /// Commit or digest that pins the base.
    #[serde(default)]
    pub base_model_revision: Option<String>,
    /// Digest of the base's files.
    #[serde(default)]
    pub base_model_sha256: Option<String>,
    /// Current version of the flat layout; 0 when never trained.
    #[serde(default)]
    pub adapter_version: u32,
    /// Current version of each named adapter.
    #[serde(default)]
    pub adapter_versions: BTreeMap<String, u32>,
    /// Digest of the current `adapter_model.safetensors`.
    #[serde(default)]
    pub adapter_sha256: Option<String>,
    /// Digest of the current `adapter_config.json`.
    #[serde(default)]
    pub adapter_config_sha256: Option<String>,
    /// Every run in the order it was recorded.
    #[serde(default)]
    pub training_runs: Vec<RunRecord>,
    /// Every export in the order it was recorded.
    #[serde(default)]
    pub exports: Vec<ExportRecord>,
    /// Sections of the last run: id to section type.
    #[serde(default)]
    pub content_hashes: BTreeMap<String, String>,
    /// Versions of what influenced the numbers of the last run.
    #[serde(default)]
    pub pinned_versions: BTreeMap<String, String>,
    /// Absolute path of the document when it was last seen.
    #[serde(default)]
    pub source_path: Option<String>,
    /// The license of a gated base, once accepted.
    #[serde(default)]
    pub license_acceptance: Option<LicenseAcceptance>,
}

fn schema_version_default() -> u32 {
    MANIFEST_SCHEMA_VERSION
}

/// One training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// 1-based number of the run in this store.
    pub run_id: u64,
    /// When the run began.
    pub started_at: Stamp,
    /// When the run ended; none while it runs.
    #[serde(default)]
    pub ended_at: Option<Stamp>,
    /// The version that the run writes or wrote.
    pub adapter_version: u32,
    /// Revision of the base that was trained on.
    #[serde(default)]
    pub base_model_revision: Option<String>,
    /// Seed of the run.
    pub seed: i64,
    /// Optimizer steps taken.
    #[serde(default)]
    pub steps: u64,
    /// Mean loss over the last training steps, nats per token.
    #[serde(default)]
    pub final_train_loss: Option<f64>,
    /// Loss on the held-out rows, nats per token.
    #[serde(default)]
    pub final_val_loss: Option<f64>,
    /// How the run stands.
    #[serde(default = "run_status_default")]
    pub status: RunStatus,
    /// Versions of what influenced this run's numbers.
    #[serde(default)]
    pub pinned_versions: BTreeMap<String, String>,
    /// The summary file, relative to the store root.
    #[serde(default)]
    pub summary_path: Option<String>,
    /// The named adapter that was trained; none in the flat layout.
    #[serde(default)]
    pub adapter_name: Option<String>,
    /// Rows per tag and value; none when no weights were declared, empty when declared weights matched nothing.
    #[serde(default)]
    pub weight_distribution: Option<BTreeMap<String, BTreeMap<String, u64>>>,
}

fn run_status_default() -> RunStatus {
    RunStatus::Completed
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunStatus {
    /// Started and not yet ended.
    Running,
    /// Ended with a committed adapter.
    Completed,
    /// Ended with an error.
    Failed,
    /// Ended by the user.
    Cancelled,
}

impl Choice for RunStatus {
    const TABLE: &'static [(&'static str, Self)] = &[
        ("running", Self::Running),
        ("completed", Self::Completed),
        ("failed", Self::Failed),
        ("cancelled", Self::Cancelled),
    ];
}

crate::named_choices!(RunStatus);

impl RunStatus {
    /// The word in the metrics database, which calls a completed run `ok`.
    pub fn metrics_word(self) -> &'static str {
        match self {
            RunStatus::Completed => "ok",
            other => other.name(),
        }
    }

    /// The status of a word in the metrics database.
    pub fn from_metrics_word(word: &str) -> Option<Self> {
        match word {
            "ok" => Some(RunStatus::Completed),
            other => RunStatus::from_word(other),
        }
    }
}

/// One export.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportRecord {
    /// When the export was finished.
    pub exported_at: Stamp,
    /// Export target.
    #[serde(default = "export_target_default")]
    pub target: String,
    /// Quantization level, or `hf`.
    pub quant: String,
    /// Whether the adapter was merged into the base.
    #[serde(default)]
    pub merged: bool,
    /// Name under which Ollama knows the model.
    #[serde(default)]
    pub ollama_name: Option<String>,
    /// Version of Ollama that registered it.
    #[serde(default)]
    pub ollama_version: Option<String>,
    /// Kept for old readers; null in what we write.
    #[serde(default)]
    pub llama_cpp_tag: Option<String>,
    /// Digest of the main model file.
    #[serde(default)]
    pub base_gguf_sha256: Option<String>,
    /// Digest of the adapter file.
    #[serde(default)]
    pub adapter_gguf_sha256: Option<String>,
    /// First non-blank line of the smoke test's answer.
    #[serde(default)]
    pub smoke_output_first_line: Option<String>,
    /// The named adapter that was exported.
    #[serde(default)]
    pub adapter_name: Option<String>,
    /// Names and weights of a mix of adapters.
    #[serde(default)]
    pub adapter_mix: Option<Vec<(String, f64)>>,
    /// `static_mean` where the weights are those of a learned gate, frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate_mode: Option<String>,
}

fn export_target_default() -> String {
    "ollama".to_owned()
}

/// A field whose value breaks the record's rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is `{found}`, expected {expected}")]
pub struct RecordProblem {
    /// Path of the field inside the record.
    pub field: String,
    /// The offending value.
    pub found: String,
    /// What the rule asks for.
    pub expected: &'static str,
}

impl Manifest {
    /// Makes the manifest of a store that was never trained.
    pub fn new(dlm_id: &str, base_model: &str, created_at: Stamp) -> Self {
        Self {
            schema_version: MANIFEST_SCHEMA_VERSION,
            dlm_id: dlm_id.to_owned(),
            created_at,
            updated_at: created_at,
            base_model: base_model.to_owned(),
            base_model_revision: None,
            base_model_sha256: None,
            adapter_version: 0,
            adapter_versions: BTreeMap::new(),
            adapter_sha256: None,
            adapter_config_sha256: None,
            training_runs: Vec::new(),
            exports: Vec::new(),
            content_hashes: BTreeMap::new(),
            pinned_versions: BTreeMap::new(),
            source_path: None,
            license_acceptance: None,
        }
    }

    /// The number for the next run: the largest recorded one plus 1, or 1.
    pub fn next_run_id(&self) -> u64 {
        let largest = self.training_runs.iter().map(|run| run.run_id).max();
        largest.map_or(1, |id| id.saturating_add(1))
    }

    /// The current version that the manifest records for the flat layout (`None`) or a named adapter; 0 when never trained.
    pub fn version_of(&self, adapter: Option<&str>) -> u32 {
        match adapter {
            None => self.adapter_version,
            Some(name) => self.adapter_versions.get(name).copied().unwrap_or(0),
        }
    }

    /// When the last ended run ended.
    pub fn last_trained_at(&self) -> Option<Stamp> {
        self.training_runs.iter().filter_map(|run| run.ended_at).max()
    }

    /// Checks the rules that types cannot carry.
    ///
    /// **Errors** with the first field that breaks one.
    pub fn check(&self) -> Result<(), RecordProblem> {
        non_empty("dlm_id", &self.dlm_id)?;
        non_empty("base_model", &self.base_model)?;
        if let Some(acceptance) = &self.license_acceptance {
            check_acceptance(acceptance)?;
        }
        for (index, run) in self.training_runs.iter().enumerate() {
            run.check(&format!("training_runs[{index}]"))?;
        }
        for (index, export) in self.exports.iter().enumerate() {
            for (name, weight) in export.adapter_mix.iter().flatten() {
                let field = format!("exports[{index}].adapter_mix.{name}");
                finite(&field, Some(*weight))?;
            }
        }
        Ok(())
    }
}

impl RunRecord {
    fn check(&self, place: &str) -> Result<(), RecordProblem> {
        positive(&format!("{place}.run_id"), self.run_id)?;
        positive(&format!("{place}.adapter_version"), u64::from(self.adapter_version))?;
        finite(&format!("{place}.final_train_loss"), self.final_train_loss)?;
        finite(&format!("{place}.final_val_loss"), self.final_val_loss)
    }
}

/// Checks that link, name and time of an acceptance are there.
pub(crate) fn check_acceptance(acceptance: &LicenseAcceptance) -> Result<(), RecordProblem> {
    non_empty("license_acceptance.license_url", &acceptance.license_url)?;
    non_empty("license_acceptance.license_spdx", &acceptance.license_spdx)?;
    Stamp::parse_naive(&acceptance.accepted_at)
        .map(|_| ())
        .map_err(|_| RecordProblem {
            field: "license_acceptance.accepted_at".to_owned(),
            found: acceptance.accepted_at.clone(),
            expected: "a UTC time like `2026-04-19T18:30:14`",
        })
}

pub(crate) fn non_empty(field: &str, value: &str) -> Result<(), RecordProblem> {
    if value.is_empty() {
        return Err(RecordProblem {
            field: field.to_owned(),
            found: String::new(),
            expected: "a text that is not empty",
        });
    }
    Ok(())
}

pub(crate) fn positive(field: &str, value: u64) -> Result<(), RecordProblem> {
    if value == 0 {
        return Err(RecordProblem {
            field: field.to_owned(),
            found: "0".to_owned(),
            expected: "1 or more",
        });
    }
    Ok(())
}

fn finite(field: &str, value: Option<f64>) -> Result<(), RecordProblem> {
    match value {
        Some(value) if !value.is_finite() => Err(RecordProblem {
            field: field.to_owned(),
            found: value.to_string(),
            expected: "a finite number or null",
        }),
        _ => Ok(()),
    }
}
