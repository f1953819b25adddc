//! Where in a store a run trains: the adapter's slot, and the version that was current when the run was planned.

use dlm_core::Subject;
use dlm_core::manifest::Manifest;
use dlm_store::{AdapterSlot, CurrentVersion, Store, VersionEntry};

use crate::failure::Failure;

/// One adapter of a document, as a plan found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    pub slot: AdapterSlot,
    /// The adapter version that the plan was made for; 0 before the first.
    pub version: u32,
}

impl Lane {
    /// The lane of a document with one adapter.
    pub(super) fn of(manifest: Option<&Manifest>) -> Lane {
        Lane {
            slot: AdapterSlot::Flat,
            version: manifest.map_or(0, |manifest| manifest.adapter_version),
        }
    }

    /// Returns the version that the pointer names now.
    pub(super) fn current(&self, store: &Store) -> Result<Option<CurrentVersion>, Failure> {
        Ok(store.current_version(&self.slot)?)
    }

    /// Lists the versions that are kept, save those whose weights were refused.
    pub(super) fn kept(&self, store: &Store) -> Result<Vec<VersionEntry>, Failure> {
        let mut versions = store.versions(&self.slot)?;
        versions.retain(|version| !version.is_rejected);
        Ok(versions)
    }

    /// Refuses a store in which another run was committed since the plan was made.
    pub(super) fn check_unchanged(&self, manifest: &Manifest) -> Result<(), Failure> {
        match manifest.adapter_version == self.version {
            true => Ok(()),
            false => Err(Failure::new(
                Subject::Store,
                "another run of this document was committed while this one was planned",
            )
            .hint("run the command again")),
        }
    }
}
