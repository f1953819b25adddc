//! `plugins.lock`: which plugins are here, pinned by their hash, and what each was granted, when and how.
//!
//! Invariants: read as a whole or not at all; written whole and atomically; changes are made under an exclusive lock; at
//! most one installed entry a name.

use std::fs::File;
use std::path::{Path, PathBuf};

use dlm_core::stamp::Stamp;
use dlm_files::Disk;
use serde::{Deserialize, Serialize};

use crate::disk;
use crate::error::{FilesError, InstallError, LockFileError};
use crate::kind::Kind;
use crate::manifest::is_name;
use dlm_core::inert::inert;

/// Largest lock file: thousands of plugins.
const LOCK_BYTES_MAX: u64 = 4 << 20;
const VERSION: u32 = 1;

/// The directory of installed plugins and of the lock, inside dlm's home.
pub fn plugins_directory(home: &Path) -> PathBuf {
    home.join("plugins")
}

/// The file's contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    version: u32,
    #[serde(default, rename = "plugin", skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<LockEntry>,
}

/// One plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockEntry {
    pub name: String,
    pub version: String,
    pub kinds: Vec<Kind>,
    /// Version of the contract that it was built for.
    pub api: String,
    /// Lower-case hex.
    pub sha256: String,
    pub size: u64,
    /// Where it came from: an address or a file.
    pub source: String,
    /// The file that is trusted where it lies, such as one in a project's directory; nothing for an installed plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The minisign key that signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// UTC, such as `2026-11-21T19:00:00Z`.
    pub installed: String,
    #[serde(default, rename = "grant", skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<LockGrant>,
}

/// One grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockGrant {
    /// In grant syntax, exactly as the manifest asks for it.
    pub capability: String,
    pub granted: String,
    pub by: GrantedBy,
}

/// How a grant was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GrantedBy {
    /// Answered with yes on the terminal.
    Prompt,
    /// `--grant` or `--grant-requested`.
    Flag,
    /// Written by hand.
    File,
}

impl LockEntry {
    /// The grants in text form.
    pub fn granted(&self) -> Vec<String> {
        self.grants.iter().map(|grant| grant.capability.clone()).collect()
    }

    /// Says whether a file comes from where this one does: the same bytes, or signed by the same trusted key. A name proves
    /// nothing, since everybody may choose it.
    pub(crate) fn is_of_author(&self, sha256: &str, signer: Option<&str>) -> bool {
        self.sha256 == sha256 || (signer.is_some() && self.signer.as_deref() == signer)
    }

    /// Says whether this is the same plugin in a newer version: going back brings back what was mended since.
    pub(crate) fn is_newer_than(&self, name: &str, version: &str) -> bool {
        let read = |text: &str| semver::Version::parse(text).ok();
        self.name == name && read(&self.version) > read(version)
    }

    /// The refusal of an older version in its place.
    pub(crate) fn refuses_older(&self, offered: &str) -> InstallError {
        InstallError::Older {
            plugin: self.name.clone(),
            found: self.version.clone(),
            offered: offered.to_owned(),
        }
    }

    fn check(&self) -> Result<(), String> {
        let name = inert(&self.name);
        if !is_name(&self.name) {
            return Err(format!("`{name}` is not a plugin name"));
        }
        if let Err(error) = semver::Version::parse(&self.version) {
            return Err(format!("the version of `{name}`: {error}"));
        }
        if let Err(error) = semver::Version::parse(&self.api) {
            return Err(format!("the API version of `{name}`: {error}"));
        }
        if !dlm_core::digest::is_hex(&self.sha256, 64) {
            return Err(format!("the sha256 of `{name}` is not 64 lower-case hex digits"));
        }
        let times = self.grants.iter().map(|grant| &grant.granted);
        for time in times.chain([&self.installed]) {
            Stamp::parse_zoned(time).map_err(|error| format!("a time of `{name}`: {error}"))?;
        }
        Ok(())
    }
}

