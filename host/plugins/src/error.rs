//! Everything that can go wrong with a plugin, and what would lift it.

use std::path::PathBuf;

use dlm_core::ports::plugin::{PluginFailure, PluginFailureDetail};
use dlm_core::{FailureKind, Subject, shell_quoted};
use dlm_packages::Kind;
use dlm_packages::manifest::BadManifest;

/// The plugin and the function that a failure belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    pub kind: Kind,
    pub plugin: String,
    pub version: String,
    /// Nothing while the plugin is being loaded.
    pub function: Option<&'static str>,
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} `{}` {}", self.kind, self.plugin, self.version)
    }
}

/// A failure of a plugin or of the host on its behalf.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    #[error("unknown {kind} `{name}`; there are {}", known.join(", "))]
    Unknown {
        kind: Kind,
        name: String,
        known: Vec<String>,
        /// What to type to find out more.
        hints: Vec<String>,
    },
    #[error("the selector `{selector}` is wrong: {cause}")]
    Selector { selector: String, cause: String },
    /// What the management half found: a wrong hash, a missing signature, a damaged lock.
    #[error("{}", .0.message)]
    Managed(Box<PluginFailure>),
    #[error("plugin `{plugin}` is not a component that can be loaded: {cause}")]
    Malformed { plugin: String, cause: String },
    #[error("the manifest of plugin `{plugin}` is wrong: {cause}")]
    Manifest { plugin: String, cause: String },
    #[error("plugin `{plugin}` imports `{import}`, which {} may not", a_kind(kinds))]
    Import {
        plugin: String,
        import: String,
        kinds: Vec<Kind>,
    },
    #[error("plugin `{plugin}` was built for plugin API {found}; this dlm supports {supported}")]
    Api {
        plugin: String,
        found: String,
        supported: &'static str,
    },
    #[error("plugin `{plugin}` is no {wanted}; it exports {}", kinds_text(found))]
    WrongKind {
        plugin: String,
        wanted: Kind,
        found: Vec<Kind>,
    },
    #[error("the grant `{text}` is wrong: {cause}")]
    Grant { text: String, cause: String },
    #[error("{who} used more than {allowed}{}{}", at(who), after(said))]
    Limit {
        who: Box<Who>,
        limit: &'static str,
        /// The limit in words, such as `256 MiB of memory`.
        allowed: String,
        /// The value that doubles the limit, and the ceiling; nothing when it is at its ceiling or has none.
        raise: Option<(String, String)>,
        /// What it logged or printed last.
        said: Option<String>,
    },
    #[error("{who} crashed{}: {cause}{}{}", at(who), through(frames), after(said))]
    Crashed {
        who: Box<Who>,
        cause: String,
        said: Option<String>,
        /// The nearest of its own functions, by name, where the component has names.
        frames: Vec<String>,
    },
    #[error("{who} {needs}")]
    NewerApi { who: Box<Who>, needs: String },
    #[error("{who} gave a result that is not allowed{}: {rule}", at(who))]
    BadResult { who: Box<Who>, rule: String },
    #[error("{who} {}{}: {message}", wanted(capability), at(who))]
    Denied {
        who: Box<Who>,
        capability: String,
        message: String,
        /// What is granted, in grant syntax.
        granted: Vec<String>,
        /// False when the capability cannot be granted at all.
        is_grantable: bool,
        /// Its manifest asks for it, so that it can be granted for good.
        is_requested: bool,
        /// The flag that takes it away, whatever is granted.
        taken_by: Option<String>,
    },
    #[error("{message}")]
    Guest {
        who: Box<Who>,
        failure: GuestFailure,
        message: String,
        after_ms: Option<u32>,
        status: Option<i32>,
    },
    #[error("the smoke test of {who} failed: {message}")]
    Smoke { who: Box<Who>, message: String },
    #[error("cannot {action} `{}`: {source}", path.display())]
    Files {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("`{}` was changed during the export{}", path.display(), at(who))]
    Changed { who: Box<Who>, path: PathBuf },
    #[error("`{name}` is in the way: {cause}")]
    InTheWay { name: String, cause: &'static str },
    #[error("{who} was cancelled")]
    Cancelled { who: Box<Who> },
}

/// The case of `types.error` that a guest returned, as far as the caller's exit code or subject depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestFailure {
    InvalidInput,
    Unsupported,
    Unavailable,
    NotFound,
    Conflict,
    RateLimited,
    TimedOut,
    Rejected,
    Corrupt,
    Failed,
}

impl GuestFailure {
    fn code(self) -> &'static str {
        match self {
            GuestFailure::InvalidInput => "plugin::invalid-input",
            GuestFailure::Unsupported => "plugin::unsupported",
            GuestFailure::Unavailable => "plugin::unavailable",
            GuestFailure::NotFound => "plugin::not-found",
            GuestFailure::Conflict => "plugin::conflict",
            GuestFailure::RateLimited => "plugin::rate-limited",
            GuestFailure::TimedOut => "plugin::timed-out",
            GuestFailure::Rejected => "plugin::rejected",
            GuestFailure::Corrupt => "plugin::corrupt",
            GuestFailure::Failed => "plugin::failed",
        }
    }

    fn is_misuse(self) -> bool {
        matches!(self, GuestFailure::InvalidInput | GuestFailure::Unsupported)
    }
}

