//! The process port on this machine: programs in a process group of their own, output kept to its last part.
//!
//! Invariants: no shell; the environment is what the caller of [`NativeProcess::new`] gave (all of dlm's own for a command
//! that the user typed) plus what the command says; a program runs in the directory that the command names or in an empty one;
//! a program that is stopped is stopped with everything it started.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use dlm_core::Cancel;
use dlm_core::ports::process::{Command, FinishedProcess, Process, ProcessError, Running};
use tempfile::TempDir;

/// Last bytes of each stream that are kept.
const STREAM_BYTES_MAX: usize = 256 * 1024;
/// Time between two looks at the cancel flag.
const LOOK: Duration = Duration::from_millis(50);
/// Time for the streams to end after the program did; something it left behind could hold them open.
const STREAMS_GRACE: Duration = Duration::from_secs(1);

/// Starts programs of this machine.
#[derive(Clone, Debug)]
pub struct NativeProcess {
    /// Directories to look in, in order.
    search: Vec<PathBuf>,
    /// The whole environment of a program, before what its command adds.
    env: Vec<(String, String)>,
}

impl NativeProcess {
    /// Makes a port that looks in the absolute directories of `search` (the user's `PATH` first, then the usual ones; a
    /// relative one would mean another directory once the program runs) and gives programs `env`
    /// (`PATH`, `HOME`, `LANG`, `TMPDIR`) and nothing else of the caller's environment.
    pub fn new(search: Vec<PathBuf>, env: Vec<(String, String)>) -> NativeProcess {
        let search = search.into_iter().filter(|directory| directory.is_absolute()).collect();
        NativeProcess { search, env }
    }

    /// A new directory for this user alone, where programs keep such things.
    fn empty_directory(&self) -> std::io::Result<TempDir> {
        let place = self.env.iter().find(|(name, _)| name == "TMPDIR");
        let place = place.map_or("/tmp", |(_, value)| value);
        tempfile::Builder::new().prefix("dlm-").tempdir_in(place)
    }

    fn spawn(&self, command: &Command) -> Result<(Child, Streams), ProcessError> {
        let start_error = |source| ProcessError::Start {
            program: command.program.clone(),
            source,
        };
        let (directory, empty) = match &command.directory {
            Some(directory) => (directory.clone(), None),
            None => {
                let empty = self.empty_directory().map_err(start_error)?;
                (empty.path().to_owned(), Some(empty))
            }
        };
        #[expect(clippy::disallowed_methods, reason = "the process port is the wrapper")]
        let mut builder = std::process::Command::new(&command.program);
        if !command.is_inheriting {
            builder.env_clear().envs(self.env.iter().cloned());
        }
        builder
            .args(&command.arguments)
            .envs(command.env.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut builder, 0);
        builder.current_dir(directory);
        let mut child = builder.spawn().map_err(start_error)?;
        let (ended, streams_ended) = mpsc::channel();
        let (stdout, stderr) = (StreamEnd::default(), StreamEnd::default());
        keep(child.stdout.take(), stdout.clone(), ended.clone());
        keep(child.stderr.take(), stderr.clone(), ended);
        if let Some(mut stdin) = child.stdin.take() {
            let bytes = command.stdin.clone();
            // A program that does not read its input is not at fault.
            std::thread::spawn(move || drop(stdin.write_all(&bytes)));
        }
        Ok((
            child,
            Streams {
                stdout,
                stderr,
                ended: streams_ended,
                _empty: empty,
            },
        ))
    }
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
fn keep(stream: Option<impl Read + Send + 'static>, kept: StreamEnd, ended: mpsc::Sender<()>) {
    std::thread::spawn(move || {
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
    });
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

fn kill(child: &mut Child) {
    #[cfg(unix)]
    signal_group(child, rustix::process::Signal::KILL);
    let _gone = child.kill();
    let _status = child.wait();
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
        let (mut child, streams) = self.spawn(command)?;
        let program = || command.program.clone();
        let started = Instant::now();
        let ended = loop {
            match wait_ended(&mut child, LOOK.min(timeout)) {
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
        let ended = ended.inspect_err(|_| kill(&mut child))?;
        // Whatever the program left behind in its group goes with it.
        #[cfg(unix)]
        signal_group(&child, rustix::process::Signal::KILL);
        streams.settle();
        Ok(FinishedProcess {
            status: status(ended),
            stdout: std::mem::take(&mut *streams.stdout.lock()),
            stderr: std::mem::take(&mut *streams.stderr.lock()),
        })
    }

    fn start(&self, command: &Command) -> Result<Box<dyn Running>, ProcessError> {
        let (child, streams) = self.spawn(command)?;
        Ok(Box::new(RunningProgram {
            program: command.program.clone(),
            child,
            streams,
            status: None,
        }))
    }
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
    child: Child,
    streams: Streams,
    status: Option<i32>,
}

impl Running for RunningProgram {
    fn ended(&mut self) -> Result<Option<i32>, ProcessError> {
        if self.status.is_none() {
            let ended = self.child.try_wait().map_err(|source| ProcessError::Watch {
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
            signal_group(&self.child, rustix::process::Signal::TERM);
            if let Ok(Some(ended)) = wait_ended(&mut self.child, grace) {
                self.status = Some(status(ended));
            }
        }
        #[cfg(unix)]
        signal_group(&self.child, rustix::process::Signal::KILL);
        if self.status.is_none() {
            kill(&mut self.child);
            self.status = Some(-9);
        }
    }

    fn wait(&mut self, pause: Duration) {
        if let Ok(Some(ended)) = wait_ended(&mut self.child, pause) {
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
