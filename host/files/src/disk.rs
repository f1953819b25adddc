//! The only place where files change: atomic whole-file writes, appends, renames and removals.
//!
//! Invariants: a file under its real name is always whole (temporary beside it, flushed, renamed, directory flushed);
//! every error names the path; a full disk is its own kind with sizes. Every single operation first asks an optional
//! hook, so that a test can stop the program, or fail the write, between any two of them.

#![expect(clippy::disallowed_methods, reason = "the place where files change")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{DiskError, failed};
use crate::platform::{Access, create_file, flush_directory, link_file, parent_of};
use crate::read::list;

/// How many clashing temporary names are stepped over before giving up; a clash needs a recycled process id.
const TEMPORARY_TRIES: u32 = 1000;

/// What is about to happen to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    CreateDirectory,
    CreateFile,
    /// A part of the bytes; every whole-file write is made of two, so that a stop can fall in the middle.
    Write,
    SyncFile,
    SyncDirectory,
    Rename,
    Link,
    Truncate,
    Remove,
    /// A write to the metrics database, which has a journal of its own.
    Database,
}

/// Asked before every operation; an error is treated as if the system had given it.
pub type Hook = dyn Fn(Operation, &Path) -> io::Result<()> + Send + Sync;

/// Access to the file system for one writer.
#[derive(Clone, Default)]
pub struct Disk {
    hook: Option<Arc<Hook>>,
    temporaries: Arc<AtomicU32>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hooked = self.hook.is_some();
        f.debug_struct("Disk").field("hooked", &hooked).finish()
    }
}

impl Disk {
    /// Makes access without a hook.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes access that asks `hook` before every operation.
    pub fn with_hook(hook: Arc<Hook>) -> Self {
        Self {
            hook: Some(hook),
            temporaries: Arc::default(),
        }
    }

    /// Asks the hook; for writers that do not go through this type, such as the database.
    ///
    /// **Errors** name the path.
    pub fn before(&self, operation: Operation, path: &Path) -> Result<(), DiskError> {
        self.ask(operation, path)
            .map_err(|source| failed(path, "write", 0, source))
    }

    pub(crate) fn ask(&self, operation: Operation, path: &Path) -> io::Result<()> {
        match &self.hook {
            Some(hook) => hook(operation, path),
            None => Ok(()),
        }
    }

