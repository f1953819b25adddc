//! Waiting until files change: the one user of `notify`.
//!
//! Invariants: a change between two waits is not lost, it ends the next one; a burst of changes, such as an editor's save or a
//! build, is one; an interrupt ends the wait within a moment. What changed is the caller's question, not answered here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use dlm_core::Cancel;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

/// Quiet that ends a burst of changes.
const QUIET: Duration = Duration::from_millis(150);
/// Longest burst: something that writes all the time must not put off the answer for ever.
const BURST_MAX: Duration = Duration::from_secs(3);
/// Time between two looks at the interrupt.
const LOOK: Duration = Duration::from_millis(50);

/// The changes in some directories, each without those below it.
pub struct Changes {
    watcher: RecommendedWatcher,
    events: Receiver<()>,
    watched: BTreeSet<PathBuf>,
}

impl Changes {
    /// Starts without a directory.
    ///
    /// **Errors** when the system has no watcher left for this user.
    pub fn new() -> notify::Result<Changes> {
        let (tell, events) = mpsc::channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // A lost event is told as an error: then anything may have changed. Reading changes nothing.
            if event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                return;
            }
            // The other end is gone only when nobody waits any more.
            let _gone = tell.send(());
        })?;
        Ok(Changes {
            watcher,
            events,
            watched: BTreeSet::new(),
        })
    }

    /// Watches these directories, and no longer those that are not among them; says whether one is new.
    ///
    /// **Errors** when a directory cannot be watched.
    pub fn watch(&mut self, directories: BTreeSet<PathBuf>) -> notify::Result<bool> {
        for gone in self.watched.difference(&directories) {
            // One that was removed is not watched any more by itself.
            let _unwatched = self.watcher.unwatch(gone);
        }
        let mut has_new = false;
        for directory in directories.difference(&self.watched) {
            match self.watcher.watch(directory, RecursiveMode::NonRecursive) {
                // One that went meanwhile is seen to be gone at the next look.
                Err(error) if directory.is_dir() => return Err(error),
                _ => has_new = true,
            }
        }
        self.watched = directories;
        Ok(has_new)
    }

    /// Waits for a change, and then until nothing changes for a moment; returns early once `cancel` is raised.
    pub fn wait(&self, cancel: &Cancel) {
        while self.events.recv_timeout(LOOK).is_err() {
            if cancel.is_cancelled() {
                return;
            }
        }
        let until = Instant::now() + BURST_MAX;
        while self.events.recv_timeout(QUIET).is_ok() && Instant::now() < until {}
    }
}

/// Says which path two looks at some files differ in, the first by name.
pub fn first_difference<'a, T: PartialEq>(
    before: &'a std::collections::BTreeMap<PathBuf, T>,
    after: &'a std::collections::BTreeMap<PathBuf, T>,
) -> Option<&'a Path> {
    let changed = after.iter().find(|(path, stamp)| before.get(*path) != Some(stamp));
    let gone = || before.keys().find(|path| !after.contains_key(*path));
    changed.map(|(path, _)| path).or_else(gone).map(PathBuf::as_path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_change_ends_the_wait_and_so_does_the_interrupt() {
        let directory = tempfile::tempdir().unwrap();
        let mut changes = Changes::new().unwrap();
        let directories = BTreeSet::from([directory.path().to_owned()]);
        assert!(changes.watch(directories.clone()).unwrap());
        assert!(!changes.watch(directories).unwrap(), "nothing new");
        let cancel = Cancel::new();
        std::fs::write(directory.path().join("file"), "1").unwrap();
        // Ends by itself, or the runner's limit of time ends the test.
        changes.wait(&cancel);
        assert!(!cancel.is_cancelled());
        cancel.cancel();
        changes.wait(&cancel);
    }

    #[test]
    fn the_path_that_differs_is_named() {
        let look = |pairs: &[(&str, u32)]| -> BTreeMap<PathBuf, u32> {
            pairs
                .iter()
                .map(|(path, stamp)| (PathBuf::from(path), *stamp))
                .collect()
        };
        let before = look(&[("a", 1), ("b", 1)]);
        for (after, expected) in [
            (look(&[("a", 1), ("b", 1)]), None),
            (look(&[("a", 1), ("b", 2)]), Some("b")),
            (look(&[("a", 1), ("b", 1), ("c", 1)]), Some("c")),
            (look(&[("b", 1)]), Some("a")),
        ] {
            assert_eq!(first_difference(&before, &after), expected.map(Path::new));
        }
    }
}
