//! The files of a plugin's project: what a build is made of, and what it leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use dlm_packages::pack::author;

use crate::{environment, program};

/// Where cargo builds unless it is told otherwise.
const CARGO_TARGET: &str = "target";
/// Where the cases lie.
const CASES: &str = "cases";
/// Directories that a build writes into.
const BUILT: [&str; 4] = ["target", "build", "node_modules", "__pycache__"];
/// Most files that are watched: a project of more is none of `dlm plugin new`.
const FILES_MAX: usize = 10_000;

/// The file that a build leaves. What cargo is told about its directory holds: `CARGO_TARGET_DIR`, its settings, a workspace.
pub(super) fn built_file(directory: &Path, wasm: &str) -> PathBuf {
    let usual = directory.join(wasm);
    let Ok(rest) = Path::new(wasm).strip_prefix(CARGO_TARGET) else {
        return usual;
    };
    if let Some(target) = environment::path("CARGO_TARGET_DIR") {
        return directory.join(target.value).join(rest);
    }
    if usual.is_file() || !directory.join("Cargo.toml").is_file() {
        return usual;
    }
    let asked = program::command("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(directory)
        .output();
    let told = asked.ok().filter(|answer| answer.status.success());
    let told = told.and_then(|answer| serde_json::from_slice::<serde_json::Value>(&answer.stdout).ok());
    let target = told.as_ref().and_then(|told| told.get("target_directory")?.as_str());
    target.map_or(usual, |target| Path::new(target).join(rest))
}

/// The files of a project: its sources, its cases, and the component that a build leaves.
pub(super) struct Sources {
    /// When each was changed.
    pub stamps: BTreeMap<PathBuf, SystemTime>,
    /// Where they lie.
    pub directories: BTreeSet<PathBuf>,
}

impl Sources {
    /// Looks at a project, without what else a build writes.
    pub fn of(directory: &Path) -> Sources {
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

    /// The file that a build is made of and that was changed last: no case, no text for people, nothing that was built.
    pub fn newest_source(self, directory: &Path) -> Option<(PathBuf, SystemTime)> {
        let is_source = |path: &Path| {
            let is_case = path.starts_with(directory.join(CASES));
            let ending = path.extension().and_then(|ending| ending.to_str());
            !is_case && !matches!(ending, Some("wasm" | "md" | "minisig" | "lock"))
        };
        let sources = self.stamps.into_iter().filter(|(path, _)| is_source(path));
        sources.max_by_key(|(_, time)| *time)
    }

    /// The component that somebody else's build may write, wherever the author's file says.
    fn add_component(&mut self, directory: &Path) {
        let built = author(directory).ok().and_then(|author| author.build_wasm);
        let Some(path) = built
            .map(|built| built_file(directory, &built))
            .filter(|path| path.is_file())
        else {
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
