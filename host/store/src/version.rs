//! Adapter versions: numbered directories, the pointer to the current one, and the two-phase commit.
//!
//! Invariants: a version directory is written in full and flushed before the pointer names it; the pointer is replaced
//! in one step; nothing but a rejection renames a version and nothing deletes one.

use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use dlm_core::{Hints, Subject};
use dlm_files::{Disk, DiskError};

use crate::layout::{AdapterSlot, NameError, StorePaths, file_name};
use crate::store::{Store, StoreGuard};
use crate::sums::write_sums;

/// Weights of an adapter in PEFT's layout.
pub const ADAPTER_MODEL_FILE: &str = "adapter_model.safetensors";
/// Configuration of an adapter in PEFT's layout.
pub const ADAPTER_CONFIG_FILE: &str = "adapter_config.json";

/// Largest pointer file that is read; ours has about 30 bytes.
const POINTER_BYTES_MAX: u64 = 4096;
/// Last number of a rejected directory.
const REJECTED_MAX: u32 = 999;

/// A version that cannot be read, made or committed.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    #[error("`{}`: the pointer leads outside the store: `{content}`", path.display())]
    PointerOutside { path: PathBuf, content: String },
    #[error("`{}`: the pointer names `{content}`, which does not exist", path.display())]
    PointerDangling { path: PathBuf, content: String },
    #[error("`{}`: the pointer is not a line of text", path.display())]
    PointerUnreadable { path: PathBuf },
    #[error("`{}`: the version lacks `{name}` and cannot be committed", directory.display())]
    Incomplete { directory: PathBuf, name: &'static str },
    #[error("`{}`: every name from `{name}-rejected` to `{name}-rejected-{REJECTED_MAX}` is taken", directory.display())]
    RejectedNames { directory: PathBuf, name: String },
    #[error("`{}`: no version number is left", directory.display())]
    NumbersExhausted { directory: PathBuf },
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Hints for VersionError {
    fn subject(&self) -> Subject {
        match self {
            VersionError::Disk(error) => error.subject(),
            _ => Subject::Store,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            VersionError::PointerOutside { path, .. }
            | VersionError::PointerDangling { path, .. }
            | VersionError::PointerUnreadable { path } => vec![format!(
                "write the path of a kept version into `{}`, such as `adapter/versions/v0001`",
                path.display()
            )],
            VersionError::Disk(error) => error.hints(),
            _ => Vec::new(),
        }
    }
}

/// The version that the pointer names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentVersion {
    /// Its number; none when the directory's name is not `v<number>`.
    pub number: Option<u32>,
    /// Its directory.
    pub directory: PathBuf,
    /// Its directory relative to the store root, with `/`.
    pub relative: String,
}

/// A directory among a slot's versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionEntry {
    /// Name of the directory.
    pub name: String,
    /// Its number; for a rejected version the number it had.
    pub number: u32,
    /// Whether its weights were refused.
    pub is_rejected: bool,
    /// Whether the pointer names it.
    pub is_current: bool,
}

/// The directory name of a version.
pub fn version_name(number: u32) -> String {
    format!("v{number:04}")
}

/// The number in a directory name `v<number>`.
pub fn version_number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix('v')?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

fn rejected_number(name: &str) -> Option<u32> {
    let (version, tail) = name.split_once("-rejected")?;
    let number = version_number(version)?;
    let is_numbered = tail
        .strip_prefix('-')
        .is_some_and(|digits| digits.parse::<u32>().is_ok());
    (tail.is_empty() || is_numbered).then_some(number)
}

