//! What is taken out of the code cache: code that was made long ago, the oldest beyond a size, and what killed processes left.
//!
//! Invariants: nothing that a process is making is touched, by its lock; removing code that is in use costs its next user a
//! compile and nothing else; what cannot be removed stays, for the cache only saves time.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use dlm_files::{Disk, LockFile, list};

use super::{CODE, LOCK, RECORD, lock_path};

/// Code older than this is made again by whoever still wants it; also that of other versions of dlm and other processors.
const AGE_MAX: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Bytes of one directory's code beyond which the oldest goes; a plugin's code has 1 to 20 MB.
const BYTES_MAX: u64 = 1 << 30;

/// One plugin's code in the cache.
struct Piece {
    /// What its files are called before their endings.
    stem: PathBuf,
    made: SystemTime,
    bytes: u64,
}

/// Removes what nobody needs from the cache that `directory` is a part of; `newest` was just made in it.
pub(super) fn prune(directory: &Path, newest: &Path) {
    let Some(now) = made(newest) else { return };
    let is_old = |made: SystemTime| now.duration_since(made).is_ok_and(|age| age > AGE_MAX);
    let disk = Disk::new();
    let mut kept = pieces(directory);
    kept.sort_by_key(|piece| std::cmp::Reverse(piece.made));
    let mut bytes = 0u64;
    for piece in kept {
        bytes = bytes.saturating_add(piece.bytes);
        if is_old(piece.made) || bytes > BYTES_MAX {
            remove(&disk, &piece.stem);
        }
    }
    remove_leftovers(&disk, directory);
    // Directories of other versions and processors stand beside this one.
    let Some(cache) = directory.parent() else { return };
    for entry in list(cache).unwrap_or_default() {
        let other = cache.join(&entry.name);
        let is_other = entry.is_directory && other != directory;
        if is_other && pieces(&other).iter().all(|piece| is_old(piece.made)) && made(&other).is_some_and(is_old) {
            let _ = disk.remove_tree(&other);
        }
    }
}

fn pieces(directory: &Path) -> Vec<Piece> {
    let names = list(directory).unwrap_or_default();
    let codes = names
        .iter()
        .filter_map(|entry| entry.name.strip_suffix(&format!(".{CODE}")));
    codes
        .filter_map(|stem| {
            let stem = directory.join(stem);
            let found = found(&stem.with_extension(CODE))?;
            Some(Piece {
                made: found.modified().ok()?,
                bytes: found.len(),
                stem,
            })
        })
        .collect()
}

fn found(path: &Path) -> Option<Metadata> {
    std::fs::symlink_metadata(path).ok()
}

fn made(path: &Path) -> Option<SystemTime> {
    found(path)?.modified().ok()
}

/// Removes code and record, unless somebody is making them.
fn remove(disk: &Disk, stem: &Path) {
    if let Ok(Some(_held)) = LockFile::try_take(disk, &lock_path(stem)) {
        let _ = disk.remove_file(&stem.with_extension(RECORD));
        let _ = disk.remove_file(&stem.with_extension(CODE));
    }
}

/// Removes what a process that was killed while it compiled left: its input, its output, its lock.
fn remove_leftovers(disk: &Disk, directory: &Path) {
    let _ = disk.sweep(directory);
    for entry in list(directory).unwrap_or_default() {
        let is_left = entry.name.ends_with(".tmp") || entry.name.ends_with(&format!(".{LOCK}"));
        let Some((stem, _)) = entry.name.split_once('.').filter(|_| is_left) else {
            continue;
        };
        if let Ok(Some(_held)) = LockFile::try_take(disk, &lock_path(&directory.join(stem))) {
            let _ = disk.remove_file(&directory.join(&entry.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn old_code_and_leftovers_go_and_what_is_being_made_stays() {
        let cache = tempfile::tempdir().unwrap();
        let (ours, other) = (cache.path().join("ours"), cache.path().join("other"));
        let now = SystemTime::now();
        let piece = |directory: &Path, name: &str, age: Duration| {
            fs::create_dir_all(directory).unwrap();
            for ending in [CODE, RECORD] {
                let path = directory.join(format!("{name}.{ending}"));
                fs::write(&path, "x").unwrap();
                fs::File::options()
                    .write(true)
                    .open(&path)
                    .unwrap()
                    .set_modified(now - age)
                    .unwrap();
            }
        };
        let day = Duration::from_secs(24 * 60 * 60);
        piece(&ours, "new", Duration::ZERO);
        piece(&ours, "young", day);
        piece(&ours, "old", 91 * day);
        piece(&ours, "making", 91 * day);
        piece(&other, "old", 91 * day);
        fs::File::open(&other).unwrap().set_modified(now - 91 * day).unwrap();
        piece(&cache.path().join("recent"), "young", day);
        for left in ["dead.wasm.tmp", "dead.cwasm.tmp", "dead.lock", "making.wasm.tmp"] {
            fs::write(ours.join(left), "half").unwrap();
        }
        let making = LockFile::try_take(&Disk::new(), &lock_path(&ours.join("making"))).unwrap();
        prune(&ours, &ours.join(format!("new.{CODE}")));
        let names: Vec<String> = list(&ours).unwrap().into_iter().map(|entry| entry.name).collect();
        let expected = [
            "making.cwasm",
            "making.json",
            "making.lock",
            "making.wasm.tmp",
            "new.cwasm",
            "new.json",
            "young.cwasm",
            "young.json",
        ];
        assert_eq!(names, expected);
        drop(making);
        assert!(!other.exists() && cache.path().join("recent/young.cwasm").exists());
    }
}
