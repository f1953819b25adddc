//! Finds the plugin that a selector names, and checks that it is the file which was trusted.
//!
//! Invariants: a file that is not pinned by its name, its place and its bytes neither runs by a name nor hides one that may; a
//! pinned file that changed is an error, never a reason to look further; nothing is read from the environment, the caller
//! passes every place in; finding runs nothing.

mod folder;
mod passed;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use dlm_core::digest::sha256_hex;
use dlm_core::nearest::nearest;
use dlm_core::shell::quoted_path;
use semver::{Version, VersionReq};

use self::folder::{forms, look};
use self::passed::{PassedOver, untrusted};
use crate::builtin::{Builtin, builtins, outside};
use crate::disk;
use crate::error::{ComponentError, FilesError, FindError, LockFileError, PackageError, SelectorError};
use crate::kind::Kind;
use crate::lockfile::{Lock, LockEntry, plugins_directory};
use crate::manifest::{COMPONENT_BYTES_MAX, Manifest, ManifestError};
use crate::seen::SeenIndex;
use crate::selector::{Choice, Selector};
use dlm_core::inert::inert_line;

pub(crate) use self::folder::{files_of, place_of};

/// Directories of the system, after those of `DLM_PLUGIN_PATH`.
pub const SYSTEM_DIRECTORIES: [&str; 2] = ["/usr/local/share/dlm/plugins", "/usr/share/dlm/plugins"];
/// Most plugins that are named although nobody trusted them yet.
const UNTRUSTED_SHOWN: usize = 20;

/// Where plugins may lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// dlm's home, usually `~/.dlm`.
    pub home: PathBuf,
    /// What `~/` stands for.
    pub user: Option<PathBuf>,
    /// The directory of the document; `.dlm/plugins` in it is looked at.
    pub project: Option<PathBuf>,
    /// `DLM_PLUGIN_PATH`, then the system's own directories.
    pub system: Vec<PathBuf>,
    /// `[plugins] verify = "always"`: every file is hashed at every use.
    pub is_always_hashed: bool,
}

/// How a plugin came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Inside dlm.
    Builtin,
    /// Named by its file on the command line: no grant but the flags of the same command.
    Path,
    /// In `.dlm/plugins` beside the document.
    Project,
    /// Installed by the user.
    User,
    /// In a directory of the system.
    System,
}

impl Origin {
    /// The word for lists.
    pub fn name(self) -> &'static str {
        match self {
            Origin::Builtin => "built in",
            Origin::Path => "path",
            Origin::Project => "project",
            Origin::User => "installed",
            Origin::System => "system",
        }
    }
}

/// A plugin that may be opened.
#[derive(Clone, Debug)]
pub struct FoundPlugin {
    pub manifest: Manifest,
    /// Of the component, lower-case hex; checked against the pin.
    pub sha256: String,
    pub origin: Origin,
    /// The file; nothing for a plugin inside dlm.
    pub path: Option<PathBuf>,
    /// What the lock or dlm itself grants, in grant syntax.
    pub granted: Vec<String>,
    /// For the plugin's `open`.
    pub argument: String,
    /// False where the file has no manifest: its kinds are then not known before it is read.
    pub has_manifest: bool,
    /// What the user should know about the choice, such as a file of that name that was passed over.
    pub remarks: Vec<String>,
    code: Code,
}

/// Where the bytes are.
#[derive(Clone, Debug)]
enum Code {
    Embedded(&'static [u8]),
    /// Read while looking.
    Held(Vec<u8>),
    /// Known by its place and time, not read.
    OnDisk,
}

impl FoundPlugin {
    /// The component's bytes; read from disk at the first need, and then compared with the pinned hash.
    ///
    /// **Errors**: the file is gone, or no longer the one that was found.
    pub fn read(&self) -> Result<Cow<'_, [u8]>, PackageError> {
        match (&self.code, &self.path) {
            (Code::Embedded(bytes), _) => Ok(Cow::Borrowed(bytes)),
            (Code::Held(bytes), _) => Ok(Cow::Borrowed(bytes)),
            (Code::OnDisk, path) => {
                let path = path.clone().unwrap_or_default();
                let bytes = read_file(&path)?;
                same(
                    &self.manifest.name,
                    self.origin,
                    &path,
                    &self.sha256,
                    &sha256_hex(&bytes),
                )?;
                Ok(Cow::Owned(bytes))
            }
        }
    }
}

