//! Files of plugins: bounded reads of ordinary files, whole and atomic writes.
//!
//! Invariants: a reader never waits on a pipe or device; a written file is old or new, never half.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use crate::error::FilesError;

/// Reads a file of at most `bytes_max`; nothing where there is none.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, FilesError> {
    let failed = || FilesError::of("read", path);
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => return Err(failed()(std::io::Error::other("it is not a file"))),
        Ok(_) => {}
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(failed()(error)),
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed())?;
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed())?;
    if bytes.len() as u64 > bytes_max {
        let cause = format!("it is larger than {} MiB", bytes_max >> 20);
        return Err(failed()(std::io::Error::other(cause)));
    }
    Ok(Some(bytes))
}

/// Removes a file that need not be there.
pub(crate) fn remove(path: &Path) -> Result<(), FilesError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(FilesError::of("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Replaces a file as a whole; the directory is made where it is missing.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), FilesError> {
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory).map_err(FilesError::of("make", directory))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.tmp.{}", std::process::id()));
    let written = write_through(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
        return Err(FilesError::of("write", path)(error));
    }
    #[cfg(unix)]
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(FilesError::of("write", directory))?;
    Ok(())
}

fn write_through(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // What a killed process of the same number left behind.
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
