//! Signatures of plugin files: minisign, detached, beside the file as `<file>.minisig`.
//!
//! Invariants: a signature counts only if a key of the trusted directory made it, the key may sign this name, and the signed
//! comment names this very plugin and version; everything else is `no signature` with a reason, or an error where the
//! signature claims a trusted key and is wrong.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use minisign_verify::{PublicKey, Signature};
use serde::{Deserialize, Serialize};

use crate::ask::Power;
use crate::disk;
use crate::error::{LockFileError, PackageError, SignatureError};
use dlm_core::inert::inert_line;

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
    key: PublicKey,
}

/// What a signature file says about a plugin file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureStatus {
    /// There is none.
    No,
    /// By a key that is not in the trusted directory: counts as unsigned.
    Stranger,
    /// By a trusted key.
    By { key: String, added: Option<String> },
}

impl SignatureStatus {
    /// The key, where a trusted one signed.
    pub fn signer(&self) -> Option<&str> {
        match self {
            SignatureStatus::By { key, .. } => Some(key),
            SignatureStatus::No | SignatureStatus::Stranger => None,
        }
    }

    /// What is wrong with a file that no trusted key signed.
    pub(crate) fn lack(&self) -> &'static str {
        match self {
            SignatureStatus::Stranger => "is signed by a key that you do not trust",
            _ => "is not signed",
        }
    }
}

/// True where the pinned file is signed by the key `pinned` and the new one is not signed by it.
pub(crate) fn is_other_signer(pinned: Option<&str>, signed: &SignatureStatus) -> bool {
    pinned.is_some() && pinned != signed.signer()
}

/// `[plugins] require-signature`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequireSignature {
    Always,
    #[default]
    ByPower,
    Never,
}

/// What an unsigned file needs before it is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsignedRule {
    Installs,
    /// One more question.
    Asks,
    /// `--allow-unsigned`.
    NeedsFlag,
    /// A signature, whatever the flags.
    Refused,
}

impl RequireSignature {
    /// The table of `plugins.md` section 10.
    pub fn unsigned(self, power: Power, is_from_network: bool) -> UnsignedRule {
        match (self, power, is_from_network) {
            (RequireSignature::Always, _, _) => UnsignedRule::Refused,
            (RequireSignature::Never, _, _) => UnsignedRule::Installs,
            (RequireSignature::ByPower, Power::Compute, _) | (RequireSignature::ByPower, Power::Reach, false) => {
                UnsignedRule::Installs
            }
            (RequireSignature::ByPower, Power::Reach, true) | (RequireSignature::ByPower, Power::Act, false) => {
                UnsignedRule::Asks
            }
            (RequireSignature::ByPower, Power::Act, true) => UnsignedRule::NeedsFlag,
        }
    }
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
}

/// The directory of trusted keys, shared with packs.
pub fn keys_directory(home: &Path) -> PathBuf {
    home.join("trusted-keys")
}

/// The signature file of a plugin file.
pub fn signature_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".minisig");
    PathBuf::from(name)
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

/// Adds a key to the trusted directory, or changes the names that it may sign; returns the key's text.
///
/// **Errors**: no key, a wrong glob, or a file that cannot be written.
pub fn trust_key(home: &Path, text: &str, names: &[String], now: &str) -> Result<String, PackageError> {
    let wrong = |cause: String| SignatureError {
        subject: "the key".to_owned(),
        cause,
        hint: None,
    };
    let (key, _) = parse_key(text).ok_or_else(|| wrong("is no minisign public key".to_owned()))?;
    for glob in names {
        let is_glob = !glob.is_empty()
            && glob
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-*".contains(&byte));
        if !is_glob {
            return Err(wrong(format!(
                "cannot be limited to `{}`: a plugin name with `*` was expected",
                inert_line(glob)
            ))
            .into());
        }
    }
    let directory = keys_directory(home);
    let mut signers = read_signers(&directory)?;
    let is_known = trusted_keys(home)?.iter().any(|trusted| trusted.text == key);
    if !is_known {
        let whole = text.trim();
        let whole = if whole.lines().count() > 1 {
            whole.to_owned()
        } else {
            format!("untrusted comment: minisign public key\n{key}")
        };
        let fingerprint: String = dlm_core::digest::sha256_hex(whole.as_bytes())
            .chars()
            .take(12)
            .collect();
        disk::write(
            &directory.join(format!("{fingerprint}.pub")),
            format!("{whole}\n").as_bytes(),
        )?;
    }
    let record = signers.key.entry(key.clone()).or_insert_with(|| SignerRecord {
        names: Vec::new(),
        added: (!is_known).then(|| now.to_owned()),
    });
    record.names = names.to_vec();
    let body = toml::to_string(&signers).expect("a record is plain data with text keys");
    let head = "# Written by `dlm plugin trust`: which plugins each key may sign.\n";
    disk::write(&directory.join(SIGNERS), format!("{head}{body}").as_bytes())?;
    Ok(key)
}

