//! What can be typed: the whole surface of `dlm`, one file of arguments per group of commands.
//!
//! Invariants: parsing decides nothing but shape; every default that depends on a document or a machine is `None` here.
//! A flag of the reference surface that is not built yet is declared, and refused by [`crate::unbuilt`], never ignored.

pub mod align;
pub mod build;
pub mod plugin;
pub mod plugin_flags;

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueHint};
use dlm_core::Choice;

/// Keeps the options of every command apart from its own.
const GLOBAL_HEADING: &str = "Global options";
/// Sets flags apart that are refused until their feature is built.
pub const NOT_BUILT_HEADING: &str = "Not built yet (refused)";

/// Parses one word of a closed set: the words of documents and records, from the same table.
fn choice<C: Choice + Send + Sync>() -> impl TypedValueParser<Value = C> {
    PossibleValuesParser::new(C::words()).map(|word| {
        // With `ignore_case` clap lets a word through as it was typed.
        let is_meant = |(known, _): &&(&'static str, C)| known.eq_ignore_ascii_case(&word);
        let (_, value) = C::TABLE
            .iter()
            .find(is_meant)
            .expect("clap lets only known words through");
        *value
    })
}

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

/// Options that may stand anywhere on the line.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Directory of all stores and local bases [env: DLM_HOME] [default: ~/.dlm]
    // Not read by clap: a variable must not count as an argument where a bare command prints its help.
    #[arg(long, value_name = "PATH", global = true, help_heading = GLOBAL_HEADING, value_hint = ValueHint::DirPath)]
    pub home: Option<PathBuf>,
    /// Print plan and resolver diagnostics on stderr
    #[arg(short, long, global = true, help_heading = GLOBAL_HEADING, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Print no informational lines
    #[arg(short, long, global = true, help_heading = GLOBAL_HEADING)]
    pub quiet: bool,
    /// Use this many threads (default: every core); results do not depend on it
    #[arg(long, value_name = "N", global = true, help_heading = GLOBAL_HEADING, value_parser = parse_threads)]
    pub threads: Option<u32>,
}

fn parse_threads(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(value) if (1..=1024).contains(&value) => Ok(value),
        _ => Err("expected a whole number from 1 to 1024".to_owned()),
    }
}

/// Every command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a new document and prepare its store
    Init(build::Init),
    /// Teach the base model the document
    Train(Box<build::Train>),
    /// Ask the trained model
    Prompt(build::Prompt),
    /// Ask a list of questions and count the answers that hold the expected words
    Score(build::Score),
    /// Write model files for Ollama or llama-server
    Export(Box<build::Export>),
    /// Show what a document contains, without training
    Check(build::Check),
    /// Show a document's training history and state
    Show(build::Show),
    /// Bring a document's frontmatter to the current schema version
    Migrate(build::Migrate),
    /// Inspect this machine and the plan it would get
    Doctor(build::Doctor),
    /// Query the metrics database of a document
    #[command(arg_required_else_help = true, subcommand_required = true)]
    Metrics {
        #[command(subcommand)]
        command: build::Metrics,
    },
    /// Manage base models that lie on this machine
    #[command(arg_required_else_help = true, subcommand_required = true)]
    Base {
        #[command(subcommand)]
        command: build::Base,
    },
    /// Mine preferences with a judge, stage, apply and revert them
    #[command(arg_required_else_help = true, subcommand_required = true)]
    Preference {
        #[command(subcommand)]
        command: align::Preference,
    },
    /// Synthesize training pairs with a teacher, stage, apply and revert them
    #[command(arg_required_else_help = true, subcommand_required = true)]
    Synth {
        #[command(subcommand)]
        command: align::Synth,
    },
    /// Browse the template gallery
    #[command(arg_required_else_help = true, subcommand_required = true)]
    Templates {
        #[command(subcommand)]
        command: align::Templates,
    },
    /// Manage plugins: judges, teachers, targets, destinations and template sources
    #[command(arg_required_else_help = true, subcommand_required = true)]
    Plugin {
        #[command(subcommand)]
        command: plugin::Plugin,
    },
    /// Talk with the trained model, turn by turn (not built yet)
    Repl(NotBuilt),
    /// Turn failed probes into training pairs (not built yet)
    Harvest(NotBuilt),
    /// Inspect the cache of tokenized sections (not built yet)
    Cache(NotBuilt),
    /// Bundle a document and its model into a pack (not built yet)
    Pack(NotBuilt),
    /// Install a pack (not built yet)
    Unpack(NotBuilt),
    /// Verify a pack's provenance (not built yet)
    Verify(NotBuilt),
    /// Upload a document or pack (not built yet)
    Push(NotBuilt),
    /// Download and install a pack (not built yet)
    Pull(NotBuilt),
    /// Serve a pack on the local network (not built yet)
    Serve(NotBuilt),
}

/// Whatever is typed after a command that is not built yet.
#[derive(Debug, Args)]
pub struct NotBuilt {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub rest: Vec<String>,
}
