//! The guard: a small process of dlm between it and a program that it starts (`dlm __guard PARENT WALL DIRECTORY PROGRAM ARGUMENT...`).
//!
//! Invariants: it starts the program behind its wall, and ends with the program's own status; when the program ends, when dlm
//! asks ([`STOP`]), or when dlm is gone, however it went, everything that the program started is killed first, also what left
//! the process group: the kernel gives such orphans to the guard. A program whose guard is killed dies with it. A directory
//! that was made for the program goes with dlm too.
//!
//! Linux alone has what this needs; elsewhere programs are started without a guard.

use std::ffi::OsString;
use std::process::ExitCode;

use dlm_core::Wall;

/// The word that asks for a guard. Not part of the surface.
pub const COMMAND: &str = "__guard";
/// Asks for no wall.
pub const NO_WALL: &str = "null";
/// Where there is no directory that goes with dlm.
pub const NO_DIRECTORY: &str = "";
/// The guard's own status where the program could not be started; the reason follows [`START_FAILED_TEXT`] on the error stream.
pub(crate) const START_FAILED: u8 = 125;
/// What stands before the number of the system's error.
pub(crate) const START_FAILED_TEXT: &str = "dlm guard: the program cannot be started: error ";

/// What the guard is asked with.
pub(crate) fn wall_text(wall: Option<&Wall>) -> String {
    serde_json::to_string(&wall).expect("a wall is plain data")
}

/// The guard process: `arguments` are those behind [`COMMAND`].
#[cfg(target_os = "linux")]
pub fn run(arguments: &[OsString]) -> ExitCode {
    linux::run(arguments)
}

/// Nothing asks for it here.
#[cfg(not(target_os = "linux"))]
pub fn run(_arguments: &[OsString]) -> ExitCode {
    ExitCode::from(START_FAILED)
}

