//! The process port on this machine: programs in a process group of their own, output kept to its last part.
//!
//! Invariants: no shell; the environment is what the caller of [`NativeProcess::new`] gave (all of dlm's own for a command
//! that the user typed) plus what the command says; a program runs in the directory that the command names or in an empty one;
//! a program that is stopped is stopped with everything it started, under a [guard](crate::guard) also what left its group.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use dlm_core::ports::process::{Command, FinishedProcess, Process, ProcessError, Running};
use dlm_core::{Cancel, Network, Wall};
use tempfile::TempDir;

use crate::guard;

/// Directories of the user's home in which vLLM, PyTorch, Triton and the drivers keep compiled code: without them a server does
/// not start. No other program may change them.
const SERVER_CACHES: [&str; 4] = [".cache", ".config/vllm", ".nv", ".triton"];
/// Last bytes of each stream that are kept.
const STREAM_BYTES_MAX: usize = 256 * 1024;
/// Time between two looks at the cancel flag.
const LOOK: Duration = Duration::from_millis(50);
/// Time for the streams to end after the program did; something it left behind could hold them open.
const STREAMS_GRACE: Duration = Duration::from_secs(1);
/// Time for a guard to kill what it guards.
#[cfg(target_os = "linux")]
const GUARD_GRACE: Duration = Duration::from_secs(12);

/// Starts programs of this machine.
#[derive(Clone, Debug)]
pub struct NativeProcess {
    /// Directories to look in, in order.
    search: Vec<PathBuf>,
    /// The whole environment of a program, before what its command adds.
    env: Vec<(String, String)>,
    /// The program that is its guard: dlm itself.
    guard: Option<PathBuf>,
}

impl NativeProcess {
    /// Makes a port that looks in the absolute directories of `search` (the user's `PATH` first, then the usual ones; a
    /// relative one would mean another directory once the program runs) and gives programs `env`
    /// (`PATH`, `HOME`, `LANG`, `TMPDIR`) and nothing else of the caller's environment.
    pub fn new(search: Vec<PathBuf>, env: Vec<(String, String)>) -> NativeProcess {
        let search = search.into_iter().filter(|directory| directory.is_absolute()).collect();
        NativeProcess {
            search,
            env,
            guard: None,
        }
    }

    /// Puts a guard beside every program: `program` is dlm, which knows [`COMMAND`](crate::guard::COMMAND). Processes of dlm itself
    /// have none; they end with their parent by themselves.
    pub fn with_guard(mut self, program: PathBuf) -> NativeProcess {
        self.guard = cfg!(target_os = "linux").then_some(program);
        self
    }

    /// A new directory for this user alone, where programs keep such things.
    fn empty_directory(&self) -> std::io::Result<TempDir> {
        let place = self.env.iter().find(|(name, _)| name == "TMPDIR");
        let place = place.map_or("/tmp", |(_, value)| value);
        tempfile::Builder::new().prefix("dlm-").tempdir_in(place)
    }

    /// Where servers of models keep compiled code, in the user's home.
    fn caches(&self) -> impl Iterator<Item = PathBuf> {
        let home = self.env.iter().find(|(name, _)| name == "HOME");
        let home = home
            .map(|(_, value)| PathBuf::from(value))
            .filter(|home| home.is_absolute());
        SERVER_CACHES
            .iter()
            .filter_map(move |cache| Some(home.as_ref()?.join(cache)))
    }

    /// The command line with its guard in front, and whether there is one.
    fn line(&self, command: &Command, wall: Option<&Wall>, own: Option<&TempDir>) -> (std::process::Command, bool) {
        let guard = self.guard.as_ref().filter(|guard| **guard != command.program);
        #[expect(clippy::disallowed_methods, reason = "the process port is the wrapper")]
        let mut builder = std::process::Command::new(guard.unwrap_or(&command.program));
        if guard.is_some() {
            builder
                .args([
                    guard::COMMAND.to_owned(),
                    std::process::id().to_string(),
                    guard::wall_text(wall),
                ])
                .arg(own.map_or(Path::new(guard::NO_DIRECTORY), TempDir::path))
                .arg(&command.program);
        }
        builder.args(&command.arguments);
        (builder, guard.is_some())
    }

