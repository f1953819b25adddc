//! Hashes of installed files that were not touched since they were last read: an 18 MB plugin starts without hashing it.
//!
//! Invariants: an answer is given only for the same device, file number, size, times of change and pinned hash, from an
//! index that is younger than the file; whatever is wrong with the index means reading the file, never an error.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::disk;
use crate::manifest::Manifest;
use dlm_files::FileStamp;

const INDEX_BYTES_MAX: u64 = 16 << 20;

/// The index.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SeenIndex {
    files: BTreeMap<String, Record>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    stamp: FileStamp,
    sha256: String,
    manifest: Manifest,
}

impl SeenIndex {
    fn path(home: &Path) -> PathBuf {
        home.join("cache").join("plugins").join("seen.json")
    }

    /// Reads the index; one that is missing, damaged or writable by others is empty.
    pub(crate) fn read(home: &Path) -> SeenIndex {
        let path = SeenIndex::path(home);
        if !is_private(&path) {
            return SeenIndex::default();
        }
        // Taken before the bytes: an index that is replaced meanwhile then counts as the older one.
        let written = stamp(&path);
        let bytes = disk::read(&path, INDEX_BYTES_MAX).ok().flatten().unwrap_or_default();
        let mut seen: SeenIndex = serde_json::from_slice(&bytes).unwrap_or_default();
        seen.files
            .retain(|_, record| written.is_some_and(|written| record.stamp.is_settled(written)));
        seen
    }

    /// The manifest of the file at `path`, if it is untouched and has the pinned hash.
    pub(crate) fn known(&self, path: &Path, sha256: &str) -> Option<Manifest> {
        let record = self.files.get(path.to_str()?)?;
        let is_same = record.sha256 == sha256 && stamp(path)? == record.stamp;
        is_same.then(|| record.manifest.clone())
    }

    /// Remembers a file that was just read and hashed.
    pub(crate) fn put(&mut self, path: &Path, sha256: &str, manifest: &Manifest) {
        let (Some(key), Some(stamp)) = (path.to_str(), stamp(path)) else {
            return;
        };
        self.files.retain(|path, _| Path::new(path).exists());
        let record = Record {
            stamp,
            sha256: sha256.to_owned(),
            manifest: manifest.clone(),
        };
        self.files.insert(key.to_owned(), record);
    }

    /// Writes the index. It only saves time, so that a directory that cannot be written to costs just that.
    pub(crate) fn write(&self, home: &Path) {
        let path = SeenIndex::path(home);
        let json = serde_json::to_vec(self).expect("an index is plain data with text keys");
        let _ = disk::write(&path, &json);
    }
}

/// The stamp of a plain file; a link is none.
fn stamp(path: &Path) -> Option<FileStamp> {
    FileStamp::of(&fs::symlink_metadata(path).ok()?)
}

#[cfg(unix)]
fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let own = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.uid() == own && found.mode() & 0o022 == 0)
}

#[cfg(not(unix))]
fn is_private(_path: &Path) -> bool {
    false
}