/// Asks a guard to kill the program and all that it started.
#[cfg(target_os = "linux")]
pub fn ask_to_stop(guard: u32) {
    linux::ask_to_stop(guard);
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::OsString;
    use std::fs::File;
    use std::io::{self, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::process::CommandExt;
    use std::path::Path;
    use std::process::{Command, ExitCode};
    use std::time::{Duration, Instant};

    use dlm_core::Wall;
    use dlm_files::Disk;
    use rustix::io::Errno;
    use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

    use super::{NO_DIRECTORY, START_FAILED, START_FAILED_TEXT};

    /// Sent by dlm.
    const STOP: Signal = Signal::USR1;
    /// Sent by the kernel when the thread of dlm that started the guard is gone.
    const ORPHANED: Signal = Signal::USR2;
    /// Between two looks at whether dlm is there, in case the kernel does not tell.
    const LOOK: Duration = Duration::from_secs(1);
    /// Between two rounds of killing.
    const ROUND: Duration = Duration::from_millis(2);
    /// How long killed processes are waited for: one may hang in the kernel.
    const PATIENCE: Duration = Duration::from_secs(10);
    /// Status of a guard that was asked to stop.
    const STOPPED: u8 = 137;

    pub fn ask_to_stop(guard: u32) {
        if let Some(guard) = i32::try_from(guard).ok().and_then(Pid::from_raw) {
            // One that is gone already is what is wanted.
            let _gone = rustix::process::kill_process(guard, STOP);
        }
    }

    pub fn run(arguments: &[OsString]) -> ExitCode {
        hold_signals();
        let _asked = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        let _asked = rustix::process::set_parent_process_death_signal(Some(ORPHANED));
        let [parent, wall, directory, program, rest @ ..] = arguments else {
            return ExitCode::from(START_FAILED);
        };
        let parent = parent
            .to_str()
            .and_then(|text| text.parse().ok())
            .and_then(Pid::from_raw);
        let wall: Option<Option<Wall>> = wall.to_str().and_then(|text| serde_json::from_str(text).ok());
        let (Some(parent), Some(wall)) = (parent, wall) else {
            return ExitCode::from(START_FAILED);
        };
        // The kernel does not tell of a parent that went before it was asked.
        if is_orphan(parent) {
            return ExitCode::from(STOPPED);
        }
        match start(program, rest, wall) {
            Ok(child) => {
                let code = watch(parent, child);
                if directory != NO_DIRECTORY && is_orphan(parent) {
                    // Nobody is there to be told.
                    let _removed = Disk::new().remove_tree(Path::new(directory));
                }
                code
            }
            Err(error) => {
                // Nobody reads it when dlm is gone.
                let number = error.raw_os_error().unwrap_or_default();
                let _unread = write!(io::stderr(), "{START_FAILED_TEXT}{number}");
                ExitCode::from(START_FAILED)
            }
        }
    }

    /// Starts the program and lets go of its streams.
    fn start(program: &OsString, arguments: &[OsString], wall: Option<Wall>) -> io::Result<Pid> {
        #[expect(clippy::disallowed_methods, reason = "the process port's own process")]
        let mut command = Command::new(program);
        command.args(arguments);
        let prepare = move || {
            release_signals();
            // A guard that is killed takes the program with it.
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            wall.as_ref().map_or(Ok(()), dlm_files::wall::raise)
        };
        // SAFETY: this process has one thread, so that memory may be allocated and files opened between fork and exec.
        unsafe { command.pre_exec(prepare) };
        let child = command.spawn()?;
        let nothing = File::options().read(true).write(true).open("/dev/null")?;
        for stream in [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO] {
            // SAFETY: both are open files of this process, whose one thread uses neither here.
            unsafe { libc::dup2(nothing.as_raw_fd(), stream) };
        }
        i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| io::Error::from(Errno::SRCH))
    }

    /// Waits until the program ends or must.
    fn watch(parent: Pid, child: Pid) -> ExitCode {
        loop {
            // A child that ended before the signals were held is found all the same.
            while let Ok(Some((ended, status))) = rustix::process::wait(WaitOptions::NOHANG) {
                if ended == child {
                    end_all();
                    return as_the_program(status);
                }
            }
            match next_signal() {
                Some(signal) if signal == STOP.as_raw() => break,
                Some(signal) if signal == libc::SIGCHLD => {}
                // A thread of dlm that ends is told like dlm's end.
                _ if is_orphan(parent) => break,
                // Whoever asks a whole group to end asks the program too; the guard is the last to go.
                _ => {}
            }
        }
        end_all();
        ExitCode::from(STOPPED)
    }

    fn is_orphan(parent: Pid) -> bool {
        rustix::process::getppid() != Some(parent)
    }

    /// Kills every child until there is none: what a killed one leaves behind becomes a child.
    fn end_all() {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            for child in children() {
                let _gone = rustix::process::kill_process(child, Signal::KILL);
            }
            loop {
                match rustix::process::wait(WaitOptions::NOHANG) {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    // There is none left.
                    Err(_) => return,
                }
            }
            std::thread::sleep(ROUND);
        }
    }

    /// This process's children, which nobody else can wait for: their numbers stay theirs.
    fn children() -> Vec<Pid> {
        let own = rustix::process::getpid().as_raw_nonzero();
        let pid = |text: &str| text.parse().ok().and_then(Pid::from_raw);
        if let Ok(listed) = std::fs::read_to_string(format!("/proc/self/task/{own}/children")) {
            return listed.split_whitespace().filter_map(pid).collect();
        }
        // Kernels without that list.
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let is_own = |entry: &std::fs::DirEntry| {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // The name in parentheses may hold blanks.
            let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
            fields.split_whitespace().nth(1) == Some(own.to_string().as_str())
        };
        entries
            .filter(is_own)
            .filter_map(|entry| pid(entry.file_name().to_str()?))
            .collect()
    }

    /// Ends as the program ended.
    fn as_the_program(status: WaitStatus) -> ExitCode {
        if let Some(code) = status.exit_status() {
            return ExitCode::from(u8::try_from(code & 0xff).unwrap_or(u8::MAX));
        }
        let signal = status.terminating_signal().unwrap_or(libc::SIGKILL);
        // The program has left a picture of its memory if it was to leave one.
        let _lowered = dlm_files::limit_core();
        // SAFETY: both are plain calls on this process, whose one thread holds no lock.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            let mut only = std::mem::zeroed::<libc::sigset_t>();
            libc::sigemptyset(&raw mut only);
            libc::sigaddset(&raw mut only, signal);
            libc::raise(signal);
            libc::sigprocmask(libc::SIG_UNBLOCK, &raw const only, std::ptr::null_mut());
        }
        // A signal that ends nothing by itself.
        ExitCode::from(128u8.saturating_add(u8::try_from(signal).unwrap_or_default()))
    }

    /// Lets signals through again, for the program.
    fn release_signals() {
        // SAFETY: the set is made by `sigemptyset`, and this process has one thread.
        unsafe {
            let mut none = std::mem::zeroed::<libc::sigset_t>();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        }
    }

    /// Keeps every signal waiting until it is taken.
    fn hold_signals() {
        // SAFETY: the set is made by `sigfillset`, and this process has one thread.
        unsafe {
            let mut all = std::mem::zeroed::<libc::sigset_t>();
            libc::sigfillset(&raw mut all);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
            // Ignored, children could not be waited for.
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        }
    }

    /// Takes a signal that waits, or waits a while for one.
    fn next_signal() -> Option<i32> {
        let pause = libc::timespec {
            tv_sec: LOOK.as_secs().try_into().unwrap_or(1),
            tv_nsec: 0,
        };
        // SAFETY: the set is made by `sigfillset`; nothing is written where the second argument is null.
        let taken = unsafe {
            let mut all = std::mem::zeroed::<libc::sigset_t>();
            libc::sigfillset(&raw mut all);
            libc::sigtimedwait(&raw const all, std::ptr::null_mut(), &raw const pause)
        };
        (taken > 0).then_some(taken)
    }
}
