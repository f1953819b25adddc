//! Reading and writing `manifest.json`.
//!
//! Invariants: what was loaded and saved again has the same bytes; a file of another version or with unknown keys is
//! refused, never guessed at.

use std::path::{Path, PathBuf};

use dlm_core::manifest::{MANIFEST_SCHEMA_VERSION, Manifest, RecordProblem};
use dlm_core::{Hints, Subject};
use dlm_files::{Disk, DiskError};
use serde_json::Value;

use crate::json;
use crate::record::{self, Flaw};

/// Largest manifest that is read; ten thousand runs take about 8 MiB.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// A manifest that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("{}: manifest is corrupt: {flaw}", path.display())]
    Corrupt {
        path: PathBuf,
        #[source]
        flaw: Flaw,
    },
    #[error(
        "{}: manifest is corrupt: `schema_version` is {found}, this program reads {MANIFEST_SCHEMA_VERSION}; it requires migration",
        path.display()
    )]
    Version { path: PathBuf, found: String },
    #[error("{}: the new manifest breaks a rule and was not written: {source}", path.display())]
    Refused { path: PathBuf, source: RecordProblem },
    #[error("{}: there is no manifest; the store is not yet initialized", path.display())]
    Missing { path: PathBuf },
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Hints for ManifestError {
    fn subject(&self) -> Subject {
        match self {
            ManifestError::Disk(error) => error.subject(),
            _ => Subject::Store,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            ManifestError::Corrupt { path, .. } => vec![format!(
                "restore `{0}` from a pack or backup, or move it away and run `dlm train` to begin a new history beside the kept adapters",
                path.display()
            )],
            ManifestError::Version { .. } => {
                vec!["use the version of dlm that wrote this store, or a newer one".to_owned()]
            }
            ManifestError::Missing { .. } => vec!["run `dlm train <document>` first".to_owned()],
            ManifestError::Refused { .. } => Vec::new(),
            ManifestError::Disk(error) => error.hints(),
        }
    }
}

/// Loads the manifest at `path`; none when there is no file.
///
/// **Errors** name the path and what is wrong.
pub fn load_manifest(path: &Path) -> Result<Option<Manifest>, ManifestError> {
    let corrupt = |flaw| ManifestError::Corrupt {
        path: path.to_owned(),
        flaw,
    };
    let bytes = dlm_files::read(path, MANIFEST_BYTES_MAX).map_err(|error| corrupt(Flaw::Unreadable(error)))?;
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    let map = record::object(&bytes).map_err(corrupt)?;
    let version = map.get("schema_version");
    let is_ours = version.is_none_or(|found| found.as_u64() == Some(u64::from(MANIFEST_SCHEMA_VERSION)));
    if !is_ours {
        return Err(ManifestError::Version {
            path: path.to_owned(),
            found: version.map(Value::to_string).unwrap_or_default(),
        });
    }
    let manifest: Manifest = record::parse(&bytes).map_err(corrupt)?;
    manifest.check().map_err(|problem| corrupt(Flaw::Rule(problem)))?;
    Ok(Some(manifest))
}

/// Writes the manifest at `path` atomically.
pub(crate) fn save_manifest(disk: &Disk, path: &Path, manifest: &Manifest) -> Result<(), ManifestError> {
    manifest.check().map_err(|source| ManifestError::Refused {
        path: path.to_owned(),
        source,
    })?;
    Ok(disk.write(path, manifest_text(manifest).as_bytes())?)
}

/// The exact text of a manifest's file.
pub fn manifest_text(manifest: &Manifest) -> String {
    let value = serde_json::to_value(manifest).expect("a manifest has only text keys");
    json::pretty(&value)
}
