//! What has the name that was asked for and is not it: files that were never trusted, and other versions.

use std::path::{Path, PathBuf};

use dlm_core::digest::sha256_hex;
use dlm_core::inert::inert_line;
use semver::VersionReq;

use super::{FoundPlugin, read_file};
use crate::error::{FilesError, FindError};

/// What has the name and is not it.
#[derive(Default)]
pub(super) struct PassedOver {
    pub untrusted: Vec<PathBuf>,
    pub versions: Vec<String>,
}

impl PassedOver {
    /// What the user should know beside the plugin that is used.
    pub fn remarks(&self, used: &FoundPlugin) -> Vec<String> {
        let line = |path: &PathBuf| {
            format!(
                "`{}` was never trusted and is not used; `{}` {} is the {} one",
                inert_line(&path.display().to_string()),
                used.manifest.name,
                used.manifest.version,
                used.origin.name()
            )
        };
        self.untrusted.iter().map(line).collect()
    }

    /// No version of what may run fits.
    pub fn error(self, name: &str, asked: Option<&VersionReq>) -> FindError {
        FindError::Version {
            name: name.to_owned(),
            found: self.versions.join(" and "),
            asked: asked.map(VersionReq::to_string).unwrap_or_default(),
            untrusted: self.untrusted,
        }
    }
}

/// The refusal of a file that was never trusted.
pub(super) fn untrusted(path: &Path) -> Result<FindError, FilesError> {
    Ok(FindError::Untrusted {
        path: path.to_owned(),
        found: sha256_hex(&read_file(path)?),
    })
}
