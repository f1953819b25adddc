//! A large file that is written over many calls and appears under its name only when it is whole.
//!
//! Invariants: dropped before [`Partial::commit`], it leaves nothing behind and the file of that name as it was.

#![expect(clippy::disallowed_methods, reason = "part of the place where files change")]

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::disk::{Disk, Operation};
use crate::error::{DiskError, failed};
use crate::platform::parent_of;

/// Buffer in front of the file: many small tensors become few system calls.
const BUFFER_BYTES: usize = 1 << 20;

/// A file that is being written.
#[derive(Debug)]
pub struct Partial {
    disk: Disk,
    path: PathBuf,
    beside: PathBuf,
    size_bytes: u64,
    /// None once it has its name.
    out: Option<BufWriter<File>>,
}

impl Partial {
    /// Begins the file `path` under the name `beside`; what lies there is overwritten. `size_bytes` is only told in errors.
    ///
    /// **Errors** name the path `beside`.
    pub fn begin(disk: &Disk, path: &Path, beside: PathBuf, size_bytes: u64) -> Result<Self, DiskError> {
        let file = disk
            .ask(Operation::CreateFile, &beside)
            .and_then(|()| File::create(&beside))
            .map_err(|source| failed(&beside, "create", size_bytes, source))?;
        Ok(Self {
            disk: disk.clone(),
            path: path.to_owned(),
            beside,
            size_bytes,
            out: Some(BufWriter::with_capacity(BUFFER_BYTES, file)),
        })
    }

    /// Writes the next bytes.
    ///
    /// **Errors** name the path; a full disk is [`DiskError::Full`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        let out = self.out.as_mut().expect("the file is open until `commit`");
        self.disk
            .ask(Operation::Write, &self.path)
            .and_then(|()| out.write_all(bytes))
            .map_err(|source| failed(&self.path, "write", self.size_bytes, source))
    }

    /// Flushes the file and gives it its name.
    ///
    /// **Errors** as [`Partial::write`].
    pub fn commit(mut self) -> Result<(), DiskError> {
        let out = self.out.take().expect("the file is open until `commit`");
        out.into_inner()
            .map_err(|error| error.into_error())
            .and_then(|file| {
                self.disk
                    .ask(Operation::SyncFile, &self.path)
                    .and_then(|()| file.sync_all())
            })
            .and_then(|()| self.disk.ask(Operation::Rename, &self.path))
            .and_then(|()| fs::rename(&self.beside, &self.path))
            .map_err(|source| failed(&self.path, "write", self.size_bytes, source))?;
        self.disk.sync_directory(parent_of(&self.path))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After `commit` nothing is there; a file that cannot be removed is overwritten next time.
        let _ = fs::remove_file(&self.beside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let (path, beside) = (directory.path().join("file"), directory.path().join("file.partial"));
        fs::write(&path, "earlier").unwrap();
        let disk = Disk::new();
        let mut dropped = Partial::begin(&disk, &path, beside.clone(), 4).unwrap();
        dropped.write(b"late").unwrap();
        drop(dropped);
        assert_eq!(fs::read(&path).unwrap(), b"earlier");
        let mut whole = Partial::begin(&disk, &path, beside.clone(), 4).unwrap();
        whole.write(b"la").unwrap();
        whole.write(b"te").unwrap();
        whole.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"late");
        assert!(!beside.exists());
    }
}
