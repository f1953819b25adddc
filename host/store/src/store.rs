//! The store of one document: a handle that reads, and a guard, held by the one writer, that writes.
//!
//! Invariants: nothing is created by reading; every write needs the guard, so two writers cannot compile away the lock;
//! the guard's first act is to clear what a killed writer left behind, and it tells what it did.

use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use dlm_core::Ulid;
use dlm_core::lock::DlmLock;
use dlm_core::manifest::{ExportRecord, Manifest, RunRecord, RunStatus};
use dlm_core::stamp::Stamp;
use dlm_files::{Disk, DiskError, ExclusiveLock, LockWait};

use crate::determinism::{self, DeterminismLockError};
use crate::error::StoreError;
use crate::layout::{AdapterSlot, Home, StorePaths};
use crate::manifest::{self, ManifestError};

/// How long `train`, a watch cycle and replacing a store wait for another writer.
pub const WAIT_TRAIN: Duration = Duration::ZERO;
/// How long recording an export waits: the export itself is done by then, and worth waiting for.
pub const WAIT_EXPORT: Duration = Duration::from_secs(60);
/// How long packing, cleaning a cache and staging wait.
pub const WAIT_HOUSEKEEPING: Duration = Duration::from_secs(5);

/// Something that the store did by itself and that the user must hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreNotice {
    /// The lock of a process that died was taken over.
    LockTakenOver { pid: u32 },
    /// Half-written files of dead writers were removed.
    LeftoversRemoved { files: usize },
    /// A version was committed by a run that died before it was recorded; it is recorded now.
    VersionRecorded {
        slot: AdapterSlot,
        version: u32,
        run_id: u64,
    },
    /// The pointer named a damaged version that was never recorded; it points at the recorded one again.
    PointerReset {
        slot: AdapterSlot,
        damaged: u32,
        version: u32,
        reason: String,
    },
    /// A run that died is recorded as failed.
    RunFailed { run_id: u64 },
    /// The database of metrics was damaged; a new one is begun.
    MetricsSetAside { place: PathBuf, reason: String },
    /// The database of metrics could not be brought up to date.
    MetricsUnusable { reason: String },
}

impl fmt::Display for StoreNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreNotice::LockTakenOver { pid } => {
                write!(f, "process {pid} died while it held the store; its lock was taken over")
            }
            StoreNotice::LeftoversRemoved { files } => {
                write!(f, "removed {files} half-written file(s) of writers that died")
            }
            StoreNotice::VersionRecorded { slot, version, run_id } => write!(
                f,
                "{slot} v{version:04} was committed by a run that died before it was recorded; recorded as run {run_id}"
            ),
            StoreNotice::PointerReset {
                slot,
                damaged,
                version,
                reason,
            } => write!(
                f,
                "{slot} v{damaged:04} was never recorded and is damaged ({reason}); the current version is v{version:04} again"
            ),
            StoreNotice::RunFailed { run_id } => {
                write!(f, "run {run_id} did not end; it is recorded as failed")
            }
            StoreNotice::MetricsSetAside { place, reason } => write!(
                f,
                "the metrics database was damaged ({reason}); it is set aside as {}, and a new one is begun",
                place.display()
            ),
            StoreNotice::MetricsUnusable { reason } => {
                write!(f, "metrics of earlier runs could not be completed: {reason}")
            }
        }
    }
}

/// The store of one document, for reading; it need not exist.
#[derive(Clone, Debug)]
pub struct Store {
    paths: StorePaths,
    disk: Disk,
}

impl Store {
    /// Names the store of a document; touches nothing.
    pub fn new(home: &Home, dlm_id: &Ulid) -> Self {
        Self::at(home.store_root(dlm_id), Disk::new().private())
    }

    /// Names the store at a directory, with chosen access to the disk; touches nothing.
    pub fn at(root: impl Into<PathBuf>, disk: Disk) -> Self {
        Self {
            paths: StorePaths::new(root),
            disk,
        }
    }

    /// Removes what an `init` that was killed before the store had a manifest left half: nobody opens such a store again.
    ///
    /// **Errors** name the path.
    pub fn sweep_unborn(home: &Home, disk: &Disk) -> Result<(), DiskError> {
        for entry in dlm_files::list(&home.stores())? {
            let paths = StorePaths::new(home.stores().join(&entry.name));
            if !entry.is_directory || paths.manifest().exists() {
                continue;
            }
            // Only where a dead writer's file was: who makes a store right now has none such in it.
            if !disk.sweep(paths.root())?.is_empty() && dlm_files::list(paths.root())?.is_empty() {
                disk.remove_tree(paths.root())?;
            }
        }
        Ok(())
    }

    /// Its paths.
    pub fn paths(&self) -> &StorePaths {
        &self.paths
    }

    /// Its access to the disk.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The manifest; none when the store is not yet initialized.
    ///
    /// **Errors** name the file and what is wrong with it.
    pub fn manifest(&self) -> Result<Option<Manifest>, ManifestError> {
        manifest::load_manifest(&self.paths.manifest())
    }

    /// The determinism contract of the last run; none before the first.
    ///
    /// **Errors** name the file and what is wrong with it.
    pub fn determinism_lock(&self) -> Result<Option<DlmLock>, DeterminismLockError> {
        determinism::load_lock(&self.paths.determinism_lock())
    }

    /// Becomes the store's one writer; makes the store's directory if there is none, clears leftovers, and completes or
    /// undoes what a writer that died had begun. What it did is in [`StoreGuard::take_notices`].
    ///
    /// **Errors** name the holder when another writer is at work, or the file that is corrupt.
    pub fn lock(&self, wait: &LockWait) -> Result<StoreGuard, StoreError> {
        let mut guard = self.lock_unreconciled(wait)?;
        guard.reconcile(wait.now)?;
        Ok(guard)
    }

