//! The trial of a base's tokenizer and chat template: a process of this program, bounded in memory, time and output.

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use dlm_core::inert::cut;
use dlm_core::ports::process::{Command, Process, ProcessError};
use dlm_core::ports::text_trial::{TextTrial, TrialError, Verdict};
use dlm_core::{Cancel, Network, Subject, Wall};
use dlm_plugins::NativeProcess;

use crate::console;

/// The word that asks for the trial. Not part of the surface.
pub const COMMAND: &str = "__try-text";
/// Most processor time of a trial. A vocabulary of 260,000 tokens takes a few seconds.
const TIME_MAX: Duration = Duration::from_secs(120);
/// How long it may take by the clock before it is taken for stuck: a busy machine may give it little of its time.
const CLOCK_MAX: Duration = Duration::from_secs(60 * 60);
/// Most address space of a trial, beside that of the file that it maps.
const MEMORY_MAX: u64 = 8 << 30;
/// A flaw is told in this many bytes.
const FLAW_BYTES_MAX: usize = 2048;

/// Tries in a process of this program.
pub struct ProcessTrial;

impl TextTrial for ProcessTrial {
    fn run(&self, path: &Path, cancel: &Cancel) -> Result<Verdict, TrialError> {
        let program = std::env::current_exe().map_err(|cause| TrialError::Unrun(cause.to_string()))?;
        let path = path
            .to_str()
            .ok_or_else(|| TrialError::Unrun(format!("{} is not UTF-8", path.display())))?;
        let command = Command {
            program,
            arguments: vec![COMMAND.to_owned(), path.to_owned()],
            env: Vec::new(),
            directory: None,
            is_inheriting: false,
            stdin: Vec::new(),
            // It raises its own.
            wall: None,
        };
        let process = NativeProcess::new(Vec::new(), Vec::new());
        let ended = match process.run(&command, CLOCK_MAX, cancel) {
            Ok(ended) => ended,
            Err(ProcessError::Cancelled { .. }) => return Err(TrialError::Cancelled),
            // A verdict is kept; that a machine was busy is none.
            Err(error) => return Err(TrialError::Unrun(error.to_string())),
        };
        // The first line is what was wrong; of the others, what to do about it is the caller's to say.
        let said = String::from_utf8_lossy(&ended.stderr);
        let said = said.lines().next().unwrap_or_default();
        let subject = format!("{}: ", Subject::BaseModel);
        let said = cut(said.strip_prefix(&subject).unwrap_or(said).trim(), FLAW_BYTES_MAX);
        Ok(match (ended.status, said.as_str()) {
            (0, _) => Verdict::Sound,
            (status, _) if status == -dlm_files::OUT_OF_TIME => Verdict::Unsound(format!(
                "a trial of it took more than {} s of processor time",
                TIME_MAX.as_secs()
            )),
            (status, _) if status < 0 => {
                Verdict::Unsound(format!("a trial of it crashed (signal {})", status.unsigned_abs()))
            }
            (status, "") => Verdict::Unsound(format!("a trial of it ended with status {status} and no message")),
            (_, said) => Verdict::Unsound(said.to_owned()),
        })
    }
}

/// The process of the trial.
pub fn try_text(path: &OsStr) -> ExitCode {
    let path = Path::new(path);
    let mapped = std::fs::metadata(path).map_or(0, |data| data.len());
    let limited = dlm_files::limit_memory(MEMORY_MAX.saturating_add(mapped))
        .and_then(|()| dlm_files::limit_time(TIME_MAX))
        .and_then(|()| dlm_files::limit_core())
        .and_then(|()| {
            dlm_files::wall::raise(&Wall {
                folders: Vec::new(),
                network: Network::None,
            })
        });
    if let Err(cause) = limited {
        console::say(&format!("its process cannot be limited: {cause}"));
        return ExitCode::FAILURE;
    }
    match dlm_model::trial::try_text(path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}