    fn spawn(&self, command: &Command) -> Result<(Started, Streams), ProcessError> {
        let start_error = |source| start_error(command, source);
        let (directory, empty) = match &command.directory {
            Some(directory) => (directory.clone(), None),
            None => {
                let empty = self.empty_directory().map_err(start_error)?;
                (empty.path().to_owned(), Some(empty))
            }
        };
        let mut wall = command.wall.clone();
        let (mut builder, is_guarded) = match &mut wall {
            Some(wall) => {
                wall.folders.push(directory.clone());
                if wall.network == Network::Server {
                    wall.folders.extend(self.caches());
                }
                self.line(command, Some(wall), empty.as_ref())
            }
            None => self.line(command, None, empty.as_ref()),
        };
        if !command.is_inheriting {
            builder.env_clear().envs(self.env.iter().cloned());
        }
        if wall.is_some() {
            // What others keep there is out of its reach.
            builder.env("TMPDIR", &directory);
        }
        builder
            .envs(command.env.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut builder, 0);
        builder.current_dir(directory);
        let child = builder.spawn().map_err(start_error)?;
        let mut started = Started { child, is_guarded };
        match streams(&mut started.child, command.stdin.clone(), empty) {
            Ok(streams) => Ok((started, streams)),
            Err(error) => {
                started.kill();
                Err(start_error(error))
            }
        }
    }
}

fn start_error(command: &Command, source: io::Error) -> ProcessError {
    ProcessError::Start {
        program: command.program.clone(),
        source,
    }
}

/// Connects both ends of a child's streams, a thread each.
///
/// **Errors**: the system has no thread left.
fn streams(child: &mut Child, stdin: Vec<u8>, empty: Option<TempDir>) -> io::Result<Streams> {
    let (ended, streams_ended) = mpsc::channel();
    let (stdout, stderr) = (StreamEnd::default(), StreamEnd::default());
    keep(child.stdout.take(), stdout.clone(), ended.clone())?;
    keep(child.stderr.take(), stderr.clone(), ended)?;
    if let Some(mut pipe) = child.stdin.take()
        && !stdin.is_empty()
    {
        // A program that does not read its input is not at fault.
        thread("stdin", move || drop(pipe.write_all(&stdin)))?;
    }
    Ok(Streams {
        stdout,
        stderr,
        ended: streams_ended,
        _empty: empty,
    })
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    started
        .map(drop)
        .map_err(|error| io::Error::new(error.kind(), format!("no thread for its streams ({error})")))
}

/// The kept end of one stream.
#[derive(Clone, Default)]
struct StreamEnd(Arc<Mutex<Vec<u8>>>);

impl StreamEnd {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        // A reader that panicked leaves bytes that are still good.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, bytes: &[u8]) {
        let mut kept = self.lock();
        kept.extend_from_slice(bytes);
        let excess = kept.len().saturating_sub(STREAM_BYTES_MAX);
        kept.drain(..excess);
    }
}

struct Streams {
    stdout: StreamEnd,
    stderr: StreamEnd,
    ended: mpsc::Receiver<()>,
    /// The program's own directory, which goes when it ended.
    _empty: Option<TempDir>,
}

impl Streams {
    /// Waits a little for both streams to end.
    fn settle(&self) {
        let until = Instant::now() + STREAMS_GRACE;
        for _ in 0..2 {
            let left = until.saturating_duration_since(Instant::now());
            if self.ended.recv_timeout(left).is_err() {
                return;
            }
        }
    }
}

/// Reads a stream to its end on a thread of its own.
fn keep(stream: Option<impl Read + Send + 'static>, kept: StreamEnd, ended: mpsc::Sender<()>) -> io::Result<()> {
    thread("stream", move || {
        let mut buffer = [0u8; 8192];
        if let Some(mut stream) = stream {
            while let Ok(read) = stream.read(&mut buffer) {
                if read == 0 {
                    break;
                }
                kept.add(buffer.get(..read).unwrap_or_default());
            }
        }
        // Nobody waits any more when the program was left; that is fine.
        let _sent = ended.send(());
    })
}

fn status(status: ExitStatus) -> i32 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return -signal;
    }
    status.code().unwrap_or(-1)
}

/// Sends a signal to the whole group of a child; a group that is gone already is fine.
#[cfg(unix)]
fn signal_group(child: &Child, signal: rustix::process::Signal) {
    let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group {
        let _gone = rustix::process::kill_process_group(group, signal);
    }
}

/// A program with its guard, where it has one: then the child is the guard, and the leader of the group.
struct Started {
    child: Child,
    is_guarded: bool,
}

impl Started {
    /// Kills the program and what it started.
    fn kill(&mut self) {
        #[cfg(target_os = "linux")]
        if self.is_guarded {
            guard::ask_to_stop(self.child.id());
            if matches!(wait_ended(&mut self.child, GUARD_GRACE), Ok(Some(_))) {
                return;
            }
        }
        self.kill_group();
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }

    /// Kills what is left of the group. A guard has seen to that before it ended.
    fn kill_group(&self) {
        #[cfg(unix)]
        signal_group(&self.child, rustix::process::Signal::KILL);
    }

    /// Kills what a program that ended left behind.
    fn clear(&self) {
        if !self.is_guarded {
            self.kill_group();
        }
    }
}

/// Waits up to `pause` for a child to end.
fn wait_ended(child: &mut Child, pause: Duration) -> std::io::Result<Option<ExitStatus>> {
    let until = Instant::now() + pause;
    let mut step = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        std::thread::sleep(step.min(left));
        step = (step * 2).min(LOOK);
    }
}

impl Process for NativeProcess {
    fn find(&self, program: &str) -> Option<PathBuf> {
        let is_name = !program.is_empty() && !program.contains(['/', '\\']);
        let mut places = self
            .search
            .iter()
            .filter(|_| is_name)
            .map(|directory| directory.join(program));
        places.find(|place| is_program(place))
    }

    fn run(&self, command: &Command, timeout: Duration, cancel: &Cancel) -> Result<FinishedProcess, ProcessError> {
        let (mut started_program, streams) = self.spawn(command)?;
        let program = || command.program.clone();
        let started = Instant::now();
        let ended = loop {
            match wait_ended(&mut started_program.child, LOOK.min(timeout)) {
                Ok(Some(status)) => break Ok(status),
                Ok(None) if cancel.is_cancelled() => break Err(ProcessError::Cancelled { program: program() }),
                Ok(None) if started.elapsed() >= timeout => {
                    break Err(ProcessError::TimedOut {
                        program: program(),
                        timeout,
                    });
                }
                Ok(None) => {}
                Err(source) => {
                    break Err(ProcessError::Watch {
                        program: program(),
                        source,
                    });
                }
            }
        };
        let ended = ended.inspect_err(|_| started_program.kill())?;
        started_program.clear();
        streams.settle();
        let finished = FinishedProcess {
            status: status(ended),
            stdout: std::mem::take(&mut *streams.stdout.lock()),
            stderr: std::mem::take(&mut *streams.stderr.lock()),
        };
        match not_started(&finished).filter(|_| started_program.is_guarded) {
            Some(source) => Err(start_error(command, source)),
            None => Ok(finished),
        }
    }

    fn start(&self, command: &Command) -> Result<Box<dyn Running>, ProcessError> {
        let (started, streams) = self.spawn(command)?;
        Ok(Box::new(RunningProgram {
            program: command.program.clone(),
            started,
            streams,
            status: None,
        }))
    }
}

/// What a guard says of a program that it could not start.
fn not_started(finished: &FinishedProcess) -> Option<io::Error> {
    let is_failed = finished.status == i32::from(guard::START_FAILED);
    let said = std::str::from_utf8(&finished.stderr).ok().filter(|_| is_failed)?;
    let number = said.strip_prefix(guard::START_FAILED_TEXT)?.parse().ok()?;
    Some(io::Error::from_raw_os_error(number))
}

fn is_program(path: &Path) -> bool {
    let Ok(found) = std::fs::metadata(path) else {
        return false;
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        found.is_file() && found.permissions().mode() & 0o111 != 0
    }
    #[cfg(not(unix))]
    {
        found.is_file()
    }
}

/// A started program.
struct RunningProgram {
    program: PathBuf,
    started: Started,
    streams: Streams,
    status: Option<i32>,
}

impl Running for RunningProgram {
    fn ended(&mut self) -> Result<Option<i32>, ProcessError> {
        if self.status.is_none() {
            let ended = self.started.child.try_wait().map_err(|source| ProcessError::Watch {
                program: self.program.clone(),
                source,
            })?;
            self.status = ended.map(status);
        }
        Ok(self.status)
    }

    fn tail(&mut self, lines: usize) -> Vec<String> {
        let mut all = Vec::new();
        for stream in [&self.streams.stdout, &self.streams.stderr] {
            let text = String::from_utf8_lossy(&stream.lock()).into_owned();
            all.extend(
                text.lines()
                    .map(dlm_core::inert::inert_line)
                    .filter(|line| !line.trim().is_empty()),
            );
        }
        all.split_off(all.len().saturating_sub(lines))
    }

    fn stop(&mut self, grace: Duration) {
        if self.status.is_none() {
            #[cfg(unix)]
            signal_group(&self.started.child, rustix::process::Signal::TERM);
            if let Ok(Some(ended)) = wait_ended(&mut self.started.child, grace) {
                self.status = Some(status(ended));
            }
        }
        if self.status.is_none() {
            self.started.kill();
            self.status = Some(-9);
        } else {
            self.started.clear();
        }
    }