impl Default for Lock {
    fn default() -> Lock {
        Lock {
            version: VERSION,
            plugins: Vec::new(),
        }
    }
}

impl Lock {
    /// The file's place inside dlm's home.
    pub fn path(home: &Path) -> PathBuf {
        plugins_directory(home).join("plugins.lock")
    }

    /// Reads the lock; a missing file is an empty one.
    ///
    /// **Errors**: anything else than a whole, valid file of version 1.
    pub fn read(home: &Path) -> Result<Lock, LockFileError> {
        let path = Lock::path(home);
        let Some(bytes) = disk::read(&path, LOCK_BYTES_MAX)? else {
            return Ok(Lock::default());
        };
        Lock::parse(&bytes).map_err(|cause| LockFileError::Damaged { path, cause })
    }

    /// Reads the text form.
    ///
    /// **Errors**: the first thing that is wrong, in words.
    pub fn parse(bytes: &[u8]) -> Result<Lock, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
        let lock: Lock = toml::from_str(text).map_err(|error| inert(error.to_string().trim_end()))?;
        if lock.version != VERSION {
            return Err(format!(
                "it is of version {}, this dlm reads version {VERSION}",
                lock.version
            ));
        }
        for (index, entry) in lock.plugins.iter().enumerate() {
            entry.check()?;
            let mut earlier = lock.plugins.iter().take(index);
            if earlier.any(|other| other.name == entry.name && other.path == entry.path) {
                return Err(format!("`{}` is there twice", entry.name));
            }
        }
        Ok(lock)
    }

    /// The text form.
    pub fn to_text(&self) -> String {
        let body = toml::to_string(self).expect("a lock is plain data with text keys");
        format!("# Written by `dlm plugin`; pins what may run and says what each plugin may do.\n{body}")
    }

    /// The installed plugin of this name.
    pub fn installed(&self, name: &str) -> Option<&LockEntry> {
        self.plugins
            .iter()
            .find(|entry| entry.name == name && entry.path.is_none())
    }

    /// The entry that pins a file at `path`: the one trusted there.
    pub fn at(&self, path: &Path) -> Option<&LockEntry> {
        self.plugins.iter().find(|entry| entry.path.as_deref() == Some(path))
    }

    /// Puts an entry in the place of the one with the same name and path.
    pub fn put(&mut self, entry: LockEntry) {
        self.plugins
            .retain(|other| other.name != entry.name || other.path != entry.path);
        self.plugins.push(entry);
        self.plugins.sort_by(|a, b| (&a.name, &a.path).cmp(&(&b.name, &b.path)));
    }

    /// Changes the lock of `home` while no other process does, and writes it if `change` goes well.
    ///
    /// **Errors**: those of reading and writing, and those of `change`.
    pub fn change<T, E: From<LockFileError>>(
        home: &Path,
        change: impl FnOnce(&mut Lock) -> Result<T, E>,
    ) -> Result<T, E> {
        let guard = Lock::guard(home)?;
        let before = Lock::read(home)?;
        let mut lock = before.clone();
        let value = change(&mut lock)?;
        if lock != before {
            disk::write(&Lock::path(home), lock.to_text().as_bytes()).map_err(LockFileError::from)?;
        }
        drop(guard);
        Ok(value)
    }

    /// Waits until no other process changes the lock; closing the file lets the next one in.
    fn guard(home: &Path) -> Result<File, LockFileError> {
        let directory = plugins_directory(home);
        disk::make_directory(&directory)?;
        let guard = directory.join(".busy");
        let held = Disk::new().hold(&guard);
        Ok(held.map_err(|error| FilesError::of("lock", &guard)(error.into_io()))?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::error::Diagnose;

    fn entry(name: &str) -> LockEntry {
        LockEntry {
            name: name.to_owned(),
            version: "1.2.0".to_owned(),
            kinds: vec![Kind::Judge],
            api: "1.0.0".to_owned(),
            sha256: "6f".repeat(32),
            size: 24_403,
            source: "https://example.com/rubric-1.2.0.wasm".to_owned(),
            path: None,
            signer: None,
            installed: "2026-11-21T19:00:00Z".to_owned(),
            grants: vec![LockGrant {
                capability: "model:current".to_owned(),
                granted: "2026-11-21T19:00:05Z".to_owned(),
                by: GrantedBy::Prompt,
            }],
        }
    }

    #[test]
    fn what_is_written_is_read_and_a_change_that_fails_changes_nothing() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(Lock::read(home.path()).unwrap(), Lock::default());
        Lock::change(home.path(), |lock| {
            lock.put(entry("rubric"));
            lock.put(LockEntry {
                path: Some(PathBuf::from("/p/rubric.wasm")),
                ..entry("rubric")
            });
            Ok::<(), LockFileError>(())
        })
        .unwrap();
        let read = Lock::read(home.path()).unwrap();
        assert_eq!(read.installed("rubric"), Some(&entry("rubric")));
        assert!(read.at(Path::new("/p/rubric.wasm")).is_some());
        assert_eq!(read.plugins.len(), 2);
        let failed = Lock::change(home.path(), |lock| {
            lock.plugins.clear();
            Err::<(), _>(LockFileError::Damaged {
                path: PathBuf::new(),
                cause: String::new(),
            })
        });
        assert!(failed.is_err());
        assert_eq!(Lock::read(home.path()).unwrap(), read);
        let text = fs::read_to_string(Lock::path(home.path())).unwrap();
        assert!(
            text.contains("[[plugin.grant]]\ncapability = \"model:current\""),
            "{text}"
        );
        let names: Vec<String> = fs::read_dir(plugins_directory(home.path()))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(!names.iter().any(|name| name.contains("tmp")), "{names:?}");
    }

    #[test]
    fn a_damaged_lock_is_an_error_with_a_remedy() {
        let mut lock = Lock::default();
        lock.put(entry("rubric"));
        let good = lock.to_text();
        for (from, to, part) in [
            ("version = 1\n", "version = 2\n", "of version 2"),
            ("size = 24403", "size = \"big\"", "invalid type"),
            ("name = \"rubric\"", "name = \"../x\"", "not a plugin name"),
            ("6f6f", "6F6f", "hex digits"),
            ("2026-11-21T19:00:05Z", "yesterday", "a time of `rubric`"),
            ("by = \"prompt\"", "by = \"magic\"", "unknown variant"),
            ("size = 24403", "size = 24403\ncolor = 1", "unknown field"),
            ("version = \"1.2.0\"", "", "missing field"),
            ("api = \"1.0.0\"", "api = \"1\"", "API version"),
        ] {
            assert!(good.contains(from), "{from}");
            let cause = Lock::parse(good.replacen(from, to, 1).as_bytes()).unwrap_err();
            assert!(cause.contains(part), "{cause}");
        }
        let twice = format!("{good}{}", good.split_once("\n\n").unwrap().1);
        assert!(Lock::parse(twice.as_bytes()).unwrap_err().contains("twice"));
        assert!(Lock::parse(b"\xff").unwrap_err().contains("UTF-8"));

        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(plugins_directory(home.path())).unwrap();
        fs::write(Lock::path(home.path()), &good[..good.len() / 2]).unwrap();
        let error = Lock::read(home.path()).unwrap_err();
        assert_eq!(error.code(), "plugin::lock");
        assert!(error.diagnosis().hints[0].contains("mv '"), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..400, byte: u8) {
            let _ = Lock::parse(&bytes);
            let mut lock = Lock::default();
            lock.put(entry("rubric"));
            let mut text = lock.to_text().into_bytes();
            let at = at % text.len();
            text[at] = byte;
            if let Ok(read) = Lock::parse(&text) {
                prop_assert_eq!(Lock::parse(read.to_text().as_bytes()).unwrap(), read);
            }
        }
    }
}