    /// As [`Store::lock`] without looking at what is stored; for replacing a store that may be corrupt.
    ///
    /// **Errors** name the holder when another writer is at work.
    pub fn lock_unreconciled(&self, wait: &LockWait) -> Result<StoreGuard, StoreError> {
        self.disk.create_directories(self.paths.root())?;
        // What a document says is nobody else's business; earlier versions left that to the user's mask.
        self.disk.close_to_others(self.paths.root())?;
        let lock = ExclusiveLock::acquire(&self.disk, &self.paths.exclusive_lock(), wait)?;
        let mut notices = Vec::new();
        if let Some(holder) = &lock.replaced {
            notices.push(StoreNotice::LockTakenOver { pid: holder.pid });
        }
        let files = self.sweep()?;
        if files > 0 {
            notices.push(StoreNotice::LeftoversRemoved { files });
        }
        Ok(StoreGuard {
            store: self.clone(),
            lock,
            notices,
        })
    }

    /// The named adapters that have versions, sorted by name.
    ///
    /// **Errors** name the path.
    pub fn adapter_slots(&self) -> Result<Vec<AdapterSlot>, DiskError> {
        let directory = self.paths.adapter();
        let mut slots = Vec::new();
        for entry in dlm_files::list(&directory)? {
            let has_versions = entry.is_directory && directory.join(&entry.name).join("versions").is_dir();
            if let (true, Ok(slot)) = (has_versions, AdapterSlot::named(&entry.name)) {
                slots.push(slot);
            }
        }
        Ok(slots)
    }
}

/// The right to write, held by one process at a time; dropping it gives it back.
#[derive(Debug)]
pub struct StoreGuard {
    store: Store,
    lock: ExclusiveLock,
    notices: Vec<StoreNotice>,
}

impl Deref for StoreGuard {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl StoreGuard {
    /// Hands over what the store did by itself since the last call.
    pub fn take_notices(&mut self) -> Vec<StoreNotice> {
        std::mem::take(&mut self.notices)
    }

    pub(crate) fn notice(&mut self, notice: StoreNotice) {
        self.notices.push(notice);
    }

    /// Makes the directories and the first manifest of a store; an existing manifest is an error of the caller.
    ///
    /// **Errors** name the path; the manifest is written last.
    pub fn initialize(&self, first: &Manifest) -> Result<(), StoreError> {
        let versions = self.paths().versions(&AdapterSlot::Flat);
        self.disk().create_directories(&versions)?;
        self.disk().create_directories(&self.paths().logs())?;
        self.write_manifest(first)?;
        Ok(())
    }

    /// Replaces the manifest.
    ///
    /// **Errors** when it breaks a rule or the disk fails; the old one then stays.
    pub fn write_manifest(&self, manifest: &Manifest) -> Result<(), ManifestError> {
        manifest::save_manifest(self.disk(), &self.paths().manifest(), manifest)
    }

    /// Loads the manifest, lets `change` edit it, stamps it with `now` and writes it; returns what was written.
    ///
    /// **Errors** when there is none, or as [`StoreGuard::write_manifest`].
    pub fn update_manifest(&self, now: Stamp, change: impl FnOnce(&mut Manifest)) -> Result<Manifest, ManifestError> {
        let path = self.paths().manifest();
        let mut manifest = self.manifest()?.ok_or(ManifestError::Missing { path })?;
        change(&mut manifest);
        manifest.updated_at = now;
        self.write_manifest(&manifest)?;
        Ok(manifest)
    }

    /// Records a run: replaces the record with the same number, or adds it.
    ///
    /// **Errors** as [`StoreGuard::update_manifest`].
    pub fn record_run(&self, now: Stamp, run: RunRecord) -> Result<Manifest, ManifestError> {
        self.update_manifest(now, |manifest| upsert_run(manifest, run))
    }

    /// Records how a run ended that committed nothing.
    ///
    /// **Errors** as [`StoreGuard::update_manifest`]; a number that was never recorded changes nothing.
    pub fn end_run(&self, now: Stamp, run_id: u64, status: RunStatus, steps: u64) -> Result<Manifest, ManifestError> {
        self.update_manifest(now, |manifest| {
            for run in manifest.training_runs.iter_mut().filter(|run| run.run_id == run_id) {
                run.status = status;
                run.steps = steps;
                run.ended_at = Some(now);
            }
        })
    }

    /// Records an export.
    ///
    /// **Errors** as [`StoreGuard::update_manifest`].
    pub fn record_export(&self, now: Stamp, export: ExportRecord) -> Result<Manifest, ManifestError> {
        self.update_manifest(now, |manifest| manifest.exports.push(export))
    }

    /// Writes the determinism contract; the last act of a successful run.
    ///
    /// **Errors** when it breaks a rule or the disk fails; the old one then stays.
    pub fn write_determinism_lock(&self, lock: &DlmLock) -> Result<(), DeterminismLockError> {
        determinism::save_lock(self.disk(), &self.paths().determinism_lock(), lock)
    }

    /// Gives the lock back and says whether it was still ours; if not, another writer broke it meanwhile.
    ///
    /// **Errors** name the path.
    pub fn release(self) -> Result<bool, DiskError> {
        self.lock.release()
    }
}

pub(crate) fn upsert_run(manifest: &mut Manifest, run: RunRecord) {
    let known = manifest
        .training_runs
        .iter_mut()
        .find(|known| known.run_id == run.run_id);
    match known {
        Some(known) => *known = run,
        None => manifest.training_runs.push(run),
    }
}
