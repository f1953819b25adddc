//! Local base models: one directory each under the home directory, put in place whole or not at all.
//!
//! Invariants: what a base's files mean is not known here; a base that is being added has a name that no base can have.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use dlm_core::{Hints, Subject};
use dlm_files::{Disk, DiskError};

use crate::layout::{Home, NameError, base_directory, file_name};

/// A local base that cannot be added, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum BaseStoreError {
    #[error("base `{name}` exists already in `{}`", directory.display())]
    Exists { name: String, directory: PathBuf },
    #[error("there is no local base `{name}` (local bases: {})", known_list(known))]
    Unknown { name: String, known: Vec<String> },
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
            BaseStoreError::Name(_) => Vec::new(),
            BaseStoreError::Disk(error) => error.hints(),
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
    staging: PathBuf,
    target: PathBuf,
    disk: Disk,
    is_done: bool,
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

    /// Begins to add a base.
    ///
    /// **Errors** when the name is taken or cannot be a name.
    pub fn begin(&self, name: &str) -> Result<PendingBase, BaseStoreError> {
        let target = base_directory(&self.home, name)?;
        if target.exists() {
            return Err(BaseStoreError::Exists {
                name: name.to_owned(),
                directory: target,
            });
        }
        self.disk.create_directories(&self.home.bases())?;
        // A leading dot is what keeps it out of the list of bases.
        let staging = target.with_file_name(format!(".{name}.adding.{}", std::process::id()));
        self.disk.remove_tree(&staging)?;
        self.disk.create_directory(&staging)?;
        Ok(PendingBase {
            name: name.to_owned(),
            staging,
            target,
            disk: self.disk.clone(),
            is_done: false,
        })
    }

    /// Removes a base.
    ///
    /// **Errors** when there is none of that name; a stop half-way leaves a base that is gone from the list.
    pub fn remove(&self, name: &str) -> Result<(), BaseStoreError> {
        let directory = self.directory(name)?;
        let doomed = directory.with_file_name(format!(".{name}.removing.{}", std::process::id()));
        self.disk.rename(&directory, &doomed)?;
        Ok(self.disk.remove_tree(&doomed)?)
    }
}

impl PendingBase {
    /// The directory to write into.
    pub fn directory(&self) -> &Path {
        &self.staging
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
        let path = self.staging.join(file_name(name)?);
        Ok(self.disk.write_with(&path, size_bytes, fill)?)
    }

    /// Flushes everything and gives the base its name.
    ///
    /// **Errors** when the name was taken meanwhile or the disk fails.
    pub fn commit(mut self) -> Result<PathBuf, BaseStoreError> {
        self.disk.sync_tree(&self.staging)?;
        if self.target.exists() {
            return Err(BaseStoreError::Exists {
                name: self.name.clone(),
                directory: self.target.clone(),
            });
        }
        self.disk.rename(&self.staging, &self.target)?;
        self.is_done = true;
        Ok(self.target.clone())
    }
}

impl Drop for PendingBase {
    fn drop(&mut self) {
        if !self.is_done {
            // What stays here is not a base, and the next addition of the same name removes it.
            let _ = self.disk.remove_tree(&self.staging);
        }
    }
}
