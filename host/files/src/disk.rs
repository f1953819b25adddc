//! The only place where files change: atomic whole-file writes, appends, renames and removals.
//!
//! Invariants: a file under its real name is always whole (temporary beside it, flushed, renamed, directory flushed);
//! every error names the path; a full disk is its own kind with sizes. Every single operation first asks an optional
//! hook, so that a test can stop the program, or fail the write, between any two of them.

#![expect(clippy::disallowed_methods, reason = "the place where files change")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use crate::error::{DiskError, failed};
use crate::platform::{
    Access, Swap, create_file, flush_directory, link_file, make_directory, open_to_append, parent_of, swap_names,
};
use crate::read::list;

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
    /// The number of the next temporary.
    pub(crate) temporaries: Arc<AtomicU32>,
    /// New files and directories are for this user alone.
    pub(crate) is_private: bool,
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
            ..Self::default()
        }
    }

    /// The same access, under which new files and directories are for this user alone.
    pub fn private(self) -> Self {
        Self {
            is_private: true,
            ..self
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

    /// Replaces the file at `path` by `bytes`, or leaves it as it was. Who may read and change a file that was there stays
    /// as it was.
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

    /// Appends `bytes` and returns the offset where they begin; on failure the file is cut back to its old length.
    ///
    /// **Errors** as [`Disk::write`].
    pub fn append(&self, path: &Path, bytes: &[u8]) -> Result<u64, DiskError> {
        let needed = bytes.len() as u64;
        let is_new = !path.exists();
        self.ask(Operation::CreateFile, path)
            .and_then(|()| open_to_append(path, self.is_private))
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
            .and_then(|()| make_directory(path, self.is_private))
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

    /// Renames where the name `to` is free, in one step; says whether it was.
    ///
    /// **Errors** name the source path.
    pub fn rename_new(&self, from: &Path, to: &Path) -> Result<bool, DiskError> {
        let renamed = self
            .ask(Operation::Rename, from)
            .and_then(|()| swap_names(from, to, Swap::IfFree));
        match renamed {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            // Not every file system knows the step: a look before it leaves a tiny gap.
            Err(error) if is_unsupported(&error) && to.symlink_metadata().is_err() => {
                fs::rename(from, to).map_err(|source| failed(from, "rename", 0, source))?;
            }
            Err(error) if is_unsupported(&error) => return Ok(false),
            Err(source) => return Err(failed(from, "rename", 0, source)),
        }
        self.sync_directory(parent_of(to))?;
        Ok(true)
    }

    /// Gives each of two things in one directory the other's name, in one step; says whether the file system can.
    ///
    /// **Errors** name the first path.
    pub fn exchange(&self, one: &Path, other: &Path) -> Result<bool, DiskError> {
        let swapped = self
            .ask(Operation::Rename, one)
            .and_then(|()| swap_names(one, other, Swap::Exchange));
        match swapped {
            Ok(()) => {}
            Err(error) if is_unsupported(&error) => return Ok(false),
            Err(source) => return Err(failed(one, "rename", 0, source)),
        }
        self.sync_directory(parent_of(other))?;
        Ok(true)
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
            .and_then(|()| open_to_append(path, self.is_private))
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

    /// As [`Disk::create`] with the usual access, and whole or not there at all, whatever ends the process meanwhile.
    ///
    /// **Errors** name the path, or the temporary that was to take it.
    pub fn create_whole(&self, path: &Path, bytes: &[u8]) -> Result<bool, DiskError> {
        let (temporary, _held) = self.temporary(path, bytes)?;
        let is_placed = self.rename_new(&temporary, path);
        if !matches!(is_placed, Ok(true)) {
            // One that stays is swept by the next writer.
            let _ = fs::remove_file(&temporary);
        }
        is_placed
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

    /// Gives a directory and all that is in it second names below `name`, which must be free; links stay links.
    ///
    /// **Errors** name the path.
    pub fn duplicate_tree(&self, directory: &Path, name: &Path) -> Result<(), DiskError> {
        let found = fs::symlink_metadata(directory).map_err(|source| failed(directory, "read", 0, source))?;
        if found.is_symlink() {
            let target = fs::read_link(directory).map_err(|source| failed(directory, "read", 0, source))?;
            return self.link(&target, name);
        }
        if !found.is_dir() {
            return self.duplicate(directory, name);
        }
        self.create_directory(name)?;
        for entry in list(directory)? {
            self.duplicate_tree(&directory.join(&entry.name), &name.join(&entry.name))?;
        }
        Ok(())
    }

    /// Makes a directory of this user be for this user alone; one of somebody else stays as it is.
    ///
    /// **Errors** name the path.
    pub fn close_to_others(&self, directory: &Path) -> Result<(), DiskError> {
        crate::platform::close_to_others(directory).map_err(|source| failed(directory, "close to others", 0, source))
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
}

/// Says whether the file system does not know how to do what was asked.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Unsupported
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::TooManyLinks
    )
}
