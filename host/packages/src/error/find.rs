//! A name that means no plugin which may run.

use std::path::PathBuf;

use dlm_core::nearest::did_you_mean;
use dlm_core::{Subject, shell_quoted};

use super::{Diagnose, Diagnosis, quoted};
use crate::kind::Kind;

/// Why the plugin that was named cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    #[error("no {} is called `{name}`{}", what(*wanted), did_you_mean(suggestions))]
    Unknown {
        name: String,
        /// The kind that it had to be of.
        wanted: Option<Kind>,
        suggestions: Vec<String>,
        /// Each place with what was there, or the choices.
        looked: Vec<String>,
    },
    #[error("plugin `{name}` is here in version {found}, `@{asked}` was asked for")]
    Version {
        name: String,
        found: String,
        asked: String,
        /// Files of that name which were not looked into.
        untrusted: Vec<PathBuf>,
    },
    #[error("plugin `{plugin}` is no {wanted}; it is {}", kinds_text(kinds))]
    WrongKind {
        plugin: String,
        wanted: Kind,
        kinds: Vec<Kind>,
    },
    #[error("`{}` is not the file that was trusted: its sha256 is {found}, pinned is {expected}", path.display())]
    Tampered {
        plugin: String,
        path: PathBuf,
        /// It lies among the installed ones.
        is_installed: bool,
        expected: String,
        found: String,
    },
    #[error("`{}` came with a directory and was never trusted; its sha256 is {found}", path.display())]
    Untrusted { path: PathBuf, found: String },
    #[error("plugin `{plugin}` is in the lock and its file `{}` is gone", path.display())]
    Gone {
        plugin: String,
        path: PathBuf,
        /// Where it was installed from.
        source_text: String,
    },
    #[error("`{}` lies in the folder of plugin `{plugin}` and was not installed with it", path.display())]
    Stray { plugin: String, path: PathBuf },
    #[error("plugin `{plugin}` inside this dlm is not the one it was built with")]
    Damaged { plugin: String },
    #[error("{} files called `{name}` are trusted where they lie, and none is installed", paths.len())]
    Several { name: String, paths: Vec<PathBuf> },
    #[error("`{}` is not trusted where it lies", path.display())]
    NotTrusted { path: PathBuf },
    #[error("no plugin called `{name}` is installed{}", if *is_inside { "; that one is inside dlm" } else { "" })]
    NotInstalled { name: String, is_inside: bool },
}

impl Diagnose for FindError {
    fn diagnosis(&self) -> Diagnosis {
        match self {
            FindError::Unknown {
                looked, wanted: None, ..
            } => Diagnosis::misuse("plugin::unknown")
                .hints(looked.iter().map(|place| format!("looked: {place}")))
                .hint("see what is here: dlm plugin list"),
            FindError::Unknown {
                looked,
                wanted: Some(kind),
                ..
            } => Diagnosis::misuse("plugin::unknown")
                .subject(asking(*kind))
                .hints(looked.iter().cloned())
                .hint(format!("see what each is: dlm plugin list --kind {kind}")),
            FindError::Version {
                name, asked, untrusted, ..
            } => Diagnosis::misuse("plugin::unknown")
                .hint(format!(
                    "install one that fits: dlm plugin install SRC, or drop the `@{asked}` from `{name}@{asked}`"
                ))
                .hints(untrusted.iter().map(|path| {
                    format!(
                        "there is one that was never trusted; see what it is: dlm plugin inspect {}",
                        quoted(path)
                    )
                })),
            FindError::WrongKind { wanted, .. } => Diagnosis::misuse("plugin::wrong-kind")
                .subject(asking(*wanted))
                .hint(format!("see the others: dlm plugin list --kind {wanted}")),
            FindError::Tampered { .. } | FindError::Untrusted { .. } => self.other_bytes(),
            FindError::Gone { source_text, .. } => Diagnosis::runtime("plugin::not-found").hint(format!(
                "install it again: dlm plugin install {}",
                shell_quoted(source_text)
            )),
            FindError::Stray { path, .. } => Diagnosis::runtime("plugin::stray").hint(format!(
                "dlm does not read it; look at it and remove it: rm -r {}",
                quoted(path)
            )),
            FindError::Damaged { .. } => {
                Diagnosis::runtime("plugin::tampered").hint("install dlm again from a source you trust")
            }
            FindError::Several { paths, .. } => Diagnosis::misuse("plugin::unknown").hints(
                paths
                    .iter()
                    .map(|path| format!("name the one: dlm plugin remove {}", quoted(path))),
            ),
            FindError::NotTrusted { .. } => {
                Diagnosis::misuse("plugin::unknown").hint("see what is trusted: dlm plugin list, dlm plugin verify")
            }
            FindError::NotInstalled { is_inside: true, .. } => Diagnosis::misuse("plugin::unknown")
                .hint("what is inside dlm can be denied for a run: --deny NAME=CAPABILITY, or --sandbox"),
            FindError::NotInstalled { .. } => {
                Diagnosis::misuse("plugin::unknown").hint("see what is here: dlm plugin list")
            }
        }
    }
}

impl FindError {
    /// The file that is there is not the one that was trusted.
    fn other_bytes(&self) -> Diagnosis {
        let told = Diagnosis::runtime("plugin::tampered");
        let inspect = |path: &PathBuf| format!("see what it is: dlm plugin inspect {}", quoted(path));
        match self {
            FindError::Tampered {
                plugin,
                path,
                is_installed: true,
                ..
            } => told
                .hint(inspect(path))
                .hint(format!("install it again; or remove it: dlm plugin remove {plugin}")),
            FindError::Tampered { path, .. } => told
                .hint(inspect(path))
                .hint(format!(
                    "if you changed it, pin it anew, without its grants: dlm plugin trust {}",
                    quoted(path)
                ))
                .hint(format!("else trust it no more: dlm plugin remove {}", quoted(path))),
            FindError::Untrusted { path, .. } => told
                .hint(inspect(path))
                .hint(format!("let it run: dlm plugin trust {}", quoted(path))),
            _ => told,
        }
    }
}

/// The command that asks for a kind: a wrong choice is a mistake in it.
fn asking(kind: Kind) -> Subject {
    match kind {
        Kind::Judge => Subject::Preference,
        Kind::Teacher => Subject::Synth,
        Kind::Target => Subject::Export,
        Kind::Destination => Subject::Push,
        Kind::Templates => Subject::Templates,
    }
}

/// `plugin`, or the kind that was asked for.
fn what(wanted: Option<Kind>) -> &'static str {
    match wanted {
        None => "plugin",
        Some(Kind::Templates) => "source of templates",
        Some(kind) => kind.name(),
    }
}

/// `a judge`, `a judge and a target`.
fn kinds_text(kinds: &[Kind]) -> String {
    let words: Vec<String> = kinds.iter().map(|kind| format!("a {kind}")).collect();
    words.join(" and ")
}