/// Finds plugins; reads the lock at the first name that is not inside dlm.
#[derive(Debug)]
pub struct Finder {
    places: Places,
    lock: std::sync::OnceLock<Lock>,
}

impl Finder {
    /// Reads nothing yet.
    pub fn new(places: Places) -> Finder {
        Finder {
            places,
            lock: std::sync::OnceLock::new(),
        }
    }

    /// Where plugins may lie.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// The user's lock.
    ///
    /// **Errors**: it is damaged.
    pub fn lock(&self) -> Result<&Lock, LockFileError> {
        if let Some(lock) = self.lock.get() {
            return Ok(lock);
        }
        let read = Lock::read(&self.places.home)?;
        Ok(self.lock.get_or_init(|| read))
    }

    /// Finds what `selector` names, as a plugin of the kind `wanted`.
    ///
    /// **Errors**: no such plugin, another version, another kind, a file that was not trusted or changed since, or one that
    /// is no component with a valid manifest.
    pub fn find(&self, selector: &Selector, wanted: Option<Kind>) -> Result<FoundPlugin, PackageError> {
        let mut found = match &selector.choice {
            Choice::Path(path) => self.by_path(path)?,
            Choice::Name { name, version } => self.by_name(name, version.as_ref(), wanted)?,
        };
        found.argument.clone_from(&selector.argument);
        if let Some(wanted) = wanted
            && found.has_manifest
            && !found.manifest.kinds.contains(&wanted)
        {
            return Err(FindError::WrongKind {
                plugin: found.manifest.name,
                wanted,
                kinds: found.manifest.kinds,
            }
            .into());
        }
        Ok(found)
    }

    /// The file that a path selector or an argument of a command names.
    pub fn resolve(&self, typed: &str) -> PathBuf {
        match (typed.strip_prefix("~/"), &self.places.user) {
            (Some(rest), Some(user)) => user.join(rest),
            _ => PathBuf::from(typed),
        }
    }

    fn by_path(&self, typed: &str) -> Result<FoundPlugin, PackageError> {
        let path = self.resolve(typed);
        let bytes = read_file(&path)?;
        let (manifest, has_manifest) = match Manifest::of_component(&bytes) {
            Ok(manifest) => (outside(&path, manifest)?, true),
            Err(ManifestError::Missing) => {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                (outside(&path, Manifest::absent(&stem, Vec::new()))?, false)
            }
            Err(bad) => return Err(ComponentError::of_manifest(&path, bad).into()),
        };
        let sha256 = sha256_hex(&bytes);
        let pin = self.lock()?.at(&place_of(&path));
        let is_pinned = pin.is_some_and(|entry| entry.name == manifest.name && entry.sha256 == sha256);
        let changed = || {
            format!(
                "`{}` is not the file that was trusted there; it runs without the grants: dlm plugin trust {}",
                inert_line(typed),
                quoted_path(&path)
            )
        };
        let remarks = if pin.is_some() && !is_pinned {
            vec![changed()]
        } else {
            Vec::new()
        };
        Ok(FoundPlugin {
            granted: pin
                .filter(|_| is_pinned)
                .map(|entry| requested(&manifest, entry))
                .unwrap_or_default(),
            manifest,
            sha256,
            origin: Origin::Path,
            path: Some(path),
            argument: String::new(),
            has_manifest,
            remarks,
            code: Code::Held(bytes),
        })
    }

    /// The first trusted plugin of this name whose version fits.
    fn by_name(
        &self,
        name: &str,
        asked: Option<&VersionReq>,
        wanted: Option<Kind>,
    ) -> Result<FoundPlugin, PackageError> {
        let mut passed = PassedOver::default();
        if let Some(builtin) = builtins().iter().find(|builtin| builtin.name == name) {
            let found = inside(builtin)?;
            if fits(&found.manifest, asked) {
                return Ok(found);
            }
            passed.versions.push(found.manifest.version);
            return Err(passed.error(name, asked).into());
        }
        for (origin, path) in self.files_called(name)? {
            if !self.is_pinned(name, origin, &path)? {
                passed.untrusted.push(path);
                continue;
            }
            let mut found = self.at_place(name, origin, &path)?;
            if fits(&found.manifest, asked) {
                found.remarks.extend(passed.remarks(&found));
                return Ok(found);
            }
            passed.versions.push(found.manifest.version);
        }
        match (passed.versions.is_empty(), passed.untrusted.first()) {
            (false, _) => Err(passed.error(name, asked).into()),
            (true, Some(path)) => Err(untrusted(path)?.into()),
            (true, None) => Err(self.unknown(name, wanted)?.into()),
        }
    }

