//! What can go wrong before a plugin runs, and what to type next.

use std::path::{Path, PathBuf};

use dlm_core::nearest::did_you_mean;
use dlm_core::ports::plugin::PluginFailure;
use dlm_core::{FailureKind, Hints, Subject, shell_quoted};

use crate::check::API_SUPPORTED;
use crate::manifest::{BadConfig, BadManifest, Kind};
use crate::signature::Signed;
use crate::terminal::{framed, inert_line};

/// A failure to find, install, check or describe a plugin.
#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    #[error("the selector `{text}` {cause}")]
    Selector {
        text: String,
        cause: String,
        hint: Option<String>,
    },
    #[error("the capability `{text}` {cause}")]
    Capability { text: String, cause: String },
    #[error("{subject} {cause}")]
    Signature {
        subject: String,
        cause: String,
        hint: Option<String>,
    },
    /// Compiling it before it is pinned.
    #[error("{}", .0.message)]
    Compile(Box<PluginFailure>),
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
    Version { name: String, found: String, asked: String },
    #[error("the lock file `{}` cannot be used: {cause}", path.display())]
    Lock { path: PathBuf, cause: String },
    #[error("`{}` is not the file that was trusted: its sha256 is {found}, pinned is {expected}", path.display())]
    Tampered {
        plugin: String,
        path: PathBuf,
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
    #[error("plugin `{plugin}` inside this dlm is not the one it was built with")]
    Damaged { plugin: String },
    #[error("`{}` is no component that can be used: {cause}", path.display())]
    Malformed { path: PathBuf, cause: String },
    #[error("`{}` is a core module, not a component", path.display())]
    NotAComponent { path: PathBuf },
    #[error("the manifest in `{}` is wrong: {cause}", path.display())]
    Manifest { path: PathBuf, cause: String },
    #[error("plugin `{plugin}` is no {wanted}; it is {}", kinds_text(kinds))]
    WrongKind {
        plugin: String,
        wanted: Kind,
        kinds: Vec<Kind>,
    },
    #[error("`{}` exports {}, its manifest says {}", path.display(), names(exported), names(claimed))]
    Kinds {
        path: PathBuf,
        claimed: Vec<Kind>,
        exported: Vec<Kind>,
    },
    #[error("`{}` exports none of the interfaces of a plugin", path.display())]
    NoKind { path: PathBuf },
    #[error("plugin `{plugin}` {version} was built for plugin API {found}; this dlm has {API_SUPPORTED}")]
    Api {
        plugin: String,
        version: String,
        found: String,
    },
    #[error("plugin `{plugin}` imports `{import}`, {cause}")]
    Import {
        plugin: String,
        import: String,
        cause: String,
    },
    #[error("plugin `{plugin}` imports WASI, which your settings refuse (`wasi = \"none\"`)")]
    Wasi { plugin: String },
    #[error("`{}` has the sha256 {found}, {expected} was expected", path.display())]
    Hash {
        path: PathBuf,
        expected: String,
        found: String,
    },
    #[error("the source `{text}` {cause}")]
    Source { text: String, cause: String, hint: String },
    #[error("cannot fetch {url}: {cause}")]
    Fetch { url: String, cause: String },
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
    #[error("no plugin called `{name}` is installed{}", if *is_inside { "; that one is inside dlm" } else { "" })]
    NotInstalled { name: String, is_inside: bool },
    #[error("`{}` cannot be packed: {cause}", path.display())]
    Pack {
        path: PathBuf,
        cause: String,
        hint: Option<String>,
    },
    #[error("the settings in `{}` are wrong: {cause}", path.display())]
    Settings { path: PathBuf, cause: String },
    #[error("`{}` is already there", path.display())]
    Exists { path: PathBuf },
    #[error("cancelled")]
    Cancelled,
    #[error(transparent)]
    Config(#[from] BadConfig),
    #[error("cannot {action} `{}`: {source}", path.display())]
    Files {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
}

/// `plugin`, or the kind that was asked for.
fn what(wanted: Option<Kind>) -> &'static str {
    match wanted {
        None => "plugin",
        Some(Kind::Templates) => "source of templates",
        Some(kind) => kind.name(),
    }
}

fn is_or_are(missing: &[String]) -> &'static str {
    if missing.len() == 1 { "was not" } else { "were not" }
}

