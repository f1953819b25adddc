//! The keys whose signatures count: which they are, which names each may sign, adding and revoking them.
//!
//! Invariants: a key that was limited to names is never without its limit, not even for a moment or after a kill: the limit is
//! written before the key, and goes after it; a limit is lifted by `*` alone, never by trusting the key again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dlm_core::inert::inert_line;
use minisign_verify::PublicKey;
use serde::{Deserialize, Serialize};

use crate::disk;
use crate::error::{LockFileError, PackageError, SignatureError};
use crate::lockfile::{Lock, LockEntry};

/// Largest key or signature file.
pub(crate) const TEXT_BYTES_MAX: u64 = 64 * 1024;
/// Most keys that are tried.
const KEYS_MAX: usize = 1000;
/// Which names a key may sign, beside the keys.
const SIGNERS: &str = "plugin-signers.toml";

/// A key of the trusted directory.
#[derive(Clone, Debug)]
pub struct TrustedKey {
    pub path: PathBuf,
    /// The base64 line.
    pub text: String,
    /// Globs of plugin names; empty allows every name.
    pub names: Vec<String>,
    /// UTC time at which `dlm plugin trust` added it.
    pub added: Option<String>,
    pub(crate) key: PublicKey,
}

impl TrustedKey {
    /// Says whether the key may sign a plugin of this name.
    pub fn may_sign(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|glob| matches(glob, name))
    }
}

/// What trusting a key changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// The base64 line.
    pub key: String,
    /// All the names that it may sign now; empty allows every name.
    pub names: Vec<String>,
    pub is_new: bool,
    /// When the user had revoked it, where they had.
    pub revoked: Option<String>,
}

/// A key that is trusted no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedKey {
    pub key: String,
    /// What is here and was signed by it: still pinned by its bytes, and it runs on.
    pub signed: Vec<LockEntry>,
}

/// The record beside the keys.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signers {
    /// By key text.
    #[serde(default)]
    key: BTreeMap<String, SignerRecord>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignerRecord {
    #[serde(default)]
    names: Vec<String>,
    added: Option<String>,
    /// UTC time at which the user revoked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked: Option<String>,
}

/// The directory of trusted keys, shared with packs.
pub fn keys_directory(home: &Path) -> PathBuf {
    home.join("trusted-keys")
}

/// Reads the trusted keys, in name order; files that are no keys are skipped.
///
/// **Errors**: the record of names is damaged.
pub fn trusted_keys(home: &Path) -> Result<Vec<TrustedKey>, LockFileError> {
    let directory = keys_directory(home);
    let signers = read_signers(&directory)?;
    let entries = fs::read_dir(&directory).into_iter().flatten().take(KEYS_MAX);
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "pub"))
        .collect();
    paths.sort();
    let mut keys = Vec::new();
    for path in paths {
        let Ok(Some(bytes)) = disk::read(&path, TEXT_BYTES_MAX) else {
            continue;
        };
        let Some((text, key)) = parse_key(&String::from_utf8_lossy(&bytes)) else {
            continue;
        };
        let record = signers.key.get(&text).cloned().unwrap_or_default();
        keys.push(TrustedKey {
            path,
            text,
            names: record.names,
            added: record.added,
            key,
        });
    }
    Ok(keys)
}

/// Says whether a text is a minisign public key.
pub fn is_key(text: &str) -> bool {
    parse_key(text).is_some()
}

/// The base64 line of a public key file, or of the line alone.
pub(crate) fn parse_key(text: &str) -> Option<(String, PublicKey)> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.find(|line| !line.starts_with("untrusted comment:"))?;
    let key = PublicKey::from_base64(line).ok()?;
    Some((line.to_owned(), key))
}

