//! A run under the store's lock: everything that was checked before a weight is loaded.

use std::path::Path;
use std::time::Duration;

use dlm_core::Subject;
use dlm_core::lock::DlmLock;
use dlm_core::manifest::{Manifest, RunRecord, RunStatus};
use dlm_core::stamp::Stamp;
use dlm_plan::base::license::LicenseDecision;
use dlm_plan::lock::LockMode;
use dlm_plan::train::PhasePlan;
use dlm_store::{ExclusiveError, Store, StoreError, StoreGuard};

use super::command::TrainCommand;
use super::lane::Lane;
use super::prepared::PreparedRun;
use super::{pins, resume, room};
use crate::document;
use crate::failure::Failure;
use crate::surroundings::Surroundings;

/// One phase of a run; the store stays locked as long as it lives.
pub struct Job<'a> {
    pub(super) around: &'a Surroundings,
    pub(super) command: &'a TrainCommand,
    pub(super) prepared: &'a PreparedRun,
    pub(super) phase: &'a PhasePlan,
    pub(super) turn: Turn,
    /// As the prepared one, with the version that is current now.
    pub(super) lane: Lane,
    pub(super) store: Store,
    pub(super) guard: StoreGuard,
    pub(super) manifest: Manifest,
    pub(super) lock: DlmLock,
    pub(super) mode: LockMode,
    pub(super) started: f64,
}

/// Where a job stands among those of its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The version that is current before it.
    pub version: u32,
    /// Whether it goes on from a state that is kept.
    pub is_resume: bool,
    /// Whether it is the first of its adapter.
    pub is_first: bool,
}

impl Turn {
    /// The first turn of an adapter.
    pub fn first(command: &TrainCommand, prepared: &PreparedRun) -> Turn {
        Turn {
            version: prepared.lane.version,
            is_resume: command.is_resume,
            is_first: true,
        }
    }
}

/// Completes what a run of the document that died left behind, so that the next one is planned on what is there. A store that
/// another process holds is told when it is needed.
///
/// **Errors:** a document that does not parse, a store that cannot be mended.
pub fn settle(around: &Surroundings, document: &Path) -> Result<(), Failure> {
    let document = document::load(document)?;
    let store = around.store(&document.parsed.frontmatter().dlm_id);
    if !store.is_unsettled() {
        return Ok(());
    }
    match around.lock(&store, Duration::ZERO) {
        Ok(mut guard) => {
            tell(around, &mut guard);
            guard.release()?;
            Ok(())
        }
        Err(StoreError::Exclusive(ExclusiveError::Held { .. } | ExclusiveError::HeldElsewhere { .. })) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Tells what the store did by itself.
fn tell(around: &Surroundings, guard: &mut StoreGuard) {
    for notice in guard.take_notices() {
        around.note(format!("store: {notice}"));
    }
}

impl<'a> Job<'a> {
    /// Locks the store and refuses what can be refused without a weight.
    ///
    /// **Errors:** another program at work, a store that changed since the plan, a lock that forbids the run, no room on
    /// the disk, nothing to resume.
    pub fn begin(
        around: &'a Surroundings,
        command: &'a TrainCommand,
        prepared: &'a PreparedRun,
        phase: &'a PhasePlan,
        turn: Turn,
    ) -> Result<Job<'a>, Failure> {
        let started = around.clock.seconds();
        let mode = command.lock.mode()?;
        let store = around.store(&prepared.document.parsed.frontmatter().dlm_id);
        let mut guard = around.lock(&store, Duration::ZERO)?;
        tell(around, &mut guard);
        let manifest = ensure_manifest(around, &store, &guard, prepared)?;
        let lane = Lane {
            version: turn.version,
            ..prepared.lane.clone()
        };
        lane.check_unchanged(&manifest)?;
        if turn.is_first {
            prepared.replay.admit(around, &guard)?;
        }
        let lock = pins::current_lock(around, prepared, &manifest);
        pins::check_lock(around, &store, &lock, mode)?;
        room::check_space(around, prepared)?;
        if turn.is_resume {
            resume::check_any(&store, &lane)?;
        }
        Ok(Job {
            around,
            command,
            prepared,
            phase,
            turn,
            lane,
            store,
            guard,
            manifest,
            lock,
            mode,
            started,
        })
    }

    /// The record of this run when it begins.
    pub(super) fn record(&self, run_id: u64, version: u32, started_at: Stamp) -> RunRecord {
        RunRecord {
            run_id,
            started_at,
            ended_at: None,
            adapter_version: version,
            base_model_revision: Some(self.prepared.base.resolved.record.revision.clone()),
            seed: self.prepared.plan.seed.value,
            steps: 0,
            final_train_loss: None,
            final_val_loss: None,
            status: RunStatus::Running,
            pinned_versions: pins::pinned_versions(),
            summary_path: None,
            adapter_name: self.lane.name().map(str::to_owned),
            weight_distribution: None,
        }
    }
}

/// Returns the manifest, making the store when `dlm init` did not, and records a license accepted by flag.
fn ensure_manifest(
    around: &Surroundings,
    store: &Store,
    guard: &StoreGuard,
    prepared: &PreparedRun,
) -> Result<Manifest, Failure> {
    let front = prepared.document.parsed.frontmatter();
    if store.manifest()?.is_none() {
        guard.initialize(&Manifest::new(front.dlm_id.as_str(), &front.base_model, around.now()))?;
    }
    if let LicenseDecision::Record { url, spdx, via } = &prepared.license {
        guard.update_manifest(around.now(), |manifest| {
            manifest.license_acceptance = Some(dlm_core::base::LicenseAcceptance {
                accepted_at: around.now().naive(),
                license_url: url.clone(),
                license_spdx: spdx.clone(),
                via: *via,
            });
        })?;
    }
    store
        .manifest()?
        .ok_or_else(|| Failure::new(Subject::Store, "the manifest vanished while the store was locked"))
}