/// What it wanted, where a capability stands for that.
fn wanted(capability: &str) -> String {
    match capability {
        "" => "was refused".to_owned(),
        capability => format!("wanted `{capability}`"),
    }
}

fn at(who: &Who) -> String {
    who.function
        .map_or_else(String::new, |function| format!(" in `{function}`"))
}

fn after(said: &Option<String>) -> String {
    match said {
        None => String::new(),
        Some(line) if !line.contains('\n') => format!("; it last said `{line}`"),
        Some(lines) => format!("; it last said:\n  {}", lines.replace('\n', "\n  ")),
    }
}

fn through(frames: &[String]) -> String {
    let names: Vec<String> = frames.iter().map(|frame| format!("`{frame}`")).collect();
    match names.is_empty() {
        true => String::new(),
        false => format!(", at {}", names.join(", from ")),
    }
}

/// Functions of wasi-libc that ask for a stream, a terminal or a directory begin with these.
const SYSTEM: [&str; 5] = ["stderr_", "stdout_", "terminal_", "filesystem_", "environment_"];

impl PluginError {
    /// Carries what the management half found.
    pub(crate) fn managed(error: dlm_packages::error::ManageError) -> PluginError {
        PluginError::Managed(Box::new(error.into()))
    }

    /// A component handed over as bytes has no usable manifest.
    pub(crate) fn manifest(plugin: &str, bad: BadManifest) -> PluginError {
        let (plugin, cause) = (plugin.to_owned(), bad.to_string());
        match bad {
            BadManifest::Malformed(_) | BadManifest::NotAComponent => PluginError::Malformed { plugin, cause },
            BadManifest::Missing | BadManifest::Wrong(_) => PluginError::Manifest { plugin, cause },
        }
    }

