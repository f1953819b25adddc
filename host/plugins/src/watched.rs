//! Notices files that somebody changed between the look that checked them and their use.
//!
//! Invariant: a file is the one that was looked at when its device, number, size and time of modification are the same; one
//! that cannot be read is not.

use std::fs::File;
use std::path::{Path, PathBuf};

/// Files as they were when they were looked at.
#[derive(Default)]
pub(crate) struct WatchedFiles(Vec<(PathBuf, Option<Stamp>)>);

impl WatchedFiles {
    /// Looks at files.
    pub fn look(paths: impl Iterator<Item = PathBuf>) -> WatchedFiles {
        WatchedFiles(paths.map(|path| (path.clone(), now(&path))).collect())
    }

    /// Looks at one file more.
    pub fn add(&mut self, path: PathBuf) {
        let seen = now(&path);
        self.0.push((path, seen));
    }

    /// The first file that is not the one that was looked at.
    pub fn changed(&self) -> Option<&Path> {
        let changed = self.0.iter().find(|(path, seen)| seen.is_none() || now(path) != *seen);
        changed.map(|(path, _)| path.as_path())
    }

    /// Says whether an opened file is the one that was looked at under this path.
    pub fn is_same(&self, path: &Path, file: &File) -> bool {
        let seen = self.0.iter().find(|(watched, _)| watched == path);
        seen.is_some_and(|(_, seen)| seen.is_some() && stamp(file) == *seen)
    }
}

/// The time of the last change of status is left out: a link to a file, which is how it is placed, changes that.
#[derive(Clone, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

fn now(path: &Path) -> Option<Stamp> {
    stamp(&dlm_files::open_ordinary(path).ok()?)
}

fn stamp(file: &File) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let found = file.metadata().ok()?;
    Some(Stamp {
        device: found.dev(),
        inode: found.ino(),
        size: found.size(),
        modified: (found.mtime(), found.mtime_nsec()),
    })
}
