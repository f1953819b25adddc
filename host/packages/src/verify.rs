//! `dlm plugin verify`: every entry of the lock against the file and the signature that it pins, and the folder of an installed
//! one against what installing leaves in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::check;
use crate::discover::installed_path;
use crate::disk;
use crate::error::{Diagnose, FilesError, FindError, LockFileError, PackageError, SignatureError};
use crate::keys::{self, TEXT_BYTES_MAX};
use crate::lockfile::{Lock, LockEntry, plugins_directory};
use crate::manifest::COMPONENT_BYTES_MAX;
use crate::signature::{self, signature_path};

/// One entry with what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verification {
    pub name: String,
    pub version: String,
    pub path: String,
    /// Code and message of what is wrong; nothing where all is well.
    pub problem: Option<(String, String)>,
}

/// Re-reads every file that the lock pins.
///
/// **Errors**: the lock or the trusted keys cannot be read; what is wrong with a plugin is part of the answer.
pub fn verify(home: &Path) -> Result<Vec<Verification>, LockFileError> {
    let keys = keys::trusted_keys(home)?;
    let lock = Lock::read(home)?;
    let verified = lock.plugins.iter().map(|entry| {
        let path = entry.path.clone().unwrap_or_else(|| installed_path(home, entry));
        let problem = one(&keys, entry, &path)
            .and_then(|()| unmixed(home, entry, &path))
            .err();
        Verification {
            name: entry.name.clone(),
            version: entry.version.clone(),
            path: path.display().to_string(),
            problem: problem.map(|error| (error.code().to_owned(), dlm_core::inert::inert(&error.to_string()))),
        }
    });
    Ok(verified.collect())
}

fn one(keys: &[keys::TrustedKey], entry: &LockEntry, path: &Path) -> Result<(), PackageError> {
    let Some(bytes) = disk::read(path, COMPONENT_BYTES_MAX)? else {
        return Err(FindError::Gone {
            plugin: entry.name.clone(),
            path: path.to_owned(),
            source_text: entry.source.clone(),
        }
        .into());
    };
    let found = dlm_core::digest::sha256_hex(&bytes);
    if found != entry.sha256 {
        return Err(FindError::Tampered {
            plugin: entry.name.clone(),
            path: path.to_owned(),
            is_installed: entry.path.is_none(),
            expected: entry.sha256.clone(),
            found,
        }
        .into());
    }
    let checked = check::check(path, &bytes)?;
    let beside = disk::read(&signature_path(path), TEXT_BYTES_MAX)?;
    let manifest = &checked.manifest;
    let signed = signature::check(keys, beside.as_deref(), &bytes, &manifest.name, &manifest.version)?;
    if entry.signer.is_some() && entry.signer.as_deref() != signed.signer() {
        return Err(SignatureError {
            subject: format!("`{}` {}", entry.name, entry.version),
            cause: "is no longer signed by the key that was pinned, or the key is no longer trusted".to_owned(),
            hint: None,
        }
        .into());
    }
    Ok(())
}

/// Refuses what lies beside an installed plugin and did not come with it. A file that was trusted where it lies has neighbors
/// of its own.
fn unmixed(home: &Path, entry: &LockEntry, file: &Path) -> Result<(), PackageError> {
    if entry.path.is_some() {
        return Ok(());
    }
    disk::sweep(file);
    let own = plugins_directory(home).join(&entry.name);
    let version = own.join(&entry.version);
    let signature = signature_path(file);
    let strays = entries(&own)?.into_iter().filter(|path| *path != version);
    let strays = strays.chain(
        entries(&version)?
            .into_iter()
            .filter(|path| path != file && *path != signature),
    );
    match strays.into_iter().next() {
        None => Ok(()),
        Some(path) => Err(FindError::Stray {
            plugin: entry.name.clone(),
            path,
        }
        .into()),
    }
}

/// What lies in a directory, by name.
fn entries(directory: &Path) -> Result<BTreeSet<PathBuf>, FilesError> {
    let failed = |source| FilesError::of("list", directory)(source);
    let listed = fs::read_dir(directory).map_err(failed)?;
    listed.map(|entry| Ok(entry.map_err(failed)?.path())).collect()
}
