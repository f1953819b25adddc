//! How things are said: color, quiet, verbose, and the one shape of a failure.
//!
//! Invariants: nothing else in this program prints, so that a stream which cannot be written never is a panic; both streams
//! take an [`Inert`] alone, so that no text of a stranger reaches a screen as it was written. The one exception is an
//! answer of a model that goes into a pipe or a file.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use dlm_core::Subject;
use dlm_core::inert::{Color, Inert};
use dlm_flow::Failure;

use crate::environment;

/// The two streams with what the user wants to see on them.
pub struct Console {
    pub is_quiet: bool,
    pub is_verbose: bool,
    has_color: bool,
}

impl Console {
    /// Reads what the terminal and the environment allow.
    pub fn new(is_quiet: bool, is_verbose: bool) -> Self {
        let is_plain = environment::path("NO_COLOR").is_some()
            || environment::text("TERM").is_some_and(|terminal| terminal.value == "dumb");
        Self {
            is_quiet,
            is_verbose,
            has_color: std::io::stderr().is_terminal() && !is_plain,
        }
    }

    /// Prints an informational line on stderr unless `--quiet`.
    pub fn info(&self, text: &str) {
        if !self.is_quiet {
            say(text);
        }
    }

    /// Prints a diagnostic line on stderr with `--verbose`.
    pub fn detail(&self, text: &str) {
        if self.is_verbose {
            say(text);
        }
    }

    /// Prints a warning on stderr, also with `--quiet`.
    pub fn warning(&self, text: &str) {
        speak(&self.paint(Color::Yellow, &format!("warning: {text}")));
    }

    /// Prints remarks about a file on stderr, also with `--quiet`: they have places, excerpts and color of their own.
    pub fn remarks(&self, text: &str) {
        say(text.trim_end());
    }

    /// Prints a result on stdout.
    pub fn result(&self, text: &str) {
        deliver(&Inert::text(&ended(text)));
    }

    /// Prints JSON on stdout: two spaces, never colored, one final newline.
    pub fn json(&self, value: &impl serde::Serialize) {
        let text = serde_json::to_string_pretty(value).expect("reports are plain data");
        deliver(&Inert::json(&ended(&text)));
    }

    /// Prints a piece of a model's answer on stdout: as it is into a pipe or a file, inert on a terminal.
    pub fn answer(&self, text: &str) {
        match std::io::stdout().is_terminal() {
            true => deliver(&Inert::text(text)),
            false => write_out(text),
        }
    }

    /// Prints what clap says about a wrong command line; its own colors are left out with those that were typed.
    pub fn misuse(&self, error: &clap::Error) {
        let text = error.render().to_string();
        match text.trim_end().split_once("error:") {
            Some(("", rest)) => speak(&self.paint(Color::Red, "error:").then(&Inert::text(rest))),
            _ => say(text.trim_end()),
        }
    }

    /// Prints a failure with its remedies and returns its exit code.
    pub fn failure(&self, failure: &Failure) -> ExitCode {
        let line = failure.to_string();
        match failure.subject {
            // Whoever typed Ctrl-C sees nothing wrong.
            Subject::Interrupted => say(&line),
            _ => speak(&self.paint(Color::Red, &line)),
        }
        if self.is_verbose {
            failure.causes().for_each(|cause| say(&format!("  because: {cause}")));
        }
        failure.hints.iter().for_each(|hint| say(&format!("  {hint}")));
        ExitCode::from(failure.kind.exit_code())
    }

    fn paint(&self, color: Color, text: &str) -> Inert {
        let text = Inert::text(text);
        if self.has_color { text.painted(color) } else { text }
    }
}

/// The text with a newline at its end.
fn ended(text: &str) -> String {
    match text.ends_with('\n') {
        true => text.to_owned(),
        false => format!("{text}\n"),
    }
}

/// Prints on stdout at once. Where that is impossible the program ends: quietly when nobody reads any more, else with
/// one message and exit 1.
pub fn deliver(text: &Inert) {
    write_out(text.as_str());
}

fn write_out(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        undeliverable(&error);
    }
}

/// Ends the program because its output cannot be written.
#[expect(
    clippy::exit,
    reason = "a result that has no reader leaves nothing to do, however deep the call is"
)]
pub fn undeliverable(error: &std::io::Error) -> ! {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    say(&format!("error: the output cannot be written: {error}"));
    std::process::exit(1)
}

/// Prints a line on stderr; one that nobody can read any more stops no work.
pub fn say(text: &str) {
    speak(&Inert::text(text));
}

fn speak(text: &Inert) {
    let _ = writeln!(std::io::stderr(), "{}", text.as_str());
}

/// Puts a question on stderr and reads the answer; only `y` and `yes` mean yes. Ctrl-C ends the program.
///
/// **Errors** when the answer cannot be read.
pub fn ask(question: &str) -> std::io::Result<bool> {
    let mut screen = std::io::stderr();
    screen.write_all(Inert::text(question).as_str().as_bytes())?;
    screen.flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(line.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Says on stderr what broke where, when the program meets a fault of its own: the message may quote a foreign text.
pub fn take_over_panics() {
    std::panic::set_hook(Box::new(|panic| {
        // A library that fails on what a stranger wrote is told as an error.
        if !dlm_core::foreign::is_caught() {
            say(&panic.to_string());
        }
    }));
}
