//! Changing what is trusted: grants of a plugin, a file where it lies, a signer's key.
//!
//! Invariants: only what the manifest requests can be granted for good; changed bytes keep no grant, except under the same
//! signer's key.

use std::path::Path;

use crate::check;
use crate::discover::{Finder, Origin, place_of, read_file};
use crate::error::{ComponentError, FindError, GrantError, PackageError, SignatureError};
use crate::keys::{self, TEXT_BYTES_MAX};
use crate::lockfile::{GrantedBy, Lock, LockEntry, LockGrant};
use crate::manifest::Manifest;
use crate::selector::{Choice, Selector};
use crate::settings::Policy;
use crate::signature::{self, SignatureStatus, UnsignedRule, signature_path};
use dlm_core::inert::inert_line;

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustChange {
    pub entry: LockEntry,
    pub added: Vec<String>,
    pub revoked: Vec<String>,
    /// True where the file was not pinned before.
    pub is_new: bool,
}

/// Changes the grants of the plugin that `name` means here: an installed one, or a file that was trusted where it lies.
///
/// **Errors**: there is none, a grant that its manifest does not request, or a revoked one that it has not.
pub fn trust_name(
    finder: &Finder,
    name: &str,
    grants: &[String],
    revoked: &[String],
    now: &str,
) -> Result<TrustChange, PackageError> {
    let selector = Selector {
        choice: Choice::Name {
            name: name.to_owned(),
            version: None,
        },
        argument: String::new(),
    };
    let found = finder.find(&selector, None)?;
    if found.origin == Origin::Builtin {
        return Err(FindError::NotInstalled {
            name: name.to_owned(),
            is_inside: true,
        }
        .into());
    }
    let path = match found.origin {
        Origin::User => None,
        _ => found.path.as_deref().map(place_of),
    };
    Lock::change(&finder.places().home, |lock| {
        let is_it = |entry: &&LockEntry| entry.name == name && entry.path == path;
        let entry = lock.plugins.iter().find(is_it).cloned();
        let entry = entry.ok_or_else(|| FindError::NotInstalled {
            name: name.to_owned(),
            is_inside: false,
        })?;
        let changed = regrant(entry, &found.manifest, grants, revoked, now)?;
        lock.put(changed.entry.clone());
        Ok(changed)
    })
}

/// What was typed beside the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrustFlags<'a> {
    /// Capabilities to grant and to take back, in grant syntax.
    pub grants: &'a [String],
    pub revoked: &'a [String],
    /// An older version than the one that is pinned there may take its place.
    pub is_allowing_downgrade: bool,
}

