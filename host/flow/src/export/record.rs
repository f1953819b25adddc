//! The records of an export: the manifest beside its files, the store's list of exports, the metrics database.
//!
//! Invariant: they come last, so that every export on record is complete.

use std::path::Path;
use std::time::Duration;

use dlm_core::manifest::{ExportRecord, Manifest};
use dlm_core::ports::target::{TargetRegistration, TargetReport, TargetSmoke};
use dlm_plan::ExportPlan;
use dlm_store::Store;
use dlm_store::integrity::EXPORT_MANIFEST_FILE;
use dlm_store::metrics::{ExportMetrics, Strictness};
use serde_json::json;

use super::ExportedFile;
use super::chosen::{Chosen, GATE_MODE, Mix};
use super::reuse::WRITER;
use crate::failure::Failure;
use crate::surroundings::Surroundings;

/// How long the record waits for another command to leave the store.
const LOCK_WAIT: Duration = Duration::from_secs(60);

/// An export that is complete, to be put on record.
pub(super) struct Record<'a> {
    pub around: &'a Surroundings,
    pub plan: &'a ExportPlan,
    pub chosen: &'a Chosen,
    /// The weights' form, as the records name it.
    pub quant: &'static str,
    pub is_merged: bool,
    pub files: &'a [ExportedFile],
    pub report: &'a TargetReport,
    pub imatrix_sha256: Option<&'a str>,
}

impl Record<'_> {
    /// Writes the manifest into the export's directory.
    pub(super) fn write_manifest(&self, directory: &Path) -> Result<(), Failure> {
        let artifacts: Vec<_> = self
            .files
            .iter()
            .map(|f| {
                let name = f.path.strip_prefix(directory).unwrap_or(&f.path).display().to_string();
                json!({ "path": name, "sha256": f.sha256, "size_bytes": f.bytes })
            })
            .collect();
        let (base, info) = (&self.chosen.located.base.resolved.record, &self.report.info);
        let mut value = json!({
            "target": self.plan.target.value,
            "quant": self.quant,
            "merged": self.is_merged,
            "dequantized": self.is_merged && self.plan.dequantized,
            "ollama_name": self.report.registration.as_ref().map(|r| r.name.clone()),
            "created_at": self.around.now().naive(),
            "created_by": format!("dlm-{}", self.around.version),
            "llama_cpp_tag": null,
            "base_model_hf_id": base.hf_id,
            "base_model_revision": base.revision,
            // One from elsewhere has no versions here, and readers expect a number from 1.
            "adapter_version": self.chosen.version().unwrap_or(1),
            "adapter_name": self.chosen.located.adapter_name,
            "adapter_mix": self.chosen.mix.as_ref().map(Mix::weights),
            "imatrix_sha256": self.imatrix_sha256,
            "writer": WRITER,
            "target_plugin": { "name": info.name, "version": info.version, "sha256": info.sha256 },
            "artifacts": artifacts,
        });
        if let Some(mode) = self.gate_mode() {
            value["gate_mode"] = json!(mode);
        }
        let text = serde_json::to_string_pretty(&value).expect("a manifest is plain data") + "\n";
        let disk = self.around.private_disk();
        Ok(disk.write(&directory.join(EXPORT_MANIFEST_FILE), text.as_bytes())?)
    }

    /// Appends the export, which began at `started`, to the store's manifest and the metrics database.
    pub(super) fn append(&self, store: &Store, started: f64) -> Result<(), Failure> {
        let around = self.around;
        let guard = around.lock(store, LOCK_WAIT)?;
        // An adapter from elsewhere is exported for a document that was never trained.
        if store.manifest()?.is_none() {
            let front = self.chosen.located.document.parsed.frontmatter();
            guard.initialize(&Manifest::new(front.dlm_id.as_str(), &front.base_model, around.now()))?;
        }
        let (name, version): (Option<String>, Option<String>) = match &self.report.registration {
            Some(TargetRegistration { name, runtime_version }) => (Some(name.clone()), runtime_version.clone()),
            None => (None, None),
        };
        guard.record_export(
            around.now(),
            ExportRecord {
                exported_at: around.now(),
                target: self.plan.target.value.clone(),
                quant: self.quant.to_owned(),
                merged: self.is_merged,
                ollama_name: name.clone(),
                ollama_version: version,
                llama_cpp_tag: None,
                base_gguf_sha256: self.digest_of(if self.is_merged { "merged." } else { "base." }),
                adapter_gguf_sha256: self.digest_of("adapter."),
                smoke_output_first_line: match &self.report.smoke {
                    TargetSmoke::Passed { detail } => Some(detail.clone()),
                    TargetSmoke::Skipped { .. } => None,
                },
                adapter_name: self.chosen.located.adapter_name.clone(),
                adapter_mix: self.chosen.mix.as_ref().map(Mix::weights),
                gate_mode: self.gate_mode().map(str::to_owned),
            },
        )?;
        let figures = ExportMetrics {
            exported_at: around.now(),
            quant: self.quant.to_owned(),
            merged: self.is_merged,
            ollama_name: name,
            size_bytes: self.files.iter().map(|f| f.bytes).sum(),
            duration_s: around.clock.seconds() - started,
        };
        // The database is a report: what is wrong with it does not undo an export.
        let recorded = store
            .metrics_recorder(Strictness::Strict)
            .and_then(|mut metrics| metrics.export(&figures));
        if let Err(error) = recorded {
            around.warn(format!("metrics: the export is not recorded: {error}"));
        }
        Ok(())
    }

    /// What is said of the weights of a gate.
    fn gate_mode(&self) -> Option<&'static str> {
        let mix = self.chosen.mix.as_ref();
        mix.filter(|mix| mix.is_gate).map(|_| GATE_MODE)
    }

    /// The digest of the first file whose name starts so.
    fn digest_of(&self, prefix: &str) -> Option<String> {
        let starts = |f: &&ExportedFile| {
            f.path
                .file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with(prefix))
        };
        self.files.iter().find(starts).map(|f| f.sha256.clone())
    }
}
