//! The digests that a version was written with, in a file beside its files.
//!
//! Invariants: the file lists every other file of the version, and is written last.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dlm_core::digest::is_hex;
use dlm_files::{Disk, DiskError, sha256_file};

use crate::seen::Hash;

/// The digests of a version's files, as `sha256sum` writes and checks them.
pub const SUMS_FILE: &str = "SHA256SUMS";
/// Largest file of digests that is read.
const SUMS_BYTES_MAX: u64 = 1 << 20;
/// A file of a version that is not what was written.
#[derive(Debug, thiserror::Error)]
pub enum VersionDamage {
    #[error("`{}` is missing", path.display())]
    Missing { path: PathBuf },
    #[error("`{}` is damaged: its SHA-256 is {found}, when it was written it was {expected}", path.display())]
    Damaged {
        path: PathBuf,
        expected: String,
        found: String,
    },
    #[error("`{}` is damaged: its line {line} is not a digest and a name", path.display())]
    Sums { path: PathBuf, line: usize },
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Writes the digests of every file of a version that is about to be committed.
pub(crate) fn write_sums(disk: &Disk, directory: &Path) -> Result<(), DiskError> {
    let mut text = String::new();
    for entry in dlm_files::list(directory)? {
        // A version has no directories, and what begins with a dot or ends half-written is none of its files.
        if entry.is_directory || entry.name == SUMS_FILE || entry.name.contains(".tmp.") {
            continue;
        }
        let digest = sha256_file(&directory.join(&entry.name))?;
        text.push_str(&line(&entry.name, &digest));
    }
    disk.write(&directory.join(SUMS_FILE), text.as_bytes())
}

/// A line of the file of digests.
pub fn line(name: &str, digest: &str) -> String {
    format!("{digest}  {name}\n")
}

/// Reads the digests of a version or a base; none of one that has none.
///
/// **Errors:** a file that is no list of digests.
pub fn read_sums(directory: &Path) -> Result<Option<BTreeMap<String, String>>, VersionDamage> {
    let path = directory.join(SUMS_FILE);
    let Some(bytes) = dlm_files::read(&path, SUMS_BYTES_MAX)? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut sums = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let parsed = line.split_once("  ").filter(|(digest, _)| is_hex(digest, 64));
        let Some((digest, name)) = parsed else {
            return Err(VersionDamage::Sums { path, line: index + 1 });
        };
        sums.insert(name.to_owned(), digest.to_owned());
    }
    Ok(Some(sums))
}

/// Holds the files that `wants` against their digests.
pub(crate) fn check_files(
    directory: &Path,
    sums: &BTreeMap<String, String>,
    wants: impl Fn(&str) -> bool,
    hash: &mut Hash<'_>,
) -> Result<(), VersionDamage> {
    for (name, expected) in sums.iter().filter(|(name, _)| wants(name)) {
        let path = directory.join(name);
        if !path.is_file() {
            return Err(VersionDamage::Missing { path });
        }
        let found = hash(&path)?;
        if found != *expected {
            return Err(VersionDamage::Damaged {
                path,
                expected: expected.clone(),
                found,
            });
        }
    }
    Ok(())
}
