//! What `show` tells about a store, gathered without changing or creating anything.

use dlm_core::manifest::{Manifest, RunStatus};
use serde::Serialize;

use crate::error::StoreError;
use crate::layout::AdapterSlot;
use crate::state;
use crate::store::Store;
use crate::version::VersionEntry;

/// The facts about one store.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    pub manifest: Manifest,
    /// Whether the flat layout has a current version.
    pub has_adapter_current: bool,
    /// What is wrong with a pointer, one line each.
    pub pointer_problems: Vec<String>,
    /// Bytes below `replay/`.
    pub replay_size_bytes: u64,
    /// Bytes below the store's root.
    pub total_size_bytes: u64,
    /// Sorted by name.
    pub named_adapters: Vec<NamedAdapter>,
    /// What an interrupted run left and `--resume` goes on from; one a slot at most.
    pub resumable_versions: Vec<ResumableVersion>,
    /// Other versions that no completed and no running run accounts for, as paths relative to the store root.
    pub orphan_versions: Vec<String>,
    /// Versions whose weights were refused, as paths relative to the store root.
    pub rejected_versions: Vec<String>,
    /// State of `dlm.lock`.
    pub lock_status: LockStatus,
    /// Runs that are recorded as running while no process holds the store: they were killed. The next writer settles them.
    pub interrupted_runs: Vec<u64>,
}

/// One named adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedAdapter {
    pub name: String,
    pub has_current: bool,
    /// Largest version; 0 without versions.
    pub latest_version: u32,
}

/// A version that was never committed and that has a state to go on from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResumableVersion {
    /// Relative to the store root.
    pub path: String,
    pub number: u32,
    /// The step after which the state was kept.
    pub step: u64,
}

/// State of `dlm.lock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LockStatus {
    Absent,
    Ok,
    Unreadable,
}

impl Store {
    /// Gathers the facts; none when the store is not yet initialized.
    ///
    /// **Errors** when the manifest is corrupt or a directory cannot be read.
    pub fn inspect(&self) -> Result<Option<Inspection>, StoreError> {
        let Some(manifest) = self.manifest()? else {
            return Ok(None);
        };
        let mut inspection = Inspection {
            has_adapter_current: false,
            pointer_problems: Vec::new(),
            replay_size_bytes: dlm_files::tree_size(&self.paths().replay())?,
            total_size_bytes: dlm_files::tree_size(self.paths().root())?,
            named_adapters: Vec::new(),
            resumable_versions: Vec::new(),
            orphan_versions: Vec::new(),
            rejected_versions: Vec::new(),
            lock_status: match self.determinism_lock() {
                Ok(None) => LockStatus::Absent,
                Ok(Some(_)) => LockStatus::Ok,
                Err(_) => LockStatus::Unreadable,
            },
            interrupted_runs: match dlm_files::exclusive::is_held(&self.paths().exclusive_lock()) {
                true => Vec::new(),
                false => {
                    let runs = manifest.training_runs.iter();
                    let running = runs.filter(|run| run.status == RunStatus::Running);
                    running.map(|run| run.run_id).collect()
                }
            },
            manifest,
        };
        inspection.has_adapter_current = self.inspect_slot(&AdapterSlot::Flat, &mut inspection)?.0;
        for slot in self.adapter_slots()? {
            let (has_current, latest_version) = self.inspect_slot(&slot, &mut inspection)?;
            inspection.named_adapters.push(NamedAdapter {
                name: slot.name().unwrap_or_default().to_owned(),
                has_current,
                latest_version,
            });
        }
        Ok(Some(inspection))
    }

    fn inspect_slot(&self, slot: &AdapterSlot, inspection: &mut Inspection) -> Result<(bool, u32), StoreError> {
        let current = self.current_version(slot).unwrap_or_else(|error| {
            inspection.pointer_problems.push(error.to_string());
            None
        });
        let done = current.as_ref().map_or(0, |current| current.number.unwrap_or(0));
        let mut latest = 0;
        let mut resumable: Option<ResumableVersion> = None;
        for version in self.versions(slot)? {
            let path = format!("{}/versions/{}", slot.relative(), version.name);
            if version.is_rejected {
                inspection.rejected_versions.push(path);
                continue;
            }
            latest = latest.max(version.number);
            if version.is_current || is_accounted_for(inspection, slot, &version) {
                continue;
            }
            let directory = self.paths().versions(slot).join(&version.name);
            match state::kept_step(&directory).filter(|_| version.number > done) {
                // Only the newest is gone on from.
                Some(step) if resumable.as_ref().is_none_or(|other| other.number < version.number) => {
                    let number = version.number;
                    let older = resumable.replace(ResumableVersion { path, number, step });
                    inspection.orphan_versions.extend(older.map(|older| older.path));
                }
                _ => inspection.orphan_versions.push(path),
            }
        }
        inspection.resumable_versions.extend(resumable);
        Ok((current.is_some(), latest))
    }
}

/// Whether the version is of a run that came to its end, or that is at work on it now.
fn is_accounted_for(inspection: &Inspection, slot: &AdapterSlot, version: &VersionEntry) -> bool {
    inspection.manifest.training_runs.iter().any(|run| {
        let is_at_work = run.status == RunStatus::Running && !inspection.interrupted_runs.contains(&run.run_id);
        (run.status == RunStatus::Completed || is_at_work)
            && run.adapter_version == version.number
            && run.adapter_name.as_deref() == slot.name()
    })
}
