//! What dlm starts ends with it, however it ends, and stays behind its wall meanwhile.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dlm_core::ports::process::{Command as Program, FinishedProcess, Process, ProcessError};
use dlm_core::{Cancel, Network, Wall};
use dlm_plugins::NativeProcess;

use crate::lab::{Guarded, Lab};

/// Longest wait on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// A judge that never answers, and leaves a process in its group and one in a session of its own.
const JUDGE: &str = "#!/bin/sh
sleep 600 & echo $! > group.pid
setsid sh -c 'echo $$ > session.pid; exec sleep 600' &
echo $$ > own.pid
sleep 600
";
const PIDS: [&str; 3] = ["group.pid", "session.pid", "own.pid"];

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The number in a file, once it is whole.
fn pid(path: &Path) -> Option<i32> {
    let text = std::fs::read_to_string(path).ok()?;
    text.strip_suffix('\n')?.parse().ok()
}

fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // One that ended and was not waited for is no process any more.
    !stat.is_empty() && !stat.contains(") Z ") && !stat.contains(") X ")
}

fn send(child: &Child, signal: i32) {
    // SAFETY: the child is ours and was not waited for, so that its id is still its own.
    let sent = unsafe { libc::kill(i32::try_from(child.id()).unwrap(), signal) };
    assert_eq!(sent, 0);
}

fn program(lab: &Lab, name: &str, text: &str) {
    let path = lab.write(name, text);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Mines with a judge that hangs, until it and its children are there.
fn hanging(lab: &Lab, command: &mut Command) -> Guarded {
    for name in PIDS {
        let _none = std::fs::remove_file(lab.path(name));
    }
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = Guarded(command.spawn().unwrap());
    wait_until("the judge has not started", || {
        assert!(child.0.try_wait().unwrap().is_none(), "dlm ended before its judge did");
        PIDS.iter().all(|name| pid(&lab.path(name)).is_some())
    });
    child
}

const MINE: [&str; 6] = ["preference", "mine", "a.dlm", "--judge", "cli:./judge.sh", "--quiet"];

fn lab_with_judge() -> Lab {
    let lab = Lab::new();
    lab.trainable();
    lab.run(&["train", "a.dlm", "--max-steps", "2"]).ok();
    program(&lab, "judge.sh", JUDGE);
    lab
}

fn path(command: &mut Command) -> &mut Command {
    command.env("PATH", std::env::var_os("PATH").unwrap())
}

#[cfg(target_os = "linux")]
#[test]
fn whatever_ends_dlm_ends_what_it_started() {
    let lab = lab_with_judge();
    let signals: [(&[i32], Option<i32>); 4] = [
        (&[libc::SIGTERM], Some(130)),
        (&[libc::SIGHUP], Some(130)),
        (&[libc::SIGINT, libc::SIGINT], Some(130)),
        (&[libc::SIGKILL], None),
    ];
    for (sent, code) in signals {
        let mut child = hanging(&lab, path(lab.command().args(MINE)));
        let pids = PIDS.map(|name| pid(&lab.path(name)).unwrap());
        for signal in sent {
            send(&child.0, *signal);
        }
        assert_eq!(child.0.wait().unwrap().code(), code, "{sent:?}");
        for (name, pid) in PIDS.iter().zip(pids) {
            wait_until(&format!("{name} outlives dlm after {sent:?}"), || !is_alive(pid));
        }
    }
    // Nothing of it is in the way of the next run.
    program(&lab, "judge.sh", "#!/bin/sh\necho \"{\\\"score\\\": $(wc -c)}\"\n");
    lab.finish(path(lab.command().args(MINE))).ok();
}

/// `nohup` means that the terminal may close.
#[cfg(target_os = "linux")]
#[test]
fn a_dlm_that_may_outlive_its_terminal_does() {
    let lab = lab_with_judge();
    let mut shell = Command::new("sh");
    let inner = lab.command();
    shell
        .args(["-c", "trap '' HUP; exec \"$0\" \"$@\""])
        .arg(inner.get_program())
        .args(MINE)
        .current_dir(lab.path(""))
        .env("HOME", lab.path("user"))
        .env("DLM_HOME", lab.path("home"))
        .stdin(Stdio::null());
    let mut child = hanging(&lab, &mut shell);
    send(&child.0, libc::SIGHUP);
    // Handled in milliseconds where it is handled at all.
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.0.try_wait().unwrap().is_none(), "the hangup ended it");
    send(&child.0, libc::SIGTERM);
    assert_eq!(child.0.wait().unwrap().code(), Some(130));
}

/// The compiler of plugins, kept waiting by a pipe; the trial of texts asks for the same.
#[cfg(target_os = "linux")]
#[test]
fn the_compiler_ends_with_its_parent() {
    let lab = Lab::new();
    assert!(Command::new("mkfifo").arg(lab.path("pipe")).status().unwrap().success());
    let mut shell = Command::new("sh");
    shell
        .args([
            "-c",
            "\"$0\" __compile pipe code & echo $! > compiler.pid; exec sleep 600",
        ])
        .arg(env!("CARGO_BIN_EXE_dlm"))
        .current_dir(lab.path(""));
    let mut parent = Guarded(shell.spawn().unwrap());
    let file = lab.path("compiler.pid");
    wait_until("the compiler has not started", || pid(&file).is_some());
    let compiler = pid(&file).unwrap();
    // It has asked for its end once it waits for the pipe.
    let wchan = format!("/proc/{compiler}/syscall");
    let open = format!("{} ", libc::SYS_openat);
    wait_until("the compiler does not wait for the pipe", || {
        std::fs::read_to_string(&wchan).is_ok_and(|call| call.starts_with(&open))
    });
    parent.0.kill().unwrap();
    parent.0.wait().unwrap();
    wait_until("the compiler outlives its parent", || !is_alive(compiler));
}

