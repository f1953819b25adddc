//! What the end of a compiler process says: about the file that it compiled, about the limits of compiling, or about the
//! machine alone.
//!
//! Invariant: a file is called malformed only where the compiler read it and said so, or crashed on it; what a busy, slow or
//! full machine does is told as that.

use dlm_core::ports::process::{FinishedProcess, ProcessError};
use dlm_core::units::size;
use dlm_packages::error::PackageError;

use super::{COMPILE_MEMORY_MAX, COMPILE_TIME_MAX, malformed, unready};
use crate::error::{LoadError, PluginError};

/// Why a compiler process made nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompilerFailure {
    /// The component is wrong.
    #[error("{0}")]
    Refused(String),
    /// Something around it is.
    #[error("{0}")]
    Unable(String),
}

/// The status of a process that did not come to look at the component.
const UNABLE: u8 = 3;
/// How Rust's runtime says that no more memory was given; it then aborts.
const OUT_OF_MEMORY: &str = "memory allocation of ";
/// What the system says of the same, and wasmtime passes on.
const NO_MEMORY: &str = "Cannot allocate memory";
/// Signals by which a process ends for a fault of its own: SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV.
const FAULTS: [i32; 6] = [4, 5, 6, 7, 8, 11];

impl CompilerFailure {
    /// The exit status by which the parent knows it.
    pub fn status(&self) -> u8 {
        match self {
            CompilerFailure::Refused(_) => 1,
            CompilerFailure::Unable(_) => UNABLE,
        }
    }
}

/// Reads the end of a compiler process; nothing where it made its code.
pub(super) fn judge(plugin: &str, ran: Result<FinishedProcess, ProcessError>) -> Result<(), PluginError> {
    let unready = |cause: String| unready(plugin, &cause);
    let limit = |allowed: String| {
        PluginError::from(LoadError::CompileLimit {
            plugin: plugin.to_owned(),
            allowed,
        })
    };
    let ended = match ran {
        Ok(ended) => ended,
        Err(ProcessError::Cancelled { .. }) => return Err(PackageError::Cancelled.into()),
        Err(ProcessError::TimedOut { timeout, .. }) => {
            return Err(unready(format!(
                "it did not end within {} minutes of the clock; that says nothing about the plugin: see what keeps this \
                 machine busy, then try again",
                timeout.as_secs() / 60
            )));
        }
        Err(error) => return Err(unready(error.to_string())),
    };
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    let has_no_memory = said.contains(OUT_OF_MEMORY) || said.contains(NO_MEMORY);
    match ended.status {
        0 => Ok(()),
        status if status == -dlm_files::OUT_OF_TIME => {
            Err(limit(format!("{} s of processor time", COMPILE_TIME_MAX.as_secs())))
        }
        status if has_no_memory && status != i32::from(UNABLE) => {
            Err(limit(format!("{} of memory", size(COMPILE_MEMORY_MAX))))
        }
        status if status < 0 && FAULTS.contains(&-status) => Err(malformed(
            plugin,
            &format!("the compiler crashed on it (signal {}) {said}", -status),
        )),
        status if status < 0 => Err(unready(format!(
            "something ended the compiler (signal {}), such as a system without memory",
            -status
        ))),
        status if status == i32::from(UNABLE) => Err(unready(said)),
        _ => Err(malformed(plugin, &said)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dlm_packages::error::Diagnose;

    use super::*;

    #[test]
    fn a_machine_that_is_slow_or_full_says_nothing_about_the_file() {
        let ended = |status: i32, stderr: &str| {
            Ok(FinishedProcess {
                status,
                stdout: Vec::new(),
                stderr: stderr.as_bytes().to_vec(),
            })
        };
        let timed_out = Err(ProcessError::TimedOut {
            program: "dlm".into(),
            timeout: Duration::from_secs(3600),
        });
        for (ran, code, part) in [
            (ended(1, "unexpected end"), "plugin::malformed", "unexpected end"),
            (ended(-11, ""), "plugin::malformed", "crashed on it (signal 11)"),
            (ended(3, "no directory"), "plugin::unavailable", "no directory"),
            (ended(-9, ""), "plugin::unavailable", "signal 9"),
            (timed_out, "plugin::unavailable", "60 minutes of the clock"),
            (
                ended(-dlm_files::OUT_OF_TIME, ""),
                "plugin::limit",
                "more than 120 s of processor time",
            ),
            (
                ended(-6, "memory allocation of 5 bytes failed"),
                "plugin::limit",
                "GiB of memory",
            ),
            (ended(1, "mmap: Cannot allocate memory"), "plugin::limit", "of memory"),
        ] {
            let error = judge("rubric", ran).unwrap_err();
            assert_eq!(error.code(), code, "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!(judge("rubric", ended(0, "")).is_ok());
    }
}