    /// Replaces the file at `path` by `bytes`, or leaves it as it was.
    ///
    /// **Errors** name the path; a full disk is [`DiskError::Full`].
    pub fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        let needed = bytes.len() as u64;
        self.write_with(path, needed, |file| {
            let (first, second) = bytes.split_at(bytes.len() / 2);
            self.ask(Operation::Write, path)?;
            file.write_all(first)?;
            self.ask(Operation::Write, path)?;
            file.write_all(second)
        })
    }

    /// Replaces the file at `path` by what `fill` writes, or leaves it as it was; `size_bytes` is only told in errors.
    ///
    /// **Errors** as [`Disk::write`].
    pub fn write_with(
        &self,
        path: &Path,
        size_bytes: u64,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), DiskError> {
        let (temporary, mut file) = self.create_temporary(path, size_bytes)?;
        let written = fill(&mut file)
            .and_then(|()| self.ask(Operation::SyncFile, path))
            .and_then(|()| file.sync_all())
            .and_then(|()| self.ask(Operation::Rename, path))
            .and_then(|()| fs::rename(&temporary, path));
        if let Err(source) = written {
            let error = failed(path, "write", size_bytes, source);
            // The first error is the one to tell; a temporary that stays is swept by the next writer.
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        self.sync_directory(parent_of(path))
    }

    fn create_temporary(&self, path: &Path, size: u64) -> Result<(PathBuf, File), DiskError> {
        self.ask(Operation::CreateFile, path)
            .map_err(|source| failed(path, "create", size, source))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut clash = io::Error::from(io::ErrorKind::AlreadyExists);
        for _ in 0..TEMPORARY_TRIES {
            let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
            let temporary = path.with_file_name(format!("{name}.tmp.{}.{number:08x}", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&temporary) {
                Ok(file) => return Ok((temporary, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => clash = error,
                Err(source) => return Err(failed(path, "create", size, source)),
            }
        }
        Err(failed(path, "create", size, clash))
    }

    /// Appends `bytes` and returns the offset where they begin; on failure the file is cut back to its old length.
    ///
    /// **Errors** as [`Disk::write`].
    pub fn append(&self, path: &Path, bytes: &[u8]) -> Result<u64, DiskError> {
        let needed = bytes.len() as u64;
        let is_new = !path.exists();
        self.ask(Operation::CreateFile, path)
            .and_then(|()| OpenOptions::new().create(true).append(true).open(path))
            .and_then(|file| self.append_to(file, path, bytes))
            .map_err(|source| failed(path, "append", needed, source))
            .and_then(|offset| {
                if is_new {
                    self.sync_directory(parent_of(path))?;
                }
                Ok(offset)
            })
    }

    fn append_to(&self, mut file: File, path: &Path, bytes: &[u8]) -> io::Result<u64> {
        let offset = file.seek(SeekFrom::End(0))?;
        let (first, second) = bytes.split_at(bytes.len() / 2);
        let written = self
            .ask(Operation::Write, path)
            .and_then(|()| file.write_all(first))
            .and_then(|()| self.ask(Operation::Write, path))
            .and_then(|()| file.write_all(second))
            .and_then(|()| self.ask(Operation::SyncFile, path))
            .and_then(|()| file.sync_all());
        if let Err(error) = written {
            // Bytes that no index covers are harmless, so a cut that fails too changes nothing for a reader.
            let _ = file.set_len(offset);
            return Err(error);
        }
        Ok(offset)
    }

    /// Writes bytes to an open file at once; the caller keeps it open over many calls.
    ///
    /// **Errors** name the path.
    pub fn write_to(&self, file: &mut File, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        self.ask(Operation::Write, path)
            .and_then(|()| file.write_all(bytes))
            .map_err(|source| failed(path, "write", bytes.len() as u64, source))
    }

    /// Creates `path` and its missing parents, flushing each new entry.
    ///
    /// **Errors** name the path.
    pub fn create_directories(&self, path: &Path) -> Result<(), DiskError> {
        if path.is_dir() {
            return Ok(());
        }
        let parent = parent_of(path);
        if parent != path {
            self.create_directories(parent)?;
        }
        match self.create_directory(path) {
            Err(DiskError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
                Ok(())
            }
            other => other,
        }
    }

    /// Creates one directory, which must not exist.
    ///
    /// **Errors** name the path.
    pub fn create_directory(&self, path: &Path) -> Result<(), DiskError> {
        self.ask(Operation::CreateDirectory, path)
            .and_then(|()| fs::create_dir(path))
            .map_err(|source| failed(path, "create the directory", 0, source))?;
        self.sync_directory(parent_of(path))
    }

    /// Renames within one directory or file system and flushes the directory that gained the name.
    ///
    /// **Errors** name the source path.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.ask(Operation::Rename, from)
            .and_then(|()| fs::rename(from, to))
            .map_err(|source| failed(from, "rename", 0, source))?;
        self.sync_directory(parent_of(to))
    }

    /// Removes a file; a missing one is no error. Says whether there was one.
    ///
    /// **Errors** name the path.
    pub fn remove_file(&self, path: &Path) -> Result<bool, DiskError> {
        let removed = self.ask(Operation::Remove, path).and_then(|()| fs::remove_file(path));
        match removed {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(failed(path, "remove", 0, source)),
        }
    }

    /// Makes the name `name` for a file: a symbolic link to `target`, relative to the name's directory, or where there are
    /// none another name of the file itself, or a copy.
    ///
    /// **Errors** name the path `name`, which must be free.
    pub fn link(&self, target: &Path, name: &Path) -> Result<(), DiskError> {
        self.ask(Operation::Link, name)
            .and_then(|()| link_file(target, name))
            .map_err(|source| failed(name, "link", 0, source))
    }

    /// Opens a file for reading and writing, makes it where it is missing, and keeps other processes out.
    ///
    /// **Errors** name the path; one that another process holds has the kind `WouldBlock`.
    pub fn open_alone(&self, path: &Path) -> Result<File, DiskError> {
        let file = self
            .ask(Operation::CreateFile, path)
            .and_then(|()| {
                OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(path)
            })
            .map_err(|source| failed(path, "open", 0, source))?;
        file.try_lock().map_err(|error| failed(path, "lock", 0, error.into()))?;
        Ok(file)
    }

    /// Removes a directory with all that is in it; a missing one is no error.
    ///
    /// **Errors** name the path.
    pub fn remove_tree(&self, directory: &Path) -> Result<(), DiskError> {
        let removed = self
            .ask(Operation::Remove, directory)
            .and_then(|()| fs::remove_dir_all(directory));
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(directory, "remove", 0, error)),
            _ => Ok(()),
        }
    }

    /// Removes a directory where it is empty.
    ///
    /// **Errors** name the path; a directory in use stays, and is one.
    pub fn remove_empty_directory(&self, directory: &Path) -> Result<(), DiskError> {
        self.ask(Operation::Remove, directory)
            .and_then(|()| fs::remove_dir(directory))
            .map_err(|source| failed(directory, "remove", 0, source))
    }

    /// Opens a file for appending, and makes it where it is missing; [`Disk::write_to`] writes to it.
    ///
    /// **Errors** name the path.
    pub fn open_for_append(&self, path: &Path) -> Result<File, DiskError> {
        let file = self
            .ask(Operation::CreateFile, path)
            .and_then(|()| OpenOptions::new().create(true).append(true).open(path))
            .map_err(|source| failed(path, "open", 0, source))?;
        self.sync_directory(parent_of(path))?;
        Ok(file)
    }

    /// Writes a file that must not be there yet; says whether it was free. Half a file is not left behind.
    ///
    /// **Errors** name the path.
    pub fn create(&self, path: &Path, bytes: &[u8], access: Access) -> Result<bool, DiskError> {
        let size = bytes.len() as u64;
        let opened = self
            .ask(Operation::CreateFile, path)
            .and_then(|()| create_file(path, access));
        let mut file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(source) => return Err(failed(path, "create", size, source)),
        };
        let written = self
            .ask(Operation::Write, path)
            .and_then(|()| file.write_all(bytes))
            .and_then(|()| self.ask(Operation::SyncFile, path))
            .and_then(|()| file.sync_all());
        if let Err(source) = written {
            let _ = fs::remove_file(path);
            return Err(failed(path, "write", size, source));
        }
        self.sync_directory(parent_of(path))?;
        Ok(true)
    }

    /// Gives a file a second name, or makes a copy where the file system has no second names; `name` must be free.
    ///
    /// **Errors** name the path `name`.
    pub fn duplicate(&self, existing: &Path, name: &Path) -> Result<(), DiskError> {
        self.ask(Operation::Link, name)
            .and_then(|()| fs::hard_link(existing, name).or_else(|_| fs::copy(existing, name).map(drop)))
            .map_err(|source| failed(name, "write", 0, source))
    }

    /// Opens a file that stands for a lock, makes it where it is missing, and waits until no other process holds it; it is
    /// held until the file is closed.
    ///
    /// **Errors** name the path.
    pub fn hold(&self, path: &Path) -> Result<File, DiskError> {
        self.ask(Operation::CreateFile, path)
            .and_then(|()| OpenOptions::new().write(true).create(true).truncate(false).open(path))
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|source| failed(path, "lock", 0, source))
    }

    /// Gives the temporary file `existing` the name `name`, which must be free; says whether it was.
    ///
    /// The temporary name is gone afterwards.
    pub(crate) fn claim(&self, existing: &Path, name: &Path) -> Result<bool, DiskError> {
        let linked = self
            .ask(Operation::Link, name)
            .and_then(|()| fs::hard_link(existing, name));
        match linked {
            Ok(()) => self.remove_file(existing).map(|_| true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.remove_file(existing).map(|_| false),
            // A file system without hard links: a rename, which is not exclusive, after a look that leaves a tiny gap.
            Err(error) if is_unsupported(&error) && !name.exists() => self.rename(existing, name).map(|()| true),
            Err(source) => {
                let _ = fs::remove_file(existing);
                Err(failed(name, "create", 0, source))
            }
        }
    }

    /// Creates a temporary beside `path` that holds `bytes`; the caller links or removes it.
    pub(crate) fn temporary(&self, path: &Path, bytes: &[u8]) -> Result<(PathBuf, File), DiskError> {
        let size = bytes.len() as u64;
        let (temporary, mut file) = self.create_temporary(path, size)?;
        self.ask(Operation::Write, path)
            .and_then(|()| file.write_all(bytes))
            .map_err(|source| {
                let _ = fs::remove_file(&temporary);
                failed(path, "write", size, source)
            })?;
        Ok((temporary, file))
    }

    /// Flushes every file of a directory, then the directory.
    ///
    /// **Errors** name the path.
    pub fn sync_tree(&self, directory: &Path) -> Result<(), DiskError> {
        for entry in list(directory)? {
            let path = directory.join(&entry.name);
            if entry.is_directory {
                self.sync_tree(&path)?;
            } else {
                self.ask(Operation::SyncFile, &path)
                    .and_then(|()| File::open(&path))
                    .and_then(|file| file.sync_all())
                    .map_err(|source| failed(&path, "flush", 0, source))?;
            }
        }
        self.sync_directory(directory)
    }

    /// Flushes a directory, so that names made in it survive a power cut.
    ///
    /// **Errors** name the path.
    pub fn sync_directory(&self, directory: &Path) -> Result<(), DiskError> {
        self.ask(Operation::SyncDirectory, directory)
            .and_then(|()| flush_directory(directory))
            .map_err(|source| failed(directory, "flush the directory", 0, source))
    }

    /// Removes temporaries in `directory` whose writer does not run any more; returns what was removed.
    ///
    /// **Errors** name the path.
    pub fn sweep(&self, directory: &Path, is_alive: impl Fn(u32) -> bool) -> Result<Vec<PathBuf>, DiskError> {
        let mut removed = Vec::new();
        for entry in list(directory)? {
            let is_stale = temporary_writer(&entry.name).is_some_and(|pid| !is_alive(pid));
            if is_stale && !entry.is_directory {
                let path = directory.join(&entry.name);
                if self.remove_file(&path)? {
                    removed.push(path);
                }
            }
        }
        Ok(removed)
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied | io::ErrorKind::TooManyLinks
    )
}

/// The process id in a temporary's name `<name>.tmp.<pid>.<8 hex>`.
fn temporary_writer(name: &str) -> Option<u32> {
    let (_, tail) = name.rsplit_once(".tmp.")?;
    let (pid, number) = tail.split_once('.')?;
    let is_number = number.len() == 8 && number.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_number { pid.parse().ok() } else { None }
}