    /// The files that `name` could mean, in the order in which they count: the project's, the installed one, the system's.
    fn files_called(&self, name: &str) -> Result<Vec<(Origin, PathBuf)>, LockFileError> {
        let in_directory = |directory: &PathBuf, origin: Origin| {
            let there = forms(directory, name).into_iter().filter(|path| path.is_file());
            there.map(move |path| (origin, path)).collect::<Vec<_>>()
        };
        let mut files = Vec::new();
        files.extend(
            self.project_directory()
                .iter()
                .flat_map(|place| in_directory(place, Origin::Project)),
        );
        let installed = self.lock()?.installed(name);
        files.extend(installed.map(|entry| (Origin::User, installed_path(&self.places.home, entry))));
        files.extend(
            self.places
                .system
                .iter()
                .flat_map(|place| in_directory(place, Origin::System)),
        );
        Ok(files)
    }

    /// Says whether the lock pins what lies at a place under this name; its bytes are compared when it is read.
    fn is_pinned(&self, name: &str, origin: Origin, path: &Path) -> Result<bool, LockFileError> {
        let pin = self.lock()?.at(&place_of(path));
        Ok(origin == Origin::User || pin.is_some_and(|entry| entry.name == name))
    }

    /// The plugin `name` at one place, whatever else has that name.
    ///
    /// **Errors**: as [`Finder::find`].
    pub(crate) fn at_place(&self, name: &str, origin: Origin, path: &Path) -> Result<FoundPlugin, PackageError> {
        match (origin, builtins().iter().find(|builtin| builtin.name == name)) {
            (Origin::Builtin, Some(builtin)) => inside(builtin),
            (Origin::User, _) => match self.lock()?.installed(name) {
                Some(entry) => self.installed(entry),
                None => Err(self.unknown(name, None)?.into()),
            },
            _ => self.in_place(name, path, origin),
        }
    }

    /// A plugin of the user's own directory. Its hash is taken from an earlier look where the file is untouched since.
    fn installed(&self, entry: &LockEntry) -> Result<FoundPlugin, PackageError> {
        let path = installed_path(&self.places.home, entry);
        let seen = (!self.places.is_always_hashed).then(|| SeenIndex::read(&self.places.home));
        let known = seen.as_ref().and_then(|seen| seen.known(&path, &entry.sha256));
        if let Some(manifest) = known {
            return Ok(pinned(manifest, entry, Origin::User, path, Code::OnDisk));
        }
        let Some(bytes) = disk::read(&path, COMPONENT_BYTES_MAX)? else {
            return Err(FindError::Gone {
                plugin: entry.name.clone(),
                path,
                source_text: entry.source.clone(),
            }
            .into());
        };
        same(&entry.name, Origin::User, &path, &entry.sha256, &sha256_hex(&bytes))?;
        // The name in the lock is the one it was installed under, which the user may have chosen.
        let mut manifest = Manifest::of_component(&bytes).map_err(|bad| ComponentError::of_manifest(&path, bad))?;
        manifest.name.clone_from(&entry.name);
        if let Some(mut seen) = seen {
            seen.put(&path, &entry.sha256, &manifest);
            seen.write(&self.places.home);
        }
        Ok(pinned(manifest, entry, Origin::User, path, Code::Held(bytes)))
    }

