//! The failure of a use case, reduced to what a person is told: subject, message, remedies, exit code.
//!
//! The typed errors live in the crates below; a use case is the last place that could tell them apart, so from here on
//! an error is only shown.

use std::error::Error;

use dlm_core::{FailureKind, Hints};

/// Why a use case did not come to its end.
#[derive(Debug)]
pub struct Failure {
    /// The lower-case word in front of the message.
    pub subject: String,
    pub kind: FailureKind,
    pub message: String,
    /// Commands or edits that remedy it, most useful first.
    pub hints: Vec<String>,
    /// Causes below the message, outermost first; shown with `--verbose`.
    pub causes: Vec<String>,
}

impl Failure {
    /// Makes a runtime failure (exit 1).
    pub fn new(subject: &str, message: impl Into<String>) -> Self {
        Self {
            subject: subject.to_owned(),
            kind: FailureKind::Runtime,
            message: message.into(),
            hints: Vec::new(),
            causes: Vec::new(),
        }
    }

    /// Makes a failure of misuse (exit 2).
    pub fn misuse(subject: &str, message: impl Into<String>) -> Self {
        Self {
            kind: FailureKind::Misuse,
            ..Self::new(subject, message)
        }
    }

    /// Makes the failure of an interrupted command (exit 130).
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self {
            kind: FailureKind::Interrupted,
            ..Self::new("interrupted", message)
        }
    }

    /// Adds a remedy.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Makes a runtime failure of an error that has no remedy of its own.
    pub fn of(subject: &str, error: &(dyn Error + 'static)) -> Self {
        Self {
            causes: causes(error),
            ..Self::new(subject, error.to_string())
        }
    }

    /// Puts the failure under another subject.
    pub fn under(mut self, subject: &str) -> Self {
        self.subject = subject.to_owned();
        self
    }
}

impl<E: Hints + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            subject: error.subject().to_owned(),
            kind: error.kind(),
            message: error.to_string(),
            hints: error.hints(),
            causes: causes(&error),
        }
    }
}

fn causes(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut out = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        out.push(cause.to_string());
        next = cause.source();
    }
    out
}
