//! `dlm show`: what a document is, what its store holds, and which of its sections the model has seen.
//!
//! Invariants: creates nothing, opens no connection, loads no model; a store that is damaged is told, not guessed at. A file
//! that was touched since it was last read is held against its digest, and `--verify` does so with every file.

mod parts;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dlm_core::lock::DlmLock;
use dlm_core::manifest::{ExportRecord, Manifest, RunRecord};
use dlm_core::stamp::Stamp;
use dlm_core::{FailureKind, Subject};
use dlm_doc::{CacheConfig, Frontmatter, SourceDirective};
use dlm_store::{
    AdapterSlot, CurrentVersion, Delta, Home, Inspection, LockStatus, NamedAdapter, ResumableVersion, Store, delta,
};
use serde::Serialize;

use crate::base;
use crate::document::{self, Document};
use crate::failure::Failure;
use crate::integrity::{adapter_problem, verify_base};
use crate::surroundings::Surroundings;
use crate::trained;

pub use parts::{Gate, GatePart, Mining, Security, ShownSection, TrainingCache};

/// The report; its JSON has the keys of `spec/cli.md`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Show {
    /// There is no store yet.
    Untrained(Box<UntrainedDocument>),
    Stored(Box<StoredDocument>),
}

/// A document without a store.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UntrainedDocument {
    pub dlm_id: String,
    pub base_model: String,
    /// Always false.
    pub store_initialized: bool,
    pub source_path: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training_sources: Option<Vec<SourceDirective>>,
    pub training_cache_config: CacheConfig,
    pub sections: Vec<ShownSection>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_security: Option<Security>,
}

/// A document with its store.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoredDocument {
    pub dlm_id: String,
    /// The store's root.
    pub path: PathBuf,
    pub store_initialized: bool,
    pub base_model: String,
    pub base_model_revision: Option<String>,
    pub adapter_version: u32,
    /// Number of runs.
    pub training_runs: usize,
    pub last_trained_at: Option<Stamp>,
    pub has_adapter_current: bool,
    pub replay_size_bytes: u64,
    pub total_size_bytes: u64,
    pub source_path: Option<String>,
    /// The document that the store was made for is gone or has another id.
    pub orphaned: bool,
    pub exports: Vec<ExportRecord>,
    pub content_hashes: BTreeMap<String, String>,
    pub pinned_versions: BTreeMap<String, String>,
    pub named_adapters: Vec<NamedAdapter>,
    pub lock: Lock,
    pub runs: Vec<RunRecord>,
    /// Runs whose record says that they run while no process holds the store: they were killed.
    pub interrupted_runs: Vec<u64>,
    pub sections: Vec<ShownSection>,
    /// Ids that the last run saw and that the document has no more.
    pub removed_sections: Vec<String>,
    /// What an interrupted run left and `--resume` goes on from, while document and settings are as they were.
    pub resumable_versions: Vec<ResumableVersion>,
    /// Other versions that no completed and no running run accounts for.
    pub orphan_versions: Vec<String>,
    /// Versions whose weights were refused.
    pub rejected_versions: Vec<String>,
    /// What is wrong in the store, one line each.
    pub problems: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training_sources: Option<Vec<SourceDirective>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training_cache: Option<TrainingCache>,
    pub training_cache_config: CacheConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    #[serde(flatten)]
    pub mining: Option<Mining>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_security: Option<Security>,
}

/// `dlm.lock` as far as it can be read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lock {
    pub status: LockStatus,
    /// None when it is absent or unreadable.
    pub content: Option<DlmLock>,
}

/// Gathers the report.
///
/// **Errors**, all under `show`: the document does not parse, the manifest is corrupt.
pub fn show(home: &Home, path: &Path) -> Result<Show, Failure> {
    let document = document::load(path).map_err(|failure| failure.under(Subject::Show))?;
    let front = document.parsed.frontmatter();
    let store = Store::new(home, &front.dlm_id);
    let inspection = store.inspect().map_err(|e| Failure::from(e).under(Subject::Show))?;
    match inspection {
        None => untrained(home, &document).map(|report| Show::Untrained(Box::new(report))),
        Some(inspection) => stored(home, &document, &store, inspection).map(|report| Show::Stored(Box::new(report))),
    }
}

fn untrained(home: &Home, document: &Document) -> Result<UntrainedDocument, Failure> {
    let front = document.parsed.frontmatter();
    let none = BTreeMap::new();
    Ok(UntrainedDocument {
        dlm_id: front.dlm_id.to_string(),
        base_model: front.base_model.clone(),
        store_initialized: false,
        source_path: std::path::absolute(&document.path).unwrap_or_else(|_| document.path.clone()),
        training_sources: front.training.sources.clone(),
        training_cache_config: front.training.cache.clone(),
        sections: parts::sections(&document.parsed, &difference(document, &none)),
        base_security: parts::security(home, &front.base_model),
    })
}