    /// A plugin of a directory that is not the user's own: it runs if the lock pins its name, its place and its bytes.
    fn in_place(&self, name: &str, path: &Path, origin: Origin) -> Result<FoundPlugin, PackageError> {
        let lock = self.lock()?;
        let Some(entry) = lock.at(&place_of(path)).filter(|entry| entry.name == name) else {
            return Err(untrusted(path)?.into());
        };
        let bytes = read_file(path)?;
        same(&entry.name, origin, path, &entry.sha256, &sha256_hex(&bytes))?;
        let manifest = named(name, path, &bytes)?;
        Ok(pinned(manifest, entry, origin, path.to_owned(), Code::Held(bytes)))
    }

    /// `.dlm/plugins` beside the document.
    pub fn project_directory(&self) -> Option<PathBuf> {
        let project = self.places.project.as_ref()?;
        Some(project.join(".dlm").join("plugins"))
    }

    /// Names what there is instead: of the wanted kind where one is wanted, else each place with its plugins.
    fn unknown(&self, name: &str, wanted: Option<Kind>) -> Result<FindError, LockFileError> {
        let lock = self.lock()?;
        let mut names: Vec<String> = builtins().iter().map(|builtin| builtin.name.to_owned()).collect();
        let mut looked = vec![format!("inside dlm: {}", names.join(", "))];
        if let Some(directory) = self.project_directory() {
            looked.push(look(&directory, &mut names));
        }
        let own: Vec<String> = lock.plugins.iter().map(|entry| entry.name.clone()).collect();
        looked.push(match own.len() {
            0 => format!("{}: nothing installed", plugins_directory(&self.places.home).display()),
            _ => format!("{}: {}", plugins_directory(&self.places.home).display(), own.join(", ")),
        });
        names.extend(own);
        for directory in &self.places.system {
            looked.push(look(directory, &mut names));
        }
        if let Some(kind) = wanted {
            let choices = self.names_of(kind)?;
            looked = vec![format!("choose one of: {}", choices.join(", "))];
            let untrusted = self.untrusted()?;
            if !untrusted.is_empty() {
                looked.push(format!(
                    "not trusted yet, of a kind that is not known before: {}",
                    untrusted.join(", ")
                ));
            }
            names = choices.into_iter().chain(untrusted).collect();
        }
        Ok(FindError::Unknown {
            name: name.to_owned(),
            wanted,
            suggestions: nearest(name, names.iter().map(String::as_str)),
            looked,
        })
    }

    /// The plugins of a kind that can be named here, those inside dlm first. No file is read: a directory that came with a
    /// document may hold thousands, and what the lock does not know does not run anyway.
    fn names_of(&self, kind: Kind) -> Result<Vec<String>, LockFileError> {
        let lock = self.lock()?;
        let inside = builtins().iter().filter(|builtin| builtin.is_a(kind));
        let mut names: Vec<String> = inside.map(|builtin| builtin.name.to_owned()).collect();
        let installed = lock.plugins.iter().filter(|entry| entry.path.is_none());
        names.extend(
            installed
                .filter(|entry| entry.kinds.contains(&kind))
                .map(|entry| entry.name.clone()),
        );
        for directory in self.project_directory().iter().chain(&self.places.system) {
            let files = files_of(directory).unwrap_or_default().into_iter();
            let is_of_kind = |path: &Path| {
                lock.at(&place_of(path))
                    .is_some_and(|entry| entry.kinds.contains(&kind))
            };
            let fitting = files.filter(|(_, path)| is_of_kind(path));
            names.extend(fitting.map(|(name, _)| inert_line(&name)));
        }
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        Ok(names)
    }

    /// The first plugins beside the document and of the system that the lock does not know by their place.
    fn untrusted(&self) -> Result<Vec<String>, LockFileError> {
        let lock = self.lock()?;
        let directories = self.project_directory();
        let files = directories
            .iter()
            .chain(&self.places.system)
            .filter_map(|place| files_of(place))
            .flatten();
        let unknown = files.filter(|(_, path)| lock.at(&place_of(path)).is_none());
        Ok(unknown
            .map(|(name, _)| inert_line(&name))
            .take(UNTRUSTED_SHOWN)
            .collect())
    }

