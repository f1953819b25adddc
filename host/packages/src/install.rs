//! Installing: what is offered, what the user agrees to, and then, in one step, file and lock.
//!
//! Invariants: nothing is written before everything was agreed to; a refusal leaves the old version as it was; an offer is
//! data that can be shown; a grant is recorded with its time and how it was given; grants follow the author, not the name.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::ask;
use crate::builtin::is_reserved;
use crate::check::{self, CheckedPlugin};
use crate::disk;
use crate::error::{ComponentError, FilesError, InstallError, PackageError, SelectorError, SignatureError};
use crate::fetch::FetchedPlugin;
use crate::imports::Wasi;
use crate::keys;
use crate::lockfile::{GrantedBy, Lock, LockEntry, LockGrant, plugins_directory};
use crate::manifest::{Request, is_name};
use crate::settings::Policy;
use crate::signature::{self, SignatureStatus, UnsignedRule};
use dlm_core::inert::inert_line;

/// What was typed beside SRC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstallFlags {
    /// The hash that the file must have.
    pub sha256: Option<String>,
    /// Capabilities, in grant syntax.
    pub grants: Vec<String>,
    pub is_granting_requested: bool,
    pub is_allowing_unsigned: bool,
    /// An older version than the installed one may take its place.
    pub is_allowing_downgrade: bool,
    /// The name to install it under, instead of its own.
    pub name: Option<String>,
}

/// A plugin that could be installed: what the consent screen shows.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The name it is installed under.
    pub name: String,
    pub checked: CheckedPlugin,
    pub fetched: FetchedPlugin,
    pub signed: SignatureStatus,
    pub unsigned: UnsignedRule,
    /// The entry that it replaces.
    pub previous: Option<LockEntry>,
    /// Grants of the previous version, of the same author, whose text is requested again.
    pub kept: Vec<LockGrant>,
    /// Grants of the previous version that are not requested any more.
    pub dropped: Vec<String>,
    pub remarks: Vec<String>,
}

impl Offer {
    /// Requests that nobody has agreed to yet.
    pub fn open_requests(&self) -> impl Iterator<Item = &Request> {
        let kept = |request: &&Request| !self.kept.iter().any(|grant| grant.capability == request.capability);
        self.checked.manifest.requests.iter().filter(kept)
    }

    /// The key that signed the entry that it replaces.
    fn pinned_signer(&self) -> Option<&str> {
        self.previous.as_ref()?.signer.as_deref()
    }

    /// The installed version, where this one is older.
    pub fn newer(&self) -> Option<&LockEntry> {
        let previous = self.previous.as_ref()?;
        previous
            .is_newer_than(&self.name, &self.checked.manifest.version)
            .then_some(previous)
    }

    /// True where another key signed than the one that is pinned, or none any more.
    pub fn is_other_signer(&self) -> bool {
        signature::is_other_signer(self.pinned_signer(), &self.signed)
    }
}

/// What was agreed to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consent {
    pub grants: Vec<(String, GrantedBy)>,
}

/// Asks a person; the answer is yes or no.
pub type Asker<'a> = dyn FnMut(&str) -> Result<bool, PackageError> + 'a;

