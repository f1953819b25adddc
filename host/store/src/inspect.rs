//! What `show` tells about a store, gathered without changing or creating anything.

use dlm_core::manifest::{Manifest, RunStatus};
use serde::Serialize;

use crate::disk;
use crate::exclusive;
use crate::layout::AdapterSlot;
use crate::store::{Store, StoreError};
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
    /// Versions that no completed run accounts for, as paths relative to the store root.
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
            replay_size_bytes: disk::tree_size(&self.paths().replay())?,
            total_size_bytes: disk::tree_size(self.paths().root())?,
            named_adapters: Vec::new(),
            orphan_versions: Vec::new(),
            rejected_versions: Vec::new(),
            lock_status: match self.determinism_lock() {
                Ok(None) => LockStatus::Absent,
                Ok(Some(_)) => LockStatus::Ok,
                Err(_) => LockStatus::Unreadable,
            },
            interrupted_runs: match exclusive::is_held(&self.paths().exclusive_lock()) {
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
        let has_current = match self.current_version(slot) {
            Ok(current) => current.is_some(),
            Err(error) => {
                inspection.pointer_problems.push(error.to_string());
                false
            }
        };
        let mut latest = 0;
        for version in self.versions(slot)? {
            let relative = format!("{}/versions/{}", slot.relative(), version.name);
            if version.is_rejected {
                inspection.rejected_versions.push(relative);
                continue;
            }
            latest = latest.max(version.number);
            if !version.is_current && !is_accounted_for(&inspection.manifest, slot, &version) {
                inspection.orphan_versions.push(relative);
            }
        }
        Ok((has_current, latest))
    }
}

fn is_accounted_for(manifest: &Manifest, slot: &AdapterSlot, version: &VersionEntry) -> bool {
    manifest.training_runs.iter().any(|run| {
        run.status == RunStatus::Completed
            && run.adapter_version == version.number
            && run.adapter_name.as_deref() == slot.name()
    })
}
