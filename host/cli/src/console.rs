//! How things are said: colour, quiet, verbose, and the one shape of a failure.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use dlm_flow::Failure;

/// The two streams with what the user wants to see on them.
pub struct Console {
    pub is_quiet: bool,
    pub is_verbose: bool,
    has_colour: bool,
}

impl Console {
    /// Reads what the terminal and the environment allow.
    pub fn new(is_quiet: bool, is_verbose: bool) -> Self {
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        Self {
            is_quiet,
            is_verbose,
            has_colour: std::io::stderr().is_terminal() && !is_plain,
        }
    }

    /// Prints an informational line on stderr unless `--quiet`.
    pub fn info(&self, text: &str) {
        if !self.is_quiet {
            eprintln!("{text}");
        }
    }

    /// Prints a diagnostic line on stderr with `--verbose`.
    pub fn detail(&self, text: &str) {
        if self.is_verbose {
            eprintln!("{text}");
        }
    }

    /// Prints a warning on stderr, also with `--quiet`.
    pub fn warning(&self, text: &str) {
        eprintln!("{}", self.paint("33", &format!("warning: {text}")));
    }

    /// Prints remarks about a file on stderr, also with `--quiet`: they have places, excerpts and colour of their own.
    pub fn remarks(&self, text: &str) {
        eprintln!("{}", text.trim_end());
    }

    /// Prints a result on stdout.
    pub fn result(&self, text: &str) {
        print!("{text}");
        if !text.ends_with('\n') {
            println!();
        }
        // A result that cannot be delivered has nobody left to tell.
        let _ = std::io::stdout().flush();
    }

    /// Prints JSON on stdout: two spaces, never coloured, one final newline.
    pub fn json(&self, value: &impl serde::Serialize) {
        let text = serde_json::to_string_pretty(value).expect("reports are plain data");
        self.result(&text);
    }

    /// Prints a failure with its remedies and returns its exit code.
    pub fn failure(&self, failure: &Failure) -> ExitCode {
        if failure.kind == dlm_core::FailureKind::Interrupted && failure.subject == "interrupted" {
            eprintln!(
                "interrupted{}",
                if failure.message.is_empty() {
                    String::new()
                } else {
                    format!(": {}", failure.message)
                }
            );
        } else {
            eprintln!(
                "{}",
                self.paint("31", &format!("{}: {}", failure.subject, failure.message))
            );
        }
        if self.is_verbose {
            failure.causes.iter().for_each(|cause| eprintln!("  because: {cause}"));
        }
        failure.hints.iter().for_each(|hint| eprintln!("  {hint}"));
        ExitCode::from(failure.kind.exit_code())
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.has_colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
