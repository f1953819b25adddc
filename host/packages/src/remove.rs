//! Removing an installed plugin: lock entry and grants first, then its directory.
//!
//! Invariant: once the lock no longer names it, it cannot run, whatever happens to the files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::disk;
use crate::error::{FilesError, FindError, PackageError};
use crate::lockfile::{Lock, LockEntry, plugins_directory};
use crate::manifest::is_name;

/// What was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedPlugin {
    /// The installed entry, and those that trusted files in place.
    pub entries: Vec<LockEntry>,
    pub directory: Option<PathBuf>,
    /// Compiled code that was kept for it.
    pub compiled: Vec<PathBuf>,
}

/// Removes every entry of this name; files that were trusted in place stay where they are and no longer run.
///
/// **Errors**: there is no such entry and no file of it, or a file cannot be removed.
pub fn remove(home: &Path, name: &str) -> Result<RemovedPlugin, PackageError> {
    let is_inside = crate::builtin::builtins().iter().any(|builtin| builtin.name == name);
    let entries = Lock::change::<_, PackageError>(home, |lock| {
        let (gone, kept) = lock.plugins.drain(..).partition(|entry| entry.name == name);
        lock.plugins = kept;
        let gone: Vec<LockEntry> = gone;
        // A removal that was killed has left the files of a plugin that is in the lock no more.
        if gone.is_empty() && !own_directory(home, name).is_some_and(|directory| directory.is_dir()) {
            return Err(FindError::NotInstalled {
                name: dlm_core::inert::inert_line(name),
                is_inside,
            }
            .into());
        }
        Ok(gone)
    })?;
    // The directory goes last: as long as it is there, whoever removes the plugin again knows what else belongs to it.
    let directory = own_directory(home, name);
    let left = directory.as_deref().map(hashes).unwrap_or_default();
    let mut compiled = Vec::new();
    for sha256 in entries.iter().map(|entry| entry.sha256.clone()).chain(left) {
        compiled.extend(remove_compiled(home, &sha256)?);
    }
    let directory = match directory {
        Some(directory) => disk::remove_tree(&directory)?.then_some(directory),
        None => None,
    };
    Ok(RemovedPlugin {
        entries,
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
