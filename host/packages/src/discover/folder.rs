//! The plugin files of one directory, and the place that the lock holds for a file.

use std::fs;
use std::path::{Path, PathBuf};

use dlm_core::inert::inert_line;

/// Most entries of one directory that are looked at.
const ENTRIES_MAX: usize = 1000;

/// The plugin files of a directory, as name and path, sorted by name.
pub(crate) fn files_of(directory: &Path) -> Option<Vec<(String, PathBuf)>> {
    let entries = fs::read_dir(directory).ok()?;
    let mut files: Vec<(String, PathBuf)> = entries
        .take(ENTRIES_MAX)
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_stem()?.to_str()?.to_owned();
            let is_here = |form: &PathBuf| *form == path || form.parent() == Some(&path);
            let file = forms(directory, &name).into_iter().find(is_here)?;
            file.is_file().then_some((name, file))
        })
        .collect();
    files.sort();
    Some(files)
}

/// `<name>.wasm` and `<name>/plugin.wasm`.
pub(super) fn forms(directory: &Path, name: &str) -> [PathBuf; 2] {
    [
        directory.join(format!("{name}.wasm")),
        directory.join(name).join("plugin.wasm"),
    ]
}

/// A directory with its plugins in a line; their names join `names`.
pub(super) fn look(directory: &Path, names: &mut Vec<String>) -> String {
    let place = directory.display();
    match files_of(directory) {
        None => format!("{place}: no such directory"),
        Some(files) if files.is_empty() => format!("{place}: no plugin"),
        Some(files) => {
            let own: Vec<String> = files.into_iter().map(|(name, _)| inert_line(&name)).collect();
            let line = format!("{place}: {}", own.join(", "));
            names.extend(own);
            line
        }
    }
}

/// The place that the lock holds for a file: its name in its directory's real path. A link is not its target.
pub(crate) fn place_of(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (absolute.parent().map(fs::canonicalize), absolute.file_name()) {
        (Some(Ok(directory)), Some(name)) => directory.join(name),
        _ => absolute,
    }
}
