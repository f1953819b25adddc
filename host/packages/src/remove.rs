//! Removing one plugin: lock entry and grants first, then the directory of an installed one.
//!
//! Invariant: once the lock no longer names it, it cannot run, whatever happens to the files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::discover::place_of;
use crate::disk;
use crate::error::{FilesError, FindError, PackageError};
use crate::lockfile::{Lock, LockEntry, plugins_directory};
use crate::manifest::is_name;

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemovedPlugin {
    /// Nothing where only files of an interrupted removal were left.
    pub entry: Option<LockEntry>,
    pub directory: Option<PathBuf>,
    /// Compiled code that was kept for it.
    pub compiled: Vec<PathBuf>,
}

/// Removes the installed plugin of this name. Where there is none, the one file of that name that was trusted where it lies: it
/// stays there and no longer runs by its name.
///
/// **Errors**: there is no such entry and no file of it, several files are trusted under it, or a file cannot be removed.
pub fn remove(home: &Path, name: &str) -> Result<RemovedPlugin, PackageError> {
    let is_inside = crate::builtin::builtins().iter().any(|builtin| builtin.name == name);
    let is_left = own_directory(home, name).is_some_and(|directory| directory.is_dir());
    let entry = Lock::change::<_, PackageError>(home, |lock| {
        let of_name: Vec<&LockEntry> = lock.plugins.iter().filter(|entry| entry.name == name).collect();
        let installed = of_name.iter().find(|entry| entry.path.is_none());
        let entry = match (installed, of_name.as_slice()) {
            (Some(entry), _) => (*entry).clone(),
            // A removal that was killed has left the files of a plugin that is in the lock no more.
            (None, _) if is_left => return Ok(None),
            (None, [entry]) => (*entry).clone(),
            (None, []) => {
                return Err(FindError::NotInstalled {
                    name: dlm_core::inert::inert_line(name),
                    is_inside,
                }
                .into());
            }
            (None, several) => {
                return Err(FindError::Several {
                    name: name.to_owned(),
                    paths: several.iter().filter_map(|entry| entry.path.clone()).collect(),
                }
                .into());
            }
        };
        lock.plugins.retain(|other| *other != entry);
        Ok(Some(entry))
    })?;
    match entry {
        Some(entry) if entry.path.is_some() => untrusted(home, entry),
        entry => uninstalled(home, name, entry),
    }
}

/// Trusts a file no longer where it lies, and leaves it there; it may be gone.
///
/// **Errors**: it was not trusted.
pub fn untrust(home: &Path, path: &Path) -> Result<RemovedPlugin, PackageError> {
    let place = place_of(path);
    let entry = Lock::change::<_, PackageError>(home, |lock| {
        let entry = lock.at(&place).cloned();
        let entry = entry.ok_or_else(|| FindError::NotTrusted { path: path.to_owned() })?;
        lock.plugins.retain(|other| *other != entry);
        Ok(entry)
    })?;
    untrusted(home, entry)
}

fn untrusted(home: &Path, entry: LockEntry) -> Result<RemovedPlugin, PackageError> {
    Ok(RemovedPlugin {
        compiled: remove_compiled(home, &entry.sha256)?,
        entry: Some(entry),
        directory: None,
    })
}

fn uninstalled(home: &Path, name: &str, entry: Option<LockEntry>) -> Result<RemovedPlugin, PackageError> {
    // The directory goes last: as long as it is there, whoever removes the plugin again knows what else belongs to it.
    let directory = own_directory(home, name);
    let left = directory.as_deref().map(hashes).unwrap_or_default();
    let mut compiled = Vec::new();
    for sha256 in entry.iter().map(|entry| entry.sha256.clone()).chain(left) {
        compiled.extend(remove_compiled(home, &sha256)?);
    }
    let directory = match directory {
        Some(directory) => disk::remove_tree(&directory)?.then_some(directory),
        None => None,
    };
    Ok(RemovedPlugin {
        entry,
        directory,
        compiled,
    })
}

/// Where an installed plugin of this name lies; none where it cannot be the name of one.
fn own_directory(home: &Path, name: &str) -> Option<PathBuf> {
    is_name(name).then(|| plugins_directory(home).join(name))
}

/// The hashes of the plugin files of every version in a directory.
fn hashes(directory: &Path) -> Vec<String> {
    let versions = fs::read_dir(directory).into_iter().flatten().flatten();
    let files = versions.map(|version| version.path().join("plugin.wasm"));
    files.filter_map(|file| dlm_files::sha256_file(&file).ok()).collect()
}

/// Removes what the code cache holds for these bytes, under every engine.
fn remove_compiled(home: &Path, sha256: &str) -> Result<Vec<PathBuf>, FilesError> {
    let engines = fs::read_dir(home.join("cache").join("plugins"));
    let mut removed = Vec::new();
    for engine in engines.into_iter().flatten().flatten() {
        let file = engine.path().join(format!("{sha256}.cwasm"));
        if file.is_file() {
            disk::remove(&file)?;
            removed.push(file);
        }
    }
    Ok(removed)
}
