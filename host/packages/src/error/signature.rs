//! A signature that is wrong or missing, or a key that cannot be trusted.

use super::{Diagnose, Diagnosis};

/// Why a signature does not count, or a key is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{subject} {cause}")]
pub struct SignatureError {
    /// What it is about, such as `the key`.
    pub subject: String,
    pub cause: String,
    pub hint: Option<String>,
}

impl SignatureError {
    /// The user's settings want a signature of a trusted key, and the file has none; `lack` says what it has instead.
    pub(crate) fn unsigned(subject: String, lack: &str) -> SignatureError {
        SignatureError {
            subject,
            cause: format!("{lack}, and your settings require a signature"),
            hint: Some(
                "trust its key: dlm plugin trust KEY; or set `require-signature` under [plugins] in config.toml"
                    .to_owned(),
            ),
        }
    }

    /// `removed` is what `dlm plugin remove` takes to drop the pin, `action` what the user does then.
    pub(crate) fn other_signer(subject: String, lack: Option<&str>, removed: &str, action: &str) -> SignatureError {
        SignatureError {
            subject,
            cause: match lack {
                Some(lack) => format!("{lack}, and the file that is pinned is by one that you trusted"),
                None => "is signed by another key than the file that is pinned".to_owned(),
            },
            hint: Some(format!(
                "if that is right: dlm plugin remove {removed}, then {action} it again"
            )),
        }
    }
}

impl Diagnose for SignatureError {
    fn diagnosis(&self) -> Diagnosis {
        Diagnosis::runtime("plugin::signature").hints(self.hint.clone())
    }
}