#[test]
fn a_program_that_cannot_start_is_named_with_the_cause() {
    let lab = lab_with_judge();
    program(&lab, "judge.sh", "#!/no/such/interpreter\n");
    lab.finish(path(lab.command().args(MINE)))
        .exits(1)
        .says(&["judge.sh", "No such file or directory"]);
}

/// The port as the command line makes it.
fn guarded() -> NativeProcess {
    let search = vec!["/usr/bin".into(), "/bin".into()];
    let env = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
    NativeProcess::new(search, env).with_guard(env!("CARGO_BIN_EXE_dlm").into())
}

fn shell(script: &str, wall: Option<Wall>) -> Program {
    Program {
        program: guarded().find("sh").unwrap(),
        arguments: vec!["-c".to_owned(), script.to_owned()],
        env: vec![("GIVEN".to_owned(), "yes".to_owned())],
        directory: None,
        is_inheriting: false,
        stdin: b"in".to_vec(),
        wall,
    }
}

fn run(script: &str, wall: Option<Wall>) -> Result<FinishedProcess, ProcessError> {
    guarded().run(&shell(script, wall), PATIENCE, &Cancel::new())
}

#[test]
fn a_guard_changes_nothing_of_output_status_input_and_environment() {
    let finished = run("cat; echo \" $GIVEN $HOME\"; echo err >&2; exit 3", None).unwrap();
    assert_eq!(finished.status, 3);
    assert_eq!(String::from_utf8_lossy(&finished.stdout), "in yes \n");
    assert_eq!(String::from_utf8_lossy(&finished.stderr), "err\n");
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGSEGV, libc::SIGUSR1] {
        assert_eq!(run(&format!("kill -{signal} $$"), None).unwrap().status, -signal);
    }
    // The guard's own status for a program that could not be started.
    assert_eq!(run("exit 125", None).unwrap().status, 125);
    assert_eq!(
        run("trap 'exit 7' TERM; kill -TERM $$", None).unwrap().status,
        7,
        "no signal is held back"
    );
    let missing = Program {
        program: "/no/such/program".into(),
        ..shell("", None)
    };
    let error = guarded().run(&missing, PATIENCE, &Cancel::new()).unwrap_err();
    assert!(matches!(error, ProcessError::Start { .. }), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn what_leaves_the_group_is_killed_when_the_program_ends_and_when_it_is_stopped() {
    let lab = Lab::new();
    let file = lab.path("pid");
    let leave = format!(
        "setsid sh -c 'echo $$ > {}; exec sleep 600' > /dev/null 2>&1 &",
        file.display()
    );
    let wait = format!("while [ ! -s {} ]; do sleep 0.01; done", file.display());
    run(&format!("{leave} {wait}"), None).unwrap();
    let left = pid(&file).unwrap();
    wait_until("it outlives the program", || !is_alive(left));

    std::fs::remove_file(&file).unwrap();
    let cancel = Cancel::new();
    let program = shell(&format!("trap '' TERM INT HUP; {leave} {wait}; sleep 600"), None);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| guarded().run(&program, PATIENCE, &cancel));
        wait_until("it has not started", || pid(&file).is_some());
        cancel.cancel();
        let error = running.join().unwrap().unwrap_err();
        assert!(matches!(error, ProcessError::Cancelled { .. }), "{error}");
    });
    let left = pid(&file).unwrap();
    wait_until("it outlives the cancelled run", || !is_alive(left));
}

#[test]
fn a_granted_program_stays_behind_its_wall() {
    let lab = Lab::new();
    let facts = dlm_files::wall::facts();
    let elsewhere = lab.path("elsewhere");
    std::fs::create_dir(lab.path("output")).unwrap();
    let wall = || {
        Some(Wall {
            folders: vec![lab.path("output")],
            network: Network::None,
        })
    };
    let script = format!(
        "echo x > made && echo y > \"$TMPDIR/too\" && echo z > {} && cat /etc/passwd > /dev/null && ls",
        lab.path("output/file").display()
    );
    let finished = run(&script, wall()).unwrap();
    assert_eq!((finished.status, &finished.stderr[..]), (0, &b""[..]));
    assert_eq!(finished.stdout, b"made\ntoo\n", "its temporary directory is its own");
    let finished = run(&format!("echo x > {}", elsewhere.display()), wall()).unwrap();
    assert_eq!(finished.status == 0, !facts.keeps_files());
    assert_eq!(elsewhere.exists(), !facts.keeps_files());
    if facts.landlock.is_some_and(|version| version >= 6) {
        let finished = run(&format!("kill -0 {}", std::process::id()), wall()).unwrap();
        assert_ne!(finished.status, 0, "it may not signal dlm");
    }
    if facts.has_no_new_privileges {
        let finished = run("grep NoNewPrivs /proc/self/status", wall()).unwrap();
        assert_eq!(finished.stdout, b"NoNewPrivs:\t1\n");
    }
}
