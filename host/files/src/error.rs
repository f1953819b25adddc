//! A failed access to a file, with the path that it concerns.
//!
//! Invariants: every error names its path; a full disk is its own kind, with sizes and a remedy.

use std::io;
use std::path::{Path, PathBuf};

use dlm_core::{Hints, Subject};

use crate::platform::{free_bytes, parent_of};

/// A failed access to a file or directory.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("`{}`: cannot {action}: {source}", path.display())]
    Io {
        path: PathBuf,
        action: &'static str,
        source: io::Error,
    },
    #[error(
        "`{}`: no space left to write {needed_bytes} bytes{}; the file was left as it was",
        path.display(),
        free_bytes.map_or(String::new(), |free| format!(" ({free} bytes are free)"))
    )]
    Full {
        path: PathBuf,
        needed_bytes: u64,
        free_bytes: Option<u64>,
        source: io::Error,
    },
    #[error("`{}`: the file has {found_bytes} bytes, the limit is {limit_bytes}", path.display())]
    TooLarge {
        path: PathBuf,
        found_bytes: u64,
        limit_bytes: u64,
    },
}

impl DiskError {
    /// The file or directory.
    pub fn path(&self) -> &Path {
        match self {
            DiskError::Io { path, .. } | DiskError::Full { path, .. } | DiskError::TooLarge { path, .. } => path,
        }
    }

    /// What the system said; a file that is too large becomes an error with the message of this one.
    pub fn into_io(self) -> io::Error {
        match self {
            DiskError::Io { source, .. } | DiskError::Full { source, .. } => source,
            DiskError::TooLarge { .. } => io::Error::new(io::ErrorKind::FileTooLarge, self),
        }
    }

    /// Says whether the disk was full.
    pub fn is_full(&self) -> bool {
        matches!(self, DiskError::Full { .. })
    }
}

impl Hints for DiskError {
    fn subject(&self) -> Subject {
        match self {
            DiskError::Full { .. } => Subject::Disk,
            _ => Subject::Store,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            DiskError::Full { path, .. } => vec![format!(
                "free some space on the disk of `{}`, or keep the stores elsewhere with `--home <directory>`",
                path.display()
            )],
            DiskError::Io { source, .. } if source.kind() == io::ErrorKind::FileTooLarge => {
                vec!["let programs of this shell write larger files: `ulimit -f unlimited`".to_owned()]
            }
            DiskError::Io { source, .. } if is_out_of_handles(source) => {
                vec!["let programs of this shell open more files: `ulimit -n 1024`".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

/// The limit of open files of this process is reached.
fn is_out_of_handles(error: &io::Error) -> bool {
    cfg!(unix) && error.raw_os_error() == Some(TOO_MANY_OPEN_FILES)
}

/// `EMFILE`, which is 24 on Linux, macOS and the BSDs.
const TOO_MANY_OPEN_FILES: i32 = 24;

/// Wraps a system error with its path; a full disk becomes its own kind.
pub fn failed(path: &Path, action: &'static str, needed_bytes: u64, source: io::Error) -> DiskError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::Full {
            free_bytes: free_bytes(parent_of(&path)),
            path,
            needed_bytes,
            source,
        },
        _ => DiskError::Io { path, action, source },
    }
}
