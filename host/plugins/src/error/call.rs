//! A failure inside one plugin's call: what it did, returned or was refused, and what would lift that.

use std::path::PathBuf;

use dlm_core::ports::plugin::PluginFailureDetail;
use dlm_core::{Subject, shell_quoted};
use dlm_packages::Kind;
use dlm_packages::error::{Diagnose, Diagnosis};

use dlm_core::ports::plugin::RESTARTS;

use super::PluginError;
use crate::limits::RESTARTS_MAX;

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

/// A call that did not end well.
#[derive(Debug)]
pub struct CallError {
    pub who: Box<Who>,
    pub failure: CallFailure,
}

impl std::error::Error for CallError {}

/// What became of a call.
#[derive(Debug)]
pub enum CallFailure {
    /// It passed a limit.
    Limit {
        limit: &'static str,
        /// The limit in words, such as `256 MiB of memory`.
        allowed: String,
        /// The value that doubles the limit, and the ceiling; nothing when it is at its ceiling or has none.
        raise: Option<(String, String)>,
        /// What it logged or printed last.
        said: Option<String>,
    },
    /// It trapped.
    Crashed {
        cause: String,
        said: Option<String>,
        /// The nearest of its own functions, by name, where the component has names.
        frames: Vec<String>,
    },
    /// It was stopped again after the most fresh instances that a run makes.
    Exhausted {
        /// Why it was stopped last.
        cause: String,
    },
    /// It called what only a newer dlm has.
    NewerApi { needs: String },
    /// Its result breaks a rule of the contract.
    BadResult { rule: String },
    /// It was refused something.
    Denied {
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
    /// It returned an error of its own.
    Returned {
        failure: GuestFailure,
        message: String,
        after_ms: Option<u32>,
        status: Option<i32>,
    },
    /// What it made did not pass the smoke test.
    Smoke { message: String },
    /// A file that it was given is another one now.
    Changed { path: PathBuf },
    /// The user stopped it.
    Cancelled,
}

impl CallFailure {
    /// The failure as one of this plugin.
    pub fn of(self, who: Box<Who>) -> PluginError {
        PluginError::Call(CallError { who, failure: self })
    }
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (who, at) = (&self.who, at(&self.who));
        match &self.failure {
            CallFailure::Limit { allowed, said, .. } => write!(f, "{who} used more than {allowed}{at}{}", after(said)),
            CallFailure::Crashed { cause, said, frames } => {
                write!(f, "{who} crashed{at}: {cause}{}{}", through(frames), after(said))
            }
            CallFailure::Exhausted { cause } => write!(
                f,
                "{who} was stopped {} times in this run, the last time because of this: {cause}",
                RESTARTS_MAX + 1
            ),
            CallFailure::NewerApi { needs } => write!(f, "{who} {needs}"),
            CallFailure::BadResult { rule } => write!(f, "{who} gave a result that is not allowed{at}: {rule}"),
            CallFailure::Denied {
                capability, message, ..
            } => write!(f, "{who} {}{at}: {message}", wanted(capability)),
            CallFailure::Returned { message, .. } => f.write_str(message),
            CallFailure::Smoke { message } => write!(f, "the smoke test of {who} failed: {message}"),
            CallFailure::Changed { path } => write!(f, "`{}` was changed during the export{at}", path.display()),
            CallFailure::Cancelled => write!(f, "{who} was cancelled"),
        }
    }
}