/// Checks a signature of `file` as the plugin `name` in `version`.
///
/// **Errors**: the signature cannot be read, belongs to another file, plugin or version, or its key may not sign this name.
pub fn check(
    keys: &[TrustedKey],
    signature: Option<&[u8]>,
    file: &[u8],
    name: &str,
    version: &str,
) -> Result<SignatureStatus, SignatureError> {
    let wrong = |cause: String, hint: Option<String>| SignatureError {
        subject: format!("the signature of `{name}` {version}"),
        cause,
        hint,
    };
    let Some(signature) = signature else {
        return Ok(SignatureStatus::No);
    };
    let unreadable = || wrong("is no minisign signature".to_owned(), None);
    let text = std::str::from_utf8(signature).map_err(|_| unreadable())?;
    // The crate cuts off this start by its length, whatever stands there.
    let has_comment = text
        .lines()
        .nth(2)
        .is_some_and(|line| line.starts_with("trusted comment: "));
    if !has_comment {
        return Err(unreadable());
    }
    let signature = Signature::decode(text).map_err(|_| unreadable())?;
    let mut is_ours = false;
    for trusted in keys {
        match trusted.key.verify(file, &signature, true) {
            Ok(()) => {}
            Err(minisign_verify::Error::UnexpectedKeyId) => continue,
            Err(_) => {
                is_ours = true;
                continue;
            }
        }
        let expected = format!("dlm-plugin {name} {version}");
        let comment = signature.trusted_comment();
        let is_named = comment.split('\t').any(|part| part.trim() == expected) || comment.trim() == expected;
        if !is_named {
            let cause = format!(
                "is for `{}`, `{expected}` was expected",
                inert_line(&dlm_core::inert::cut(comment, 120))
            );
            return Err(wrong(cause, None));
        }
        let may_sign = trusted.names.is_empty() || trusted.names.iter().any(|glob| matches(glob, name));
        if !may_sign {
            let cause = format!("is by a key that may sign {} only", trusted.names.join(", "));
            let hint = format!(
                "let it sign this too: dlm plugin trust {} --for-names {}",
                trusted.text,
                dlm_core::shell_quoted(name)
            );
            return Err(wrong(cause, Some(hint)));
        }
        return Ok(SignatureStatus::By {
            key: trusted.text.clone(),
            added: trusted.added.clone(),
        });
    }
    match is_ours {
        true => {
            let hint =
                "fetch the file and its .minisig again; a file that was changed after it was signed is not installed";
            Err(wrong("does not fit the file".to_owned(), Some(hint.to_owned())))
        }
        false => Ok(SignatureStatus::Stranger),
    }
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
    use crate::error::Diagnose;
    use crate::testing::Signer;

    const NOW: &str = "2026-11-21T19:00:00Z";

    #[track_caller]
    fn refused(result: Result<SignatureStatus, SignatureError>, part: &str) {
        let error = result.unwrap_err();
        assert_eq!(error.code(), "plugin::signature");
        assert!(error.to_string().contains(part), "{error}");
    }

    #[test]
    fn a_signature_covers_the_file_the_name_and_the_version() {
        let home = tempfile::tempdir().unwrap();
        let signer = Signer::new(7);
        let key = trust_key(home.path(), &signer.public(), &[], NOW).unwrap();
        let keys = trusted_keys(home.path()).unwrap();
        let good = signer.sign(b"file", "dlm-plugin rubric 1.2.0");
        let by = check(&keys, Some(&good), b"file", "rubric", "1.2.0").unwrap();
        assert_eq!(
            by,
            SignatureStatus::By {
                key,
                added: Some(NOW.to_owned())
            }
        );
        assert_eq!(
            check(&keys, None, b"file", "rubric", "1.2.0").unwrap(),
            SignatureStatus::No
        );
        assert_eq!(
            check(&[], Some(&good), b"file", "rubric", "1.2.0").unwrap(),
            SignatureStatus::Stranger
        );
        refused(check(&keys, Some(&good), b"other", "rubric", "1.2.0"), "does not fit");
        refused(
            check(&keys, Some(&good), b"file", "rubric", "1.3.0"),
            "is for `dlm-plugin rubric 1.2.0`",
        );
        refused(check(&keys, Some(&good), b"file", "grader", "1.2.0"), "is for");
        let prefix = signer.sign(b"file", "dlm-plugin rubric 1.2.0-evil");
        refused(check(&keys, Some(&prefix), b"file", "rubric", "1.2.0"), "is for");
        let edited = String::from_utf8(good).unwrap().replace("1.2.0", "1.3.0");
        refused(
            check(&keys, Some(edited.as_bytes()), b"file", "rubric", "1.3.0"),
            "does not fit",
        );
        for text in ["", "x", "untrusted comment: a\nb\nc\nd", "\u{1b}\n\n\n\n"] {
            refused(
                check(&keys, Some(text.as_bytes()), b"file", "rubric", "1.2.0"),
                "no minisign signature",
            );
        }
    }

    #[test]
    fn a_key_can_be_limited_to_names() {
        let home = tempfile::tempdir().unwrap();
        let signer = Signer::new(7);
        let names = ["acme-*".to_owned()];
        trust_key(home.path(), &signer.public(), &names, NOW).unwrap();
        let keys = trusted_keys(home.path()).unwrap();
        let signed = |name: &str| signer.sign(b"f", &format!("dlm-plugin {name} 1.0.0"));
        assert!(
            check(&keys, Some(&signed("acme-x")), b"f", "acme-x", "1.0.0")
                .unwrap()
                .signer()
                .is_some()
        );
        refused(
            check(&keys, Some(&signed("rubric")), b"f", "rubric", "1.0.0"),
            "may sign acme-* only",
        );
        trust_key(home.path(), &signer.public(), &[], NOW).unwrap();
        let keys = trusted_keys(home.path()).unwrap();
        assert_eq!(keys.len(), 1);
        assert!(check(&keys, Some(&signed("rubric")), b"f", "rubric", "1.0.0").is_ok());
        assert!(trust_key(home.path(), "nonsense", &[], NOW).is_err());
        assert!(trust_key(home.path(), &signer.public(), &["../x".to_owned()], NOW).is_err());
    }

    /// Made by the `minisign` crate 0.10, which hashes before it signs, as the tool does.
    #[test]
    fn what_the_tool_signs_is_accepted() {
        let home = tempfile::tempdir().unwrap();
        let key = "RWSGqw7ftyWdoBJlGgx5mZ6klOXfHwukLdrYwA56SDFtpTin6ais8uxK";
        trust_key(home.path(), key, &[], NOW).unwrap();
        let keys = trusted_keys(home.path()).unwrap();
        let signature = "untrusted comment: a comment\n\
            RUSGqw7ftyWdoMU4C+cTC102eBvXzbcq4PHnAW2NLPdAtmyhrzGugcLQ9/DJ4ujQdB2ae3CbaMD0FIDNWYI25E94QnZwhIj2wgg=\n\
            trusted comment: dlm-plugin rubric 1.2.0\n\
            7wVhBNNIb6ErxTYsfr81PTnWU2stYGpNxGe4SSb6ODG6jfD6IIISy5y9WrUdijjP9Yntgr/oNiDZiudWGPAmBg==\n";
        let signed = check(&keys, Some(signature.as_bytes()), b"file", "rubric", "1.2.0").unwrap();
        assert_eq!(signed.signer(), Some(key));
        refused(
            check(&keys, Some(signature.as_bytes()), b"file!", "rubric", "1.2.0"),
            "does not fit",
        );
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

    #[test]
    fn the_table_of_power() {
        use RequireSignature::{Always, ByPower, Never};
        for (rule, power, network, expected) in [
            (ByPower, Power::Compute, false, UnsignedRule::Installs),
            (ByPower, Power::Compute, true, UnsignedRule::Installs),
            (ByPower, Power::Reach, false, UnsignedRule::Installs),
            (ByPower, Power::Reach, true, UnsignedRule::Asks),
            (ByPower, Power::Act, false, UnsignedRule::Asks),
            (ByPower, Power::Act, true, UnsignedRule::NeedsFlag),
            (Always, Power::Compute, false, UnsignedRule::Refused),
            (Never, Power::Act, true, UnsignedRule::Installs),
        ] {
            assert_eq!(rule.unsigned(power, network), expected);
        }
    }
}