/// Checks a fetched file against everything but the user's consent.
///
/// **Errors**: another hash than the one that was typed, anything that [`check::check`] refuses, a wrong signature, or the
/// user's own settings.
pub fn offer(home: &Path, fetched: FetchedPlugin, policy: Policy, flags: &InstallFlags) -> Result<Offer, PackageError> {
    let path = check::place(&fetched.source);
    if let Some(expected) = &flags.sha256 {
        let found = dlm_core::digest::sha256_hex(&fetched.bytes);
        if !expected.eq_ignore_ascii_case(&found) {
            return Err(InstallError::Hash {
                path,
                expected: inert_line(expected),
                found,
            }
            .into());
        }
    }
    let checked = check::check(&path, &fetched.bytes)?;
    let manifest = &checked.manifest;
    let name = install_name(flags.name.as_deref(), &manifest.name)?;
    if policy.is_wasi_refused && checked.wasi != Wasi::None {
        return Err(ComponentError::Wasi { plugin: name }.into());
    }
    for grant in &flags.grants {
        ask::requested(&name, manifest, grant)?;
    }
    let keys = keys::trusted_keys(home)?;
    let signature = fetched.signature.as_deref();
    let signed = signature::check(&keys, signature, &fetched.bytes, &manifest.name, &manifest.version)?;
    let unsigned = match signed {
        SignatureStatus::By { .. } => UnsignedRule::Installs,
        SignatureStatus::No | SignatureStatus::Stranger => {
            let power = ask::most(&manifest.requests)?;
            policy.require_signature.unsigned(power, fetched.is_from_network)
        }
    };
    let previous = Lock::read(home)?.installed(&name).cloned();
    let old = previous.as_ref().map(|entry| entry.grants.clone()).unwrap_or_default();
    let (mut kept, dropped): (Vec<LockGrant>, Vec<LockGrant>) = old
        .into_iter()
        .partition(|grant| manifest.requests_text(&grant.capability));
    let mut remarks = check::remarks(&checked);
    if previous
        .as_ref()
        .is_some_and(|entry| !entry.is_of_author(&checked.sha256, signed.signer()))
        && !kept.is_empty()
    {
        remarks.push("no trusted key signed both versions: nothing that the old one was granted is kept".to_owned());
        kept.clear();
    }
    Ok(Offer {
        name,
        remarks,
        signed,
        unsigned,
        previous,
        kept,
        dropped: dropped.into_iter().map(|grant| grant.capability).collect(),
        fetched,
        checked,
    })
}

fn install_name(typed: Option<&str>, own: &str) -> Result<String, SelectorError> {
    let name = typed.unwrap_or(own);
    if is_name(name) && !is_reserved(name) {
        return Ok(name.to_owned());
    }
    Err(SelectorError {
        text: inert_line(name),
        cause: "is not a name that a plugin can be installed under".to_owned(),
        hint: Some("such as: --name my-rubric".to_owned()),
    })
}

/// Collects what the flags and, on a terminal, the answers agree to.
///
/// **Errors**: a signature that is missing, a signer that changed, or a required capability that was not granted.
pub fn decide(offer: &Offer, flags: &InstallFlags, mut asker: Option<&mut Asker<'_>>) -> Result<Consent, PackageError> {
    unsigned(offer, flags, &mut asker)?;
    other_signer(offer, &mut asker)?;
    downgrade(offer, flags, &mut asker)?;
    let mut grants = Vec::new();
    let mut missing = Vec::new();
    for request in offer.open_requests() {
        let capability = request.capability.clone();
        if flags.is_granting_requested || flags.grants.contains(&capability) {
            grants.push((capability, GrantedBy::Flag));
            continue;
        }
        let is_agreed = match asker.as_mut() {
            Some(ask) => {
                let optional = if request.optional { " (optional)" } else { "" };
                ask(&format!("Grant {}{optional}?", inert_line(&capability)))?
            }
            None => false,
        };
        match (is_agreed, request.optional) {
            (true, _) => grants.push((capability, GrantedBy::Prompt)),
            (false, true) => {}
            (false, false) => {
                missing.push(capability);
                // One no is enough: what else it asks for does not matter any more.
                if asker.is_some() {
                    break;
                }
            }
        }
    }
    if missing.is_empty() {
        return Ok(Consent { grants });
    }
    Err(InstallError::NotGranted {
        plugin: offer.name.clone(),
        version: offer.checked.manifest.version.clone(),
        missing,
        kept: offer.previous.as_ref().map(|entry| entry.version.clone()),
        is_answered: asker.is_some(),
    }
    .into())
}

/// A file by another signer than the installed one needs a yes.
fn other_signer(offer: &Offer, asker: &mut Option<&mut Asker<'_>>) -> Result<(), PackageError> {
    if !offer.is_other_signer() {
        return Ok(());
    }
    let by = offer.signed.signer().map(|key| format!("signed by {key}"));
    let question = format!(
        "Version {} was signed by {}, this file is {}. Install it?",
        offer.previous.as_ref().map_or("", |entry| &entry.version),
        offer.pinned_signer().unwrap_or_default(),
        by.unwrap_or_else(|| "not signed by a trusted key".to_owned()),
    );
    match asker.as_mut().map(|ask| ask(&question)).transpose()? {
        Some(true) => Ok(()),
        _ => {
            let subject = format!("`{}` {}", offer.name, offer.checked.manifest.version);
            Err(SignatureError::other_signer(subject, offer.signed.lack_of_signer(), &offer.name, "install").into())
        }
    }
}