/// Reads the pointer of a slot; none when it is missing or empty.
pub(crate) fn current(paths: &StorePaths, slot: &AdapterSlot) -> Result<Option<CurrentVersion>, VersionError> {
    let path = paths.pointer(slot);
    let Some(bytes) = dlm_files::read(&path, POINTER_BYTES_MAX)? else {
        return Ok(None);
    };
    let Ok(text) = String::from_utf8(bytes) else {
        return Err(VersionError::PointerUnreadable { path });
    };
    let content = text.trim();
    if content.is_empty() {
        return Ok(None);
    }
    let outside = || VersionError::PointerOutside {
        path: path.clone(),
        content: content.to_owned(),
    };
    if content.contains(['\n', '\0']) {
        return Err(VersionError::PointerUnreadable { path });
    }
    let parts: Vec<_> = content.split(['/', '\\']).filter(|part| *part != ".").collect();
    let relative = parts.join("/");
    let is_inside = !relative.is_empty()
        && Path::new(&relative)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
    if !is_inside {
        return Err(outside());
    }
    let directory = paths.root().join(&relative);
    if !directory.is_dir() {
        return Err(VersionError::PointerDangling {
            path,
            content: content.to_owned(),
        });
    }
    let resolved = |path: &Path| {
        path.canonicalize().map_err(|source| DiskError::Io {
            path: path.to_owned(),
            action: "resolve",
            source,
        })
    };
    // A link inside the store may lead outside too.
    if !resolved(&directory)?.starts_with(resolved(paths.root())?) {
        return Err(outside());
    }
    Ok(Some(CurrentVersion {
        number: parts.last().and_then(|name| version_number(name)),
        directory,
        relative,
    }))
}

/// Lists a slot's versions by number; names that do not parse are none of ours.
pub(crate) fn versions(paths: &StorePaths, slot: &AdapterSlot) -> Result<Vec<VersionEntry>, VersionError> {
    let directory = paths.versions(slot);
    let current = match current(paths, slot) {
        Ok(current) => current.map(|version| version.directory),
        // A broken pointer is told by `current`; the list still shows what is there.
        Err(VersionError::Disk(error)) => return Err(error.into()),
        Err(_) => None,
    };
    let mut found = Vec::new();
    for entry in dlm_files::list(&directory)? {
        if !entry.is_directory {
            continue;
        }
        let (number, is_rejected) = match (version_number(&entry.name), rejected_number(&entry.name)) {
            (Some(number), _) => (number, false),
            (None, Some(number)) => (number, true),
            (None, None) => continue,
        };
        let is_current = current.as_deref() == Some(&directory.join(&entry.name));
        found.push(VersionEntry {
            name: entry.name,
            number,
            is_rejected,
            is_current,
        });
    }
    found.sort_by(|left, right| (left.number, &left.name).cmp(&(right.number, &right.name)));
    Ok(found)
}

/// The number that the next version of a slot gets.
pub(crate) fn next_number(paths: &StorePaths, slot: &AdapterSlot) -> Result<u32, VersionError> {
    let directory = paths.versions(slot);
    let largest = dlm_files::list(&directory)?
        .iter()
        .filter(|entry| entry.is_directory)
        .filter_map(|entry| version_number(&entry.name))
        .max()
        .unwrap_or(0);
    largest
        .checked_add(1)
        .ok_or(VersionError::NumbersExhausted { directory })
}

/// Points a slot at a version directory given relative to the store root.
pub(crate) fn point(disk: &Disk, paths: &StorePaths, slot: &AdapterSlot, relative: &str) -> Result<(), VersionError> {
    Ok(disk.write(&paths.pointer(slot), format!("{relative}\n").as_bytes())?)
}

/// A version that is being written; the pointer does not name it.
///
/// Dropping it leaves the directory for inspection and the pointer as it was.
#[derive(Debug)]
pub struct PendingVersion<'guard> {
    guard: &'guard StoreGuard,
    slot: AdapterSlot,
    number: u32,
    directory: PathBuf,
}

/// A version that the pointer names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedVersion {
    /// The slot.
    pub slot: AdapterSlot,
    /// Its number.
    pub number: u32,
    /// Its directory.
    pub directory: PathBuf,
    /// Its directory relative to the store root, with `/`.
    pub relative: String,
}

