//! Everything on disk that belongs to one document: layout, manifest, adapter versions, locks, replay corpus, logs and
//! metrics.
//!
//! Invariants: knows no document grammar, no model and no plugin; reads no clock, environment or home directory (all
//! passed in) and prints nothing. Files change only through [`disk`], atomically; writing needs the store's lock.

pub mod determinism;
pub mod disk;
pub mod exclusive;
mod json;
pub mod layout;
pub mod manifest;
pub mod record;
pub mod store;
pub mod version;

pub use disk::{Disk, DiskError, Operation};
pub use exclusive::{ExclusiveError, LockWait};
pub use layout::{AdapterSlot, Home, StorePaths};
pub use manifest::ManifestError;
pub use store::{Store, StoreError, StoreGuard, StoreNotice};
pub use version::{CommittedVersion, CurrentVersion, PendingVersion, VersionEntry, VersionError};
