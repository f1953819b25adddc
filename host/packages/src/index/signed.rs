//! The signature of an index.
//!
//! Invariant: what a key may sign by name, it may list by name; a signature of anything else than this very index, a plugin's
//! included, does not count.

use minisign_verify::Signature;

use super::Index;
use crate::error::SignatureError;
use crate::keys::TrustedKey;

/// What the trusted comment of an index's signature says.
pub(crate) fn comment(serial: u64) -> String {
    format!("dlm-index {serial}")
}

/// Checks that a trusted key signed these bytes as this index, and may sign every name in it; returns the key.
///
/// **Errors**: no signature, one that does not fit, a key that is not trusted or not for these names.
pub(super) fn check(
    keys: &[TrustedKey],
    signature: Option<&[u8]>,
    bytes: &[u8],
    index: &Index,
    place: &str,
) -> Result<String, SignatureError> {
    let wrong = |cause: &str, hint: &str| SignatureError {
        subject: format!("the index of `{}`", dlm_core::inert::inert_line(place)),
        cause: cause.to_owned(),
        hint: Some(hint.to_owned()),
    };
    let trust = "if you know its publisher, trust their key: dlm plugin trust KEY";
    let again = "fetch it again later; tell its publisher if it stays so";
    let signature = signature.ok_or_else(|| wrong("is not signed: there is no index.json.minisig beside it", trust))?;
    let text = std::str::from_utf8(signature).unwrap_or_default();
    let has_comment = text
        .lines()
        .nth(2)
        .is_some_and(|line| line.starts_with("trusted comment: "));
    let read = has_comment.then(|| Signature::decode(text).ok()).flatten();
    let signature = read.ok_or_else(|| wrong("has a signature that cannot be read", again))?;
    let mut is_ours = false;
    for trusted in keys {
        match trusted.key.verify(bytes, &signature, true) {
            Ok(()) => {}
            Err(minisign_verify::Error::UnexpectedKeyId) => continue,
            Err(_) => {
                is_ours = true;
                continue;
            }
        }
        if signature.trusted_comment().trim() != comment(index.serial) {
            return Err(wrong("has a signature that was made for something else", again));
        }
        if let Some(other) = index.plugins.iter().find(|plugin| !trusted.may_sign(&plugin.name)) {
            return Err(wrong(
                &format!(
                    "lists `{}`, and its key may sign {} only",
                    other.name,
                    trusted.names.join(", ")
                ),
                "see what each key may sign: dlm plugin keys",
            ));
        }
        return Ok(trusted.text.clone());
    }
    Err(match is_ours {
        true => wrong("was changed after it was signed", again),
        false => wrong("is signed by a key that you do not trust", trust),
    })
}
