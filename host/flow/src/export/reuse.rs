//! The base's file of the export before, where a new one would be the same.
//!
//! Invariants: nothing is reused that was merged, of other weights, settings or rounding, or that is not what its record says;
//! what is reused was checked when it was written.
//! **Source:** `spec/export.md` section 20.

use std::path::Path;

use dlm_export::ModelPlan;
use dlm_files::{Disk, sha256_file};
use dlm_model::gguf::GgufFile;
use dlm_store::integrity::EXPORT_MANIFEST_FILE;
use serde_json::Value;

/// Largest record of an export that is read.
const RECORD_BYTES_MAX: u64 = 16 << 20;
/// Changes when the same plan is written as other bytes.
pub(super) const WRITER: &str = "1";

/// What the file must have been made of, beside its plan.
pub(super) struct MadeOf<'a> {
    pub base_revision: &'a str,
    pub imatrix_sha256: Option<&'a str>,
}

/// Gives the file `name` of the export in `place` a second name at `path`, where it is what `plan` would be written as.
///
/// It is judged by the second name: another command may put its own file in the place meanwhile.
pub(super) fn take(
    disk: &Disk,
    (place, name): (&Path, &str),
    path: &Path,
    plan: &ModelPlan,
    made_of: &MadeOf<'_>,
) -> bool {
    let record = dlm_files::read(&place.join(EXPORT_MANIFEST_FILE), RECORD_BYTES_MAX);
    let Some(record) = record.ok().flatten() else {
        return false;
    };
    let Ok(record) = serde_json::from_slice::<Value>(&record) else {
        return false;
    };
    let is_alike = record["quant"] == plan.quant.name()
        && record["merged"] == false
        && record["writer"] == WRITER
        && record["base_model_revision"] == made_of.base_revision
        && record["imatrix_sha256"].as_str() == made_of.imatrix_sha256;
    let artifacts = record["artifacts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let recorded = artifacts.iter().find(|artifact| artifact["path"] == name);
    let Some(recorded) = recorded
        .filter(|_| is_alike)
        .and_then(|artifact| artifact["sha256"].as_str())
    else {
        return false;
    };
    if disk.duplicate_tree(&place.join(name), path).is_err() {
        return false;
    }
    let is_same = is_planned(path, plan) && sha256_file(path).is_ok_and(|found| found == recorded);
    is_same || {
        // What cannot be removed is written over.
        drop(disk.remove_file(path));
        false
    }
}

/// Says whether the tables of a file are those of a plan.
fn is_planned(path: &Path, plan: &ModelPlan) -> bool {
    let Ok(file) = GgufFile::open(path) else {
        return false;
    };
    let header = file.header();
    let has = |(key, value): &(String, _)| header.metadata.get(key) == Some(value);
    header.metadata.len() == plan.metadata.len()
        && header.tensors.len() == plan.tensors.len()
        && plan.metadata.iter().all(has)
        && plan.tensors.iter().all(|tensor| {
            let found = header.tensors.get(&tensor.row.name);
            found.is_some_and(|info| info.shape == tensor.row.shape && info.dtype == tensor.row.ty)
        })
}
