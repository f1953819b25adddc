//! Starting the author's own tools, such as a build command or minisign, on the user's terminal.
//!
//! Invariants: the one place where the command line starts a program; plugins start theirs through the process port. A tool that
//! is waited for does not outlive dlm: it has a guard where the system has what one needs.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use dlm_core::Cancel;

use crate::environment;

/// Between two looks at a tool that runs.
const LOOK: Duration = Duration::from_millis(20);
/// How long a tool that Ctrl-C reached on its own has to end; an interrupt by other ways does not reach it.
const GRACE: Duration = Duration::from_secs(2);

/// A program that inherits the terminal and the environment and answers at once; the caller adds arguments and runs it.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the command line starts a program"
)]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

/// Runs a program on the user's terminal until it ends, with some variables besides the user's own; one that does not end after
/// an interrupt is killed with all it started.
///
/// **Errors**: there is no such program, or it cannot be started.
pub fn run<A: AsRef<OsStr>>(
    program: &OsStr,
    arguments: &[A],
    directory: Option<&Path>,
    environment: &[(OsString, OsString)],
    cancel: &Cancel,
) -> io::Result<ExitStatus> {
    let mut command = guarded(program)?;
    command
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)));
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    wait(command.spawn()?, cancel)
}

/// The program behind its guard.
#[cfg(target_os = "linux")]
fn guarded(program: &OsStr) -> io::Result<Command> {
    let found = find(program).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let mut guard = command(std::env::current_exe()?);
    guard.args([
        OsString::from(dlm_plugins::guard::COMMAND),
        std::process::id().to_string().into(),
        dlm_plugins::guard::NO_WALL.into(),
        dlm_plugins::guard::NO_DIRECTORY.into(),
        found,
    ]);
    Ok(guard)
}

#[cfg(not(target_os = "linux"))]
fn guarded(program: &OsStr) -> io::Result<Command> {
    Ok(command(program))
}

/// A program by its path, or by its name in the user's own path.
#[cfg(target_os = "linux")]
fn find(program: &OsStr) -> Option<OsString> {
    if Path::new(program).components().count() > 1 {
        return Some(program.to_owned());
    }
    let path = environment::path("PATH")?.value;
    let mut places = std::env::split_paths(&path).map(|directory| directory.join(program));
    places.find(|place| place.is_file()).map(Into::into)
}

fn wait(mut child: Child, cancel: &Cancel) -> io::Result<ExitStatus> {
    let mut interrupted: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if cancel.is_cancelled() && interrupted.get_or_insert_with(Instant::now).elapsed() > GRACE {
            stop(&mut child);
            return child.wait();
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(target_os = "linux")]
fn stop(child: &mut Child) {
    dlm_plugins::guard::ask_to_stop(child.id());
}

#[cfg(not(target_os = "linux"))]
fn stop(child: &mut Child) {
    // One that is gone already is what is wanted.
    let _gone = child.kill();
}
