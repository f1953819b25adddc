//! The only place where the store changes files: atomic whole-file writes, appends, renames and removals.
//!
//! Invariants: a file under its real name is always whole (temporary beside it, flushed, renamed, directory flushed);
//! every error names the path; a full disk is its own kind with sizes. Every single operation first asks an optional
//! hook, so that a test can stop the program, or fail the write, between any two of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dlm_core::Hints;

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

/// A failed access to a file or directory.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("`{}`: cannot {action}: {source}", path.display())]
    Io {
        path: PathBuf,
        action: &'static str,
        source: io::Error,
    },
    #[error(
        "`{}`: no space left to write {needed_bytes} bytes{}; the file was left as it was",
        path.display(),
        free_bytes.map_or(String::new(), |free| format!(" ({free} bytes are free)"))
    )]
    Full {
        path: PathBuf,
        needed_bytes: u64,
        free_bytes: Option<u64>,
        source: io::Error,
    },
    #[error("`{}`: the file has {found_bytes} bytes, the limit is {limit_bytes}", path.display())]
    TooLarge {
        path: PathBuf,
        found_bytes: u64,
        limit_bytes: u64,
    },
}

impl DiskError {
    /// The file or directory.
    pub fn path(&self) -> &Path {
        match self {
            DiskError::Io { path, .. } | DiskError::Full { path, .. } | DiskError::TooLarge { path, .. } => path,
        }
    }

    /// Says whether the disk was full.
    pub fn is_full(&self) -> bool {
        matches!(self, DiskError::Full { .. })
    }
}

impl Hints for DiskError {
    fn subject(&self) -> &str {
        match self {
            DiskError::Full { .. } => "disk",
            _ => "store",
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            DiskError::Full { path, .. } => vec![format!(
                "free some space on the disk of `{}`, or keep the stores elsewhere with `--home <directory>`",
                path.display()
            )],
            _ => Vec::new(),
        }
    }
}

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
    pub(crate) fn before(&self, operation: Operation, path: &Path) -> Result<(), DiskError> {
        self.ask(operation, path)
            .map_err(|source| failed(path, "write", 0, source))
    }

    fn ask(&self, operation: Operation, path: &Path) -> io::Result<()> {
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
    pub(crate) fn write_to(&self, file: &mut File, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
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
    pub(crate) fn sync_directory(&self, directory: &Path) -> Result<(), DiskError> {
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

#[cfg(unix)]
fn flush_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
fn flush_directory(_directory: &Path) -> io::Result<()> {
    // A directory cannot be opened for flushing here; the file system journals names by itself.
    Ok(())
}

/// The process id in a temporary's name `<name>.tmp.<pid>.<8 hex>`.
fn temporary_writer(name: &str) -> Option<u32> {
    let (_, tail) = name.rsplit_once(".tmp.")?;
    let (pid, number) = tail.split_once('.')?;
    let is_number = number.len() == 8 && number.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_number { pid.parse().ok() } else { None }
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => path,
    }
}

/// Wraps a system error with its path; a full disk becomes its own kind.
pub(crate) fn failed(path: &Path, action: &'static str, needed_bytes: u64, source: io::Error) -> DiskError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::Full {
            free_bytes: free_bytes(parent_of(&path)),
            path,
            needed_bytes,
            source,
        },
        _ => DiskError::Io { path, action, source },
    }
}

/// Bytes that this user may still write on the file system of `path`; none when the system does not say.
#[cfg(unix)]
pub fn free_bytes(path: &Path) -> Option<u64> {
    let figures = rustix::fs::statvfs(path).ok()?;
    Some(figures.f_bavail.saturating_mul(figures.f_frsize))
}

/// Bytes that this user may still write on the file system of `path`; none when the system does not say.
#[cfg(not(unix))]
pub fn free_bytes(_path: &Path) -> Option<u64> {
    None
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub name: String,
    pub is_directory: bool,
}

/// Lists a directory sorted by name; a missing directory is empty. Names that are not UTF-8 are none of ours.
pub(crate) fn list(directory: &Path) -> Result<Vec<Entry>, DiskError> {
    let wrap = |source| failed(directory, "list", 0, source);
    let reader = match fs::read_dir(directory) {
        Ok(reader) => reader,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(wrap(source)),
    };
    let mut entries = Vec::new();
    for entry in reader {
        let entry = entry.map_err(wrap)?;
        let is_directory = entry.file_type().map_err(wrap)?.is_dir();
        if let Ok(name) = entry.file_name().into_string() {
            entries.push(Entry { name, is_directory });
        }
    }
    entries.sort();
    Ok(entries)
}

/// Reads a file of at most `limit_bytes`; none when it is missing.
///
/// **Errors** name the path.
pub fn read(path: &Path, limit_bytes: u64) -> Result<Option<Vec<u8>>, DiskError> {
    let wrap = |source| failed(path, "read", 0, source);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(wrap(source)),
    };
    let found_bytes = file.metadata().map_err(wrap)?.len();
    let too_large = |found_bytes| DiskError::TooLarge {
        path: path.to_owned(),
        found_bytes,
        limit_bytes,
    };
    if found_bytes > limit_bytes {
        return Err(too_large(found_bytes));
    }
    let mut bytes = Vec::new();
    // The file may grow while it is read, so the limit is held here too.
    file.take(limit_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(wrap)?;
    if bytes.len() as u64 > limit_bytes {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(Some(bytes))
}

/// Reads `length` bytes at `offset`; fewer when the file ends before.
pub(crate) fn read_at(path: &Path, offset: u64, length: u64) -> Result<Vec<u8>, DiskError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|source| failed(path, "read", 0, source))
}

/// The size of a file; 0 when it is missing.
pub(crate) fn file_size(path: &Path) -> Result<u64, DiskError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(source) => Err(failed(path, "read the size of", 0, source)),
    }
}

/// The sum of the sizes of all files below a directory; 0 when it is missing. Links are not followed.
///
/// **Errors** name the path; a file that vanishes meanwhile is no error.
pub fn tree_size(directory: &Path) -> Result<u64, DiskError> {
    let mut total = 0u64;
    for entry in list(directory)? {
        let path = directory.join(&entry.name);
        let size = if entry.is_directory {
            tree_size(&path)?
        } else {
            match fs::symlink_metadata(&path) {
                Ok(metadata) => metadata.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                Err(source) => return Err(failed(&path, "read the size of", 0, source)),
            }
        };
        total = total.saturating_add(size);
    }
    Ok(total)
}
