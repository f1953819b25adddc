//! Files of plugins: bounded reads of ordinary files, and whole files written with the directory that they lie in.
//!
//! Invariants: a reader never waits on a pipe or device; a written file is old or new, never half.

use std::path::Path;

#[cfg(not(test))]
use dlm_files::Disk;
use dlm_files::DiskError;

use crate::error::FilesError;

/// Reads a file of at most `bytes_max`; nothing where there is none.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, FilesError> {
    dlm_files::read_ordinary(path, bytes_max).map_err(|error| {
        let cause = match error {
            DiskError::TooLarge { .. } => std::io::Error::other(format!("it is larger than {} MiB", bytes_max >> 20)),
            error => error.into_io(),
        };
        FilesError::of("read", path)(cause)
    })
}

/// Access to files.
#[cfg(not(test))]
fn disk() -> Disk {
    Disk::new()
}

#[cfg(test)]
pub(crate) use ported::{dies, disk};

/// Replaces a file as a whole; the directory is made where it is missing, and what a writer that died left beside it is removed.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), FilesError> {
    if let Some(directory) = path.parent() {
        make_directory(directory)?;
    }
    sweep(path);
    disk()
        .write(path, bytes)
        .map_err(|error| FilesError::of("write", path)(error.into_io()))
}

/// Removes what killed writers of a file left beside it. What cannot be removed is in nobody's way.
pub(crate) fn sweep(path: &Path) {
    let _left = disk().sweep_beside(path);
}

/// Makes a directory and those above it.
pub(crate) fn make_directory(directory: &Path) -> Result<(), FilesError> {
    if directory.as_os_str().is_empty() {
        return Ok(());
    }
    disk()
        .create_directories(directory)
        .map_err(|error| FilesError::of("make", directory)(error.into_io()))
}

/// Removes a directory with all that is in it; says whether there was one.
pub(crate) fn remove_tree(directory: &Path) -> Result<bool, FilesError> {
    let was_there = directory.exists();
    disk()
        .remove_tree(directory)
        .map_err(|error| FilesError::of("remove", directory)(error.into_io()))?;
    Ok(was_there)
}

/// Removes a file that need not be there.
pub(crate) fn remove(path: &Path) -> Result<(), FilesError> {
    disk()
        .remove_file(path)
        .map(drop)
        .map_err(|error| FilesError::of("remove", path)(error.into_io()))
}

/// Access to files that a test can end.
#[cfg(test)]
mod ported {
    use std::cell::RefCell;

    use dlm_files::Disk;

    thread_local! {
        static DISK: RefCell<Disk> = RefCell::new(Disk::new());
    }

    pub(crate) fn disk() -> Disk {
        DISK.with_borrow(Disk::clone)
    }

    /// From now on this thread reaches files through `disk`.
    pub(crate) fn dies(disk: Disk) {
        DISK.set(disk);
    }
}
