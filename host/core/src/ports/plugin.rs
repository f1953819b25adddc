//! What every plugin port shares: the failure that a plugin's call ends with, and who a plugin is.

use crate::failure::{FailureKind, Hints};

/// A plugin failed, refused or was stopped. It carries everything the command line shows, because the caller cannot know
/// the error types of the plugin host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PluginFailure {
    /// Machine-readable, such as `plugin::limit`.
    pub code: &'static str,
    /// The word in front of the message: `export`, `smoke`, `judge`, `teacher`, …
    pub subject: String,
    pub kind: FailureKind,
    pub message: String,
    pub hints: Vec<String>,
    /// Who was running and what was missing, for `--json`.
    pub detail: Option<Box<PluginFailureDetail>>,
}

/// Who was running when a plugin failed, and what it lacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginFailureDetail {
    pub plugin: String,
    pub version: String,
    pub world: &'static str,
    pub function: Option<&'static str>,
    /// The capability that is missing, in grant syntax.
    pub capability: Option<String>,
    /// The limit that was passed, such as `memory`.
    pub limit: Option<String>,
    /// The far side asked to be tried again after this time, in milliseconds.
    pub after_ms: Option<u32>,
    /// HTTP status or exit status of the far side's refusal.
    pub status: Option<i32>,
}

impl PluginFailure {
    /// True where the same call may go well later: the far side was busy, away or slow.
    pub fn is_transient(&self) -> bool {
        matches!(
            self.code,
            "plugin::rate-limited" | "plugin::unavailable" | "plugin::timed-out"
        )
    }

    /// The wait that the far side asked for, in milliseconds.
    pub fn after_ms(&self) -> Option<u32> {
        self.detail.as_ref()?.after_ms
    }
}

impl Hints for PluginFailure {
    fn subject(&self) -> &str {
        &self.subject
    }

    fn kind(&self) -> FailureKind {
        self.kind
    }

    fn hints(&self) -> Vec<String> {
        self.hints.clone()
    }
}

/// Which plugin answers, for reports and provenance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginIdentity {
    /// What provenance shows, such as `sway:preference_judge` or `rubric:terse`.
    pub name: String,
    /// The plugin's own name and version, from its manifest.
    pub plugin: String,
    pub version: String,
    /// Hash of the component that runs, lower-case hex.
    pub sha256: String,
    pub detail: Option<String>,
    /// What it may do, in grant syntax.
    pub granted: Vec<String>,
}
