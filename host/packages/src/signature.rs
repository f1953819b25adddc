//! Signatures of plugin files: minisign, detached, beside the file as `<file>.minisig`.
//!
//! Invariants: a signature counts only if a key of the trusted directory made it, the key may sign this name, and the signed
//! comment names this very plugin and version; everything else is `no signature` with a reason, or an error where the
//! signature claims a trusted key and is wrong.

use std::path::{Path, PathBuf};

use minisign_verify::Signature;
use serde::Deserialize;

use crate::ask::Power;
use crate::error::SignatureError;
use crate::keys::TrustedKey;
use dlm_core::inert::inert_line;

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

    /// As [`SignatureStatus::lack`]; nothing where a trusted key signed.
    pub(crate) fn lack_of_signer(&self) -> Option<&'static str> {
        self.signer().is_none().then(|| self.lack())
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

/// The signature file of a plugin file.
pub fn signature_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".minisig");
    PathBuf::from(name)
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
        if !trusted.may_sign(name) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Diagnose;
    use crate::keys::{trust_key, trusted_keys};
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
        let key = trust_key(home.path(), &signer.public(), &[], NOW).unwrap().key;
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
