//! Making an index of a directory of packed plugins.
//!
//! Invariants: only what would install is listed; the serial grows with each index that is written; an old signature never
//! stays beside a new index.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{FORMAT, INDEX_BYTES_MAX, INDEX_FILE, Index, IndexPlugin, Release, signed};
use crate::check;
use crate::disk;
use crate::error::{FilesError, IndexError, PackageError};
use crate::manifest::COMPONENT_BYTES_MAX;
use crate::signature::signature_path;

/// An index that was made and not yet written.
#[derive(Clone, Debug)]
pub struct MadeIndex {
    pub index: Index,
    pub path: PathBuf,
    /// Files that are not signed themselves, by name.
    pub unsigned: Vec<String>,
}

/// Reads every `.wasm` file of `directory` and lists it, under a serial that is one more than that of the index which lies
/// there. `now` is in UTC, as the lock writes times.
///
/// **Errors**: a file that would not install, two files of one version, or an old index that cannot be read.
pub fn make(directory: &Path, now: &str) -> Result<MadeIndex, PackageError> {
    let path = directory.join(INDEX_FILE);
    let malformed = |cause: String| IndexError::Malformed {
        place: path.display().to_string(),
        cause,
    };
    let before = disk::read(&path, INDEX_BYTES_MAX)?;
    let before = before
        .map(|bytes| Index::parse(&bytes).map_err(malformed))
        .transpose()?;
    let listed = dlm_files::list(directory).map_err(|error| FilesError::of("list", directory)(error.into_io()))?;
    let mut plugins: BTreeMap<String, Vec<Release>> = BTreeMap::new();
    let mut unsigned = Vec::new();
    for entry in listed
        .iter()
        .filter(|entry| !entry.is_directory && entry.name.ends_with(".wasm"))
    {
        let file = directory.join(&entry.name);
        let Some(bytes) = disk::read(&file, COMPONENT_BYTES_MAX)? else {
            continue;
        };
        let checked = check::check(&file, &bytes)?;
        if !signature_path(&file).is_file() {
            unsigned.push(entry.name.clone());
        }
        let manifest = checked.manifest;
        plugins.entry(manifest.name).or_default().push(Release {
            version: manifest.version,
            kinds: manifest.kinds,
            description: manifest.description,
            api: checked.api,
            sha256: checked.sha256,
            size: checked.bytes,
            file: entry.name.clone(),
            requests: manifest.requests,
        });
    }
    if plugins.is_empty() {
        return Err(IndexError::NothingToList {
            directory: directory.to_owned(),
        }
        .into());
    }
    if let Some(before) = &before {
        check_unchanged(before, &plugins)?;
    }
    let index = Index {
        format: FORMAT,
        serial: before.map_or(1, |index| index.serial.saturating_add(1)),
        date: now.to_owned(),
        plugins: plugins
            .into_iter()
            .map(|(name, releases)| IndexPlugin { name, releases })
            .collect(),
    };
    // What is written is what everybody else will read, by the same rules.
    let index = Index::parse(index.to_text().as_bytes()).map_err(malformed)?;
    Ok(MadeIndex { index, path, unsigned })
}

/// Refuses other bytes under a version that was published: a version is one file for ever.
fn check_unchanged(before: &Index, now: &BTreeMap<String, Vec<Release>>) -> Result<(), IndexError> {
    for plugin in &before.plugins {
        for release in now.get(&plugin.name).into_iter().flatten() {
            let published = plugin.releases.iter().find(|old| old.version == release.version);
            if published.is_some_and(|old| old.sha256 != release.sha256) {
                return Err(IndexError::Republished {
                    plugin: plugin.name.clone(),
                    version: release.version.clone(),
                });
            }
        }
    }
    Ok(())
}

/// Writes the index; a signature of an earlier one goes first.
///
/// **Errors**: a file that cannot be written.
pub fn write(made: &MadeIndex) -> Result<(), FilesError> {
    disk::remove(&signature_path(&made.path))?;
    disk::write(&made.path, made.index.to_text().as_bytes())
}

/// The command that signs an index with the user's minisign key: program, then arguments.
pub fn sign_words(made: &MadeIndex, key: &Path) -> Vec<OsString> {
    let mut command: Vec<OsString> = vec!["minisign".into(), "-S".into()];
    for (flag, value) in [
        ("-s", key.as_os_str().to_owned()),
        ("-m", made.path.as_os_str().to_owned()),
        ("-t", signed::comment(made.index.serial).into()),
        ("-x", signature_path(&made.path).into_os_string()),
    ] {
        command.push(flag.into());
        command.push(value);
    }
    command
}