    /// Says what was typed where a plugin was expected, for an error that only says that it is none.
    pub fn explain(&self, typed: &str, error: PackageError) -> PackageError {
        let path = self.resolve(typed);
        let wrong = |cause: &str, hint: String| {
            PackageError::from(SelectorError {
                text: typed.to_owned(),
                cause: cause.to_owned(),
                hint: Some(hint),
            })
        };
        let directory = quoted_path(&path);
        if path.join("plugin.toml").is_file() {
            let built = path.join("plugin.wasm");
            return match built.is_file() {
                true => wrong(
                    "is the directory of a plugin's sources",
                    format!("name what was packed: {}", quoted_path(&built)),
                ),
                false => wrong(
                    "is the directory of a plugin's sources, and nothing is packed in it yet",
                    format!("build and pack it first: cd {directory} && dlm plugin pack"),
                ),
            };
        }
        if path.is_dir() {
            return wrong(
                "is a directory",
                "name a plugin, or its file: see dlm plugin list".to_owned(),
            );
        }
        if path.is_file() && path.extension().is_none_or(|extension| extension != "wasm") {
            return wrong(
                "is a file, and no plugin: those end in `.wasm`",
                "see what is here: dlm plugin list".to_owned(),
            );
        }
        error
    }
}

/// The file of an installed plugin.
pub fn installed_path(home: &Path, entry: &LockEntry) -> PathBuf {
    plugins_directory(home)
        .join(&entry.name)
        .join(&entry.version)
        .join("plugin.wasm")
}

fn inside(builtin: &Builtin) -> Result<FoundPlugin, PackageError> {
    let path = Path::new(builtin.name);
    let found = builtin.checked_sha256().map_err(|_| FindError::Damaged {
        plugin: builtin.name.to_owned(),
    })?;
    let manifest = builtin
        .manifest()
        .map_err(|bad| ComponentError::of_manifest(path, bad))?;
    // What a plugin inside dlm asks for is what it gets: its manifest is part of the pinned bytes.
    let granted = manifest
        .requests
        .iter()
        .map(|request| request.capability.clone())
        .collect();
    Ok(FoundPlugin {
        manifest,
        sha256: found,
        origin: Origin::Builtin,
        path: None,
        granted,
        argument: String::new(),
        has_manifest: true,
        remarks: Vec::new(),
        code: Code::Embedded(builtin.wasm),
    })
}

fn pinned(manifest: Manifest, entry: &LockEntry, origin: Origin, path: PathBuf, code: Code) -> FoundPlugin {
    FoundPlugin {
        granted: requested(&manifest, entry),
        manifest,
        sha256: entry.sha256.clone(),
        origin,
        path: Some(path),
        argument: String::new(),
        has_manifest: true,
        remarks: Vec::new(),
        code,
    }
}

/// The grants of an entry that the manifest asks for: any other is one that somebody wrote into the lock for another version.
fn requested(manifest: &Manifest, entry: &LockEntry) -> Vec<String> {
    let granted = entry.granted().into_iter();
    granted.filter(|text| manifest.requests_text(text)).collect()
}

fn same(plugin: &str, origin: Origin, path: &Path, expected: &str, found: &str) -> Result<(), FindError> {
    if expected == found {
        return Ok(());
    }
    Err(FindError::Tampered {
        plugin: plugin.to_owned(),
        path: path.to_owned(),
        is_installed: origin == Origin::User,
        expected: expected.to_owned(),
        found: found.to_owned(),
    })
}

/// The manifest of a file that must be called `name`.
fn named(name: &str, path: &Path, bytes: &[u8]) -> Result<Manifest, ComponentError> {
    let manifest = Manifest::of_component(bytes).map_err(|bad| ComponentError::of_manifest(path, bad))?;
    if manifest.name != name {
        return Err(ComponentError::Manifest {
            path: path.to_owned(),
            cause: format!("its name is `{}`, its file is that of `{name}`", manifest.name),
        });
    }
    outside(path, manifest)
}

fn fits(manifest: &Manifest, asked: Option<&VersionReq>) -> bool {
    let is_fit = |asked: &VersionReq| Version::parse(&manifest.version).is_ok_and(|version| asked.matches(&version));
    asked.is_none_or(is_fit)
}

/// Reads a file that must be there.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, FilesError> {
    let missing = || std::io::Error::new(std::io::ErrorKind::NotFound, "there is no such file");
    disk::read(path, COMPONENT_BYTES_MAX)?.ok_or_else(|| FilesError::of("read", path)(missing()))
}

#[cfg(test)]
mod tests;
