//! A lock on something that has no file of its own to lock: a file beside it, which is gone when nobody holds it.
//!
//! Invariants: held by the system's advisory lock, so that a holder that was killed holds it no more; where there are no
//! such locks nobody is kept out.

#![expect(clippy::disallowed_methods, reason = "part of the place where files change")]

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use dlm_core::Cancel;

use crate::disk::{Disk, Operation};
use crate::error::{DiskError, failed};
use crate::platform::is_same_file;

/// Pause between two tries while another holds the lock.
const POLL: Duration = Duration::from_millis(50);
/// How often a lock that vanishes during the look at it is looked at again without a pause.
const RACES_MAX: u32 = 1000;

/// The held lock; dropping it gives it back.
#[derive(Debug)]
pub struct LockFile {
    disk: Disk,
    path: PathBuf,
    /// Holds the lock until it is closed.
    file: Option<File>,
}

impl LockFile {
    /// Takes the lock at `path`, whose directory exists; none where another process holds it.
    ///
    /// **Errors** name the path.
    pub fn try_take(disk: &Disk, path: &Path) -> Result<Option<LockFile>, DiskError> {
        let wrap = |source| failed(path, "lock", 0, source);
        disk.ask(Operation::CreateFile, path).map_err(wrap)?;
        for _ in 0..RACES_MAX {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(wrap)?;
            match file.try_lock() {
                // Whoever gives it back removes it first, and may have done so since it was opened.
                Ok(()) if !is_same_file(&file, path) => {}
                Ok(()) | Err(TryLockError::Error(_)) => {
                    return Ok(Some(LockFile {
                        disk: disk.clone(),
                        path: path.to_owned(),
                        file: Some(file),
                    }));
                }
                Err(TryLockError::WouldBlock) => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Takes the lock, after `on_wait` waits until nobody else holds it; none where `cancel` is raised meanwhile.
    ///
    /// **Errors** name the path.
    pub fn take(
        disk: &Disk,
        path: &Path,
        cancel: &Cancel,
        on_wait: impl FnOnce(),
    ) -> Result<Option<LockFile>, DiskError> {
        let mut on_wait = Some(on_wait);
        loop {
            if let Some(taken) = LockFile::try_take(disk, path)? {
                return Ok(Some(taken));
            }
            if let Some(on_wait) = on_wait.take() {
                on_wait();
            }
            if cancel.is_cancelled() {
                return Ok(None);
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // One that stays is taken by the next.
        let _ = self.disk.remove_file(&self.path);
        drop(self.file.take());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn one_holds_it_and_nothing_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let disk = Disk::new();
        let held = LockFile::try_take(&disk, &path).unwrap().unwrap();
        assert!(LockFile::try_take(&disk, &path).unwrap().is_none());
        let cancel = Cancel::new();
        cancel.cancel();
        let mut has_waited = false;
        let taken = LockFile::take(&disk, &path, &cancel, || has_waited = true).unwrap();
        assert!(taken.is_none() && has_waited);
        drop(held);
        assert!(!path.exists());
    }

    #[test]
    fn many_take_turns() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let (inside, turns) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..4 {
                        let held = LockFile::take(&Disk::new(), &path, &Cancel::new(), || ())
                            .unwrap()
                            .unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        turns.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(held);
                    }
                });
            }
        });
        assert_eq!(turns.into_inner(), 32);
        assert!(!path.exists());
    }
}
