//! The process port: finding, running and supervising other programs.
//!
//! Invariants: no shell, arguments are a list, the environment is what the command says plus a fixed few names
//! (`PATH`, `HOME`, `LANG`, `TMPDIR`), and a started program ends with everything that it started.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cancel::Cancel;
use crate::wall::Wall;

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Absolute path of the program, as [`Process::find`] gave it.
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// Added to the fixed few names.
    pub env: Vec<(String, String)>,
    /// Where it runs; none for an empty directory of its own, in which no file can pass for a part of the program.
    pub directory: Option<PathBuf>,
    /// True for a command that the user typed: it gets the whole environment of dlm, not the fixed few names alone.
    pub is_inheriting: bool,
    /// Written to standard input, which is then closed.
    pub stdin: Vec<u8>,
    /// What it may do beside reading, where the system can hold it back; none for a command that the user typed, and for
    /// processes of dlm that raise their own. Its own directory is always among the folders.
    pub wall: Option<Wall>,
}

/// A program that ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedProcess {
    /// Exit status; the negated signal number when a signal ended it.
    pub status: i32,
    /// The last bytes of each stream, up to the implementation's cap.
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// Why a program did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("cannot start `{}`: {source}", program.display())]
    Start { program: PathBuf, source: std::io::Error },
    #[error("`{}` did not end within {} s and was stopped", program.display(), timeout.as_secs())]
    TimedOut { program: PathBuf, timeout: Duration },
    #[error("`{}` was stopped because the command was cancelled", program.display())]
    Cancelled { program: PathBuf },
    #[error("cannot watch `{}`: {source}", program.display())]
    Watch { program: PathBuf, source: std::io::Error },
}

/// Starts programs.
pub trait Process: Send + Sync {
    /// Says where `program` is: on the user's search path first, then in the usual directories for such programs.
    fn find(&self, program: &str) -> Option<PathBuf>;

    /// Runs a program to its end.
    ///
    /// **Errors**: [`ProcessError`]; a status other than 0 is not an error here.
    fn run(&self, command: &Command, timeout: Duration, cancel: &Cancel) -> Result<FinishedProcess, ProcessError>;

    /// Starts a program that stays, such as a server. Dropping the handle stops it.
    ///
    /// **Errors**: [`ProcessError::Start`].
    fn start(&self, command: &Command) -> Result<Box<dyn Running>, ProcessError>;
}

/// A started program.
pub trait Running {
    /// The exit status once the program ended, nothing while it runs.
    ///
    /// **Errors**: [`ProcessError::Watch`].
    fn ended(&mut self) -> Result<Option<i32>, ProcessError>;

    /// The last `lines` lines of its output and error streams together.
    fn tail(&mut self, lines: usize) -> Vec<String>;

    /// Asks it to stop, waits up to `grace`, then kills its process group.
    fn stop(&mut self, grace: Duration);

    /// Waits up to `pause` for the program to end; used between two looks at a server that is starting.
    fn wait(&mut self, pause: Duration);

    /// The program, for messages.
    fn program(&self) -> &Path;
}
