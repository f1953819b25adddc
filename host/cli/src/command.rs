//! One file per command: arguments to options, use case, report to the streams.
//!
//! Invariants: a flag that is not built yet is refused before anything is read; nothing is set up that a command does
//! not use, so that `dlm show` starts in milliseconds.

mod base;
mod check;
mod doctor;
mod export;
mod init;
mod metrics;
mod migrate;
mod plugin;
mod preference;
mod prompt;
mod score;
mod show;
mod synth;
mod templates;
mod train;

use std::process::ExitCode;

use dlm_flow::Failure;

use crate::args::{Cli, Command};
use crate::console::Console;
use crate::unbuilt;

/// Runs what was typed.
pub fn run(cli: Cli, console: &Console) -> Result<ExitCode, Failure> {
    let global = &cli.global;
    // Given on two sides of the command, clap does not see that they exclude each other.
    if global.verbose && global.quiet {
        return Err(Failure::misuse(
            "error",
            "`--verbose` and `--quiet` cannot be used together",
        ));
    }
    match &cli.command {
        Command::Init(args) => init::run(args, global, console),
        Command::Train(args) => train::run(args, global, console),
        Command::Prompt(args) => prompt::run(args, global, console),
        Command::Score(args) => score::run(args, global, console),
        Command::Export(args) => export::run(args, global, console),
        Command::Check(args) => check::run(args, global, console),
        Command::Show(args) => show::run(args, global, console),
        Command::Migrate(args) => migrate::run(args, console),
        Command::Doctor(args) => doctor::run(args, global, console),
        Command::Metrics { command } => metrics::run(command, global, console),
        Command::Base { command } => base::run(command, global, console),
        Command::Plugin { command } => plugin::run(command, global, console),
        Command::Repl(_) => Err(unbuilt::command("repl")),
        Command::Preference { command } => preference::run(command, global, console),
        Command::Synth { command } => synth::run(command, global, console),
        Command::Templates { command } => templates::run(command, global, console),
        Command::Harvest(_) => Err(unbuilt::command("harvest")),
        Command::Cache(_) => Err(unbuilt::command("cache")),
        Command::Pack(_) => Err(unbuilt::command("pack")),
        Command::Unpack(_) => Err(unbuilt::command("unpack")),
        Command::Verify(_) => Err(unbuilt::command("verify")),
        Command::Push(_) => Err(unbuilt::command("push")),
        Command::Pull(_) => Err(unbuilt::command("pull")),
        Command::Serve(_) => Err(unbuilt::command("serve")),
    }
}