fn read_signers(directory: &Path) -> Result<Signers, LockFileError> {
    let path = directory.join(SIGNERS);
    let Some(bytes) = disk::read(&path, TEXT_BYTES_MAX)? else {
        return Ok(Signers::default());
    };
    let text = String::from_utf8_lossy(&bytes);
    toml::from_str(&text).map_err(|error| LockFileError::Damaged {
        path,
        cause: inert_line(&error.to_string()),
    })
}

/// Adds a key to the trusted directory, or names to those that a known key may sign. `*` lifts the limit.
///
/// **Errors**: no key, a wrong glob, or a file that cannot be written.
pub fn trust_key(home: &Path, text: &str, names: &[String], now: &str) -> Result<KeyChange, PackageError> {
    let (key, _) = parse_key(text).ok_or_else(|| wrong("is no minisign public key", None))?;
    for glob in names {
        check_glob(glob)?;
    }
    // The lock of the plugins also keeps two of these from writing over each other.
    Lock::change(home, |_| {
        let directory = keys_directory(home);
        let mut signers = read_signers(&directory)?;
        let is_new = !trusted_keys(home)?.iter().any(|trusted| trusted.text == key);
        let record = signers.key.entry(key.clone()).or_insert_with(|| SignerRecord {
            names: Vec::new(),
            added: is_new.then(|| now.to_owned()),
            revoked: None,
        });
        let revoked = record.revoked.take();
        if revoked.is_some() {
            record.added = Some(now.to_owned());
        }
        for glob in names
            .iter()
            .filter(|glob| !record.names.contains(glob))
            .cloned()
            .collect::<Vec<_>>()
        {
            record.names.push(glob);
        }
        if record.names.iter().any(|glob| glob == "*") {
            record.names.clear();
        }
        let names = record.names.clone();
        write_signers(&directory, &signers)?;
        if is_new {
            write_key(&directory, text, &key)?;
        }
        Ok(KeyChange {
            key,
            names,
            is_new,
            revoked,
        })
    })
}

/// Trusts a key no longer. What it signed stays as it is pinned; a newer version signed by it is a stranger's.
///
/// **Errors**: it was not trusted, or a file cannot be removed.
pub fn revoke_key(home: &Path, text: &str, now: &str) -> Result<RevokedKey, PackageError> {
    let (key, _) = parse_key(text).ok_or_else(|| wrong("is no minisign public key", None))?;
    Lock::change(home, |lock| {
        let directory = keys_directory(home);
        let files: Vec<PathBuf> = trusted_keys(home)?
            .into_iter()
            .filter(|trusted| trusted.text == key)
            .map(|trusted| trusted.path)
            .collect();
        if files.is_empty() {
            let hint = "see the trusted ones: dlm plugin keys".to_owned();
            return Err(wrong("is not trusted", Some(hint)).into());
        }
        for file in files {
            disk::remove(&file)?;
        }
        let mut signers = read_signers(&directory)?;
        // Remembered, so that whoever trusts it again is told.
        let revoked = SignerRecord {
            revoked: Some(now.to_owned()),
            ..SignerRecord::default()
        };
        signers.key.insert(key.clone(), revoked);
        write_signers(&directory, &signers)?;
        let signed = lock
            .plugins
            .iter()
            .filter(|entry| entry.signer.as_deref() == Some(&key));
        Ok(RevokedKey {
            signed: signed.cloned().collect(),
            key,
        })
    })
}

fn wrong(cause: &str, hint: Option<String>) -> SignatureError {
    SignatureError {
        subject: "the key".to_owned(),
        cause: cause.to_owned(),
        hint,
    }
}

fn check_glob(glob: &str) -> Result<(), SignatureError> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-*".contains(&byte);
    if !glob.is_empty() && glob.bytes().all(fits) {
        return Ok(());
    }
    let cause = format!(
        "cannot be limited to `{}`: a plugin name with `*` was expected",
        inert_line(glob)
    );
    Err(wrong(&cause, None))
}

