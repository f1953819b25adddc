//! A directory that is written aside and takes its place whole, or not at all.
//!
//! Invariants: at every moment the place holds what it held or all of the new; one process at a time writes aside, by a
//! lock that a killed one does not hold any more, so that whatever lies aside unlocked is a left-over and is removed.

use std::path::{Path, PathBuf};

use dlm_core::Cancel;

use crate::disk::Disk;
use crate::error::DiskError;
use crate::lock_file::LockFile;
use crate::platform::parent_of;
use crate::read::list;

/// Ends the name `.<place>.new` of what is written aside.
const ASIDE: &str = ".new";
/// Ends the name of what is out of its place for a moment, where a file system cannot exchange two names.
const OLD: &str = ".old";
/// Ends the name of the lock, after that of what is written aside.
const LOCK: &str = ".lock";

/// A directory that is being written; dropping it removes it.
#[derive(Debug)]
pub struct Staging {
    disk: Disk,
    place: PathBuf,
    aside: PathBuf,
    /// Holds the right to write aside.
    _lock: LockFile,
}

impl Staging {
    /// Begins to write the directory `place`, whose parent exists; after `on_wait` waits for another process that writes
    /// it. None where `cancel` is raised meanwhile.
    ///
    /// **Errors** name the path.
    pub fn begin(
        disk: &Disk,
        place: &Path,
        cancel: &Cancel,
        on_wait: impl FnOnce(),
    ) -> Result<Option<Staging>, DiskError> {
        let lock = LockFile::take(disk, &lock_of(place), cancel, on_wait)?;
        lock.map(|lock| Self::locked(disk, place, lock)).transpose()
    }

    fn locked(disk: &Disk, place: &Path, lock: LockFile) -> Result<Staging, DiskError> {
        let staging = Staging {
            disk: disk.clone(),
            place: place.to_owned(),
            aside: beside(place, ASIDE),
            _lock: lock,
        };
        put_back(disk, place)?;
        disk.remove_tree(&staging.aside)?;
        disk.create_directory(&staging.aside)?;
        Ok(staging)
    }

    /// The directory to write into.
    pub fn directory(&self) -> &Path {
        &self.aside
    }

    /// Removes what was written so far.
    ///
    /// **Errors** name the path.
    pub fn clear(&self) -> Result<(), DiskError> {
        self.disk.remove_tree(&self.aside)?;
        self.disk.create_directory(&self.aside)
    }

    /// Flushes everything and gives it its place, which must be free; says whether it was.
    ///
    /// **Errors** name the path.
    pub fn take_free_place(self) -> Result<bool, DiskError> {
        self.disk.sync_tree(&self.aside)?;
        self.disk.rename_new(&self.aside, &self.place)
    }

    /// Flushes everything and puts it in the place of what is there; what was there is gone then.
    ///
    /// **Errors** name the path.
    pub fn take_place(self) -> Result<(), DiskError> {
        self.disk.sync_tree(&self.aside)?;
        if self.disk.rename_new(&self.aside, &self.place)? {
            return Ok(());
        }
        if !self.disk.exchange(&self.aside, &self.place)? {
            // Two steps: whoever stops between them has the old one put back by the next writer.
            let old = beside(&self.place, OLD);
            self.disk.remove_tree(&old)?;
            self.disk.rename(&self.place, &old)?;
            self.disk.rename(&self.aside, &self.place)?;
            self.disk.remove_tree(&old)?;
        }
        Ok(())
    }

    /// Keeps what was written under another name in the same directory, in place of what has that name.
    ///
    /// **Errors** name the path.
    pub fn keep_as(self, name: &Path) -> Result<(), DiskError> {
        self.disk.remove_tree(name)?;
        self.disk.rename(&self.aside, name)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What stays here is removed by the next writer.
        let _ = self.disk.remove_tree(&self.aside);
    }
}

/// Removes what killed processes left aside in a directory; what others are writing stays. Returns what was removed.
///
/// **Errors** name the path.
pub fn sweep_aside(disk: &Disk, directory: &Path) -> Result<Vec<PathBuf>, DiskError> {
    let mut removed = Vec::new();
    for entry in list(directory)? {
        let inner = entry.name.strip_prefix('.');
        let lock = format!("{ASIDE}{LOCK}");
        if let Some(of) = inner.and_then(|name| name.strip_suffix(&*lock)) {
            // Giving the lock back removes it.
            drop(LockFile::try_take(disk, &lock_of(&directory.join(of)))?);
            continue;
        }
        let of = inner.and_then(|name| name.strip_suffix(ASIDE).or_else(|| name.strip_suffix(OLD)));
        let Some(of) = of.filter(|_| entry.is_directory) else {
            continue;
        };
        let place = directory.join(of);
        if let Some(_lock) = LockFile::try_take(disk, &lock_of(&place))? {
            put_back(disk, &place)?;
            let path = directory.join(&entry.name);
            disk.remove_tree(&path)?;
            removed.push(path);
        }
    }
    Ok(removed)
}

