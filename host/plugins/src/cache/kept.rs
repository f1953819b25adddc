//! What is in the code cache, and taking out of it what nobody used for long, the longest unused beyond a size, and what killed
//! processes left.
//!
//! Invariants: nothing that a process is making is touched, by its lock; removing code that is in use costs its next user a
//! compile and nothing else; what cannot be removed stays, for the cache only saves time; the caller says what time it is.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use dlm_files::{Disk, LockFile, list};

use super::{CODE, LOCK, RECORD, Record, lock_path, record_path};

/// Code that was not used for this long is made again by whoever still wants it; also that of other versions of dlm and other
/// processors.
const UNUSED_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Bytes of all code beyond which the longest unused goes; a plugin's code has 0.1 to 40 MB.
const BYTES_MAX: u64 = 2 << 30;
/// Longest record.
const RECORD_BYTES_MAX: u64 = 4096;

/// The compiled code of plugins below one directory.
#[derive(Clone, Debug)]
pub struct CodeCache {
    directory: PathBuf,
}

/// One plugin's code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptCode {
    /// What it was compiled for: version of the runtime, its settings, processor.
    pub key: String,
    /// Of the component, lower-case hex.
    pub sha256: String,
    /// What the plugin called itself; empty where that was not written down.
    pub plugin: String,
    /// Of the code.
    pub bytes: u64,
    pub used: SystemTime,
    /// What its files are called before their endings.
    stem: PathBuf,
}

/// What was taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemovedCode {
    pub pieces: usize,
    pub bytes: u64,
}

impl CodeCache {
    /// The cache in `directory`, which need not be there.
    pub fn new(directory: &Path) -> CodeCache {
        CodeCache {
            directory: directory.to_owned(),
        }
    }

    /// Where it lies.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Everything in it, last used first.
    pub fn kept(&self) -> Vec<KeptCode> {
        let mut all: Vec<KeptCode> = self.keys().iter().flat_map(|directory| pieces(directory)).collect();
        all.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.stem.cmp(&b.stem)));
        all
    }

    /// Takes out what was not used for 30 days, the longest unused beyond 2 GiB, and what killed processes left.
    pub fn prune(&self, now: SystemTime) -> RemovedCode {
        // Only a directory that nobody wrote to for as long goes: a process may have made an empty one just now.
        let is_idle = |directory: &PathBuf| modified(directory).is_some_and(|at| is_long_ago(now, at));
        let idle: Vec<PathBuf> = self.keys().into_iter().filter(is_idle).collect();
        let removed = self.prune_to(now, BYTES_MAX);
        for directory in idle {
            if list(&directory).is_ok_and(|left| left.is_empty()) {
                let _ = Disk::new().remove_tree(&directory);
            }
        }
        removed
    }

    fn prune_to(&self, now: SystemTime, bytes_max: u64) -> RemovedCode {
        let mut bytes = 0u64;
        self.remove_where(|piece| {
            bytes = bytes.saturating_add(piece.bytes);
            is_long_ago(now, piece.used) || bytes > bytes_max
        })
    }

    /// Takes out everything that no process is making now.
    pub fn clear(&self) -> RemovedCode {
        self.remove_where(|_| true)
    }

    /// Removes pieces, last used first, then what is left over.
    fn remove_where(&self, mut is_wanted: impl FnMut(&KeptCode) -> bool) -> RemovedCode {
        let disk = Disk::new();
        let mut removed = RemovedCode::default();
        for piece in self.kept() {
            if is_wanted(&piece) && remove(&disk, &piece.stem) {
                removed.pieces = removed.pieces.saturating_add(1);
                removed.bytes = removed.bytes.saturating_add(piece.bytes);
            }
        }
        for directory in self.keys() {
            remove_leftovers(&disk, &directory);
        }
        removed
    }

    /// The directory of each key.
    fn keys(&self) -> Vec<PathBuf> {
        let entries = list(&self.directory).unwrap_or_default();
        let directories = entries.into_iter().filter(|entry| entry.is_directory);
        directories.map(|entry| self.directory.join(entry.name)).collect()
    }
}

fn is_long_ago(now: SystemTime, at: SystemTime) -> bool {
    now.duration_since(at).is_ok_and(|past| past > UNUSED_MAX)
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::symlink_metadata(path).ok()?.modified().ok()
}

fn pieces(directory: &Path) -> Vec<KeptCode> {
    let key = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let names = list(directory).unwrap_or_default();
    let codes = names
        .iter()
        .filter_map(|entry| entry.name.strip_suffix(&format!(".{CODE}")));
    let piece = |sha256: &str| {
        let stem = directory.join(sha256);
        let code = std::fs::symlink_metadata(stem.with_extension(CODE)).ok()?;
        Some(KeptCode {
            key: key.clone(),
            sha256: sha256.to_owned(),
            plugin: named(&stem),
            bytes: code.len(),
            used: modified(&record_path(&stem)).max(code.modified().ok())?,
            stem,
        })
    };
    codes.filter_map(piece).collect()
}