/// An older version than the installed one needs a yes, whoever signed it.
fn downgrade(offer: &Offer, flags: &InstallFlags, asker: &mut Option<&mut Asker<'_>>) -> Result<(), PackageError> {
    let Some(newer) = offer.newer().filter(|_| !flags.is_allowing_downgrade) else {
        return Ok(());
    };
    let offered = &offer.checked.manifest.version;
    let question = format!(
        "Version {} is installed, {offered} is older. Install it?",
        newer.version
    );
    match asker.as_mut().map(|ask| ask(&question)).transpose()? {
        Some(true) => Ok(()),
        _ => Err(newer.refuses_older(offered).into()),
    }
}

fn unsigned(offer: &Offer, flags: &InstallFlags, asker: &mut Option<&mut Asker<'_>>) -> Result<(), PackageError> {
    let subject = format!("`{}` {}", offer.name, offer.checked.manifest.version);
    let refused = |cause: &str, hint: &str| {
        Err(SignatureError {
            subject: subject.clone(),
            cause: cause.to_owned(),
            hint: Some(hint.to_owned()),
        }
        .into())
    };
    let what = offer.signed.lack();
    match offer.unsigned {
        UnsignedRule::Installs => Ok(()),
        UnsignedRule::Refused => Err(SignatureError::unsigned(subject.clone(), what).into()),
        _ if flags.is_allowing_unsigned => Ok(()),
        UnsignedRule::NeedsFlag => refused(
            &format!("{what}, comes from the network and asks for far-reaching power"),
            "trust its key: dlm plugin trust KEY; or, if you know the file: --allow-unsigned with --sha256",
        ),
        UnsignedRule::Asks => {
            let question = format!(
                "`{}` {what} (sha256 {}). Install it all the same?",
                offer.name, offer.checked.sha256
            );
            match asker.as_mut().map(|ask| ask(&question)).transpose()? {
                Some(true) => Ok(()),
                Some(false) => refused(what, "nothing was installed"),
                None => refused(what, "install it all the same: --allow-unsigned"),
            }
        }
    }
}

/// Writes file, signature and lock entry; the old version's file goes last.
///
/// **Errors**: a file that cannot be written; the lock then still names the old version.
pub fn install(home: &Path, offer: &Offer, consent: &Consent, now: &str) -> Result<LockEntry, PackageError> {
    let manifest = &offer.checked.manifest;
    let granted = consent.grants.iter().map(|(capability, by)| LockGrant {
        capability: capability.clone(),
        granted: now.to_owned(),
        by: *by,
    });
    let entry = LockEntry {
        name: offer.name.clone(),
        version: manifest.version.clone(),
        kinds: manifest.kinds.clone(),
        api: offer.checked.api.clone(),
        sha256: offer.checked.sha256.clone(),
        size: offer.checked.bytes,
        source: offer.fetched.source.clone(),
        path: None,
        signer: offer.signed.signer().map(str::to_owned),
        installed: now.to_owned(),
        grants: offer.kept.iter().cloned().chain(granted).collect(),
    };
    let file = crate::discover::installed_path(home, &entry);
    Lock::change(home, |lock| {
        disk::write(&file, &offer.fetched.bytes)?;
        let beside = signature::signature_path(&file);
        match &offer.fetched.signature {
            Some(signature) => disk::write(&beside, signature)?,
            None => disk::remove(&beside)?,
        }
        lock.put(entry.clone());
        Ok::<(), PackageError>(())
    })?;
    remove_other_versions(home, &entry)?;
    Ok(entry)
}

fn remove_other_versions(home: &Path, entry: &LockEntry) -> Result<(), FilesError> {
    let directory = plugins_directory(home).join(&entry.name);
    let listed = fs::read_dir(&directory).map_err(FilesError::of("list", &directory))?;
    let others: BTreeSet<PathBuf> = listed
        .filter_map(|found| Some(found.ok()?.path()))
        .filter(|path| !path.ends_with(&entry.version))
        .collect();
    for other in others {
        disk::remove_tree(&other)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