fn write_signers(directory: &Path, signers: &Signers) -> Result<(), PackageError> {
    let body = toml::to_string(signers).expect("a record is plain data with text keys");
    let head = "# Written by `dlm plugin trust`: which plugins each key may sign.\n";
    Ok(disk::write(
        &directory.join(SIGNERS),
        format!("{head}{body}").as_bytes(),
    )?)
}

/// Keeps the file as it came, with its comment.
fn write_key(directory: &Path, text: &str, key: &str) -> Result<(), PackageError> {
    let text = text.trim();
    let whole = match text.lines().count() {
        0 | 1 => format!("untrusted comment: minisign public key\n{key}"),
        _ => text.to_owned(),
    };
    let digest = dlm_core::digest::sha256_hex(whole.as_bytes());
    let name = format!("{}.pub", digest.get(..12).unwrap_or(&digest));
    Ok(disk::write(&directory.join(name), format!("{whole}\n").as_bytes())?)
}

/// Compares a name with a glob in which `*` stands for any text.
fn matches(glob: &str, name: &str) -> bool {
    let Some((start, rest)) = glob.split_once('*') else {
        return glob == name;
    };
    let Some(after) = name.strip_prefix(start) else {
        return false;
    };
    let mut ends = (0..=after.len()).filter(|at| after.is_char_boundary(*at));
    ends.any(|at| matches(rest, after.get(at..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Signer;

    const NOW: &str = "2026-11-21T19:00:00Z";

    fn names(home: &Path) -> Vec<String> {
        let keys = trusted_keys(home).unwrap();
        assert_eq!(keys.len(), 1);
        keys[0].names.clone()
    }

    #[test]
    fn names_are_added_to_a_key_and_lifted_by_a_star_alone() {
        let home = tempfile::tempdir().unwrap();
        let public = Signer::new(7).public();
        let trust = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            trust_key(home.path(), &public, &names, NOW).unwrap()
        };
        assert!(trust(&["acme-*"]).is_new);
        assert!(!trust(&[]).is_new);
        assert_eq!(names(home.path()), ["acme-*"], "trusting it again lifts nothing");
        assert_eq!(trust(&["rubric", "acme-*"]).names, ["acme-*", "rubric"]);
        assert_eq!(names(home.path()), ["acme-*", "rubric"]);
        assert!(trust(&["*"]).names.is_empty());
        assert!(names(home.path()).is_empty());
        assert_eq!(trust(&["rubric"]).names, ["rubric"]);
        assert!(trust_key(home.path(), "nonsense", &[], NOW).is_err());
        assert!(trust_key(home.path(), &public, &["../x".to_owned()], NOW).is_err());
    }

    #[test]
    fn a_revoked_key_is_gone_with_its_names_and_comes_back_without_them() {
        let home = tempfile::tempdir().unwrap();
        let public = Signer::new(7).public();
        trust_key(home.path(), &public, &["acme-*".to_owned()], NOW).unwrap();
        let line = public.lines().nth(1).unwrap();
        assert!(revoke_key(home.path(), line, NOW).unwrap().signed.is_empty());
        assert!(trusted_keys(home.path()).unwrap().is_empty());
        let again = revoke_key(home.path(), line, NOW).unwrap_err();
        assert!(again.to_string().contains("is not trusted"), "{again}");
        let changed = trust_key(home.path(), line, &[], NOW).unwrap();
        assert!(changed.is_new && changed.names.is_empty());
        assert_eq!(changed.revoked.as_deref(), Some(NOW), "it is told that it was revoked");
        assert_eq!(trust_key(home.path(), line, &[], NOW).unwrap().revoked, None);
    }

    #[test]
    fn globs() {
        for (glob, name, fits) in [
            ("acme-*", "acme-x", true),
            ("acme-*", "acme", false),
            ("*", "x", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXc", false),
            ("abc", "abc", true),
            ("abc", "abcd", false),
        ] {
            assert_eq!(matches(glob, name), fits, "{glob} {name}");
        }
    }
}
