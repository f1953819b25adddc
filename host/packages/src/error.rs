//! What can go wrong with plugins as files: an error for each noun, and what every one of them says beside its message.
//!
//! Invariants: a variant is described in one place, its arm of [`Diagnose::diagnosis`]; functions that deal with one noun
//! return its error, commands return [`PackageError`], which adds nothing of its own.

mod component;
mod files;
mod find;
mod index;
mod install;
mod lockfile;
mod pack;
mod settings;
mod signature;
mod typed;

use std::path::Path;

use dlm_core::ports::plugin::{PluginFailure, PluginFailureDetail};
use dlm_core::{FailureKind, Hints, Subject, shell_quoted};

use crate::capability::CapabilityError;
use crate::manifest::ConfigError;
use dlm_core::inert::{framed, inert_line};

pub use component::ComponentError;
pub use files::{FetchError, FilesError};
pub use find::FindError;
pub use index::IndexError;
pub use install::{GrantError, InstallError};
pub use lockfile::LockFileError;
pub use pack::{NewError, PackError};
pub use settings::SettingsError;
pub use signature::SignatureError;
pub use typed::{SelectorError, SourceError};

/// What a failure says beside its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// The machine-readable code of `plugins.md` section 6.
    pub code: &'static str,
    /// Decides the exit code.
    pub kind: FailureKind,
    /// The word in front of the message.
    pub subject: Subject,
    /// What to type next, most useful first.
    pub hints: Vec<String>,
}

impl Diagnosis {
    /// A failure of something that was asked for rightly.
    pub fn runtime(code: &'static str) -> Diagnosis {
        Diagnosis {
            code,
            kind: FailureKind::Runtime,
            subject: Subject::Plugin,
            hints: Vec::new(),
        }
    }

    /// A mistake in what was asked for.
    pub fn misuse(code: &'static str) -> Diagnosis {
        Diagnosis {
            kind: FailureKind::Misuse,
            ..Diagnosis::runtime(code)
        }
    }

    /// The user stopped it.
    pub fn cancelled() -> Diagnosis {
        Diagnosis {
            kind: FailureKind::Interrupted,
            ..Diagnosis::runtime("plugin::cancelled")
        }
    }

    /// The failure that a port hands on, its texts made harmless for a terminal.
    pub fn failure(self, message: &str, detail: Option<Box<PluginFailureDetail>>) -> PluginFailure {
        PluginFailure {
            code: self.code,
            subject: self.subject,
            kind: self.kind,
            message: framed(message),
            hints: self.hints.iter().map(|hint| inert_line(hint)).collect(),
            detail,
        }
    }

    /// Adds something to type next.
    pub fn hint(mut self, hint: impl Into<String>) -> Diagnosis {
        self.hints.push(hint.into());
        self
    }

    /// Adds several things to type next.
    pub fn hints(mut self, hints: impl IntoIterator<Item = String>) -> Diagnosis {
        self.hints.extend(hints);
        self
    }

    /// Puts another word than `plugin` in front of the message.
    pub fn subject(mut self, subject: Subject) -> Diagnosis {
        self.subject = subject;
        self
    }
}

/// An error that knows its code, its kind and what to type next.
pub trait Diagnose {
    /// Describes this failure.
    fn diagnosis(&self) -> Diagnosis;

    /// The machine-readable code of `plugins.md` section 6.
    fn code(&self) -> &'static str {
        self.diagnosis().code
    }
}

/// A failure of a command that deals with plugins as files.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error(transparent)]
    Selector(#[from] SelectorError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Capability(#[from] CapabilityError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Component(#[from] ComponentError),
    #[error(transparent)]
    Signature(#[from] SignatureError),
    #[error(transparent)]
    LockFile(#[from] LockFileError),
    #[error(transparent)]
    Find(#[from] FindError),
    #[error(transparent)]
    Grant(#[from] GrantError),
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error(transparent)]
    New(#[from] NewError),
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The user stopped it.
    #[error("cancelled")]
    Cancelled,
}

impl Diagnose for PackageError {
    fn diagnosis(&self) -> Diagnosis {
        match self {
            PackageError::Selector(error) => error.diagnosis(),
            PackageError::Source(error) => error.diagnosis(),
            PackageError::Capability(error) => error.diagnosis(),
            PackageError::Config(error) => error.diagnosis(),
            PackageError::Settings(error) => error.diagnosis(),
            PackageError::Component(error) => error.diagnosis(),
            PackageError::Signature(error) => error.diagnosis(),
            PackageError::LockFile(error) => error.diagnosis(),
            PackageError::Find(error) => error.diagnosis(),
            PackageError::Grant(error) => error.diagnosis(),
            PackageError::Install(error) => error.diagnosis(),
            PackageError::Index(error) => error.diagnosis(),
            PackageError::Fetch(error) => error.diagnosis(),
            PackageError::Pack(error) => error.diagnosis(),
            PackageError::New(error) => error.diagnosis(),
            PackageError::Files(error) => error.diagnosis(),
            PackageError::Cancelled => Diagnosis::cancelled(),
        }
    }
}

impl PackageError {
    /// The class of `plugins.md` section 6.
    pub fn class(&self) -> &'static str {
        let diagnosis = self.diagnosis();
        match (diagnosis.code, diagnosis.kind) {
            ("plugin::import" | "plugin::tampered" | "plugin::signature" | "plugin::denied", _) => "permission",
            ("plugin::unavailable", _) => "try later",
            (_, FailureKind::Misuse) => "usage",
            (_, FailureKind::Interrupted) => "cancelled",
            (_, FailureKind::Runtime | FailureKind::NothingToDo) => "failure",
        }
    }
}

impl Hints for PackageError {
    fn subject(&self) -> Subject {
        self.diagnosis().subject
    }

    fn kind(&self) -> FailureKind {
        self.diagnosis().kind
    }

    fn hints(&self) -> Vec<String> {
        self.diagnosis().hints
    }
}

impl From<PackageError> for PluginFailure {
    fn from(error: PackageError) -> PluginFailure {
        error.diagnosis().failure(&error.to_string(), None)
    }
}

/// A path as one word of a command.
fn quoted(path: &Path) -> String {
    shell_quoted(&path.to_string_lossy())
}
