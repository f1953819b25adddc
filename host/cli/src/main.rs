//! The `dlm` program: reads arguments and environment, wires ports to use cases, prints reports, sets the exit code.
//!
//! Invariants: results go to stdout, everything else to stderr; one failure is one message; this is the only crate that
//! reads the environment, the clock or a terminal.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is this crate's work")]

mod args;
mod command;
mod completion;
mod console;
mod memory;
mod progress;
mod reference;
mod render;
mod unbuilt;
mod wiring;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::Cli;
use console::Console;
use dlm_plugins::{COUNTING, Metering};

#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator;

fn main() -> ExitCode {
    reset_broken_pipe();
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if let Some(code) = before_parsing(&arguments) {
        return code;
    }
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let is_verbose = cli.global.verbose || std::env::var_os("DLM_VERBOSE").is_some_and(|v| v == "1");
    let console = Console::new(cli.global.quiet, is_verbose);
    for name in ["DLM_LLAMA_CPP_ROOT", "DLM_LLAMA_CPP_BUILD"] {
        if std::env::var_os(name).is_some() {
            console.detail(&format!("{name} is ignored: exports are written without llama.cpp"));
        }
    }
    match command::run(cli, &console) {
        Ok(code) => code,
        Err(failure) => console.failure(&failure),
    }
}

/// The process that compiles one plugin, started by dlm itself so that a plugin which makes the compiler slow or hungry
/// cannot take the user's command down.
fn compile(component: &std::ffi::OsString, code: &std::ffi::OsString, is_counting: bool) -> ExitCode {
    let metering = if is_counting { Metering::Counted } else { Metering::Time };
    match dlm_plugins::compile_file(component.as_ref(), code.as_ref(), metering) {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("{cause}");
            ExitCode::FAILURE
        }
    }
}

/// What is handled before everything else: compiling a plugin, the version, completion scripts, the reference pages.
fn before_parsing(arguments: &[std::ffi::OsString]) -> Option<ExitCode> {
    if let [_, word, component, code, rest @ ..] = arguments
        && word == "__compile"
    {
        return Some(compile(component, code, rest.iter().any(|word| word == COUNTING)));
    }
    fn is(word: &'static str) -> impl Fn(&std::ffi::OsString) -> bool {
        move |argument| argument == word
    }
    if arguments.get(1).is_some_and(|word| word == reference::COMMAND) {
        return Some(reference::print());
    }
    let before_separator: Vec<_> = arguments.iter().skip(1).take_while(|a| *a != "--").cloned().collect();
    if before_separator.iter().any(is("--version")) {
        println!("dlm {}", env!("CARGO_PKG_VERSION"));
        return Some(ExitCode::SUCCESS);
    }
    for (flag, action) in [
        ("--show-completion", completion::show as fn(Option<&str>) -> ExitCode),
        ("--install-completion", completion::install),
    ] {
        if let Some(place) = before_separator.iter().position(is(flag)) {
            let shell = before_separator
                .get(place + 1)
                .and_then(|s| s.to_str())
                .filter(|s| !s.starts_with('-'));
            return Some(action(shell));
        }
    }
    None
}

/// Prints help on stdout with exit 0, misuse on stderr with exit 2.
fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    // Nothing is left to do when the terminal that asked for help is gone.
    let _ = error.print();
    if is_help { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

/// Lets a closed pipe end the program quietly, as other tools do, instead of a panic inside `println!`.
fn reset_broken_pipe() {
    #[cfg(unix)]
    // SAFETY: called first thing in `main`, before any thread exists; SIG_DFL is a valid disposition.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// The clap definition, for completion scripts and reference pages.
pub(crate) fn definition() -> clap::Command {
    Cli::command()
}
