//! The files of an export as they are told to targets and put on record.

use std::path::PathBuf;

use dlm_core::Subject;
use dlm_core::ports::target::{Artifact, ArtifactKind};

use super::{ExportedFile, ModelCheck};
use crate::failure::Failure;

/// The files that were made, and what their check found.
pub(super) struct WrittenArtifacts {
    pub artifacts: Vec<Artifact>,
    pub verified: Vec<ModelCheck>,
    pub notes: Vec<String>,
    /// What lies beside them and is none of the target's business.
    pub beside: Vec<ExportedFile>,
    pub imatrix_sha256: Option<String>,
    /// The model file is that of the export before.
    pub is_base_cached: bool,
}

/// Reads a file that was written back, to tell its size and digest.
pub(super) fn artifact(name: &str, kind: ArtifactKind, path: &PathBuf) -> Result<Artifact, Failure> {
    let fail =
        |e: std::io::Error| Failure::new(Subject::Export, format!("{} cannot be read back: {e}", path.display()));
    let file = std::fs::File::open(path).map_err(fail)?;
    let (sha256, size) = dlm_files::digest::sha256_of(file).map_err(fail)?;
    Ok(Artifact {
        name: artifact_name(name),
        kind,
        path: path.clone(),
        size,
        sha256,
        staged_path: Some(name.to_owned()),
    })
}

/// Targets know artefacts by fixed names; the file on disk says its type too.
pub(super) fn artifact_name(name: &str) -> String {
    match name.split('.').next() {
        Some("base") => "base.gguf".to_owned(),
        Some("merged") => "merged.gguf".to_owned(),
        _ => name.to_owned(),
    }
}
