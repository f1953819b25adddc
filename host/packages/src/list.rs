//! `dlm plugin list`: what is inside dlm, installed, and lying in the project's and the system's directories.
//!
//! Invariant: a file that is broken or not trusted is listed with what is wrong, not left out.

use serde::Serialize;

use crate::builtin::builtins;
use crate::check;
use crate::component::Shape;
use crate::discover::{Finder, Origin, files_of, installed_path, read_file};
use crate::error::{Diagnose, LockFileError, PackageError};
use crate::imports::Wasi;
use crate::kind::Kind;
use crate::manifest::Manifest;
use crate::selector::{Choice, Selector};

/// One plugin of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedPlugin {
    pub name: String,
    pub kinds: Vec<Kind>,
    pub version: String,
    /// Version of the contract; nothing where the file cannot be read.
    pub api: Option<String>,
    pub bytes: u64,
    pub wasi: Option<&'static str>,
    pub signer: Option<String>,
    pub granted: Vec<String>,
    pub origin: &'static str,
    pub path: Option<String>,
    /// Why it does not run, as code and message.
    pub problem: Option<(String, String)>,
}

/// Lists every plugin that a name could mean; the first of two with the same name is the one that runs.
///
/// **Errors**: the lock is damaged, or a plugin inside dlm.
pub fn list(finder: &Finder) -> Result<Vec<ListedPlugin>, LockFileError> {
    let mut all = Vec::new();
    for builtin in builtins() {
        all.push(row(finder, builtin.name, Origin::Builtin, None)?);
    }
    if let Some(directory) = finder.project_directory() {
        for (name, path) in files_of(&directory).unwrap_or_default() {
            all.push(row(finder, &name, Origin::Project, Some(path))?);
        }
    }
    let home = finder.places().home.clone();
    for entry in finder.lock()?.plugins.iter().filter(|entry| entry.path.is_none()) {
        all.push(row(
            finder,
            &entry.name,
            Origin::User,
            Some(installed_path(&home, entry)),
        )?);
    }
    for directory in &finder.places().system {
        for (name, path) in files_of(directory).unwrap_or_default() {
            all.push(row(finder, &name, Origin::System, Some(path))?);
        }
    }
    Ok(all)
}

fn row(
    finder: &Finder,
    name: &str,
    origin: Origin,
    path: Option<std::path::PathBuf>,
) -> Result<ListedPlugin, LockFileError> {
    let selector = Selector {
        choice: Choice::Name {
            name: name.to_owned(),
            version: None,
        },
        argument: String::new(),
    };
    let here = finder.at_place(name, origin, path.as_deref().unwrap_or(std::path::Path::new("")));
    let found = match here {
        // Another place has the name first.
        Ok(found) => match finder.find(&selector, None) {
            Ok(used) if used.path != found.path => Err((
                "plugin::hidden".to_owned(),
                format!("the {} one of this name is used", used.origin.name()),
            )),
            _ => Ok(found),
        },
        Err(PackageError::LockFile(error @ LockFileError::Damaged { .. })) => return Err(error),
        Err(error) => Err((error.code().to_owned(), dlm_core::inert::inert(&error.to_string()))),
    };
    let place = path.clone().unwrap_or_else(|| name.into());
    let shown = |path: &std::path::PathBuf| path.display().to_string();
    let entry = finder.lock()?.installed(name).filter(|_| origin == Origin::User);
    let mut listed = ListedPlugin {
        name: dlm_core::inert::inert_line(name),
        kinds: entry.map(|entry| entry.kinds.clone()).unwrap_or_default(),
        version: entry.map_or_else(|| "?".to_owned(), |entry| entry.version.clone()),
        api: entry.map(|entry| entry.api.clone()),
        bytes: entry.map_or(0, |entry| entry.size),
        wasi: None,
        signer: entry.and_then(|entry| entry.signer.clone()),
        granted: entry.map(crate::lockfile::LockEntry::granted).unwrap_or_default(),
        origin: origin.name(),
        path: path.as_ref().map(shown),
        problem: None,
    };
    let bytes = match &found {
        Ok(found) => found.read().map(std::borrow::Cow::into_owned),
        Err(_) => read_file(&place).map_err(PackageError::from),
    };
    if let Ok(bytes) = bytes {
        listed.bytes = bytes.len() as u64;
        if let Ok(manifest) = Manifest::of_component(&bytes) {
            listed.version = manifest.version;
            listed.kinds = manifest.kinds;
        }
        if let Ok(shape) = Shape::read(&place, &bytes) {
            listed.api = check::check_shape(&place, name, &listed.version, &shape).ok();
            listed.wasi = Some(Wasi::of(&shape.imports).name());
        }
    }
    match found {
        Ok(found) => listed.granted = found.granted,
        Err(problem) => {
            listed.granted.clear();
            listed.problem = Some(problem);
        }
    }
    Ok(listed)
}
