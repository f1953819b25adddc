//! Everything that can go wrong with a plugin in a run, and what would lift it: an error for each noun.
//!
//! Invariant: a variant is described in one place, its arm of `diagnosis`.

mod call;
mod missing;

use std::path::{Path, PathBuf};

use dlm_core::Subject;
use dlm_core::ports::plugin::PluginFailure;
use dlm_packages::error::{Diagnose, Diagnosis, PackageError};
use dlm_packages::manifest::ManifestError;
use dlm_packages::{API_SUPPORTED, Kind};

pub use call::{CallError, CallFailure, GuestFailure, Who};
pub use missing::MissingGrants;

/// A failure of a plugin or of the host on its behalf.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// What was found before it ran: a wrong hash, a missing signature, a damaged lock.
    #[error(transparent)]
    Package(Box<PackageError>),
    #[error(transparent)]
    Flag(#[from] FlagError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Call(CallError),
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// A flag that says nothing about any plugin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    #[error("the selector `{selector}` is wrong: {cause}")]
    Option { selector: String, cause: String },
    #[error("the grant `{text}` is wrong: {cause}")]
    Grant { text: String, cause: String },
    #[error("`{flag} {text}` is for `{plugin}`, which this command does not use")]
    Unused {
        flag: &'static str,
        text: String,
        plugin: String,
        kind: Kind,
        /// The plugin that it uses.
        used: String,
    },
    #[error("nothing can be recorded: {cause}")]
    Record { cause: String },
}

impl Diagnose for FlagError {
    fn diagnosis(&self) -> Diagnosis {
        let wrong = Diagnosis::misuse("plugin::invalid-input");
        match self {
            FlagError::Option { .. } | FlagError::Grant { .. } | FlagError::Record { .. } => wrong,
            FlagError::Unused { flag, kind, used, .. } => wrong.hint(format!(
                "it uses the {kind} `{used}`; leave `{flag}` out, or name that one"
            )),
        }
    }
}

/// A component that cannot become a plugin of this host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("plugin `{plugin}` is not a component that can be loaded: {cause}")]
    Malformed { plugin: String, cause: String },
    #[error("{what} cannot be made ready: {cause}")]
    Unready { what: String, cause: String },
    #[error("compiling plugin `{plugin}` took more than {allowed}")]
    CompileLimit { plugin: String, allowed: String },
    #[error("the manifest of plugin `{plugin}` is wrong: {cause}")]
    Manifest { plugin: String, cause: String },
    #[error("plugin `{plugin}` imports `{import}`, which {} may not", a_kind(kinds))]
    Import {
        plugin: String,
        import: String,
        kinds: Vec<Kind>,
    },
    #[error("plugin `{plugin}` was built for plugin API {found}; this dlm supports {API_SUPPORTED}")]
    Api { plugin: String, found: String },
    #[error("plugin `{plugin}` is no {wanted}; it exports {}", kinds_text(found))]
    WrongKind {
        plugin: String,
        wanted: Kind,
        found: Vec<Kind>,
    },
    #[error("{0}")]
    NotGranted(Box<MissingGrants>),
}

impl LoadError {
    /// A component handed over as bytes has no usable manifest.
    pub(crate) fn of_manifest(plugin: &str, error: ManifestError) -> LoadError {
        let (plugin, cause) = (plugin.to_owned(), error.to_string());
        match error {
            ManifestError::Malformed(_) | ManifestError::NotAComponent => LoadError::Malformed { plugin, cause },
            ManifestError::Missing | ManifestError::Wrong(_) => LoadError::Manifest { plugin, cause },
        }
    }

    /// The engine itself does not start.
    pub(crate) fn engine(cause: String) -> LoadError {
        LoadError::Unready {
            what: "the plugin engine".to_owned(),
            cause,
        }
    }
}

impl Diagnose for LoadError {
    fn diagnosis(&self) -> Diagnosis {
        match self {
            LoadError::Malformed { .. } => Diagnosis::runtime("plugin::malformed"),
            LoadError::CompileLimit { .. } => {
                Diagnosis::runtime("plugin::limit").hint("no grant raises this limit: the plugin must be made smaller")
            }
            LoadError::Unready { .. } => Diagnosis::runtime("plugin::unavailable").hint(
                "close other programs, or raise the limits of processes, memory and open files that `ulimit -a` shows",
            ),
            LoadError::Manifest { .. } => Diagnosis::runtime("plugin::manifest"),
            LoadError::Import { import, .. } => Diagnosis::runtime("plugin::import").hint(format!(
                "no grant allows it: the plugin must be built without `{import}`"
            )),
            LoadError::Api { plugin, .. } => Diagnosis::misuse("plugin::api").hint(format!(
                "install a version of `{plugin}` that was built for plugin API {API_SUPPORTED}, or upgrade dlm"
            )),
            LoadError::WrongKind { wanted, .. } => Diagnosis::misuse("plugin::wrong-kind")
                .subject(word(*wanted))
                .hint(format!("see the others: dlm plugin list --kind {wanted}")),
            LoadError::NotGranted(missing) => Diagnosis::runtime("plugin::denied")
                .subject(word(missing.kind))
                .hints(missing.ways_to_grant()),
        }
    }
}

/// Files around a plugin that cannot be read or put in place.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error("cannot {action} `{}`: {source}", path.display())]
    Files {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("`{name}` is in the way: {cause}")]
    InTheWay { name: String, cause: &'static str },
}

impl OutputError {
    /// Makes the error of one action on one path.
    pub(crate) fn files(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> OutputError {
        move |source| OutputError::Files {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

impl Diagnose for OutputError {
    fn diagnosis(&self) -> Diagnosis {
        match self {
            OutputError::Files { .. } => Diagnosis::runtime("plugin::files"),
            OutputError::InTheWay { .. } => Diagnosis::runtime("plugin::conflict"),
        }
    }
}

/// The word in front of a message about a plugin of this kind.
fn word(kind: Kind) -> Subject {
    match kind {
        Kind::Judge => Subject::Judge,
        Kind::Teacher => Subject::Teacher,
        Kind::Target => Subject::Export,
        Kind::Destination => Subject::Destination,
        Kind::Templates => Subject::Templates,
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

impl From<PackageError> for PluginError {
    fn from(error: PackageError) -> PluginError {
        PluginError::Package(Box::new(error))
    }
}

impl Diagnose for PluginError {
    fn diagnosis(&self) -> Diagnosis {
        match self {
            PluginError::Package(error) => error.diagnosis(),
            PluginError::Flag(error) => error.diagnosis(),
            PluginError::Load(error) => error.diagnosis(),
            PluginError::Call(error) => error.diagnosis(),
            PluginError::Output(error) => error.diagnosis(),
        }
    }
}

impl PluginError {
    /// Carries what was found before the plugin ran.
    pub(crate) fn package(error: impl Into<PackageError>) -> PluginError {
        error.into().into()
    }
}

impl From<PluginError> for PluginFailure {
    fn from(error: PluginError) -> PluginFailure {
        let detail = match &error {
            PluginError::Call(call) => Some(Box::new(call.detail())),
            PluginError::Load(LoadError::NotGranted(missing)) => Some(Box::new(missing.detail())),
            _ => None,
        };
        error.diagnosis().failure(&error.to_string(), detail)
    }
}
