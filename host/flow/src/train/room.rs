//! Refusals for want of room: a base that no document could train here, before it is downloaded, and a disk that would be
//! full before the run ends, before a weight is loaded.

use dlm_core::base::BaseRecord;
use dlm_plan::base::{BaseFacts, ResolvedBase};
use dlm_plan::train::{DocumentFacts, TrainOptions, TrainRequest};
use dlm_plan::{DiskNeed, PlanError, check_disk};

use super::prepared::PreparedRun;
use crate::failure::Failure;
use crate::speed::Speed;
use crate::surroundings::Surroundings;

/// Bytes of a parameter of the base as the preflight counts them.
const BYTES_PER_PARAMETER: u64 = 2;

/// Refuses a base whose record alone says that it is not trained: one that is never downloaded to find that out.
pub(super) fn check_kind(record: &BaseRecord) -> Result<(), PlanError> {
    let base = record.key.clone();
    if record.trust_remote_code {
        return Err(PlanError::RemoteCode { base });
    }
    match record.modality.is_text() {
        true => Ok(()),
        false => Err(PlanError::ModalityNotBuilt {
            base,
            modality: record.modality.name(),
        }),
    }
}

/// Refuses a base that the document could not train on this machine, before its files are fetched or its tokenizer has work;
/// `least` is the least that the document holds.
///
/// **Errors** with the plan's refusal and its figures; what only the base's files can tell is left for later.
pub(super) fn check_base(
    around: &Surroundings,
    resolved: &ResolvedBase,
    least: &DocumentFacts,
    options: &TrainOptions,
    speed: &Speed,
) -> Result<(), Failure> {
    // A base whose sizes are not known before its files are here is planned when they are.
    let Ok(base) = BaseFacts::new(resolved) else {
        return Ok(());
    };
    let request = TrainRequest {
        document: least,
        base: &base,
        hardware: &around.hardware,
        options,
    };
    speed.plan(around, &request)?;
    Ok(())
}

/// Refuses a run whose files would not fit on the disk of the stores.
///
/// **Errors** with what is free and what is needed; `DLM_FORCE` passes.
pub(super) fn check_space(around: &Surroundings, prepared: &PreparedRun) -> Result<(), Failure> {
    let root = around.home.root();
    // The home may not exist yet; its disk is that of the nearest directory that does.
    let place = root.ancestors().find(|directory| directory.exists());
    let Some(free) = place.and_then(dlm_files::free_bytes) else {
        return Ok(());
    };
    let need = DiskNeed {
        base_fp16_bytes: prepared.base.facts.params * BYTES_PER_PARAMETER,
        replay_bytes: prepared.document.text.len() as u64,
        ..DiskNeed::default()
    };
    match check_disk(&root.display().to_string(), &need, free) {
        Err(error) if !around.is_forced => Err(error.into()),
        _ => Ok(()),
    }
}