impl Diagnose for CallError {
    fn diagnosis(&self) -> Diagnosis {
        let plugin = &self.who.plugin;
        let diagnosis = match &self.failure {
            CallFailure::Limit { raise: None, .. } => {
                Diagnosis::runtime("plugin::limit").hint("no grant raises this limit")
            }
            CallFailure::Limit {
                limit,
                raise: Some((value, ceiling)),
                ..
            } => Diagnosis::runtime("plugin::limit").hint(format!(
                "raise it: --grant {} (ceiling {ceiling})",
                shell_quoted(&format!("{plugin}=limit:{limit}={value}"))
            )),
            CallFailure::Crashed { frames, .. } => {
                Diagnosis::runtime("plugin::crashed").hints(is_stubbed(frames).then(|| {
                    "it wanted to print, and its build took that away; to read it, build without `--stub-wasi`"
                        .to_owned()
                }))
            }
            CallFailure::Exhausted { .. } => Diagnosis::runtime("plugin::limit")
                .hint("tell its author; `dlm plugin test` with a case of what it was asked shows where it stops"),
            CallFailure::NewerApi { .. } => {
                Diagnosis::misuse("plugin::api").hint("upgrade dlm, or install an older version of the plugin")
            }
            CallFailure::BadResult { .. } => Diagnosis::runtime("plugin::bad-result"),
            CallFailure::Denied { .. } => Diagnosis::runtime("plugin::denied").hints(self.ways_to_allow()),
            CallFailure::Returned { failure, .. } if failure.is_misuse() => Diagnosis::misuse(failure.code()),
            CallFailure::Returned { failure, .. } => Diagnosis::runtime(failure.code()),
            CallFailure::Smoke { .. } => {
                Diagnosis::runtime("plugin::smoke").hint("--no-smoke skips the smoke test; the exported files are kept")
            }
            CallFailure::Changed { .. } => {
                Diagnosis::runtime("plugin::corrupt").hint("see what else writes there, then export again")
            }
            CallFailure::Cancelled => Diagnosis::cancelled(),
        };
        diagnosis.subject(self.subject())
    }
}

impl CallError {
    /// What is granted, and what would allow what was refused.
    fn ways_to_allow(&self) -> Vec<String> {
        let CallFailure::Denied {
            capability,
            granted,
            is_grantable,
            is_requested,
            taken_by,
            ..
        } = &self.failure
        else {
            return Vec::new();
        };
        if capability.is_empty() {
            // No grant is at stake, and the message says what is.
            return Vec::new();
        }
        let plugin = &self.who.plugin;
        let mut hints = vec![match granted.as_slice() {
            [] => "nothing is granted".to_owned(),
            granted => format!("granted: {}", granted.join("; ")),
        }];
        if let Some(flag) = taken_by {
            hints.push(format!("{flag} takes it away: leave that out"));
        } else if *is_grantable {
            let once = shell_quoted(&format!("{plugin}={capability}"));
            hints.push(format!("allow it once: --grant {once}"));
            hints.push(if *is_requested {
                let capability = shell_quoted(capability);
                format!("allow it always: dlm plugin trust {plugin} --grant {capability}")
            } else {
                "its manifest does not ask for it, so it can be allowed for one run only".to_owned()
            });
        }
        hints
    }

    /// The word in front of the message: the runtime's own name where it refused or is missing, `smoke` for the test of
    /// the result, `export` for the rest of a target, the kind otherwise.
    fn subject(&self) -> Subject {
        let who = &self.who;
        match (&self.failure, who.function) {
            (CallFailure::Smoke { .. }, _) | (_, Some("smoke")) => Subject::Smoke,
            // A refusal of the runtime itself while it registers the result.
            (CallFailure::Returned { failure, .. }, Some("install")) => match failure {
                GuestFailure::Rejected => Subject::Runtime(format!("{} create", who.plugin)),
                _ => Subject::Runtime(who.plugin.clone()),
            },
            _ => super::word(who.kind),
        }
    }

    /// What `--json` says beside the message.
    pub(super) fn detail(&self) -> PluginFailureDetail {
        let mut detail = PluginFailureDetail {
            plugin: self.who.plugin.clone(),
            version: self.who.version.clone(),
            world: self.who.kind.world(),
            function: self.who.function,
            capability: None,
            limit: None,
            after_ms: None,
            status: None,
        };
        match &self.failure {
            CallFailure::Denied { capability, .. } => detail.capability = Some(capability.clone()),
            CallFailure::Limit { limit, .. } => detail.limit = Some((*limit).to_owned()),
            CallFailure::Exhausted { .. } => detail.limit = Some(RESTARTS.to_owned()),
            CallFailure::Returned { after_ms, status, .. } => (detail.after_ms, detail.status) = (*after_ms, *status),
            _ => {}
        }
        detail
    }
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

/// Says whether a build that stubs WASI trapped in the very function that would have said what is wrong.
fn is_stubbed(frames: &[String]) -> bool {
    let first = frames.first();
    first.is_some_and(|frame| SYSTEM.iter().any(|start| frame.starts_with(start)))
}

/// Functions of wasi-libc that ask for a stream, a terminal or a directory begin with these.
const SYSTEM: [&str; 5] = ["stderr_", "stdout_", "terminal_", "filesystem_", "environment_"];
