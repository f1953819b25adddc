//! The determinism contract of a run, against the one that the store recorded: `dlm.lock`.

use std::collections::BTreeMap;

use dlm_core::Event;
use dlm_core::digest::sha256_hex;
use dlm_core::lock::{DlmLock, ENGINE_PIN, HardwareTier, LOCK_VERSION};
use dlm_core::manifest::Manifest;
use dlm_core::training::Optimizer;
use dlm_plan::base::BaseLocation;
use dlm_plan::lock::{LockMode, decide};
use dlm_store::Store;
use serde_json::json;

use super::prepared::PreparedRun;
use crate::failure::Failure;
use crate::surroundings::Surroundings;

/// Versions of what influences the numbers of a run.
pub(super) fn pinned_versions() -> BTreeMap<String, String> {
    BTreeMap::from([(ENGINE_PIN.to_owned(), env!("CARGO_PKG_VERSION").to_owned())])
}

/// Returns the contract of the run that is about to start.
pub(super) fn current_lock(around: &Surroundings, prepared: &PreparedRun, manifest: &Manifest) -> DlmLock {
    let front = prepared.document.parsed.frontmatter();
    let plan = &prepared.plan;
    let mut flags = BTreeMap::from([
        ("precision".to_owned(), json!(plan.precision.value.name())),
        ("simd".to_owned(), json!(plan.simd.value.name())),
    ]);
    // The usual optimizer is not said: locks that were written before there was another one stay equal.
    if let Some(optimizer) = plan.phases.first().map(|phase| phase.optimizer.value)
        && optimizer != Optimizer::AdamW
    {
        flags.insert("optimizer".to_owned(), json!(optimizer.name()));
    }
    if plan.four_bits.value {
        flags.insert("base_weights".to_owned(), json!("nf4"));
    }
    DlmLock {
        lock_version: LOCK_VERSION,
        created_at: around.now().zoned(),
        dlm_id: front.dlm_id.as_str().to_owned(),
        dlm_sha256: sha256_hex(&prepared.document.text),
        base_model_revision: prepared.base.resolved.record.revision.clone(),
        base_model_sha256: base_sha256(prepared),
        pinned_versions: pinned_versions(),
        cuda_version: None,
        rocm_version: None,
        hardware_tier: HardwareTier::Cpu,
        seed: plan.seed.value,
        determinism_flags: flags,
        determinism_class: plan.determinism,
        license_acceptance: manifest.license_acceptance.clone(),
        last_run_id: manifest.next_run_id(),
        world_size: plan.world_size,
    }
}

/// Compares a contract with the recorded one; warns of what differs, or refuses, as the mode says.
pub(super) fn check_lock(
    around: &Surroundings,
    store: &Store,
    current: &DlmLock,
    mode: LockMode,
) -> Result<(), Failure> {
    let recorded = match store.determinism_lock() {
        Ok(recorded) => recorded,
        Err(_) if mode.replaces_unreadable() => None,
        Err(error) => return Err(error.into()),
    };
    let decision = decide(recorded.as_ref(), current, mode, &store.paths().determinism_lock())?;
    for warning in decision.warnings() {
        around.progress.event(Event::Warning(format!("lock: {warning}")));
    }
    Ok(())
}

fn base_sha256(prepared: &PreparedRun) -> Option<String> {
    match &prepared.base.resolved.location {
        BaseLocation::Local(local) => Some(local.sha256.clone()),
        BaseLocation::Hub { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use dlm_core::Determinism;
    use dlm_plan::lock::{Severity, compare};

    use super::*;

    /// The lock was compared by a pin that was never written, so this refusal could not happen.
    #[test]
    fn a_new_major_version_of_the_program_is_an_error_against_the_lock_it_wrote() {
        let lock = |pinned_versions| DlmLock {
            lock_version: LOCK_VERSION,
            created_at: "2026-04-19T18:30:14Z".to_owned(),
            dlm_id: "01HZ4X7TGZM3J1A2B3C4D5E6F7".to_owned(),
            dlm_sha256: "a".repeat(64),
            base_model_revision: "rev1".to_owned(),
            base_model_sha256: None,
            pinned_versions,
            cuda_version: None,
            rocm_version: None,
            hardware_tier: HardwareTier::Cpu,
            seed: 42,
            determinism_flags: BTreeMap::new(),
            determinism_class: Determinism::BestEffort,
            license_acceptance: None,
            last_run_id: 1,
            world_size: 1,
        };
        let written = pinned_versions();
        let later = written
            .keys()
            .map(|name| (name.clone(), "1000.0.0".to_owned()))
            .collect();
        let weights: Vec<_> = compare(&lock(written), &lock(later))
            .iter()
            .map(|one| one.severity)
            .collect();
        assert_eq!(weights, [Severity::Error]);
    }
}
