//! Where in a store a run trains: the adapter's slot, what of the document belongs to it, and the version that was current when the
//! run was planned.

use dlm_core::Subject;
use dlm_core::manifest::Manifest;
use dlm_doc::{Frontmatter, Section, SectionKind};
use dlm_store::{AdapterSlot, CurrentVersion, NameError, Store, VersionEntry};

use crate::failure::Failure;

/// One adapter of a document, as a plan found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    pub slot: AdapterSlot,
    /// The adapter version that the plan was made for; 0 before the first.
    pub version: u32,
    /// Whether sections without a name are this adapter's, beside prose, which is everyone's.
    pub(super) is_default: bool,
}

impl Lane {
    /// The lanes of a document, in the order of their declaration; one where it names no adapter.
    ///
    /// **Errors:** a name that no directory may have, which the document's parser refuses before.
    pub(super) fn all(front: &Frontmatter, manifest: Option<&Manifest>) -> Result<Vec<Lane>, NameError> {
        let Some(declared) = &front.training.adapters else {
            return Ok(vec![Lane::new(AdapterSlot::Flat, true, manifest)]);
        };
        let lane =
            |(index, (name, _)): (usize, &(String, _))| Ok(Lane::new(AdapterSlot::named(name)?, index == 0, manifest));
        declared.iter().enumerate().map(lane).collect()
    }

    fn new(slot: AdapterSlot, is_default: bool, manifest: Option<&Manifest>) -> Lane {
        Lane {
            version: manifest.map_or(0, |manifest| manifest.version_of(slot.name())),
            slot,
            is_default,
        }
    }

    /// The adapter's name, on a document that has several.
    pub fn name(&self) -> Option<&str> {
        self.slot.name()
    }

    /// Says whether the adapter learns a section of this kind with this name behind its fence (`spec/training.md` section 6.3).
    pub(super) fn takes(&self, kind: SectionKind, adapter: Option<&str>) -> bool {
        match (self.name(), adapter) {
            // Whatever a document with one adapter has is that adapter's.
            (None, _) => true,
            (Some(own), Some(adapter)) => own == adapter,
            (Some(_), None) => self.is_default || kind == SectionKind::Prose,
        }
    }

    /// Says whether the adapter learns a section.
    pub(super) fn takes_section(&self, section: &Section) -> bool {
        self.takes(section.kind, section.adapter.as_deref())
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
        match manifest.version_of(self.name()) == self.version {
            true => Ok(()),
            false => Err(Failure::new(
                Subject::Store,
                "another run of this document was committed while this one was planned",
            )
            .hint("run the command again")),
        }
    }
}