/// The name in the record beside a piece of code.
fn named(stem: &Path) -> String {
    let read = dlm_files::read_ordinary(&record_path(stem), RECORD_BYTES_MAX);
    let record = read
        .ok()
        .flatten()
        .and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
    record.map(|record| record.plugin).unwrap_or_default()
}

/// Removes code and record, unless somebody is making them; says whether they are gone.
fn remove(disk: &Disk, stem: &Path) -> bool {
    let Ok(Some(_held)) = LockFile::try_take(disk, &lock_path(stem)) else {
        return false;
    };
    let _ = disk.remove_file(&stem.with_extension(RECORD));
    disk.remove_file(&stem.with_extension(CODE)).is_ok()
}

/// Removes what a process that was killed while it compiled left: its input, its output, its lock, a record without code.
fn remove_leftovers(disk: &Disk, directory: &Path) {
    let _ = disk.sweep(directory);
    for entry in list(directory).unwrap_or_default() {
        let is_ending = |ending: &str| entry.name.ends_with(&format!(".{ending}"));
        let Some((stem, _)) = entry.name.split_once('.') else {
            continue;
        };
        let stem = directory.join(stem);
        let is_left = is_ending("tmp") || is_ending(LOCK) || (is_ending(RECORD) && !stem.with_extension(CODE).exists());
        if is_left && let Ok(Some(_held)) = LockFile::try_take(disk, &lock_path(&stem)) {
            let _ = disk.remove_file(&directory.join(&entry.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn set_age(path: &Path, now: SystemTime, age: Duration) {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(now - age).unwrap();
    }

    /// Code of 1000 bytes that was made 200 days ago and used `unused` ago.
    fn piece(directory: &Path, name: &str, now: SystemTime, unused: Duration) {
        fs::create_dir_all(directory).unwrap();
        let path = |ending: &str| directory.join(format!("{name}.{ending}"));
        fs::write(path(CODE), [0; 1000]).unwrap();
        set_age(&path(CODE), now, 200 * DAY);
        fs::write(path(RECORD), "{}").unwrap();
        set_age(&path(RECORD), now, unused);
    }

    fn names(directory: &Path) -> Vec<String> {
        list(directory).unwrap().into_iter().map(|entry| entry.name).collect()
    }

    #[test]
    fn unused_code_and_leftovers_go_and_what_is_being_made_stays() {
        let place = tempfile::tempdir().unwrap();
        let (ours, other) = (place.path().join("ours"), place.path().join("other"));
        let now = SystemTime::now();
        for (name, unused) in [
            ("new", Duration::ZERO),
            ("used", 29 * DAY),
            ("old", 31 * DAY),
            ("making", 31 * DAY),
        ] {
            piece(&ours, name, now, unused);
        }
        piece(&other, "old", now, 31 * DAY);
        piece(&place.path().join("recent"), "young", now, DAY);
        for left in [
            "dead.wasm.tmp",
            "dead.cwasm.tmp",
            "dead.lock",
            "gone.json",
            "making.wasm.tmp",
        ] {
            fs::write(ours.join(left), "half").unwrap();
        }
        let making = LockFile::try_take(&Disk::new(), &lock_path(&ours.join("making"))).unwrap();
        fs::File::open(&other).unwrap().set_modified(now - 31 * DAY).unwrap();
        let removed = CodeCache::new(place.path()).prune(now);
        assert_eq!((removed.pieces, removed.bytes), (2, 2000));
        let expected = [
            "making.cwasm",
            "making.json",
            "making.lock",
            "making.wasm.tmp",
            "new.cwasm",
            "new.json",
            "used.cwasm",
            "used.json",
        ];
        assert_eq!(names(&ours), expected);
        drop(making);
        assert!(!other.exists() && place.path().join("recent/young.cwasm").exists());
    }

    #[test]
    fn beyond_the_size_the_longest_unused_of_all_keys_goes_first() {
        let place = tempfile::tempdir().unwrap();
        let (a, b) = (place.path().join("a"), place.path().join("b"));
        let now = SystemTime::now();
        piece(&a, "first", now, DAY);
        piece(&b, "second", now, 2 * DAY);
        piece(&a, "third", now, 3 * DAY);
        piece(&b, "fourth", now, 4 * DAY);
        let cache = CodeCache::new(place.path());
        assert_eq!(cache.prune_to(now, 2500).pieces, 2);
        assert_eq!(names(&a), ["first.cwasm", "first.json"]);
        assert_eq!(names(&b), ["second.cwasm", "second.json"]);
        assert_eq!(cache.clear().pieces, 2);
        assert!(cache.kept().is_empty() && names(&a).is_empty() && names(&b).is_empty());
    }
}