/// `a judge`, `a judge and a target`.
pub(crate) fn kinds_text(kinds: &[Kind]) -> String {
    let words: Vec<String> = kinds.iter().map(|kind| format!("a {kind}")).collect();
    words.join(" and ")
}

fn names(kinds: &[Kind]) -> String {
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    names.join(" and ")
}

fn kinds_hint(claimed: &[Kind], exported: &[Kind]) -> String {
    let worlds: Vec<String> = claimed.iter().map(|kind| format!("`{}`", kind.world())).collect();
    let kinds: Vec<String> = exported.iter().map(|kind| format!("\"{kind}\"")).collect();
    format!(
        "build it for {}, or write in plugin.toml: kinds = [{}]",
        worlds.join(" and "),
        kinds.join(", ")
    )
}

impl ManageError {
    /// A broken manifest of the file at `path`.
    pub(crate) fn manifest(path: &Path, bad: BadManifest) -> ManageError {
        let path = path.to_owned();
        match bad {
            BadManifest::Malformed(cause) => ManageError::Malformed { path, cause },
            BadManifest::NotAComponent => ManageError::NotAComponent { path },
            wrong => ManageError::Manifest {
                path,
                cause: wrong.to_string(),
            },
        }
    }

    pub(crate) fn files(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ManageError {
        move |source| ManageError::Files {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// The class of `plugins.md` section 6.
    pub fn class(&self) -> &'static str {
        match (self.code(), Hints::kind(self)) {
            ("plugin::import" | "plugin::tampered" | "plugin::signature" | "plugin::denied", _) => "permission",
            ("plugin::unavailable", _) => "try later",
            (_, FailureKind::Misuse) => "usage",
            (_, FailureKind::Interrupted) => "cancelled",
            (_, FailureKind::Runtime | FailureKind::NothingToDo) => "failure",
        }
    }

    /// The machine-readable code of `plugins.md` section 6.
    pub fn code(&self) -> &'static str {
        match self {
            ManageError::Selector { .. } | ManageError::Capability { .. } | ManageError::Config(_) => {
                "plugin::invalid-input"
            }
            ManageError::Signature { .. } => "plugin::signature",
            ManageError::Compile(failure) => failure.code,
            ManageError::Unknown { .. } | ManageError::Version { .. } => "plugin::unknown",
            ManageError::Lock { .. } => "plugin::lock",
            ManageError::Tampered { .. } | ManageError::Untrusted { .. } => "plugin::tampered",
            ManageError::Gone { .. } => "plugin::not-found",
            ManageError::Damaged { .. } => "plugin::tampered",
            ManageError::Malformed { .. } => "plugin::malformed",
            ManageError::NotAComponent { .. } => "plugin::not-a-component",
            ManageError::Manifest { .. } | ManageError::Kinds { .. } => "plugin::manifest",
            ManageError::WrongKind { .. } | ManageError::NoKind { .. } => "plugin::wrong-kind",
            ManageError::Api { .. } => "plugin::api",
            ManageError::Import { .. } | ManageError::Wasi { .. } => "plugin::import",
            ManageError::Hash { .. } => "plugin::tampered",
            ManageError::Source { .. } => "plugin::unsupported",
            ManageError::Fetch { .. } => "plugin::unavailable",
            ManageError::NotRequested { .. } | ManageError::NotHeld { .. } => "plugin::invalid-input",
            ManageError::NotGranted { .. } => "plugin::denied",
            ManageError::NotInstalled { .. } => "plugin::unknown",
            ManageError::Pack { .. } => "plugin::pack",
            ManageError::Settings { .. } => "plugin::settings",
            ManageError::Exists { .. } => "plugin::conflict",
            ManageError::Cancelled => "plugin::cancelled",
            ManageError::Files { .. } => "plugin::files",
        }
    }
}

impl ManageError {
    /// The user's settings want a signature of a trusted key, and the file has none.
    pub(crate) fn unsigned(subject: String, signed: &Signed) -> ManageError {
        ManageError::Signature {
            subject,
            cause: format!("{}, and your settings require a signature", signed.lack()),
            hint: Some(
                "trust its key: dlm plugin trust KEY; or set `require-signature` under [plugins] in config.toml"
                    .to_owned(),
            ),
        }
    }

