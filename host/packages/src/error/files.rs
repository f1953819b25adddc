//! Files and addresses that cannot be read or written.

use std::path::{Path, PathBuf};

use super::{Diagnose, Diagnosis};

/// The file system refused something.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{}`: {source}", path.display())]
pub struct FilesError {
    /// A verb, such as `read`.
    pub action: &'static str,
    pub path: PathBuf,
    pub source: std::io::Error,
}

impl FilesError {
    /// Makes the error of one action on one path.
    pub fn of(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> FilesError {
        move |source| FilesError {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

impl Diagnose for FilesError {
    fn diagnosis(&self) -> Diagnosis {
        Diagnosis::runtime("plugin::files")
    }
}

/// A download failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot fetch {url}: {cause}")]
pub struct FetchError {
    pub url: String,
    pub cause: String,
}

impl Diagnose for FetchError {
    fn diagnosis(&self) -> Diagnosis {
        Diagnosis::runtime("plugin::unavailable")
    }
}
