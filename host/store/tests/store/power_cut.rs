//! The power goes at any moment: what was not flushed is lost, the names of files too.
//!
//! A second directory holds what a disk would have: a file's content when it was flushed, a name when its directory was. At
//! the n-th operation everything stops, and the store is opened from there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use dlm_store::{AdapterSlot, Disk, Operation, Store, verify_version};

use super::scenario::{Run, id, train, wait};
use super::{NOW_MS, fast_directory};

const BEFORE: Run<'static> = Run {
    now_ms: NOW_MS,
    sections: &["kept", "removed"],
    replay_budget_bytes: u64::MAX,
};
const AFTER: Run<'static> = Run {
    now_ms: NOW_MS + 60_000,
    sections: &["kept", "new", "newer"],
    replay_budget_bytes: u64::MAX,
};
const EDITED: Run<'static> = Run {
    now_ms: NOW_MS + 120_000,
    sections: &["kept", "edited meanwhile"],
    replay_budget_bytes: u64::MAX,
};

/// A disk that keeps what was flushed.
struct Platter {
    live: PathBuf,
    kept: PathBuf,
    /// The operation that was asked for last: it is done when the next one is asked for.
    last: Option<(Operation, PathBuf)>,
    /// Files whose content was flushed after it was last written, and how long it was then.
    flushed: BTreeMap<PathBuf, Vec<u8>>,
    /// Contents that were flushed under a temporary name.
    ready: BTreeSet<PathBuf>,
    left: u64,
}

impl Platter {
    fn ask(&mut self, operation: Operation, path: &Path) -> io::Result<()> {
        if let Some((operation, path)) = self.last.take() {
            self.done(operation, &path);
        }
        if self.left == 0 {
            return Err(io::Error::other("the power is gone"));
        }
        self.left -= 1;
        self.last = Some((operation, path.to_owned()));
        Ok(())
    }

    fn done(&mut self, operation: Operation, path: &Path) {
        match operation {
            // Whole files are flushed under a temporary name, and appended ones under their own.
            Operation::SyncFile => {
                self.ready.insert(path.to_owned());
                if let (Some(kept), Ok(bytes)) = (self.place(path), fs::read(path))
                    && kept.exists()
                {
                    fs::write(kept, &bytes).unwrap();
                    self.flushed.insert(path.to_owned(), bytes);
                }
            }
            Operation::Rename if self.ready.remove(path) => {
                if let Ok(bytes) = fs::read(path) {
                    self.flushed.insert(path.to_owned(), bytes);
                }
            }
            Operation::Link if self.ready.remove(path) => {
                if let Ok(bytes) = fs::read(path) {
                    self.flushed.insert(path.to_owned(), bytes);
                }
            }
            // A file that had its content under another name.
            Operation::Rename if !path.exists() => {
                let name = path.file_name().unwrap().to_string_lossy();
                if let (Some(target), Some(bytes)) = (name.strip_prefix("next."), self.flushed.remove(path)) {
                    self.flushed.insert(path.with_file_name(target), bytes);
                }
            }
            Operation::SyncDirectory => self.flush_names(path),
            _ => {}
        }
    }

    fn place(&self, path: &Path) -> Option<PathBuf> {
        Some(self.kept.join(path.strip_prefix(&self.live).ok()?))
    }

    /// Makes the kept directory have the names of the live one; a content that was not flushed is empty.
    fn flush_names(&self, directory: &Path) {
        let Some(kept) = self.place(directory).filter(|kept| kept.is_dir()) else {
            return;
        };
        let names = |directory: &Path| -> BTreeSet<_> {
            let entries = fs::read_dir(directory).into_iter().flatten();
            entries.map(|entry| entry.unwrap().file_name()).collect()
        };
        let (now, before) = (names(directory), names(&kept));
        for gone in before.difference(&now) {
            let path = kept.join(gone);
            let _ = if path.is_dir() {
                fs::remove_dir_all(path)
            } else {
                fs::remove_file(path)
            };
        }
        for name in &now {
            let (live, kept) = (directory.join(name), kept.join(name));
            // The database flushes by rules of its own; an older one is what is left of it here.
            if name.to_string_lossy().starts_with("metrics.sqlite") {
                continue;
            }
            if live.is_dir() {
                let _ = fs::create_dir(&kept);
            } else {
                let bytes = self.flushed.get(&live).cloned();
                // A file of before this run, or a link to one.
                let bytes = bytes.or_else(|| fs::read(&kept).ok()).unwrap_or_default();
                fs::write(&kept, bytes).unwrap();
            }
        }
    }
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_tree(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Runs until the power goes at operation `left`; says whether it got through, and leaves what a disk would have in `kept`.
fn run_until(template: &Path, live: &Path, kept: &Path, left: u64) -> bool {
    for place in [live, kept] {
        let _ = fs::remove_dir_all(place);
        copy_tree(template, place);
    }
    let platter = Mutex::new(Platter {
        live: live.to_owned(),
        kept: kept.to_owned(),
        last: None,
        flushed: BTreeMap::new(),
        ready: BTreeSet::new(),
        left,
    });
    let disk = Disk::with_hook(Arc::new(move |operation, path: &Path| {
        platter.lock().unwrap().ask(operation, path)
    }));
    train(&Store::at(live, disk), &AFTER).is_ok()
}

fn known(store: &Store) -> BTreeSet<String> {
    let corpus = store.replay().unwrap();
    corpus
        .entries()
        .iter()
        .for_each(|entry| drop(corpus.read(entry).unwrap()));
    corpus
        .entries()
        .iter()
        .map(|entry| entry.section_id.to_string())
        .collect()
}

#[test]
fn what_was_not_flushed_is_lost_and_nothing_else() {
    let directory = fast_directory();
    let at = |name: &str| directory.path().join(name);
    let (template, live, kept) = (at("template"), at("live"), at("kept"));
    train(&Store::at(&template, Disk::new()), &BEFORE).unwrap();
    let has_all =
        |known: &BTreeSet<String>, sections: &[&str]| sections.iter().all(|text| known.contains(id(text).as_str()));
    for left in 1.. {
        let is_through = run_until(&template, &live, &kept, left);
        let store = Store::at(&kept, Disk::new());
        let current = store
            .current_version(&AdapterSlot::Flat)
            .unwrap()
            .expect("the pointer is gone");
        verify_version(&current.directory).unwrap_or_else(|damage| panic!("{left}: {damage}"));
        let is_new = current.number == Some(2);
        drop(store.lock(&wait(EDITED.now_ms)).unwrap());
        assert_eq!(store.verify().unwrap(), Vec::<String>::new(), "{left}");
        assert_eq!(
            store.manifest().unwrap().unwrap().adapter_version,
            if is_new { 2 } else { 1 },
            "{left}"
        );
        train(&store, &EDITED).unwrap_or_else(|error| panic!("{left}: {error:#}"));
        let known = known(&store);
        assert!(
            has_all(&known, BEFORE.sections) && has_all(&known, EDITED.sections),
            "{left}: {known:?}"
        );
        assert!(
            !is_new || has_all(&known, AFTER.sections),
            "{left}: trained and forgotten: {known:?}"
        );
        if is_through {
            assert!(left > 60 && is_new, "{left}");
            return;
        }
    }
}
