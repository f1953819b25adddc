//! Local base models: one directory each under the home directory, put in place whole or not at all.
//!
//! Invariants: what a base's files mean is not known here; a base that is being added has a name that no base can have, and
//! never takes the place of one that is there; what killed processes left is removed by the next one that adds or removes.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use dlm_core::{Cancel, FailureKind, Hints, Subject};
use dlm_files::{Disk, DiskError, Staging, sweep_aside};

use crate::layout::{Home, NameError, base_directory, file_name};
use crate::seen::Seen;

/// Ends the name of what an earlier version was adding, before the number of its process.
const ADDING: &str = ".adding.";
/// Ends the name of a base that is being removed.
const REMOVING: &str = ".removing";

/// A local base that cannot be added, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum BaseStoreError {
    #[error("base `{name}` exists already in `{}`", directory.display())]
    Exists { name: String, directory: PathBuf },
    #[error("there is no local base `{name}` (local bases: {})", known_list(known))]
    Unknown { name: String, known: Vec<String> },
    #[error("adding the base `{name}` was interrupted; nothing was added")]
    Cancelled { name: String },
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Disk(#[from] DiskError),
}

fn known_list(known: &[String]) -> String {
    if known.is_empty() {
        "none".to_owned()
    } else {
        known.join(", ")
    }
}

impl Hints for BaseStoreError {
    fn subject(&self) -> Subject {
        match self {
            BaseStoreError::Disk(error) => error.subject(),
            BaseStoreError::Cancelled { .. } => Subject::Interrupted,
            _ => Subject::Base,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            BaseStoreError::Exists { name, .. } => vec![format!(
                "choose another name, or remove it first: `dlm base remove {name}`"
            )],
            BaseStoreError::Unknown { .. } => {
                vec!["add one with `dlm base add <name> --from <directory, .gguf file or wheel>`".to_owned()]
            }
            BaseStoreError::Name(_) | BaseStoreError::Cancelled { .. } => Vec::new(),
            BaseStoreError::Disk(error) => error.hints(),
        }
    }

    fn kind(&self) -> FailureKind {
        match self {
            BaseStoreError::Cancelled { .. } => FailureKind::Interrupted,
            BaseStoreError::Name(_) => FailureKind::Misuse,
            _ => FailureKind::Runtime,
        }
    }
}

/// The local bases of one home directory.
#[derive(Clone, Debug)]
pub struct BaseStore {
    home: Home,
    disk: Disk,
}

/// A base that is being added; dropping it removes what was written.
#[derive(Debug)]
pub struct PendingBase {
    name: String,
    target: PathBuf,
    disk: Disk,
    staging: Staging,
}

impl BaseStore {
    /// Names the directory of bases; touches nothing.
    pub fn new(home: &Home, disk: Disk) -> Self {
        Self {
            home: home.clone(),
            disk,
        }
    }

    /// Names of the local bases, sorted.
    ///
    /// **Errors** name the path.
    pub fn names(&self) -> Result<Vec<String>, DiskError> {
        let entries = dlm_files::list(&self.home.bases())?;
        let is_base = |entry: &dlm_files::Entry| entry.is_directory && base_directory(&self.home, &entry.name).is_ok();
        Ok(entries.into_iter().filter(is_base).map(|entry| entry.name).collect())
    }

    /// The directory of a base.
    ///
    /// **Errors** when there is none of that name.
    pub fn directory(&self, name: &str) -> Result<PathBuf, BaseStoreError> {
        let directory = base_directory(&self.home, name)?;
        if directory.is_dir() {
            return Ok(directory);
        }
        Err(BaseStoreError::Unknown {
            name: name.to_owned(),
            known: self.names()?,
        })
    }

    /// The place of a base that is to be added.
    ///
    /// **Errors** when the name is taken or cannot be a name.
    pub fn free_place(&self, name: &str) -> Result<PathBuf, BaseStoreError> {
        let target = base_directory(&self.home, name)?;
        match target.symlink_metadata() {
            Ok(_) => Err(exists(name, &target)),
            Err(_) => Ok(target),
        }
    }

    /// Begins to add a base; after `on_wait` waits for another process that adds one of this name.
    ///
    /// **Errors** when the name is taken, also by then, or cannot be a name; when `cancel` is raised.
    pub fn begin(&self, name: &str, cancel: &Cancel, on_wait: impl FnOnce()) -> Result<PendingBase, BaseStoreError> {
        let target = self.free_place(name)?;
        self.disk.create_directories(&self.home.bases())?;
        self.sweep()?;
        // A leading dot is what keeps it out of the list of bases.
        let staging = Staging::begin(&self.disk, &target, cancel, on_wait)?;
        let staging = staging.ok_or_else(|| BaseStoreError::Cancelled { name: name.to_owned() })?;
        self.free_place(name)?;
        Ok(PendingBase {
            name: name.to_owned(),
            staging,
            target,
            disk: self.disk.clone(),
        })
    }

    /// Removes what killed processes left.
    fn sweep(&self) -> Result<(), DiskError> {
        let bases = self.home.bases();
        sweep_aside(&self.disk, &bases)?;
        for entry in dlm_files::list(&bases)? {
            let Some((_, ending)) = entry.name.strip_prefix('.').and_then(|name| name.rsplit_once(ADDING)) else {
                if entry.name.starts_with('.') && entry.name.contains(REMOVING) {
                    self.disk.remove_tree(&bases.join(&entry.name))?;
                }
                continue;
            };
            // Earlier versions held no lock while they added: their process is all that tells.
            if !ending.parse().is_ok_and(dlm_files::platform::is_alive) {
                self.disk.remove_tree(&bases.join(&entry.name))?;
            }
        }
        Ok(())
    }

    /// Removes a base.
    ///
    /// **Errors** when there is none of that name; a stop half-way leaves a base that is gone from the list.
    pub fn remove(&self, name: &str) -> Result<(), BaseStoreError> {
        let directory = self.directory(name)?;
        self.sweep()?;
        let doomed = directory.with_file_name(format!(".{name}{REMOVING}"));
        Seen::forget(&self.home, &self.disk, &directory);
        self.disk.rename(&directory, &doomed)?;
        Ok(self.disk.remove_tree(&doomed)?)
    }
}

impl PendingBase {
    /// The directory to write into.
    pub fn directory(&self) -> &Path {
        self.staging.directory()
    }

    /// Writes one file into it from what `fill` writes; `size_bytes` is the expected size, told when the disk is full.
    ///
    /// **Errors** name the path.
    pub fn write_with(
        &self,
        name: &str,
        size_bytes: u64,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), BaseStoreError> {
        let path = self.staging.directory().join(file_name(name)?);
        Ok(self.disk.write_with(&path, size_bytes, fill)?)
    }

    /// Flushes everything and gives the base its name.
    ///
    /// **Errors** when the name was taken meanwhile or the disk fails.
    pub fn commit(self) -> Result<PathBuf, BaseStoreError> {
        match self.staging.take_free_place()? {
            true => Ok(self.target),
            false => Err(exists(&self.name, &self.target)),
        }
    }
}

fn exists(name: &str, directory: &Path) -> BaseStoreError {
    BaseStoreError::Exists {
        name: name.to_owned(),
        directory: directory.to_owned(),
    }
}
