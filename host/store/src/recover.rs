//! What the next writer does about a writer that died, and the checks of stored files behind it.
//!
//! Invariants: a version is only recorded when its files verify; nothing is deleted; everything done is told.

use std::path::Path;

use dlm_core::manifest::{Manifest, RunRecord, RunStatus};
use dlm_core::stamp::Stamp;
use dlm_files::{DiskError, sha256_file};
use safetensors::SafeTensors;

use crate::commit::{adapter_digests, adopt_version};
use crate::error::StoreError;
use crate::layout::AdapterSlot;
use crate::metrics::Strictness;
use crate::record;
use crate::state::{self, STATE_DIGEST_FILE, STATE_FILE, STATE_RNG_FILE, read_state, state_file};
use crate::store::{Store, StoreGuard, StoreNotice};
use crate::version::{self, ADAPTER_CONFIG_FILE, ADAPTER_MODEL_FILE, CommittedVersion, CurrentVersion, version_name};

/// Largest adapter that is read for a check.
const ADAPTER_BYTES_MAX: u64 = 16 << 30;
/// Largest adapter configuration that is read.
const CONFIG_BYTES_MAX: u64 = 16 << 20;

/// Why a stored version must not be used.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    #[error("`{file}` is missing")]
    Missing { file: &'static str },
    #[error("`{file}` is damaged: {reason}")]
    Damaged { file: &'static str, reason: String },
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Checks the files of a version directory: weights and configuration readable, state's digest right.
///
/// **Errors** with the first damage.
pub fn verify_version(directory: &Path) -> Result<(), Damage> {
    let file = ADAPTER_CONFIG_FILE;
    let bytes = dlm_files::read(&directory.join(file), CONFIG_BYTES_MAX)?.ok_or(Damage::Missing { file })?;
    record::object(&bytes).map_err(|flaw| damaged(file, &flaw))?;
    let file = ADAPTER_MODEL_FILE;
    let bytes = dlm_files::read(&directory.join(file), ADAPTER_BYTES_MAX)?.ok_or(Damage::Missing { file })?;
    SafeTensors::deserialize(&bytes).map_err(|error| damaged(file, &error))?;
    verify_state(directory)
}

/// A version without a state can be prompted and exported, only not resumed, so a missing one is no damage.
fn verify_state(directory: &Path) -> Result<(), Damage> {
    let state = state_file(directory, STATE_FILE);
    if !state.exists() {
        return Ok(());
    }
    let file = STATE_DIGEST_FILE;
    let bytes = dlm_files::read(&state_file(directory, file), CONFIG_BYTES_MAX)?.ok_or(Damage::Missing { file })?;
    let expected = String::from_utf8_lossy(&bytes).trim().to_owned();
    let found = sha256_file(&state)?;
    if found != expected {
        let reason = format!("its SHA-256 is {found}, its digest file says {expected}");
        return Err(Damage::Damaged {
            file: STATE_FILE,
            reason,
        });
    }
    if !state_file(directory, STATE_RNG_FILE).exists() {
        return Err(Damage::Missing { file: STATE_RNG_FILE });
    }
    Ok(())
}

fn damaged(file: &'static str, error: &dyn std::error::Error) -> Damage {
    Damage::Damaged {
        file,
        reason: error.to_string(),
    }
}

impl Store {
    /// Says whether a writer that died left something to complete or undo, as far as it can be seen without the lock.
    pub fn is_unsettled(&self) -> bool {
        if self.paths().journal().is_file() {
            return true;
        }
        let Ok(Some(manifest)) = self.manifest() else {
            return false;
        };
        let mut slots = vec![AdapterSlot::Flat];
        slots.extend(self.adapter_slots().unwrap_or_default());
        let is_ahead = |slot: &AdapterSlot| {
            let current = self.current_version(slot).ok().flatten();
            current.is_some_and(|current| current.number > Some(manifest.version_of(slot.name())))
        };
        let mut runs = manifest.training_runs.iter();
        runs.any(|run| run.status == RunStatus::Running) || slots.iter().any(is_ahead)
    }
}

impl StoreGuard {
    /// Completes or undoes what a dead writer left: the pointer ahead of the manifest, runs without an end, a
    /// compaction cut short.
    pub(crate) fn reconcile(&mut self, now: Stamp) -> Result<(), StoreError> {
        self.replay_writer()?;
        let mut completed = Vec::from_iter(self.finish_journal()?);
        let Some(mut manifest) = self.manifest()? else {
            return Ok(());
        };
        let before = manifest.clone();
        let mut slots = vec![AdapterSlot::Flat];
        slots.extend(self.adapter_slots()?);
        for slot in slots {
            // A pointer that leads nowhere is told by the command that needs it.
            let current = self.current_version(&slot).ok().flatten();
            if let Some(current) = current {
                completed.extend(self.reconcile_slot(&mut manifest, slot, current, now)?);
            }
        }
        let mut failed = Vec::new();
        for run in &mut manifest.training_runs {
            if run.status == RunStatus::Running {
                run.status = RunStatus::Failed;
                run.ended_at = Some(now);
                failed.push(StoreNotice::RunFailed { run_id: run.run_id });
            }
        }
        if manifest != before {
            manifest.updated_at = now;
            self.write_manifest(&manifest)?;
        }
        failed.into_iter().for_each(|notice| self.notice(notice));
        self.settle_metrics(now, &completed);
        Ok(())
    }

    /// Returns the number of the run that is recorded as completed now, if any.
    fn reconcile_slot(
        &mut self,
        manifest: &mut Manifest,
        slot: AdapterSlot,
        current: CurrentVersion,
        now: Stamp,
    ) -> Result<Option<u64>, StoreError> {
        let recorded = manifest.version_of(slot.name());
        let Some(number) = current.number.filter(|number| *number > recorded) else {
            return Ok(None);
        };
        if let Err(damage) = verify_version(&current.directory) {
            self.point_back(&slot, recorded)?;
            self.notice(StoreNotice::PointerReset {
                slot,
                damaged: number,
                version: recorded,
                reason: damage.to_string(),
            });
            return Ok(None);
        }
        let version = CommittedVersion {
            slot,
            number,
            directory: current.directory,
            relative: current.relative,
        };
        adopt_version(manifest, &version, adapter_digests(&version)?);
        let run_id = complete_run(manifest, &version, now);
        self.notice(StoreNotice::VersionRecorded {
            slot: version.slot,
            version: number,
            run_id,
        });
        Ok(Some(run_id))
    }

    fn point_back(&self, slot: &AdapterSlot, recorded: u32) -> Result<(), StoreError> {
        let name = version_name(recorded);
        if recorded > 0 && self.paths().versions(slot).join(&name).is_dir() {
            let relative = format!("{}/versions/{name}", slot.relative());
            version::point(self.disk(), self.paths(), slot, &relative)?;
        } else {
            self.disk().remove_file(&self.paths().pointer(slot))?;
        }
        Ok(())
    }

    /// The database is a report, not a record: one that is damaged is set aside, and what else is wrong with it is told and
    /// stops nothing.
    fn settle_metrics(&mut self, now: Stamp, completed: &[u64]) {
        if self.paths().metrics().symlink_metadata().is_err() {
            return;
        }
        let unusable = |reason: String| StoreNotice::MetricsUnusable { reason };
        match self.metrics_damage() {
            Ok(None) => {}
            Ok(Some(reason)) => {
                let notice = match self.set_metrics_aside(now) {
                    Ok(place) => StoreNotice::MetricsSetAside { place, reason },
                    Err(error) => unusable(error.to_string()),
                };
                return self.notice(notice);
            }
            Err(error) => return self.notice(unusable(error.to_string())),
        }
        let settled = self
            .metrics_recorder(Strictness::Strict)
            .and_then(|recorder| recorder.settle_running(now, completed));
        if let Err(error) = settled {
            self.notice(unusable(error.to_string()));
        }
    }
}

/// Marks the run that wrote a version as completed; a run that was never recorded gets a record of what is known.
fn complete_run(manifest: &mut Manifest, version: &CommittedVersion, now: Stamp) -> u64 {
    let name = version.slot.name();
    let started = manifest.training_runs.iter_mut().rev().find(|run| {
        run.status == RunStatus::Running && run.adapter_version == version.number && run.adapter_name.as_deref() == name
    });
    if let Some(run) = started {
        run.status = RunStatus::Completed;
        run.ended_at = Some(now);
        return run.run_id;
    }
    let fields = read_state(&version.directory)
        .map(|state| state.fields)
        .unwrap_or_default();
    let run_id = manifest.next_run_id();
    manifest.training_runs.push(RunRecord {
        run_id,
        started_at: now,
        ended_at: Some(now),
        adapter_version: version.number,
        base_model_revision: manifest.base_model_revision.clone(),
        seed: fields.get("seed").and_then(serde_json::Value::as_i64).unwrap_or(0),
        steps: fields.get("step").and_then(serde_json::Value::as_u64).unwrap_or(0),
        final_train_loss: None,
        final_val_loss: None,
        status: RunStatus::Completed,
        pinned_versions: manifest.pinned_versions.clone(),
        summary_path: None,
        adapter_name: name.map(str::to_owned),
        weight_distribution: None,
    });
    run_id
}

impl Store {
    /// Removes temporaries of dead writers in every directory where this program makes them.
    pub(crate) fn sweep(&self) -> Result<usize, DiskError> {
        let mut directories = vec![
            self.paths().root().to_owned(),
            self.paths().replay(),
            self.paths().logs(),
        ];
        directories.extend(["preference", "synth"].map(|command| self.paths().staging(command)));
        let mut slots = vec![AdapterSlot::Flat];
        slots.extend(self.adapter_slots()?);
        let mut removed = 0;
        for slot in &slots {
            directories.push(self.paths().slot(slot));
            let versions = self.paths().versions(slot);
            if let Some(last) = version::next_number(self.paths(), slot)
                .ok()
                .and_then(|next| next.checked_sub(1))
            {
                let last = versions.join(version::version_name(last));
                removed += state::settle(self.disk(), &last)?;
                directories.push(last);
            }
        }
        for directory in directories {
            removed += self.disk().sweep(&directory)?.len();
        }
        Ok(removed)
    }
}