/// Pins a file where it lies, with the grants that were typed. Typing them is the yes that an unsigned file of this machine
/// needs.
///
/// **Errors**: anything that installing it would refuse, or a grant that its manifest does not request.
pub fn trust_file(
    home: &Path,
    policy: Policy,
    path: &Path,
    flags: TrustFlags<'_>,
    now: &str,
) -> Result<TrustChange, PackageError> {
    let bytes = read_file(path)?;
    let checked = check::check(path, &bytes)?;
    let beside = crate::disk::read(&signature_path(path), TEXT_BYTES_MAX)?;
    let keys = keys::trusted_keys(home)?;
    let manifest = &checked.manifest;
    let signed = signature::check(&keys, beside.as_deref(), &bytes, &manifest.name, &manifest.version)?;
    let subject = || format!("`{}` {}", manifest.name, manifest.version);
    let power = crate::ask::most(&manifest.requests)?;
    if signed.signer().is_none() && policy.require_signature.unsigned(power, false) == UnsignedRule::Refused {
        return Err(SignatureError::unsigned(subject(), signed.lack()).into());
    }
    let place = place_of(path);
    check_name(&place, &manifest.name)?;
    Lock::change(home, |lock| {
        let old = lock.at(&place).cloned();
        if signature::is_other_signer(old.as_ref().and_then(|entry| entry.signer.as_deref()), &signed) {
            let removed = dlm_core::shell::quoted_path(&place);
            return Err(SignatureError::other_signer(subject(), signed.lack_of_signer(), &removed, "trust").into());
        }
        if let Some(old) = old
            .as_ref()
            .filter(|old| old.is_newer_than(&manifest.name, &manifest.version))
            && !flags.is_allowing_downgrade
        {
            return Err(old.refuses_older(&manifest.version).into());
        }
        let is_of_author = |entry: &&LockEntry| entry.is_of_author(&checked.sha256, signed.signer());
        let entry = LockEntry {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            kinds: manifest.kinds.clone(),
            api: checked.api.clone(),
            sha256: checked.sha256.clone(),
            size: checked.bytes,
            source: place.to_string_lossy().into_owned(),
            signer: match &signed {
                SignatureStatus::By { key, .. } => Some(key.clone()),
                SignatureStatus::No | SignatureStatus::Stranger => None,
            },
            installed: now.to_owned(),
            // Grants stay with an unchanged request of the same author, as in an upgrade.
            grants: old
                .iter()
                .filter(is_of_author)
                .flat_map(|entry| entry.grants.clone())
                .collect(),
            path: Some(place.clone()),
        };
        let is_new = old.as_ref().is_none_or(|old| old.sha256 != entry.sha256);
        if let Some(old) = old {
            lock.plugins.retain(|entry| *entry != old);
        }
        let mut changed = regrant(entry, manifest, flags.grants, flags.revoked, now)?;
        changed.is_new = is_new;
        lock.put(changed.entry.clone());
        Ok(changed)
    })
}

/// In a directory of plugins a file is found by its own name, so that trust in another one would be worth nothing.
fn check_name(place: &Path, name: &str) -> Result<(), ComponentError> {
    let is_folder = |directory: Option<&Path>| directory.is_some_and(|directory| directory.ends_with(".dlm/plugins"));
    let directory = place.parent();
    let found = match place.file_name().is_some_and(|file| file == "plugin.wasm") {
        true if is_folder(directory.and_then(Path::parent)) => directory.and_then(Path::file_name),
        _ if is_folder(directory) => place.file_stem(),
        _ => return Ok(()),
    };
    let found = found.map(|found| found.to_string_lossy()).unwrap_or_default();
    if found == name {
        return Ok(());
    }
    Err(ComponentError::Manifest {
        path: place.to_owned(),
        cause: format!(
            "its name is `{name}`, its file is that of `{}`; call it {name}.wasm, or use it from elsewhere by its path",
            inert_line(&found)
        ),
    })
}

fn regrant(
    mut entry: LockEntry,
    manifest: &Manifest,
    grants: &[String],
    revoked: &[String],
    now: &str,
) -> Result<TrustChange, PackageError> {
    entry.grants.retain(|grant| manifest.requests_text(&grant.capability));
    let mut changed = TrustChange {
        entry,
        added: Vec::new(),
        revoked: Vec::new(),
        is_new: false,
    };
    for capability in revoked {
        let before = changed.entry.grants.len();
        changed.entry.grants.retain(|grant| grant.capability != *capability);
        if changed.entry.grants.len() == before {
            return Err(GrantError::NotHeld {
                plugin: changed.entry.name,
                capability: inert_line(capability),
                held: changed.entry.grants.into_iter().map(|grant| grant.capability).collect(),
            }
            .into());
        }
        changed.revoked.push(capability.clone());
    }
    for capability in grants {
        crate::ask::requested(&changed.entry.name, manifest, capability)?;
        if changed.entry.grants.iter().any(|grant| grant.capability == *capability) {
            continue;
        }
        changed.added.push(capability.clone());
        changed.entry.grants.push(LockGrant {
            capability: capability.clone(),
            granted: now.to_owned(),
            by: GrantedBy::Flag,
        });
    }
    Ok(changed)
}
