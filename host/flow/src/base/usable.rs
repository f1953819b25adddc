//! The base of a document, found and allowed: what every command that needs one begins with.

use dlm_core::manifest::Manifest;
use dlm_plan::base::ResolvedBase;
use dlm_plan::base::license::{LicenseDecision, LicenseMoment, decide};

use super::{Reach, resolve_within};
use crate::document::Document;
use crate::failure::Failure;
use crate::surroundings::Surroundings;

/// A base that may be used; its files may still be elsewhere.
pub(crate) struct UsableBase {
    pub resolved: ResolvedBase,
    /// What is left to record about the license.
    pub license: LicenseDecision,
    /// The manifest of the document's store; none before the first command that made one.
    pub manifest: Option<Manifest>,
}

/// Finds the base that a document names, at the commit that its store recorded, and checks its license.
///
/// **Errors:** a base that is unknown or cannot be asked for, a license that is not accepted, a store that cannot be read.
pub(crate) fn usable(around: &Surroundings, document: &Document, moment: LicenseMoment) -> Result<UsableBase, Failure> {
    let found = usable_within(around, document, moment, Reach::Hub)?;
    Ok(found.expect("whoever may ask the hub is told of the base or why not"))
}

/// As [`usable`]; none where only the hub could tell what the base is and it may not be asked.
///
/// **Errors:** as [`usable`].
pub(crate) fn usable_within(
    around: &Surroundings,
    document: &Document,
    moment: LicenseMoment,
    reach: Reach,
) -> Result<Option<UsableBase>, Failure> {
    let front = document.parsed.frontmatter();
    let manifest = around.store(&front.dlm_id).manifest()?;
    // The commit of another base says nothing about this one.
    let same_base = manifest.as_ref().filter(|m| m.base_model == front.base_model);
    let pinned = same_base.and_then(|m| m.base_model_revision.as_deref());
    let Some(resolved) = resolve_within(around, &front.base_model, pinned, reach)? else {
        return Ok(None);
    };
    let stored = manifest.as_ref().and_then(|m| m.license_acceptance.as_ref());
    let license = decide(&resolved.record, stored, moment, &around.hub_root)?;
    Ok(Some(UsableBase {
        resolved,
        license,
        manifest,
    }))
}
