//! Recording a finished run, in the one order that a stop at any point cannot harm.
//!
//! Invariants: the version and the journal of what is to be recorded are on disk before the pointer names the version, the
//! pointer names it before anything speaks of it, the manifest is written after everything that it refers to, the lock is
//! last, and the journal is removed when all of that is done. So whoever finds a journal finishes what it says from it
//! alone: the document may have been edited since.

use std::collections::{BTreeMap, BTreeSet};

use dlm_core::SectionId;
use dlm_core::lock::DlmLock;
use dlm_core::manifest::{Manifest, RunRecord, RunStatus};
use dlm_core::stamp::Stamp;
use dlm_files::sha256_file;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::log::RunSummary;
use crate::replay::{AppendReport, Remember};
use crate::store::{StoreGuard, upsert_run};
use crate::version::{ADAPTER_CONFIG_FILE, ADAPTER_MODEL_FILE, CommittedVersion, PendingVersion};

/// Everything that is recorded about a finished run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunCommit {
    /// The run's record; status, version, adapter name, end and summary path are filled in.
    pub run: RunRecord,
    /// The run's summary; run number and version are filled in.
    pub summary: RunSummary,
    /// New text sections, to be replayed later.
    pub remember: Vec<Remember>,
    /// Removed sections and the new ones that took their place.
    pub superseded: Vec<(SectionId, SectionId)>,
    /// Ids of the current document, which eviction keeps.
    pub current_sections: BTreeSet<SectionId>,
    /// Bytes that the replay corpus may take.
    pub replay_budget_bytes: u64,
    /// Id and type of every section of the document; none while further adapters of the same document will be trained.
    pub content_hashes: Option<BTreeMap<String, String>>,
    /// The base that was trained on, as the document names it.
    pub base_model: String,
    /// Its commit or digest.
    pub base_model_revision: Option<String>,
    /// Digest of the base's files.
    pub base_model_sha256: Option<String>,
    /// Absolute path of the document.
    pub source_path: Option<String>,
    /// The determinism contract; none under `--ignore-lock`.
    pub lock: Option<DlmLock>,
    /// When the run ended.
    pub now: Stamp,
}

/// What recording a run did.
#[derive(Clone, Debug)]
pub struct CommitReport {
    pub version: CommittedVersion,
    /// The summary's file, relative to the store root.
    pub summary_path: String,
    pub replay: AppendReport,
    /// The manifest as written.
    pub manifest: Manifest,
}

impl StoreGuard {
    /// Commits a written version and records its run: journal, pointer, replay, summary, manifest, lock.
    ///
    /// **Errors** leave what was committed so far; the next writer completes the record from the journal.
    pub fn commit_run(&self, pending: PendingVersion<'_>, commit: RunCommit) -> Result<CommitReport, StoreError> {
        self.write_journal(pending.slot(), pending.number(), &commit)?;
        let version = pending.commit()?;
        let report = self.record_commit(version, commit)?;
        self.remove_journal()?;
        Ok(report)
    }

    /// Records a run whose version is current. Doing it again changes nothing.
    pub(crate) fn record_commit(
        &self,
        version: CommittedVersion,
        commit: RunCommit,
    ) -> Result<CommitReport, StoreError> {
        let replay = self.remember(&commit)?;
        let mut summary = commit.summary;
        summary.run_id = commit.run.run_id;
        summary.adapter_version = version.number;
        let summary_path = self.write_summary(commit.run.started_at, &summary)?;
        let run = RunRecord {
            adapter_version: version.number,
            adapter_name: version.slot.name().map(str::to_owned),
            ended_at: Some(commit.now),
            status: RunStatus::Completed,
            summary_path: Some(summary_path.clone()),
            ..commit.run
        };
        let digests = adapter_digests(&version)?;
        let manifest = self.update_manifest(commit.now, |manifest| {
            adopt_version(manifest, &version, digests);
            if let Some(hashes) = commit.content_hashes {
                manifest.content_hashes = hashes;
            }
            manifest.pinned_versions = run.pinned_versions.clone();
            manifest.base_model = commit.base_model;
            replace_if_known(&mut manifest.base_model_revision, commit.base_model_revision);
            // The digest of another base must not stay beside the new revision.
            manifest.base_model_sha256 = commit.base_model_sha256;
            replace_if_known(&mut manifest.source_path, commit.source_path);
            upsert_run(manifest, run);
        })?;
        if let Some(lock) = &commit.lock {
            self.write_determinism_lock(lock)?;
        }
        Ok(CommitReport {
            version,
            summary_path,
            replay,
            manifest,
        })
    }

    fn remember(&self, commit: &RunCommit) -> Result<AppendReport, StoreError> {
        let writer = self.replay_writer()?;
        let report = writer.append(&commit.remember, &commit.current_sections, commit.replay_budget_bytes)?;
        if !commit.superseded.is_empty() {
            writer.supersede(&commit.superseded)?;
        }
        Ok(report)
    }
}

fn replace_if_known(field: &mut Option<String>, value: Option<String>) {
    if value.is_some() {
        *field = value;
    }
}

/// Digests of a version's weights and configuration.
pub(crate) type AdapterDigests = (String, String);

pub(crate) fn adapter_digests(version: &CommittedVersion) -> Result<AdapterDigests, StoreError> {
    Ok((
        sha256_file(&version.directory.join(ADAPTER_MODEL_FILE))?,
        sha256_file(&version.directory.join(ADAPTER_CONFIG_FILE))?,
    ))
}

pub(crate) fn adopt_version(manifest: &mut Manifest, version: &CommittedVersion, digests: AdapterDigests) {
    match version.slot.name() {
        None => manifest.adapter_version = version.number,
        Some(name) => {
            manifest.adapter_versions.insert(name.to_owned(), version.number);
        }
    }
    (manifest.adapter_sha256, manifest.adapter_config_sha256) = (Some(digests.0), Some(digests.1));
}