    /// `action` is what the user does once the entry of `name` is gone.
    pub(crate) fn other_signer(subject: String, name: &str, action: &str) -> ManageError {
        ManageError::Signature {
            subject,
            cause: "is signed by another key than the file that is pinned".to_owned(),
            hint: Some(format!(
                "if that is right: dlm plugin remove {name}, then {action} it again"
            )),
        }
    }
}

impl Hints for ManageError {
    fn subject(&self) -> Subject {
        match self {
            // A wrong choice is a mistake in the command that asked for it.
            ManageError::Unknown { wanted: Some(kind), .. } | ManageError::WrongKind { wanted: kind, .. } => match kind
            {
                Kind::Judge => Subject::Preference,
                Kind::Teacher => Subject::Synth,
                Kind::Target => Subject::Export,
                Kind::Destination => Subject::Push,
                Kind::Templates => Subject::Templates,
            },
            _ => Subject::Plugin,
        }
    }

    fn kind(&self) -> FailureKind {
        match self {
            ManageError::Selector { .. }
            | ManageError::Capability { .. }
            | ManageError::Config(_)
            | ManageError::Unknown { .. }
            | ManageError::Version { .. }
            | ManageError::WrongKind { .. }
            | ManageError::NoKind { .. }
            | ManageError::Api { .. }
            | ManageError::Source { .. }
            | ManageError::NotRequested { .. }
            | ManageError::NotHeld { .. }
            | ManageError::NotInstalled { .. } => FailureKind::Misuse,
            ManageError::Cancelled => FailureKind::Interrupted,
            ManageError::Compile(failure) => failure.kind,
            _ => FailureKind::Runtime,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            ManageError::Capability { .. } => {
                vec!["such as: model:current, or http:https://api.example.com".to_owned()]
            }
            ManageError::Selector { hint, .. } | ManageError::Signature { hint, .. } => hint.iter().cloned().collect(),
            ManageError::Compile(failure) => failure.hints.clone(),
            ManageError::Unknown { looked, wanted, .. } => {
                let Some(kind) = wanted else {
                    let mut hints: Vec<String> = looked.iter().map(|place| format!("looked: {place}")).collect();
                    hints.push("see what is here: dlm plugin list".to_owned());
                    return hints;
                };
                let mut hints = looked.clone();
                hints.push(format!("see what each is: dlm plugin list --kind {kind}"));
                hints
            }
            ManageError::Version { name, asked, .. } => vec![format!(
                "install one that fits: dlm plugin install SRC, or drop the `@{asked}` from `{name}@{asked}`"
            )],
            ManageError::Lock { path, .. } => vec![
                format!(
                    "put back a copy of it, or start anew: mv {} {}",
                    quoted(path),
                    shell_quoted(&format!("{}.damaged", path.display()))
                ),
                "then install each plugin again: dlm plugin install SRC".to_owned(),
            ],
            ManageError::Tampered { plugin, path, .. } => vec![
                format!("see what it is now: dlm plugin inspect {}", quoted(path)),
                format!(
                    "if you changed it, pin it anew, without its grants: dlm plugin trust {}",
                    quoted(path)
                ),
                format!("else remove it: dlm plugin remove {plugin}"),
            ],
            ManageError::Untrusted { path, .. } => vec![
                format!("see what it is: dlm plugin inspect {}", quoted(path)),
                format!("let it run: dlm plugin trust {}", quoted(path)),
            ],
            ManageError::Gone { source_text, .. } => {
                vec![format!(
                    "install it again: dlm plugin install {}",
                    shell_quoted(source_text)
                )]
            }
            ManageError::Damaged { .. } => vec!["install dlm again from a source you trust".to_owned()],
            ManageError::NotAComponent { path } => vec![format!(
                "make a component of it: dlm plugin pack --wasm {}",
                quoted(path)
            )],
            ManageError::Config(bad) => vec![bad.hint()],
            ManageError::WrongKind { wanted, .. } => vec![format!("see the others: dlm plugin list --kind {wanted}")],
            ManageError::Kinds { claimed, exported, .. } => vec![kinds_hint(claimed, exported)],
            ManageError::NoKind { .. } => vec![format!(
                "a plugin exports one of: {}",
                Kind::ALL.map(|kind| format!("dlm:plugin/{kind}@1.0.0")).join(", ")
            )],
            ManageError::Api { plugin, .. } => vec![format!(
                "install another version of `{plugin}`, built for plugin API {API_SUPPORTED}, or upgrade dlm"
            )],
            ManageError::Import { .. } => Vec::new(),
            ManageError::Wasi { .. } => {
                vec!["allow it: set `wasi = \"inert\"` under [plugins] in config.toml".to_owned()]
            }
            ManageError::Hash { .. } => vec!["the file is not the one you expect; fetch it again".to_owned()],
            ManageError::Source { hint, .. } => vec![hint.clone()],
            ManageError::NotRequested { requested, plugin, .. } => match requested.as_slice() {
                [] => vec![
                    "it requests nothing; what a manifest does not request is only possible for one run".to_owned(),
                    format!("for one run: --grant {}", shell_quoted(&format!("{plugin}=CAPABILITY"))),
                ],
                requested => vec![format!("it requests: {}", inert_line(&requested.join("; ")))],
            },
            ManageError::NotHeld { held, .. } => match held.as_slice() {
                [] => vec!["it has none".to_owned()],
                held => vec![format!("it has: {}", inert_line(&held.join("; ")))],
            },
            ManageError::NotGranted {
                missing,
                kept,
                is_answered,
                ..
            } => {
                let mut hints = Vec::new();
                if !is_answered {
                    let flags: Vec<String> = missing
                        .iter()
                        .map(|text| format!("--grant {}", shell_quoted(text)))
                        .collect();
                    hints.push(format!("grant it: {}", flags.join(" ")));
                    hints.push("or everything that it requests: --grant-requested".to_owned());
                }
                match kept {
                    Some(version) => hints.push(format!("version {version} stays as it was")),
                    None => hints.push("nothing was installed".to_owned()),
                }
                hints
            }
            ManageError::NotInstalled { is_inside: true, .. } => {
                vec!["what is inside dlm can be denied for a run: --deny NAME=CAPABILITY, or --sandbox".to_owned()]
            }
            ManageError::NotInstalled { .. } => vec!["see what is here: dlm plugin list".to_owned()],
            ManageError::Pack { hint, .. } => hint.iter().cloned().collect(),
            ManageError::Exists { path } => vec![format!("choose another place, or remove it: rm -r {}", quoted(path))],
            ManageError::Malformed { .. }
            | ManageError::Manifest { .. }
            | ManageError::Files { .. }
            | ManageError::Fetch { .. }
            | ManageError::Settings { .. }
            | ManageError::Cancelled => Vec::new(),
        }
    }
}

/// A path as one word of a command.
fn quoted(path: &Path) -> String {
    shell_quoted(&path.to_string_lossy())
}

impl From<ManageError> for PluginFailure {
    fn from(error: ManageError) -> PluginFailure {
        PluginFailure {
            code: error.code(),
            subject: error.subject(),
            kind: Hints::kind(&error),
            message: framed(&error.to_string()),
            hints: error.hints().iter().map(|hint| inert_line(hint)).collect(),
            detail: None,
        }
    }
}
