//! Questions on a real terminal: what is asked, and what yes, no, silence and Ctrl-C do.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

use crate::lab::Lab;
use crate::plugin::{EXEC, HTTP, asking};

/// A program on a terminal of its own.
pub struct Terminal {
    screen: File,
    child: Child,
    seen: String,
}

impl Terminal {
    pub fn start(lab: &Lab, arguments: &[&str]) -> Terminal {
        let (mut ours, mut theirs) = (0, 0);
        // SAFETY: both places are valid for writing, and no name, settings or size are asked for or given.
        let opened = unsafe {
            libc::openpty(
                &raw mut ours,
                &raw mut theirs,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
        assert_eq!(opened, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: the call above made both, and nothing else owns them.
        let (ours, theirs) = unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
        let stream = || Stdio::from(theirs.try_clone().unwrap());
        let mut command = lab.command();
        command
            .args(arguments)
            .stdin(stream())
            .stdout(stream())
            .stderr(stream());
        // SAFETY: only calls that are allowed between fork and exec. The terminal becomes the one whose Ctrl-C is heard.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        Terminal {
            child: command.spawn().unwrap(),
            screen: File::from(ours),
            seen: String::new(),
        }
    }

    /// Reads until the screen shows `text`.
    pub fn until(&mut self, text: &str) -> &mut Terminal {
        while !self.seen.contains(text) {
            assert!(self.read(), "the screen ended before {text:?}:\n{}", self.seen);
        }
        self
    }

    fn read(&mut self) -> bool {
        let mut buffer = [0; 4096];
        // A terminal whose program has ended gives an error instead of an end.
        let count = self.screen.read(&mut buffer).unwrap_or(0);
        self.seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        count > 0
    }

    pub fn types(&mut self, keys: &str) -> &mut Terminal {
        self.screen.write_all(keys.as_bytes()).unwrap();
        self
    }

    /// The exit code and the whole screen.
    pub fn end(mut self) -> (Option<i32>, String) {
        while self.read() {}
        (self.child.wait().unwrap().code(), self.seen.replace("\r\n", "\n"))
    }
}

fn installing(lab: &Lab) -> Terminal {
    let file = asking(lab, "1.2.0");
    Terminal::start(lab, &["plugin", "install", file.to_str().unwrap()])
}

fn exec_question() -> String {
    format!("Grant {EXEC}? [y/N] ")
}

#[test]
fn yes_grants_what_was_asked_and_no_leaves_it_out() {
    let lab = Lab::new();
    let mut terminal = installing(&lab);
    terminal.until("Install it all the same? [y/N] ").types("y\n");
    terminal.until(&exec_question()).types("YES\n");
    terminal.until(&format!("Grant {HTTP} (optional)? [y/N] ")).types("\n");
    let (code, screen) = terminal.end();
    assert_eq!(code, Some(0), "{screen}");
    for part in [
        "shelf 1.2.0",
        "Puts models on a shelf",
        "runs outside the sandbox as you",
        "plugin: installed shelf 1.2.0",
        &format!("granted: {EXEC}"),
    ] {
        assert!(screen.contains(part), "{part:?} is missing:\n{screen}");
    }
    assert!(!screen.contains(&format!("granted: {HTTP}")), "{screen}");
    assert!(lab.path("home/plugins/shelf/1.2.0/plugin.wasm").is_file());
    let kept = lab.files("home/cache/plugins");
    assert!(
        kept.iter().any(|(name, _)| name.ends_with(".cwasm")),
        "it was not compiled"
    );
}

#[test]
fn no_and_ctrl_c_leave_nothing_behind() {
    let lab = Lab::new();
    let mut terminal = installing(&lab);
    terminal.until("Install it all the same? [y/N] ").types("y\n");
    terminal.until(&exec_question()).types("n\n");
    let (code, screen) = terminal.end();
    assert_eq!(code, Some(1), "{screen}");
    assert!(screen.contains("nothing was installed"), "{screen}");
    assert!(!screen.contains("(optional)?"), "it goes on asking:\n{screen}");
    for question in ["Install it all the same? [y/N] ", &exec_question()] {
        let mut terminal = installing(&lab);
        if question != "Install it all the same? [y/N] " {
            terminal.until("Install it all the same? [y/N] ").types("y\n");
        }
        terminal.until(question).types("\u{3}");
        let (code, screen) = terminal.end();
        assert_eq!(code, Some(130), "{screen}");
        assert!(screen.contains("interrupted"), "{screen}");
    }
    assert!(!lab.path("home/plugins").exists(), "a refusal writes nothing");
}

#[test]
fn an_answer_is_raw_in_a_pipe_and_inert_on_a_screen() {
    let lab = Lab::new();
    lab.trainable();
    let harmful = |text: &str| text.replace('\r', "").chars().find(|c| dlm_core::inert::is_harmful(*c));
    let arguments = [
        "prompt",
        "a.dlm",
        "hi",
        "--base-only",
        "--seed",
        "3",
        "--temp",
        "1.5",
        "--max-tokens",
        "200",
    ];
    let piped = lab.run(&arguments).ok().out;
    assert!(
        harmful(&piped).is_some(),
        "a random model writes such characters: {piped:?}"
    );
    let (code, screen) = Terminal::start(&lab, &arguments).end();
    assert_eq!((code, harmful(&screen)), (Some(0), None), "{screen:?}");
    assert!(screen.contains("\\u{"), "{screen:?}");
}

#[test]
fn a_dry_run_shows_and_does_not_ask() {
    let lab = Lab::new();
    let file = asking(&lab, "1.2.0");
    let shown = Terminal::start(&lab, &["plugin", "install", file.to_str().unwrap(), "--dry-run"]);
    let (code, screen) = shown.end();
    assert_eq!(code, Some(0), "{screen}");
    assert!(screen.contains(EXEC) && !screen.contains("[y/N]"), "{screen}");
    assert!(!lab.path("home/plugins").exists());
}