/// Puts the old directory back where a process was stopped between the two steps of taking its place.
fn put_back(disk: &Disk, place: &Path) -> Result<(), DiskError> {
    let old = beside(place, OLD);
    match old.is_dir() {
        true if place.exists() => disk.remove_tree(&old),
        true => disk.rename(&old, place),
        false => Ok(()),
    }
}

fn beside(place: &Path, ending: &str) -> PathBuf {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    parent_of(place).join(format!(".{name}{ending}"))
}

fn lock_of(place: &Path) -> PathBuf {
    beside(place, &format!("{ASIDE}{LOCK}"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::disk::Operation;

    fn begin(disk: &Disk, place: &Path) -> Result<Staging, DiskError> {
        Ok(Staging::begin(disk, place, &Cancel::new(), || ())?.unwrap())
    }

    fn names(directory: &Path) -> Vec<String> {
        list(directory).unwrap().into_iter().map(|entry| entry.name).collect()
    }

    #[test]
    fn the_place_holds_the_old_or_the_new_whatever_operation_is_the_last() {
        let mut was_new = false;
        for last in 0.. {
            let directory = tempfile::tempdir().unwrap();
            let place = directory.path().join("it");
            fs::create_dir(&place).unwrap();
            fs::write(place.join("old"), "1").unwrap();
            let count = AtomicU32::new(0);
            let dying = Disk::with_hook(Arc::new(move |_, _| {
                match count.fetch_add(1, Ordering::SeqCst) >= last {
                    true => Err(io::Error::other("killed")),
                    false => Ok(()),
                }
            }));
            let done = begin(&dying, &place).and_then(|staging| {
                dying.write(&staging.directory().join("new"), b"2")?;
                staging.take_place()
            });
            let found = names(&place);
            assert!(found == ["old"] || found == ["new"], "{last}: {found:?}");
            was_new |= done.is_err() && found == ["new"];
            sweep_aside(&Disk::new(), directory.path()).unwrap();
            assert_eq!(names(&place), found, "{last}");
            assert!(directory.path().join(".it.new").symlink_metadata().is_err(), "{last}");
            if done.is_ok() {
                assert_eq!(found, ["new"]);
                assert!(last > 8, "only {last} operations were seen");
                break;
            }
        }
        assert!(was_new, "no stop came after the exchange");
    }

    #[test]
    fn a_lock_that_was_left_alone_goes_too() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(".it.new.lock"), "").unwrap();
        sweep_aside(&Disk::new(), directory.path()).unwrap();
        assert_eq!(names(directory.path()), Vec::<String>::new());
    }

    #[test]
    fn a_stop_between_two_steps_is_undone() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("it");
        fs::create_dir(directory.path().join(".it.old")).unwrap();
        fs::write(directory.path().join(".it.old/old"), "1").unwrap();
        sweep_aside(&Disk::new(), directory.path()).unwrap();
        assert_eq!(
            (names(directory.path()), names(&place)),
            (vec!["it".to_owned()], vec!["old".to_owned()])
        );
    }

    #[test]
    fn what_others_write_is_not_swept_and_a_taken_place_stays() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("it");
        let disk = Disk::new();
        let staging = begin(&disk, &place).unwrap();
        assert_eq!(sweep_aside(&disk, directory.path()).unwrap(), Vec::<PathBuf>::new());
        assert!(staging.directory().is_dir());
        let cancel = Cancel::new();
        cancel.cancel();
        assert!(Staging::begin(&disk, &place, &cancel, || ()).unwrap().is_none());
        fs::create_dir(&place).unwrap();
        assert!(!staging.take_free_place().unwrap());
        assert_eq!(names(directory.path()), ["it"]);
    }

    #[test]
    fn a_disk_asks_before_it_exchanges() {
        let directory = tempfile::tempdir().unwrap();
        let seen = Arc::new(AtomicU32::new(0));
        let counted = seen.clone();
        let disk = Disk::with_hook(Arc::new(move |operation, _| {
            counted.fetch_add(u32::from(operation == Operation::Rename), Ordering::SeqCst);
            Ok(())
        }));
        let (one, other) = (directory.path().join("one"), directory.path().join("other"));
        fs::create_dir(&one).unwrap();
        fs::create_dir(&other).unwrap();
        disk.exchange(&one, &other).unwrap();
        assert!(!disk.rename_new(&one, &other).unwrap());
        assert_eq!(seen.load(Ordering::SeqCst), 2);
    }
}