fn difference(document: &Document, recorded: &BTreeMap<String, String>) -> Delta {
    let ids: Vec<_> = document.parsed.sections().iter().map(|section| section.id()).collect();
    delta(&ids, recorded)
}

fn stored(home: &Home, document: &Document, store: &Store, inspection: Inspection) -> Result<StoredDocument, Failure> {
    let front = document.parsed.frontmatter();
    let manifest = inspection.manifest;
    let delta = difference(document, &manifest.content_hashes);
    let (metrics, metrics_problem) = parts::metrics(store);
    let mut problems = inspection.pointer_problems;
    problems.extend(metrics_problem);
    let current = store.current_version(&AdapterSlot::Flat).ok().flatten();
    if let Some(current) = &current {
        problems.extend(adapter_problem(home, store, &AdapterSlot::Flat, current));
    }
    problems.extend(base_changed(home, front, &manifest, current.as_ref()));
    Ok(StoredDocument {
        path: store.paths().root().to_path_buf(),
        store_initialized: true,
        training_runs: manifest.training_runs.len(),
        last_trained_at: manifest.last_trained_at(),
        has_adapter_current: inspection.has_adapter_current,
        replay_size_bytes: inspection.replay_size_bytes,
        total_size_bytes: inspection.total_size_bytes,
        orphaned: is_orphaned(&manifest, front),
        named_adapters: inspection.named_adapters,
        lock: Lock {
            status: inspection.lock_status,
            content: store.determinism_lock().ok().flatten(),
        },
        sections: parts::sections(&document.parsed, &delta),
        removed_sections: delta.removed,
        resumable_versions: inspection.resumable_versions,
        orphan_versions: inspection.orphan_versions,
        rejected_versions: inspection.rejected_versions,
        problems,
        training_sources: front.training.sources.clone(),
        training_cache: parts::cache(store, metrics.tokenization)?,
        training_cache_config: front.training.cache.clone(),
        gate: metrics.gate,
        mining: metrics.mining,
        base_security: parts::security(home, &front.base_model),
        dlm_id: manifest.dlm_id,
        base_model: manifest.base_model,
        base_model_revision: manifest.base_model_revision,
        adapter_version: current
            .and_then(|current| current.number)
            .unwrap_or(manifest.adapter_version),
        source_path: manifest.source_path,
        exports: manifest.exports,
        content_hashes: manifest.content_hashes,
        pinned_versions: manifest.pinned_versions,
        runs: manifest.training_runs,
        interrupted_runs: inspection.interrupted_runs,
    })
}

/// Says where the document names another base than the one that its adapter was trained on, or its store was made for.
fn base_changed(
    home: &Home,
    front: &Frontmatter,
    manifest: &Manifest,
    current: Option<&CurrentVersion>,
) -> Option<String> {
    let (now, then) = (&front.base_model, &manifest.base_model);
    match current {
        Some(current) => {
            let revision = parts::revision(home, now);
            let other = trained::compare(manifest, None, current, now, revision.as_deref())?;
            Some(format!("{other}; train again, with --update-lock"))
        }
        None => (now != then).then(|| format!("the document names the base `{now}`, its store was made for `{then}`")),
    }
}

/// Reads everything that carries a digest, in the store and in the base's files on this machine; one line per damage.
///
/// **Errors** when the document does not parse or the store cannot be read at all.
pub fn verify(around: &Surroundings, path: &Path) -> Result<Vec<String>, Failure> {
    let document = document::load(path).map_err(|failure| failure.under(Subject::Show))?;
    let front = document.parsed.frontmatter();
    let store = around.store(&front.dlm_id);
    let mut found = store.verify().map_err(|e| Failure::from(e).under(Subject::Show))?;
    let manifest = store.manifest()?;
    let pinned = manifest
        .as_ref()
        .and_then(|manifest| manifest.base_model_revision.as_deref());
    if let Some((base, path)) = base::on_this_machine(around, &front.base_model, pinned)?
        && let Err(failure) = verify_base(around, &base, &path)
    {
        if failure.kind == FailureKind::Interrupted {
            return Err(failure);
        }
        found.push(failure.in_a_line());
    }
    Ok(found)
}

/// Whether the document that the store remembers is gone, unreadable, or another one.
fn is_orphaned(manifest: &Manifest, front: &Frontmatter) -> bool {
    let Some(path) = &manifest.source_path else {
        return false;
    };
    match document::load(Path::new(path)) {
        Ok(remembered) => remembered.parsed.frontmatter().dlm_id != front.dlm_id,
        Err(_) => true,
    }
}
