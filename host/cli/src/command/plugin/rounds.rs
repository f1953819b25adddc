//! `dlm plugin test --watch`: builds, packs and tests a project again whenever its files change.
//!
//! Invariants: what a build or `--update` writes starts no round; whatever goes wrong in a round is told, and the next change
//! is waited for; Ctrl-C ends it between two rounds, a second one at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use dlm_core::Cancel;
use dlm_core::inert::inert;
use dlm_packages::error::{FilesError, PackError, PackageError};
use dlm_packages::pack::{PackOptions, author, pack, write};

use crate::console::Console;
use crate::watch::{Changes, first_difference};
use crate::{program, wiring};

/// Directories that a build writes into.
const BUILT: [&str; 4] = ["target", "build", "node_modules", "__pycache__"];
/// Most files that are watched: a project of more is none of `dlm plugin new`.
const FILES_MAX: usize = 10_000;

/// Tests the project in `directory` with `once`, now and at every change, until Ctrl-C.
///
/// **Errors**: the interrupt, or files that cannot be watched.
pub(super) fn watch(
    directory: &Path,
    console: &Console,
    once: &dyn Fn() -> Result<ExitCode, PackageError>,
) -> Result<ExitCode, PackageError> {
    let failed = |error: notify::Error| FilesError {
        action: "watch",
        path: directory.to_owned(),
        source: std::io::Error::other(error),
    };
    // Without a handler Ctrl-C ends the program at once, and leaves its directory for the trial behind.
    let cancel = wiring::cancel_on_interrupt().map_err(|error| FilesError {
        action: "watch",
        path: directory.to_owned(),
        source: std::io::Error::other(error.error.to_string()),
    })?;
    let mut changes = Changes::new().map_err(failed)?;
    let mut before: Option<BTreeMap<PathBuf, SystemTime>> = None;
    while !cancel.is_cancelled() {
        let now = Sources::of(directory);
        if changes.watch(now.directories).map_err(failed)? {
            // What changed in a new directory before it was watched shows in another look.
            continue;
        }
        if let Some(before) = &before {
            let Some(changed) = first_difference(before, &now.stamps) else {
                changes.wait(&cancel);
                continue;
            };
            console.info(&format!(
                "plugin: {} changed; testing again",
                inert(&changed.display().to_string())
            ));
        }
        if let Err(error) = build(directory, console, &cancel).and_then(|()| once()) {
            console.failure(&error.into());
        }
        // What the build and --update wrote is no change of the author's.
        before = Some(Sources::of(directory).stamps);
        console.info("plugin: watching for changes; Ctrl-C ends it");
    }
    Err(PackageError::Cancelled)
}

/// Builds and packs, as `plugin.toml` says.
fn build(directory: &Path, console: &Console, cancel: &Cancel) -> Result<(), PackageError> {
    let command = author(directory)?.build_command;
    if let Some(command) = command {
        console.info(&format!("plugin: {}", inert(&command)));
        let shell = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
        let status = program::run(shell.0.as_ref(), &[shell.1, &command], Some(directory), cancel);
        let status = status.map_err(|source| FilesError {
            action: "run the build in",
            path: directory.to_owned(),
            source,
        })?;
        if !status.success() {
            return Err(PackError {
                path: directory.to_owned(),
                cause: format!("its build ended with {status}"),
                hint: None,
            }
            .into());
        }
    }
    let packed = pack(&PackOptions {
        directory: directory.to_owned(),
        ..PackOptions::default()
    })?;
    packed.remarks.iter().for_each(|remark| console.warning(remark));
    Ok(write(&packed)?)
}

/// The files of a project: its sources, its cases, and the component that a build leaves.
struct Sources {
    /// When each was changed.
    stamps: BTreeMap<PathBuf, SystemTime>,
    /// Where they lie.
    directories: BTreeSet<PathBuf>,
}

impl Sources {
    /// Looks at a project, without what else a build writes.
    fn of(directory: &Path) -> Sources {
        let mut found = Sources {
            stamps: BTreeMap::new(),
            directories: BTreeSet::new(),
        };
        found.add_component(directory);
        let mut open = vec![directory.to_owned()];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
                let (path, name) = (entry.path(), entry.file_name());
                let is_built = BUILT.iter().any(|built| name == *built) || name.to_string_lossy().starts_with('.');
                let Ok(kind) = entry.file_type() else { continue };
                if kind.is_dir() && !is_built {
                    open.push(path);
                } else if kind.is_file() && path.extension().is_none_or(|extension| extension != "wasm") {
                    found.add(path);
                }
                if found.stamps.len() > FILES_MAX {
                    return found;
                }
            }
            found.directories.insert(directory);
        }
        found
    }

    /// The component that somebody else's build may write, wherever the author's file says.
    fn add_component(&mut self, directory: &Path) {
        let built = author(directory).ok().and_then(|author| author.build_wasm);
        let Some(path) = built.map(|built| directory.join(built)).filter(|path| path.is_file()) else {
            return;
        };
        let parent = path.parent().unwrap_or(directory).to_owned();
        self.directories.insert(parent);
        self.add(path);
    }

    fn add(&mut self, path: PathBuf) {
        let changed = path.metadata().and_then(|found| found.modified());
        self.stamps.insert(path, changed.unwrap_or(SystemTime::UNIX_EPOCH));
    }
}
