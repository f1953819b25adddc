//! `dlm plugin test --watch`: builds, packs and tests a project again whenever its files change.
//!
//! Invariants: what a build or `--update` writes starts no round; whatever goes wrong in a round is told, and the next change
//! is waited for; Ctrl-C ends it between two rounds, a second one at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use dlm_core::inert::inert;
use dlm_packages::error::{FilesError, PackageError};

use super::build::build;
use super::sources::Sources;
use crate::console::Console;
use crate::watch::{Changes, first_difference};
use crate::wiring;

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
        if let Err(error) = build(directory, console, &cancel).and_then(|_| once()) {
            console.failure(&error.into());
        }
        // What the build and --update wrote is no change of the author's.
        before = Some(Sources::of(directory).stamps);
        console.info("plugin: watching for changes; Ctrl-C ends it");
    }
    Err(PackageError::Cancelled)
}
