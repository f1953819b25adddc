//! Reading and writing `dlm.lock`, the determinism contract.
//!
//! Invariants: comparing two records is not done here; another version or an unknown key is refused.

use std::path::{Path, PathBuf};

use dlm_core::lock::{DlmLock, LOCK_VERSION};
use dlm_core::manifest::RecordProblem;
use dlm_core::{Hints, Subject};
use dlm_files::{Disk, DiskError};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::json;
use crate::record::{self, Flaw};

/// Largest lock that is read; a usual one has 1 KiB.
const LOCK_BYTES_MAX: u64 = 4 << 20;

/// A `dlm.lock` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeterminismLockError {
    #[error("{}: lock is corrupt: {flaw}", path.display())]
    Corrupt {
        path: PathBuf,
        #[source]
        flaw: Flaw,
    },
    #[error("{}: unsupported `lock_version` {found}, this program reads {LOCK_VERSION}", path.display())]
    Version { path: PathBuf, found: String },
    #[error("{}: the new lock breaks a rule and was not written: {source}", path.display())]
    Refused { path: PathBuf, source: RecordProblem },
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Hints for DeterminismLockError {
    fn subject(&self) -> Subject {
        match self {
            DeterminismLockError::Disk(error) => error.subject(),
            _ => Subject::Lock,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            DeterminismLockError::Corrupt { .. } | DeterminismLockError::Version { .. } => {
                vec!["re-run with `--update-lock` to write a new lock over it".to_owned()]
            }
            DeterminismLockError::Refused { .. } => Vec::new(),
            DeterminismLockError::Disk(error) => error.hints(),
        }
    }
}

/// Loads the lock at `path`; none when there is no file.
///
/// **Errors** name the path and what is wrong.
pub fn load_lock(path: &Path) -> Result<Option<DlmLock>, DeterminismLockError> {
    let corrupt = |flaw| DeterminismLockError::Corrupt {
        path: path.to_owned(),
        flaw,
    };
    let bytes = dlm_files::read(path, LOCK_BYTES_MAX).map_err(|error| corrupt(Flaw::Unreadable(error)))?;
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    let map = record::object(&bytes).map_err(corrupt)?;
    let version = map.get("lock_version").cloned().unwrap_or(Value::Null);
    if version.as_u64() != Some(u64::from(LOCK_VERSION)) {
        return Err(DeterminismLockError::Version {
            path: path.to_owned(),
            found: version.to_string(),
        });
    }
    let lock: DlmLock = record::parse(&bytes).map_err(corrupt)?;
    check(&lock).map_err(|problem| corrupt(Flaw::Rule(problem)))?;
    Ok(Some(lock))
}

/// Writes the lock at `path` atomically.
pub(crate) fn save_lock(disk: &Disk, path: &Path, lock: &DlmLock) -> Result<(), DeterminismLockError> {
    check(lock).map_err(|source| DeterminismLockError::Refused {
        path: path.to_owned(),
        source,
    })?;
    let value = serde_json::to_value(lock).expect("a lock has only text keys");
    Ok(disk.write(path, json::pretty(&value).as_bytes())?)
}

fn check(lock: &DlmLock) -> Result<(), RecordProblem> {
    if OffsetDateTime::parse(&lock.created_at, &Rfc3339).is_err() {
        return Err(RecordProblem {
            field: "created_at".to_owned(),
            found: lock.created_at.clone(),
            expected: "a UTC time with zone like `2026-04-19T18:30:14Z`",
        });
    }
    if lock.lock_version != LOCK_VERSION {
        return Err(RecordProblem {
            field: "lock_version".to_owned(),
            found: lock.lock_version.to_string(),
            expected: "1",
        });
    }
    lock.check()
}