    fn wait(&mut self, pause: Duration) {
        if let Ok(Some(ended)) = wait_ended(&mut self.started.child, pause) {
            self.status = Some(status(ended));
        }
    }

    fn program(&self) -> &Path {
        &self.program
    }
}

impl Drop for RunningProgram {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    fn process() -> NativeProcess {
        let search = vec![PathBuf::from("/usr/bin"), PathBuf::from("/bin")];
        NativeProcess::new(search, vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())])
    }

    fn shell(script: &str) -> Command {
        Command {
            is_inheriting: false,
            program: process().find("sh").unwrap(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            env: vec![("GIVEN".to_owned(), "yes".to_owned())],
            directory: None,
            wall: None,
            stdin: b"in".to_vec(),
        }
    }

    fn run(script: &str, timeout: Duration) -> Result<FinishedProcess, ProcessError> {
        process().run(&shell(script), timeout, &Cancel::new())
    }

    #[test]
    fn output_status_input_and_environment_are_exact() {
        let finished = run(
            "cat; echo \" $GIVEN $HOME\"; echo err >&2; exit 3",
            Duration::from_secs(60),
        )
        .unwrap();
        assert_eq!(finished.status, 3);
        assert_eq!(String::from_utf8_lossy(&finished.stdout), "in yes \n");
        assert_eq!(String::from_utf8_lossy(&finished.stderr), "err\n");
    }

    #[test]
    fn a_program_without_a_directory_runs_in_an_empty_one_that_goes() {
        let finished = run("pwd; ls -A; mkdir made", Duration::from_secs(60)).unwrap();
        assert_eq!((finished.status, &finished.stderr[..]), (0, &b""[..]));
        let directory = String::from_utf8(finished.stdout).unwrap();
        assert_eq!(directory.lines().count(), 1, "it is empty: {directory}");
        assert!(!Path::new(directory.trim()).exists());
        let named = Command {
            directory: Some(PathBuf::from("/usr")),
            ..shell("pwd")
        };
        let finished = process().run(&named, Duration::from_secs(60), &Cancel::new()).unwrap();
        assert_eq!(finished.stdout, b"/usr\n");
    }

    #[test]
    fn a_program_past_its_time_is_killed_with_its_group() {
        let directory = tempfile::tempdir().unwrap();
        let pid_file = directory.path().join("pid");
        let script = format!("trap '' TERM; sleep 600 & echo $! > {}; wait", pid_file.display());
        let error = run(&script, Duration::from_millis(500)).unwrap_err();
        assert!(matches!(error, ProcessError::TimedOut { .. }), "{error}");
        let pid: i32 = std::fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
        // The signal was sent; the kernel may take a moment to end a process on a busy machine.
        let until = Instant::now() + Duration::from_secs(20);
        let mut stat = String::from(") R ");
        while !stat.is_empty() && !stat.contains(") Z ") {
            assert!(Instant::now() < until, "the grandchild still runs: {stat}");
            std::thread::yield_now();
            stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        }
    }

    #[test]
    fn a_cancelled_run_ends() {
        let cancel = Cancel::new();
        cancel.cancel();
        let error = process()
            .run(&shell("sleep 600"), Duration::from_secs(600), &cancel)
            .unwrap_err();
        assert!(matches!(error, ProcessError::Cancelled { .. }), "{error}");
    }

    #[test]
    fn much_output_is_cut_to_its_end() {
        let finished = run("head -c 1000000 /dev/zero; echo end", Duration::from_secs(60)).unwrap();
        assert_eq!(finished.stdout.len(), STREAM_BYTES_MAX);
        assert!(finished.stdout.ends_with(b"end\n"));
    }

    #[test]
    fn a_server_is_watched_and_stopped() {
        let mut server = process().start(&shell("echo up; sleep 600")).unwrap();
        while server.tail(5).is_empty() {
            server.wait(Duration::from_millis(10));
        }
        assert_eq!(server.tail(5), ["up"]);
        assert_eq!(server.ended().unwrap(), None);
        server.stop(Duration::from_secs(5));
        assert!(server.ended().unwrap().is_some());
    }

    #[test]
    fn programs_are_found_by_name_only() {
        assert!(process().find("sh").is_some());
        let relative = NativeProcess::new(
            vec![PathBuf::from("../../../../../../../../usr/bin"), PathBuf::from(".")],
            vec![],
        );
        assert_eq!(relative.find("sh"), None);
        for name in ["../bin/sh", "/bin/sh", "", "no-such-program"] {
            assert_eq!(process().find(name), None, "{name}");
        }
    }
}
