//! The settings of plugins cannot be used.

use std::path::PathBuf;

use super::{Diagnose, Diagnosis, FilesError};

/// Why settings were not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("the settings in `{}` are wrong: {cause}", path.display())]
    Wrong { path: PathBuf, cause: String },
    #[error(transparent)]
    Files(#[from] FilesError),
}

impl Diagnose for SettingsError {
    fn diagnosis(&self) -> Diagnosis {
        match self {
            SettingsError::Wrong { .. } => Diagnosis::runtime("plugin::settings"),
            SettingsError::Files(error) => error.diagnosis(),
        }
    }
}
