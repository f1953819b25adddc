//! What keeps a plugin from being installed, and grants from being given or taken.

use std::path::PathBuf;

use dlm_core::ports::plugin::PluginFailure;
use dlm_core::shell_quoted;

use super::{Diagnose, Diagnosis};
use dlm_core::inert::inert_line;

/// Why nothing was installed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InstallError {
    #[error("`{}` has the sha256 {found}, {expected} was expected", path.display())]
    Hash {
        path: PathBuf,
        expected: String,
        found: String,
    },
    #[error("plugin `{plugin}` {version} needs {}, which {} granted", missing.join(", "), is_or_are(missing))]
    NotGranted {
        plugin: String,
        version: String,
        missing: Vec<String>,
        /// The version that stays active.
        kept: Option<String>,
        /// Somebody was asked and said no.
        is_answered: bool,
    },
    /// An older version than the pinned one, which nobody asked for.
    #[error("plugin `{plugin}` is here in version {found}, and {offered} is older")]
    Older {
        plugin: String,
        found: String,
        offered: String,
    },
    /// Compiling it before it is pinned.
    #[error("{}", .0.message)]
    Compile(Box<PluginFailure>),
}

impl Diagnose for InstallError {
    fn diagnosis(&self) -> Diagnosis {
        match self {
            InstallError::Hash { .. } => {
                Diagnosis::runtime("plugin::tampered").hint("the file is not the one you expect; fetch it again")
            }
            InstallError::NotGranted {
                missing,
                kept,
                is_answered,
                ..
            } => {
                let denied = match is_answered {
                    true => Diagnosis::runtime("plugin::denied"),
                    false => {
                        let flags: Vec<String> = missing
                            .iter()
                            .map(|text| format!("--grant {}", shell_quoted(text)))
                            .collect();
                        Diagnosis::runtime("plugin::denied")
                            .hint(format!("grant it: {}", flags.join(" ")))
                            .hint("or everything that it requests: --grant-requested")
                    }
                };
                denied.hint(match kept {
                    Some(version) => format!("version {version} stays as it was"),
                    None => "nothing was installed".to_owned(),
                })
            }
            InstallError::Older { found, .. } => Diagnosis::runtime("plugin::older")
                .hint("a signature does not say which version is the right one; if you want the older one: --allow-downgrade")
                .hint(format!("version {found} stays as it was")),
            InstallError::Compile(failure) => Diagnosis {
                kind: failure.kind,
                hints: failure.hints.clone(),
                ..Diagnosis::runtime(failure.code)
            },
        }
    }
}

fn is_or_are(missing: &[String]) -> &'static str {
    if missing.len() == 1 { "was not" } else { "were not" }
}

/// A grant that cannot be given or taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    #[error("plugin `{plugin}` does not request `{capability}`")]
    NotRequested {
        plugin: String,
        capability: String,
        requested: Vec<String>,
    },
    #[error("plugin `{plugin}` has no grant `{capability}`")]
    NotHeld {
        plugin: String,
        capability: String,
        held: Vec<String>,
    },
}

impl Diagnose for GrantError {
    fn diagnosis(&self) -> Diagnosis {
        let wrong = Diagnosis::misuse("plugin::invalid-input");
        match self {
            GrantError::NotRequested { requested, plugin, .. } if requested.is_empty() => wrong
                .hint("it requests nothing; what a manifest does not request is only possible for one run")
                .hint(format!(
                    "for one run: --grant {}",
                    shell_quoted(&format!("{plugin}=CAPABILITY"))
                )),
            GrantError::NotRequested { requested, .. } => {
                wrong.hint(format!("it requests: {}", inert_line(&requested.join("; "))))
            }
            GrantError::NotHeld { held, .. } if held.is_empty() => wrong.hint("it has none"),
            GrantError::NotHeld { held, .. } => wrong.hint(format!("it has: {}", inert_line(&held.join("; ")))),
        }
    }
}
