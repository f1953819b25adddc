//! What the command line hands to the plugin host: facts about the run, the ports through which plugins act, and what the
//! user changed about grants.

use std::path::PathBuf;
use std::sync::Arc;

use dlm_core::Cancel;
use dlm_core::event::Progress;
use dlm_core::ports::guest_http::GuestHttp;
use dlm_core::ports::model::Models;
use dlm_core::ports::process::Process;
use dlm_core::ports::secrets::Secrets;
use dlm_packages::settings::Settings;

/// Importance of a log line; lines below the run's level are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// Facts about the run that plugins may know, passed in because libraries read no clock and no randomness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFacts {
    /// Version of dlm.
    pub host_version: String,
    /// Seed of the run; each plugin gets a number derived from it.
    pub seed: u64,
    /// Start of the run, milliseconds since 1970.
    pub unix_ms: u64,
    pub is_dry_run: bool,
    /// Least important line that is shown: `Warn` by default, `Info` with `-v`.
    pub log_level: LogLevel,
    /// The user's current directory, where typed commands run.
    pub directory: PathBuf,
}

/// How a guest's work is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metering {
    /// Its limits count time.
    #[default]
    Time,
    /// Its limits count time, and its instructions are counted beside.
    Counted,
    /// Its limits count instructions, [`INSTRUCTIONS_PER_SECOND`] for each second of a limit: the same input stops at the
    /// same instruction on every machine. The time of a whole call is still limited.
    Instructions,
}

impl Metering {
    /// What the user's settings ask for.
    pub fn of(settings: &Settings) -> Metering {
        match settings.has_deterministic_limits {
            true => Metering::Instructions,
            false => Metering::Time,
        }
    }

    pub(crate) fn counts_instructions(self) -> bool {
        self != Metering::Time
    }
}

/// Instructions that stand for a second under [`Metering::Instructions`].
pub const INSTRUCTIONS_PER_SECOND: u64 = 1_000_000_000;

/// The ports through which plugins act.
#[derive(Clone)]
pub struct Ports {
    pub process: Arc<dyn Process>,
    pub http: Arc<dyn GuestHttp>,
    pub models: Arc<dyn Models>,
    pub secrets: Arc<dyn Secrets>,
    /// Names a loopback port that nothing listens on.
    pub free_port: fn() -> std::io::Result<u16>,
    /// The real time, for plugins with the grant `clock`.
    pub clock: Option<fn() -> u64>,
    pub progress: Arc<dyn Progress + Send + Sync>,
    pub cancel: Cancel,
}

/// What the user changed about the grants of this run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrantFlags {
    /// `name=capability`, from `--grant`.
    pub granted: Vec<String>,
    /// `name=capability`, from `--deny`.
    pub denied: Vec<String>,
    /// `--sandbox`: no plugin has any grant.
    pub is_sandboxed: bool,
    /// `name.key=value`, from `--plugin-opt`.
    pub options: Vec<String>,
}