    /// The machine-readable code of `plugins.md` section 6.
    pub fn code(&self) -> &'static str {
        match self {
            PluginError::Managed(failure) => failure.code,
            PluginError::Unknown { .. } => "plugin::unknown",
            PluginError::Selector { .. } => "plugin::invalid-input",
            PluginError::Malformed { .. } => "plugin::malformed",
            PluginError::Manifest { .. } => "plugin::manifest",
            PluginError::Import { .. } => "plugin::import",
            PluginError::Api { .. } | PluginError::NewerApi { .. } => "plugin::api",
            PluginError::WrongKind { .. } => "plugin::wrong-kind",
            PluginError::Grant { .. } => "plugin::invalid-input",
            PluginError::Limit { .. } => "plugin::limit",
            PluginError::Crashed { .. } => "plugin::crashed",
            PluginError::BadResult { .. } => "plugin::bad-result",
            PluginError::Denied { .. } => "plugin::denied",
            PluginError::Guest { failure, .. } => failure.code(),
            PluginError::Smoke { .. } => "plugin::smoke",
            PluginError::Files { .. } => "plugin::files",
            PluginError::Changed { .. } => "plugin::corrupt",
            PluginError::InTheWay { .. } => "plugin::conflict",
            PluginError::Cancelled { .. } => "plugin::cancelled",
        }
    }

    /// What the failure means for the exit code.
    pub fn kind(&self) -> FailureKind {
        match self {
            PluginError::Unknown { .. }
            | PluginError::Selector { .. }
            | PluginError::WrongKind { .. }
            | PluginError::Api { .. }
            | PluginError::NewerApi { .. }
            | PluginError::Grant { .. } => FailureKind::Misuse,
            PluginError::Guest { failure, .. } if failure.is_misuse() => FailureKind::Misuse,
            PluginError::Cancelled { .. } => FailureKind::Interrupted,
            PluginError::Managed(failure) => failure.kind,
            _ => FailureKind::Runtime,
        }
    }

    /// What to type next.
    pub fn hints(&self) -> Vec<String> {
        match self {
            PluginError::Limit {
                who,
                limit,
                raise: Some((value, ceiling)),
                ..
            } => vec![format!(
                "raise it: --grant {} (ceiling {ceiling})",
                shell_quoted(&format!("{}=limit:{limit}={value}", who.plugin))
            )],
            PluginError::Limit { raise: None, .. } => {
                vec!["no grant raises this limit".to_owned()]
            }
            PluginError::Import { import, .. } => {
                vec![format!(
                    "no grant allows it: the plugin must be built without `{import}`"
                )]
            }
            PluginError::Api { plugin, supported, .. } => vec![format!(
                "install a version of `{plugin}` that was built for plugin API {supported}, or upgrade dlm"
            )],
            PluginError::NewerApi { .. } => vec!["upgrade dlm, or install an older version of the plugin".to_owned()],
            PluginError::WrongKind { wanted, .. } => vec![format!("see the others: dlm plugin list --kind {wanted}")],
            PluginError::Denied {
                who,
                capability,
                granted,
                is_grantable,
                is_requested,
                taken_by,
                ..
            } => {
                if capability.is_empty() {
                    // No grant is at stake, and the message says what is.
                    return Vec::new();
                }
                let mut hints = vec![match granted.as_slice() {
                    [] => "nothing is granted".to_owned(),
                    granted => format!("granted: {}", granted.join("; ")),
                }];
                if let Some(flag) = taken_by {
                    hints.push(format!("{flag} takes it away: leave that out"));
                } else if *is_grantable {
                    let once = shell_quoted(&format!("{}={capability}", who.plugin));
                    hints.push(format!("allow it once: --grant {once}"));
                    hints.push(if *is_requested {
                        format!(
                            "allow it always: dlm plugin trust {} --grant {}",
                            who.plugin,
                            shell_quoted(capability)
                        )
                    } else {
                        "its manifest does not ask for it, so it can be allowed for one run only".to_owned()
                    });
                }
                hints
            }
            // A build that stubs WASI traps in the very function that would have said what is wrong.
            PluginError::Crashed { frames, .. }
                if frames
                    .first()
                    .is_some_and(|frame| SYSTEM.iter().any(|start| frame.starts_with(start))) =>
            {
                vec![
                    "it wanted to print, and its build took that away; to read it, build without `--stub-wasi`"
                        .to_owned(),
                ]
            }
            PluginError::Smoke { .. } => {
                vec!["--no-smoke skips the smoke test; the exported files are kept".to_owned()]
            }
            PluginError::Unknown { hints, .. } => hints.clone(),
            PluginError::Managed(failure) => failure.hints.clone(),
            PluginError::Changed { .. } => vec!["see what else writes there, then export again".to_owned()],
            _ => Vec::new(),
        }
    }

    fn who(&self) -> Option<&Who> {
        match self {
            PluginError::Limit { who, .. }
            | PluginError::Crashed { who, .. }
            | PluginError::BadResult { who, .. }
            | PluginError::NewerApi { who, .. }
            | PluginError::Denied { who, .. }
            | PluginError::Guest { who, .. }
            | PluginError::Smoke { who, .. }
            | PluginError::Changed { who, .. }
            | PluginError::Cancelled { who } => Some(who),
            _ => None,
        }
    }

    /// The word in front of the message: the runtime's own name where it refused or is missing, `smoke` for the test of
    /// the result, `export` for the rest of a target, the kind otherwise.
    fn subject(&self) -> Subject {
        let kind = match self {
            PluginError::Unknown { kind, .. } | PluginError::WrongKind { wanted: kind, .. } => Some(*kind),
            _ => self.who().map(|who| who.kind),
        };
        let function = self.who().and_then(|who| who.function);
        match (self, kind, function) {
            (PluginError::Smoke { .. }, ..) | (_, _, Some("smoke")) => Subject::Smoke,
            // A refusal of the runtime itself while it registers the result.
            (
                PluginError::Guest {
                    who,
                    failure: GuestFailure::Rejected,
                    ..
                },
                _,
                Some("install"),
            ) => Subject::Runtime(format!("{} create", who.plugin)),
            (PluginError::Guest { who, .. }, _, Some("install")) => Subject::Runtime(who.plugin.clone()),
            (PluginError::Managed(failure), ..) => failure.subject.clone(),
            (_, Some(kind), _) => match kind {
                Kind::Judge => Subject::Judge,
                Kind::Teacher => Subject::Teacher,
                Kind::Target => Subject::Export,
                Kind::Destination => Subject::Destination,
                Kind::Templates => Subject::Templates,
            },
            _ => Subject::Plugin,
        }
    }
}

fn kinds_text(kinds: &[Kind]) -> String {
    let words: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    match words.as_slice() {
        [] => "nothing of the plugin API".to_owned(),
        words => words.join(" and "),
    }
}

fn a_kind(kinds: &[Kind]) -> String {
    match kinds {
        [] => "a plugin".to_owned(),
        kinds => format!("a {}", kinds_text(kinds)),
    }
}

impl From<PluginError> for PluginFailure {
    fn from(error: PluginError) -> PluginFailure {
        if let PluginError::Managed(failure) = error {
            return *failure;
        }
        let detail = error.who().map(|who| {
            Box::new(PluginFailureDetail {
                plugin: who.plugin.clone(),
                version: who.version.clone(),
                world: who.kind.world(),
                function: who.function,
                capability: match &error {
                    PluginError::Denied { capability, .. } => Some(capability.clone()),
                    _ => None,
                },
                limit: match &error {
                    PluginError::Limit { limit, .. } => Some((*limit).to_owned()),
                    _ => None,
                },
                after_ms: match &error {
                    PluginError::Guest { after_ms, .. } => *after_ms,
                    _ => None,
                },
                status: match &error {
                    PluginError::Guest { status, .. } => *status,
                    _ => None,
                },
            })
        });
        PluginFailure {
            code: error.code(),
            subject: error.subject(),
            kind: error.kind(),
            message: dlm_packages::terminal::framed(&error.to_string()),
            hints: error
                .hints()
                .iter()
                .map(|hint| dlm_packages::terminal::inert_line(hint))
                .collect(),
            detail,
        }
    }
}
