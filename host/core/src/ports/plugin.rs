//! What every plugin port shares: the failure that a plugin's call ends with, and who a plugin is.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::failure::{FailureKind, Hints, Subject};

/// A plugin failed, refused or was stopped. It carries everything the command line shows, because the caller cannot know
/// the error types of the plugin host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PluginFailure {
    /// Machine-readable, such as `plugin::limit`.
    pub code: &'static str,
    /// The word in front of the message: `export`, `smoke`, `judge`, `teacher`, …
    pub subject: Subject,
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

/// The limit that a plugin has passed which was stopped too often in one run.
pub const RESTARTS: &str = "restarts";

impl PluginFailure {
    /// True where the plugin itself broke down or was stopped; its next call gets a fresh instance.
    pub fn was_stopped(&self) -> bool {
        matches!(self.code, "plugin::crashed" | "plugin::limit")
    }

    /// True where every further call in this run would fail in the same way.
    pub fn ends_the_run(&self) -> bool {
        let limit = self.detail.as_ref().and_then(|detail| detail.limit.as_deref());
        limit == Some(RESTARTS)
    }

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
    fn subject(&self) -> Subject {
        self.subject.clone()
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
    /// What provenance shows: what a plugin inside dlm calls itself, such as `sway:preference_judge`, and of any other its name,
    /// version, argument, origin and hash, such as `rubric@1.2.0:terse (installed, sha256 6f1c…)`.
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

/// What one plugin used in a run: the closing line of `-v`, and the run's record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PluginUse {
    pub plugin: String,
    pub version: String,
    /// Hash of the component that ran, lower-case hex.
    pub sha256: String,
    /// `judge`, `teacher`, …
    pub kind: String,
    /// What it might do, in grant syntax.
    pub granted: Vec<String>,
    pub instances: u64,
    /// Calls of its functions, `open` among them.
    pub calls: u64,
    /// Time in the guest and in the host's functions that it called.
    pub guest_us: u64,
    pub host_us: u64,
    /// Time to compile it in this run; none where its code was in the cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compile_ms: Option<u64>,
    /// Instructions of the guest, where they were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<u64>,
    /// Of one instance, all its memories together.
    pub memory_peak_bytes: u64,
    pub model_requests: u64,
    pub model_tokens: u64,
    /// By host, with the port where it is not the usual one.
    pub http: BTreeMap<String, HttpUse>,
    /// Runs by program; the server of a smoke test is one.
    pub programs: BTreeMap<String, u64>,
    pub files_read: u64,
    pub bytes_read: u64,
    pub files_written: u64,
    pub bytes_written: u64,
    /// How often each secret was taken, by name.
    pub secrets: BTreeMap<String, u64>,
}

/// Requests to one host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HttpUse {
    pub requests: u64,
    /// Bodies alone.
    pub bytes_sent: u64,
    pub bytes_received: u64,
}

impl PluginUse {
    /// Counts one run of a program.
    pub fn count_program(&mut self, program: &str) {
        *self.programs.entry(program.to_owned()).or_default() += 1;
    }

    /// Requests to all hosts.
    pub fn requests(&self) -> u64 {
        self.http.values().map(|of_host| of_host.requests).sum()
    }

    /// Adds what another instance of the same plugin used.
    pub fn add(&mut self, other: &PluginUse) {
        self.instances += other.instances;
        self.calls += other.calls;
        self.guest_us += other.guest_us;
        self.host_us += other.host_us;
        self.compile_ms = self.compile_ms.or(other.compile_ms);
        self.instructions = match (self.instructions, other.instructions) {
            (Some(own), Some(more)) => Some(own + more),
            (own, more) => own.or(more),
        };
        self.memory_peak_bytes = self.memory_peak_bytes.max(other.memory_peak_bytes);
        self.model_requests += other.model_requests;
        self.model_tokens += other.model_tokens;
        for (host, more) in &other.http {
            let own = self.http.entry(host.clone()).or_default();
            own.requests += more.requests;
            own.bytes_sent += more.bytes_sent;
            own.bytes_received += more.bytes_received;
        }
        for (own, other) in [
            (&mut self.programs, &other.programs),
            (&mut self.secrets, &other.secrets),
        ] {
            for (name, more) in other {
                *own.entry(name.clone()).or_default() += more;
            }
        }
        self.files_read += other.files_read;
        self.bytes_read += other.bytes_read;
        self.files_written += other.files_written;
        self.bytes_written += other.bytes_written;
    }
}