impl<'guard> PendingVersion<'guard> {
    pub(crate) fn begin(guard: &'guard StoreGuard, slot: AdapterSlot) -> Result<Self, VersionError> {
        let paths = guard.paths();
        guard.disk().create_directories(&paths.versions(&slot))?;
        let number = next_number(paths, &slot)?;
        let directory = paths.versions(&slot).join(version_name(number));
        guard.disk().create_directory(&directory)?;
        Ok(Self {
            guard,
            slot,
            number,
            directory,
        })
    }

    /// The slot it belongs to.
    pub fn slot(&self) -> &AdapterSlot {
        &self.slot
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Its directory, which exists.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its directory relative to the store root, with `/`.
    pub fn relative(&self) -> String {
        format!("{}/versions/{}", self.slot.relative(), version_name(self.number))
    }

    /// Writes one file into it, whole or not at all.
    ///
    /// **Errors** name the path; a full disk is its own kind.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), VersionError> {
        let path = self.directory.join(file_name(name)?);
        Ok(self.guard.disk().write(&path, bytes)?)
    }

    pub(crate) fn disk(&self) -> &Disk {
        self.guard.disk()
    }

    /// Writes one file into it from what `fill` writes; `size_bytes` is the expected size, told when the disk is full.
    ///
    /// **Errors** as [`PendingVersion::write`].
    pub fn write_with(
        &self,
        name: &str,
        size_bytes: u64,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), VersionError> {
        let path = self.directory.join(file_name(name)?);
        Ok(self.guard.disk().write_with(&path, size_bytes, fill)?)
    }

    /// Sets it aside because its weights are not finite; returns the new directory. The pointer stays.
    ///
    /// **Errors** when every rejected name is taken.
    pub fn reject(self) -> Result<PathBuf, VersionError> {
        let name = version_name(self.number);
        let numbered = (1..=REJECTED_MAX).map(|count| format!("{name}-rejected-{count}"));
        let candidates = std::iter::once(format!("{name}-rejected")).chain(numbered);
        for candidate in candidates {
            let target = self.directory.with_file_name(candidate);
            if target.symlink_metadata().is_err() {
                self.guard.disk().rename(&self.directory, &target)?;
                return Ok(target);
            }
        }
        Err(VersionError::RejectedNames {
            directory: self.directory,
            name,
        })
    }

    /// Flushes it and points the slot at it.
    ///
    /// **Errors** when the adapter's two files are not there, or the disk fails; the pointer then stays.
    pub fn commit(self) -> Result<CommittedVersion, VersionError> {
        for name in [ADAPTER_MODEL_FILE, ADAPTER_CONFIG_FILE] {
            if !self.directory.join(name).is_file() {
                return Err(VersionError::Incomplete {
                    directory: self.directory,
                    name,
                });
            }
        }
        let relative = self.relative();
        write_sums(self.guard.disk(), &self.directory)?;
        self.guard.disk().sync_tree(&self.directory)?;
        point(self.guard.disk(), self.guard.paths(), &self.slot, &relative)?;
        Ok(CommittedVersion {
            slot: self.slot,
            number: self.number,
            directory: self.directory,
            relative,
        })
    }
}

impl Store {
    /// The version that a slot's pointer names.
    ///
    /// **Errors** when the pointer leads outside the store or nowhere.
    pub fn current_version(&self, slot: &AdapterSlot) -> Result<Option<CurrentVersion>, VersionError> {
        current(self.paths(), slot)
    }

    /// Every version directory of a slot by number, rejected ones too.
    ///
    /// **Errors** name the path.
    pub fn versions(&self, slot: &AdapterSlot) -> Result<Vec<VersionEntry>, VersionError> {
        versions(self.paths(), slot)
    }

    /// The number that the next version of a slot gets.
    ///
    /// **Errors** name the path.
    pub fn next_version(&self, slot: &AdapterSlot) -> Result<u32, VersionError> {
        next_number(self.paths(), slot)
    }
}

impl StoreGuard {
    /// Makes the directory of a slot's next version.
    ///
    /// **Errors** name the path.
    pub fn begin_version(&self, slot: AdapterSlot) -> Result<PendingVersion<'_>, VersionError> {
        PendingVersion::begin(self, slot)
    }
}
