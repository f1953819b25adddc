//! Temporaries: what a file is called until it has its name, and how those of writers that died are told from the others.
//!
//! Invariants: a writer holds the advisory lock of its temporary as long as it writes, so that the lock, and not a process
//! number that may belong to somebody else by now, says whether the writer lives. Where there are no such locks, the
//! number in the name is what is left.

#![expect(clippy::disallowed_methods, reason = "part of the place where files change")]

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::disk::{Disk, Operation, is_unsupported};
use crate::error::{DiskError, failed};
use crate::platform::{is_alive, is_same_file, open_ordinary, open_temporary};
use crate::read::list;

/// How many clashing temporary names are stepped over before giving up; a clash needs a recycled process id.
const TEMPORARY_TRIES: u32 = 1000;

impl Disk {
    pub(crate) fn create_temporary(&self, path: &Path, size: u64) -> Result<(PathBuf, File), DiskError> {
        self.ask(Operation::CreateFile, path)
            .map_err(|source| failed(path, "create", size, source))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut clash = io::Error::from(io::ErrorKind::AlreadyExists);
        for _ in 0..TEMPORARY_TRIES {
            let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
            let temporary = path.with_file_name(format!("{name}.tmp.{}.{number:08x}", std::process::id()));
            match open_temporary(&temporary, path, self.is_private) {
                // Somebody may have swept it before it was locked.
                Ok(file) if is_claimed(&file, &temporary) => return Ok((temporary, file)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => clash = error,
                Err(source) => return Err(failed(path, "create", size, source)),
            }
        }
        Err(failed(path, "create", size, clash))
    }

    /// Creates a temporary beside `path` that holds `bytes`; the caller links or removes it.
    pub(crate) fn temporary(&self, path: &Path, bytes: &[u8]) -> Result<(PathBuf, File), DiskError> {
        let size = bytes.len() as u64;
        let (temporary, mut file) = self.create_temporary(path, size)?;
        self.ask(Operation::Write, path)
            .and_then(|()| file.write_all(bytes))
            // A name without its content, after a power cut, would be a lock that names nobody.
            .and_then(|()| self.ask(Operation::SyncFile, path))
            .and_then(|()| file.sync_all())
            .map_err(|source| {
                let _ = fs::remove_file(&temporary);
                failed(path, "write", size, source)
            })?;
        Ok((temporary, file))
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

    /// Removes temporaries in `directory` whose writer does not live any more; returns what was removed.
    ///
    /// **Errors** name the path.
    pub fn sweep(&self, directory: &Path) -> Result<Vec<PathBuf>, DiskError> {
        self.sweep_named(directory, |_| true)
    }

    /// Removes temporaries of the file `path` alone whose writer does not live any more: what lies beside it in a directory
    /// that is not ours is not looked at.
    ///
    /// **Errors** name the path.
    pub fn sweep_beside(&self, path: &Path) -> Result<Vec<PathBuf>, DiskError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.sweep_named(crate::platform::parent_of(path), |of| of == name)
    }

    fn sweep_named(&self, directory: &Path, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, DiskError> {
        let mut removed = Vec::new();
        for entry in list(directory)? {
            let Some((of, pid)) = temporary_parts(&entry.name) else {
                continue;
            };
            if entry.is_directory || !is_wanted(of) {
                continue;
            }
            let path = directory.join(&entry.name);
            // Held until it is removed, so that no writer takes it for its own meanwhile.
            if let Some(_held) = abandoned(&path, pid)
                && self.remove_file(&path)?
            {
                removed.push(path);
            }
        }
        Ok(removed)
    }
}

/// Locks a temporary that was just made; false where somebody else removed it, or is about to.
fn is_claimed(file: &File, temporary: &Path) -> bool {
    match file.try_lock() {
        Ok(()) => is_same_file(file, temporary),
        Err(TryLockError::WouldBlock) => false,
        // A file system without such locks.
        Err(TryLockError::Error(_)) => true,
    }
}

/// The open file of a temporary that nobody writes to any more.
fn abandoned(path: &Path, pid: u32) -> Option<File> {
    let file = open_ordinary(path).ok()?;
    match file.try_lock() {
        Ok(()) => is_same_file(&file, path).then_some(file),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(_)) => (!is_alive(pid)).then_some(file),
    }
}

/// The file that a temporary `<name>.tmp.<pid>.<8 hex>` is for, and the process id.
fn temporary_parts(name: &str) -> Option<(&str, u32)> {
    let (of, tail) = name.rsplit_once(".tmp.")?;
    let (pid, number) = tail.split_once('.')?;
    let is_number = number.len() == 8 && number.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_number { Some((of, pid.parse().ok()?)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_says_who_lives_and_not_the_number() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let disk = Disk::new();
        // The number of a process that lives, under which nobody writes: a recycled one.
        let recycled = at(&format!("a.tmp.{}.0000002a", std::process::id()));
        fs::write(&recycled, "half").unwrap();
        // The number of no process, under which somebody writes: another machine, or another container.
        let (living, held) = disk.temporary(&at("b"), b"half").unwrap();
        let foreign = at("notes.tmp.txt");
        fs::write(&foreign, "x").unwrap();
        assert_eq!(disk.sweep_beside(&at("c")).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(disk.sweep(directory.path()).unwrap(), vec![recycled]);
        assert!(living.exists() && foreign.exists());
        drop(held);
        assert_eq!(disk.sweep_beside(&at("b")).unwrap(), vec![living]);
        assert!(foreign.exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_stays_as_readable_as_it_was_and_a_private_one_is_for_its_user_alone() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        fs::write(&path, "1").unwrap();
        for kept in [0o600, 0o640, 0o664] {
            fs::set_permissions(&path, fs::Permissions::from_mode(kept)).unwrap();
            Disk::new().write(&path, b"2").unwrap();
            assert_eq!(mode(&path), kept);
        }
        let private = Disk::new().private();
        private.write(&path, b"3").unwrap();
        private.create_directories(&directory.path().join("a/b")).unwrap();
        private.append(&directory.path().join("a/log"), b"4").unwrap();
        let modes = ["file", "a", "a/b", "a/log"].map(|name| mode(&directory.path().join(name)));
        assert_eq!(modes, [0o600, 0o700, 0o700, 0o600]);
    }
}
