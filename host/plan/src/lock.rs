//! Comparing a store's determinism contract with the run that is about to start.
//!
//! Invariants: pure; no file is read or written. Every difference is reported with its severity; strictness raises
//! warnings to errors but never what is allowed.

mod compare;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use dlm_core::lock::DlmLock;
use dlm_core::{FailureKind, Hints, Subject};
use serde::Serialize;

pub use compare::compare;

/// How much a difference weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Expected; told and never raised.
    Allow,
    /// Told, and refused under `--strict-lock`.
    Warn,
    /// Refused.
    Error,
}

/// What the lock flags ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LockMode {
    /// No flag: compare, refuse errors, write after success.
    Check,
    /// `--strict-lock`: as above, with warnings as errors.
    Strict,
    /// `--update-lock`: compare nothing, write after success.
    Update,
    /// `--ignore-lock`: compare nothing, write nothing.
    Ignore,
}

/// More than one of the three lock flags was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{first}` and `{second}` exclude each other")]
pub struct LockFlagsConflict {
    /// The first flag given.
    pub first: &'static str,
    /// The second.
    pub second: &'static str,
}

impl Hints for LockFlagsConflict {
    fn subject(&self) -> Subject {
        Subject::Error
    }

    fn kind(&self) -> FailureKind {
        FailureKind::Misuse
    }

    fn hints(&self) -> Vec<String> {
        vec!["give at most one of `--strict-lock`, `--update-lock`, `--ignore-lock`".to_owned()]
    }
}

/// The three lock flags as typed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LockFlags {
    /// `--strict-lock`.
    pub strict: bool,
    /// `--update-lock`.
    pub update: bool,
    /// `--ignore-lock`.
    pub ignore: bool,
}

impl LockFlags {
    /// The mode that the flags ask for.
    ///
    /// **Errors** when more than one was given.
    pub fn mode(self) -> Result<LockMode, LockFlagsConflict> {
        let given: Vec<_> = [
            (self.strict, "--strict-lock", LockMode::Strict),
            (self.update, "--update-lock", LockMode::Update),
            (self.ignore, "--ignore-lock", LockMode::Ignore),
        ]
        .into_iter()
        .filter(|(is_given, _, _)| *is_given)
        .collect();
        match given.as_slice() {
            [] => Ok(LockMode::Check),
            [(_, _, mode)] => Ok(*mode),
            [(_, first, _), (_, second, _), ..] => Err(LockFlagsConflict { first, second }),
        }
    }
}

impl LockMode {
    /// Whether a lock that cannot be read is written over instead of stopping the run.
    pub fn replaces_unreadable(self) -> bool {
        self == LockMode::Update
    }

    /// Whether a lock is written after a successful run.
    pub fn writes(self) -> bool {
        self != LockMode::Ignore
    }
}

/// One difference between the recorded and the current contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LockDifference {
    /// Name of the field, or of the pinned package.
    pub field: String,
    /// Recorded value; none when absent.
    pub recorded: Option<String>,
    /// Current value; none when absent.
    pub current: Option<String>,
    /// Its weight, after strictness.
    pub severity: Severity,
    /// The sentence for the user.
    pub message: String,
}

/// What to do about the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LockDecision {
    /// Every difference in the order of the severity table; empty when nothing was compared.
    pub differences: Vec<LockDifference>,
    /// Whether the lock is written after success.
    pub writes_lock: bool,
}

impl LockDecision {
    /// The heaviest difference; none without differences.
    pub fn severity(&self) -> Option<Severity> {
        self.differences.iter().map(|difference| difference.severity).max()
    }

    /// The warnings to print before going on.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.differences
            .iter()
            .filter(|difference| difference.severity == Severity::Warn)
            .map(|difference| difference.message.as_str())
    }
}

/// The run may not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: lock validation failed ({})", path.display(), messages.join("; "))]
pub struct LockError {
    /// The lock file.
    pub path: PathBuf,
    /// Messages of the differences that are errors.
    pub messages: Vec<String>,
}

impl Hints for LockError {
    fn subject(&self) -> Subject {
        Subject::Lock
    }

    fn hints(&self) -> Vec<String> {
        vec![
            "re-run with `--update-lock` to accept the change and record it".to_owned(),
            "or with `--ignore-lock` to go on once without recording it".to_owned(),
        ]
    }
}

/// Decides whether a run may start; `path` is the lock's file, for the message.
///
/// **Errors** when a difference is an error under `mode`.
pub fn decide(
    recorded: Option<&DlmLock>,
    current: &DlmLock,
    mode: LockMode,
    path: &Path,
) -> Result<LockDecision, LockError> {
    let mut differences = match (mode, recorded) {
        (LockMode::Check | LockMode::Strict, Some(recorded)) => compare(recorded, current),
        _ => Vec::new(),
    };
    if mode == LockMode::Strict {
        for difference in &mut differences {
            if difference.severity == Severity::Warn {
                difference.severity = Severity::Error;
            }
        }
    }
    let messages: Vec<_> = differences
        .iter()
        .filter(|difference| difference.severity == Severity::Error)
        .map(|difference| difference.message.clone())
        .collect();
    if !messages.is_empty() {
        return Err(LockError {
            path: path.to_owned(),
            messages,
        });
    }
    Ok(LockDecision {
        differences,
        writes_lock: mode.writes(),
    })
}
