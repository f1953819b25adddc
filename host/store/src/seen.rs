//! Digests of files that nobody touched since they were last read: a base of gigabytes is hashed once, not at every use.
//!
//! Invariants: an answer is given only for the same device, file number, size and times of change, from a record that is
//! younger than the file; whatever is wrong with a record means reading the file, never an error.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use dlm_core::digest::sha256_hex;
use dlm_files::{Disk, DiskError, FileStamp, open_own};
use serde::{Deserialize, Serialize};

use crate::layout::Home;

/// Largest record that is read: a base has some hundred files.
const RECORD_BYTES_MAX: u64 = 1 << 20;
/// Records beyond which those of things that are gone are looked for.
const RECORDS_MAX: usize = 256;

/// Reads a file and gives its digest in hex.
pub type Hash<'a> = dyn FnMut(&Path) -> Result<String, DiskError> + 'a;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Record {
    /// The directory or file whose digests these are.
    subject: String,
    files: BTreeMap<String, SeenFile>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SeenFile {
    stamp: FileStamp,
    digest: String,
}

/// What is remembered of one base or version.
#[derive(Debug)]
pub struct Seen {
    place: PathBuf,
    record: Record,
    is_changed: bool,
}

impl Seen {
    /// Reads what is remembered of `subject`.
    pub fn of(home: &Home, subject: &Path) -> Seen {
        let subject = std::path::absolute(subject).unwrap_or_else(|_| subject.to_owned());
        let subject = subject.display().to_string();
        let place = home.seen().join(format!("{}.json", sha256_hex(&subject)));
        let record = read(&place).filter(|record| record.subject == subject);
        Seen {
            place,
            record: record.unwrap_or_else(|| Record {
                subject,
                files: BTreeMap::new(),
            }),
            is_changed: false,
        }
    }

    /// Remembers nothing of `subject`, so that all of it is read.
    pub fn nothing_of(home: &Home, subject: &Path) -> Seen {
        let mut seen = Seen::of(home, subject);
        seen.record.files.clear();
        seen
    }

    /// Forgets `subject`, which is about to go. What cannot be removed only takes room.
    pub fn forget(home: &Home, disk: &Disk, subject: &Path) {
        let place = Seen::nothing_of(home, subject).place;
        let _ = disk.remove_file(&place);
        let _left = disk.sweep_beside(&place);
    }

    /// Whether a file's digest is known without reading it.
    pub fn knows(&self, file: &Path) -> bool {
        let known = self.record.files.get(&*file.to_string_lossy());
        known.is_some_and(|known| stamp(file).as_ref() == Some(&known.stamp))
    }

    /// The digest of a file as `hash` gives it, which is asked only where the file was touched since.
    ///
    /// **Errors:** those of `hash`.
    pub fn digest(&mut self, file: &Path, hash: &mut Hash<'_>) -> Result<String, DiskError> {
        let key = file.to_string_lossy().into_owned();
        if self.knows(file) {
            return Ok(self.record.files[&key].digest.clone());
        }
        let before = stamp(file);
        let digest = hash(file)?;
        self.is_changed = true;
        match before {
            // What was written to meanwhile is read again next time.
            Some(stamp) if self::stamp(file) == Some(stamp) => {
                let digest = digest.clone();
                self.record.files.insert(key, SeenFile { stamp, digest });
            }
            _ => drop(self.record.files.remove(&key)),
        }
        Ok(digest)
    }

    /// Keeps what was learned. It only saves time, so that a place that cannot be written to costs just that.
    pub fn keep(mut self) {
        self.keep_so_far();
    }

    /// Keeps what was learned by now.
    pub fn keep_so_far(&mut self) {
        if !self.is_changed {
            return;
        }
        self.record.files.retain(|file, _| Path::new(file).exists());
        let (Some(directory), Ok(bytes)) = (self.place.parent(), serde_json::to_vec(&self.record)) else {
            return;
        };
        let disk = Disk::new().private();
        let written = disk
            .create_directories(directory)
            .and_then(|()| disk.write(&self.place, &bytes));
        // What killed writers left half is in nobody's way, and nobody else removes it.
        let _left = disk.sweep_beside(&self.place);
        if written.is_ok() {
            forget_the_gone(&disk, directory);
        }
    }
}

fn stamp(file: &Path) -> Option<FileStamp> {
    FileStamp::of(&std::fs::metadata(file).ok()?)
}

/// Reads a record; files that it is not younger than are left out.
fn read(place: &Path) -> Option<Record> {
    let file = open_own(place)?;
    let written = FileStamp::of(&file.metadata().ok()?)?;
    let mut text = String::new();
    file.take(RECORD_BYTES_MAX).read_to_string(&mut text).ok()?;
    let mut record: Record = serde_json::from_str(&text).ok()?;
    record.files.retain(|_, file| file.stamp.is_settled(written));
    Some(record)
}

/// Removes records of bases and versions that are gone, where there are many records.
fn forget_the_gone(disk: &Disk, directory: &Path) {
    let entries = dlm_files::list(directory).unwrap_or_default();
    if entries.len() <= RECORDS_MAX {
        return;
    }
    for entry in entries {
        let place = directory.join(&entry.name);
        if read(&place).is_none_or(|record| !Path::new(&record.subject).exists()) {
            let _ = disk.remove_file(&place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_file_is_read_once_until_it_is_touched() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(directory.path().join("home"));
        let subject = directory.path().join("base");
        std::fs::create_dir(&subject).unwrap();
        let file = subject.join("weights");
        std::fs::write(&file, "one").unwrap();
        let reads = Cell::new(0);
        let digest = || {
            let mut seen = Seen::of(&home, &subject);
            let digest = seen.digest(&file, &mut |path| {
                reads.set(reads.get() + 1);
                dlm_files::sha256_file(path)
            });
            seen.keep();
            digest.unwrap()
        };
        let first = digest();
        // Until the clock has moved on, a record as old as its file vouches for nothing.
        for _ in 0..1000 {
            if Seen::of(&home, &subject).knows(&file) {
                break;
            }
            std::thread::yield_now();
            digest();
        }
        let before = reads.get();
        assert_eq!((digest(), reads.get()), (first.clone(), before));
        std::fs::write(&file, "two").unwrap();
        assert_ne!(digest(), first);
        assert_eq!(reads.get(), before + 1);
    }
}
