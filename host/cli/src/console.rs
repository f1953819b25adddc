//! How things are said: color, quiet, verbose, and the one shape of a failure.
//!
//! Invariant: nothing else in this program prints, so that a stream which cannot be written never is a panic.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use dlm_core::Subject;
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
        say(&self.paint("33", &format!("warning: {text}")));
    }

    /// Prints remarks about a file on stderr, also with `--quiet`: they have places, excerpts and color of their own.
    pub fn remarks(&self, text: &str) {
        say(text.trim_end());
    }

    /// Prints a result on stdout.
    pub fn result(&self, text: &str) {
        deliver(text);
        if !text.ends_with('\n') {
            deliver("\n");
        }
    }

    /// Prints JSON on stdout: two spaces, never colored, one final newline.
    pub fn json(&self, value: &impl serde::Serialize) {
        let text = serde_json::to_string_pretty(value).expect("reports are plain data");
        self.result(&escaped(&text));
    }

    /// Prints a failure with its remedies and returns its exit code.
    pub fn failure(&self, failure: &Failure) -> ExitCode {
        let line = failure.to_string();
        match failure.subject {
            // Whoever typed Ctrl-C sees nothing wrong.
            Subject::Interrupted => say(&line),
            _ => say(&self.paint("31", &line)),
        }
        if self.is_verbose {
            failure.causes().for_each(|cause| say(&format!("  because: {cause}")));
        }
        failure.hints.iter().for_each(|hint| say(&format!("  {hint}")));
        ExitCode::from(failure.kind.exit_code())
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.has_color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Prints on stdout at once. Where that is impossible the program ends: quietly when nobody reads any more, else with
/// one message and exit 1.
pub fn deliver(text: &str) {
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
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Escapes what could redraw a terminal. JSON has such characters inside its strings alone, where an escape means the same.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if dlm_packages::is_harmful(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_json_means_the_same() {
        let text = "plain ü \u{9b}31m\u{7f}\u{202e}\u{e0041}\n";
        let json = serde_json::to_string(text).expect("a text is plain data");
        let shown = escaped(&json);
        assert_eq!(shown, r#""plain ü \u009b31m\u007f\u202e\udb40\udc41\n""#);
        assert_eq!(serde_json::from_str::<String>(&shown).expect("it stays JSON"), text);
    }
}
