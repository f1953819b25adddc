//! The `dlm` program: reads arguments and environment, wires ports to use cases, prints reports, sets the exit code.
//!
//! Invariants: results go to stdout, everything else to stderr; one failure is one message; this is the only crate that
//! reads the environment, the clock or a terminal.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod args;
mod command;
mod completion;
mod console;
mod environment;
mod memory;
mod origin;
mod plugin_flags;
mod program;
mod progress;
mod reference;
mod render;
mod settings;
mod tips;
mod unbuilt;
mod watch;
mod wiring;

use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches};

use args::Cli;
use console::Console;
use dlm_core::Subject;
use dlm_core::inert::Inert;
use dlm_flow::Failure;
use dlm_plugins::{COUNTING, Metering, guard};
use settings::Settings;

#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator;

fn main() -> ExitCode {
    console::take_over_panics();
    wiring::outlive_large_files();
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if let Some(code) = before_parsing(&arguments) {
        return code;
    }
    let line = match CommandLine::parse(&arguments) {
        Ok(line) => line,
        Err(error) => return usage(error, &arguments),
    };
    let settings = Settings::resolve(&line.cli.global);
    let console = Console::new(settings.is_quiet, settings.is_verbose.value);
    for name in ["DLM_LLAMA_CPP_ROOT", "DLM_LLAMA_CPP_BUILD"] {
        if environment::path(name).is_some() {
            console.detail(&format!("{name} is ignored: exports are written without llama.cpp"));
        }
    }
    match line.run(&settings, &console) {
        Ok(code) => code,
        Err(failure) => console.failure(&failure),
    }
}

/// What was typed, as clap read it.
struct CommandLine {
    definition: clap::Command,
    /// They know which arguments were typed.
    matches: ArgMatches,
    cli: Cli,
}

impl CommandLine {
    fn parse(arguments: &[std::ffi::OsString]) -> Result<Self, clap::Error> {
        let mut definition = definition();
        let matches = definition.try_get_matches_from_mut(arguments)?;
        if let Some(help) = unbuilt::help(&mut definition, &matches) {
            return Err(help);
        }
        let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut definition))?;
        Ok(Self {
            definition,
            matches,
            cli,
        })
    }

    /// Runs the command, unless it asks for what there is not.
    fn run(&self, settings: &Settings, console: &Console) -> Result<ExitCode, Failure> {
        // Given on two sides of the command, clap does not see that they exclude each other.
        if self.cli.global.verbose && self.cli.global.quiet {
            let what = "`--verbose` and `--quiet` cannot be used together";
            return Err(Failure::misuse(Subject::Error, what));
        }
        unbuilt::refuse(&self.definition, &self.matches)?;
        settings.lines().iter().for_each(|line| console.detail(line));
        command::run(&self.cli.command, settings, console)
    }
}

/// The process that compiles one plugin, started by dlm itself so that a plugin which makes the compiler slow or hungry
/// cannot take the user's command down.
fn compile(component: &std::ffi::OsString, code: &std::ffi::OsString, is_counting: bool) -> ExitCode {
    let metering = if is_counting { Metering::Counted } else { Metering::Time };
    match dlm_plugins::compile_file(component.as_ref(), code.as_ref(), metering) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            console::say(&failure.to_string());
            ExitCode::from(failure.status())
        }
    }
}

/// What is handled before everything else: the processes of dlm itself (guards, compiling a plugin, trials), the version, completion scripts, the reference pages.
fn before_parsing(arguments: &[std::ffi::OsString]) -> Option<ExitCode> {
    if let [_, word, rest @ ..] = arguments
        && word == guard::COMMAND
    {
        return Some(guard::run(rest));
    }
    if let [_, word, component, code, rest @ ..] = arguments
        && word == "__compile"
    {
        dlm_files::end_with_parent();
        return Some(compile(component, code, rest.iter().any(|word| word == COUNTING)));
    }
    if let [_, word, path] = arguments
        && word == wiring::trial::COMMAND
    {
        dlm_files::end_with_parent();
        return Some(wiring::trial::try_text(path));
    }
    fn is(word: &'static str) -> impl Fn(&std::ffi::OsString) -> bool {
        move |argument| argument == word
    }
    if arguments.get(1).is_some_and(|word| word == reference::COMMAND) {
        return Some(reference::print());
    }
    let before_separator: Vec<_> = arguments.iter().skip(1).take_while(|a| *a != "--").cloned().collect();
    if before_separator.iter().any(is("--version")) {
        console::deliver(&Inert::text(concat!("dlm ", env!("CARGO_PKG_VERSION"), "\n")));
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
fn usage(mut error: clap::Error, arguments: &[std::ffi::OsString]) -> ExitCode {
    use clap::error::ErrorKind;
    tips::drop_unbuilt(&mut error, arguments);
    let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if !is_help {
        // A refusal that cannot be read still has its exit code.
        Console::new(false, false).misuse(&error);
        return ExitCode::from(2);
    }
    // Help is the program's own text.
    match error.print() {
        Err(problem) => console::undeliverable(&problem),
        Ok(()) => ExitCode::SUCCESS,
    }
}

/// The clap definition, for completion scripts and reference pages.
pub(crate) fn definition() -> clap::Command {
    with_negative_numbers(Cli::command())
}

/// Lets every option take `-1` and `-0.5` as its value: whether it may be negative is said by the one who reads it, not by
/// taking it for a flag. So may the question of `dlm prompt`.
fn with_negative_numbers(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| {
        let is_typed_text = !arg.is_positional() || arg.get_id() == "query";
        match arg.get_action().takes_values() && is_typed_text {
            true => arg.allow_negative_numbers(true),
            false => arg,
        }
    });
    command.mut_subcommands(with_negative_numbers)
}
