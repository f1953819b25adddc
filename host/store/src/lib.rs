//! Everything on disk that belongs to one document: layout, manifest, adapter versions, locks, replay corpus, logs and
//! metrics.
//!
//! Invariants: knows no document grammar, no model and no plugin; reads no clock, environment or home directory (all
//! passed in) and prints nothing. Files change only through [`Disk`], atomically; writing needs the store's lock.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod bases;
pub mod commit;
pub mod delta;
pub mod determinism;
mod error;
pub mod gate;
pub mod inspect;
pub mod integrity;
mod journal;
mod json;
pub mod layout;
pub mod log;
pub mod manifest;
pub mod metrics;
pub mod pending;
pub mod record;
pub mod recover;
pub mod replay;
pub mod secrets;
pub mod seen;
pub mod state;
pub mod store;
pub mod sums;
pub mod version;

pub use bases::{BaseStore, BaseStoreError, PendingBase};
pub use commit::{CommitReport, RunCommit};
pub use delta::{Delta, delta};
pub use determinism::DeterminismLockError;
pub use dlm_files::{Disk, DiskError, ExclusiveError, LockWait, Operation};
pub use error::StoreError;
pub use inspect::{Inspection, LockStatus, NamedAdapter, ResumableVersion};
pub use layout::{AdapterSlot, Home, NameError, StorePaths};
pub use manifest::ManifestError;
pub use pending::{PendingError, PendingPlan, PlanKind};
pub use recover::{Damage, verify_version};
pub use secrets::KeyStore;
pub use seen::Seen;
pub use state::{ResumeIntegrityError, StateData, StateTensor, StateWriteError, TrainingState, read_state};
pub use store::{Store, StoreGuard, StoreNotice, WAIT_EXPORT, WAIT_HOUSEKEEPING, WAIT_TRAIN};
pub use sums::{SUMS_FILE, VersionDamage};
pub use version::{CommittedVersion, CurrentVersion, PendingVersion, VersionEntry, VersionError};
