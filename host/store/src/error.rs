//! Any failure of the store: the errors of its records, under one type for callers that do several things.

use dlm_core::{Hints, Subject};
use dlm_files::{DiskError, ExclusiveError};

use crate::determinism::DeterminismLockError;
use crate::log::LogError;
use crate::manifest::ManifestError;
use crate::replay::ReplayError;
use crate::version::VersionError;

/// Any failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Version(#[from] VersionError),
    #[error(transparent)]
    Exclusive(#[from] ExclusiveError),
    #[error(transparent)]
    Lock(#[from] DeterminismLockError),
    #[error(transparent)]
    Replay(#[from] ReplayError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl StoreError {
    fn inner(&self) -> &dyn Hints {
        match self {
            StoreError::Manifest(error) => error,
            StoreError::Version(error) => error,
            StoreError::Exclusive(error) => error,
            StoreError::Lock(error) => error,
            StoreError::Replay(error) => error,
            StoreError::Log(error) => error,
            StoreError::Disk(error) => error,
        }
    }
}

impl Hints for StoreError {
    fn subject(&self) -> Subject {
        self.inner().subject()
    }

    fn kind(&self) -> dlm_core::FailureKind {
        self.inner().kind()
    }

    fn hints(&self) -> Vec<String> {
        self.inner().hints()
    }
}
