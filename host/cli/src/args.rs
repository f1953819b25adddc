//! What can be typed: the root of the tree. Its commands are listed in `command`, each with its arguments in its own file;
//! the options of every command stand in `settings`.
//!
//! Invariants: parsing decides nothing but shape; every default that depends on a document or a machine is `None` here.
//! A flag of the reference surface that is not built yet is declared, and refused by [`crate::unbuilt`], never ignored.

use clap::{Args, Parser};

use crate::command::Command;
use crate::settings::Global;

/// Turns a text file into a local language model.
#[derive(Debug, Parser)]
#[command(
    name = "dlm",
    version,
    about = "A .dlm text file becomes a local language model: init, train, prompt, export.",
    after_help = "First steps:\n  dlm init notes.dlm --base smollm2-135m\n  dlm train notes.dlm\n  dlm prompt notes.dlm \"a question\"\n  dlm export notes.dlm --target llama-server",
    arg_required_else_help = true,
    subcommand_required = true
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(flatten)]
    pub completion: Completion,
    #[command(subcommand)]
    pub command: Command,
}

/// Handled before parsing (see `main`); declared for the help text.
#[derive(Debug, Args)]
pub struct Completion {
    /// Install completion for a shell (bash, zsh, fish, powershell, elvish) [default: the current one]
    #[arg(long, value_name = "SHELL", num_args = 0..=1)]
    pub install_completion: Option<Option<String>>,
    /// Print the completion script of a shell [default: the current one]
    #[arg(long, value_name = "SHELL", num_args = 0..=1)]
    pub show_completion: Option<Option<String>>,
}
