//! Reading: bounded files, parts of files, directories and their sizes.
//!
//! Invariants: nothing is read without a limit; a missing file is told apart from one that cannot be read.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::{DiskError, failed};
use crate::platform::open_ordinary;

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name without its directory.
    pub name: String,
    /// Whether it is a directory itself; a link to one is not.
    pub is_directory: bool,
}

/// Lists a directory sorted by name; a missing directory is empty. Names that are not UTF-8 are none of ours.
///
/// **Errors** name the path.
pub fn list(directory: &Path) -> Result<Vec<Entry>, DiskError> {
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
/// **Errors** name the path; what is no file (a pipe, a device) is one, so that no reader waits.
pub fn read(path: &Path, limit_bytes: u64) -> Result<Option<Vec<u8>>, DiskError> {
    match read_required(path, limit_bytes) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(DiskError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a file of at most `limit_bytes`.
///
/// **Errors** name the path; a missing file is one.
pub fn read_required(path: &Path, limit_bytes: u64) -> Result<Vec<u8>, DiskError> {
    let wrap = |source| failed(path, "read", 0, source);
    let file = open_ordinary(path).map_err(wrap)?;
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
    Ok(bytes)
}

/// Reads a text of at most `limit_bytes`; none when it is missing.
///
/// **Errors** name the path; bytes that are no UTF-8 are one.
pub fn read_text(path: &Path, limit_bytes: u64) -> Result<Option<String>, DiskError> {
    let bytes = read(path, limit_bytes)?;
    bytes.map(|bytes| text(path, bytes)).transpose()
}

/// Reads a text of at most `limit_bytes`.
///
/// **Errors** as [`read_text`]; a missing file is one.
pub fn read_text_required(path: &Path, limit_bytes: u64) -> Result<String, DiskError> {
    text(path, read_required(path, limit_bytes)?)
}

fn text(path: &Path, bytes: Vec<u8>) -> Result<String, DiskError> {
    // The words of the standard library's own reading of a text.
    let not_text = |_| io::Error::new(io::ErrorKind::InvalidData, "stream did not contain valid UTF-8");
    String::from_utf8(bytes)
        .map_err(not_text)
        .map_err(|source| failed(path, "read", 0, source))
}

/// Reads a file of at most `limit_bytes` and refuses a pipe, a device or a directory, on which a reader could wait;
/// none when it is missing.
///
/// **Errors** name the path.
pub fn read_ordinary(path: &Path, limit_bytes: u64) -> Result<Option<Vec<u8>>, DiskError> {
    let wrap = |source| failed(path, "read", 0, source);
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(wrap(io::Error::other("it is not a file"))),
        Ok(_) => read(path, limit_bytes),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(wrap(error)),
    }
}

/// Reads `length` bytes at `offset`; fewer when the file ends before.
///
/// **Errors** name the path.
pub fn read_at(path: &Path, offset: u64, length: u64) -> Result<Vec<u8>, DiskError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = open_ordinary(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|source| failed(path, "read", 0, source))
}

/// The size of a file; 0 when it is missing.
///
/// **Errors** name the path.
pub fn file_size(path: &Path) -> Result<u64, DiskError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_and_a_missing_file_is_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        assert_eq!(read(&path, 4).unwrap(), None);
        assert!(read_required(&path, 4).unwrap_err().path().ends_with("file"));
        std::fs::write(&path, "1234").unwrap();
        assert_eq!(read(&path, 4).unwrap().unwrap(), b"1234");
        let error = read(&path, 3).unwrap_err();
        assert!(
            error.to_string().ends_with("the file has 4 bytes, the limit is 3"),
            "{error}"
        );
        assert_eq!(read_at(&path, 1, 9).unwrap(), b"234");
        assert_eq!(read_text(&path, 4).unwrap().unwrap(), "1234");
        std::fs::write(&path, b"12\xff4").unwrap();
        let error = read_text_required(&path, 4).unwrap_err();
        assert!(error.to_string().ends_with("valid UTF-8"), "{error}");
        assert_eq!(
            (file_size(&path).unwrap(), tree_size(directory.path()).unwrap()),
            (4, 4)
        );
    }

    #[test]
    fn only_an_ordinary_file_is_read_where_waiting_is_no_option() {
        let directory = tempfile::tempdir().unwrap();
        let error = read_ordinary(directory.path(), 4).unwrap_err();
        assert!(error.to_string().contains("it is not a file"), "{error}");
        let path = directory.path().join("file");
        std::fs::write(&path, "1").unwrap();
        assert_eq!(read_ordinary(&path, 4).unwrap().unwrap(), b"1");
        assert_eq!(read_ordinary(&path.join("below"), 4).unwrap(), None);
    }
}
