//! The lock file, or the record of the trusted keys, cannot be used.

use std::path::PathBuf;

use dlm_core::shell_quoted;

use super::{Diagnose, Diagnosis, FilesError, quoted};

/// Why the lock file was not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum LockFileError {
    #[error("the lock file `{}` cannot be used: {cause}", path.display())]
    Damaged { path: PathBuf, cause: String },
    #[error(transparent)]
    Files(#[from] FilesError),
}

impl Diagnose for LockFileError {
    fn diagnosis(&self) -> Diagnosis {
        match self {
            LockFileError::Damaged { path, .. } => Diagnosis::runtime("plugin::lock")
                .hint(format!(
                    "put back a copy of it, or start anew: mv {} {}",
                    quoted(path),
                    shell_quoted(&format!("{}.damaged", path.display()))
                ))
                .hint("then install each plugin again: dlm plugin install SRC"),
            LockFileError::Files(error) => error.diagnosis(),
        }
    }
}
