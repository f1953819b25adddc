//! Starting the author's own tools, such as a build command or minisign, on the user's terminal.
//!
//! Invariants: the one place where the command line starts a program; plugins start theirs through the process port.

use std::ffi::OsStr;
use std::process::Command;

/// A program that inherits the terminal and the environment; the caller adds arguments and runs it.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the command line starts a program"
)]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}
