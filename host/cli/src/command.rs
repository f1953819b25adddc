//! The commands, one file each: arguments with their manual, then from arguments to options, use case and report.
//!
//! Invariant: nothing is set up that a command does not use, so that `dlm show` starts in milliseconds.

pub mod base;
pub mod cache;
pub mod check;
mod choice;
pub mod doctor;
pub mod export;
pub mod init;
pub mod metrics;
pub mod migrate;
pub mod plugin;
pub mod preference;
pub mod prompt;
mod sampling;
pub mod score;
pub mod show;
mod staging;
pub mod synth;
pub mod templates;
pub mod train;

use std::process::ExitCode;

use clap::Subcommand;
use dlm_flow::Failure;

use crate::console::Console;
use crate::settings::Settings;
use crate::unbuilt::NotBuiltCommand;

/// Every command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a new document and prepare its store
    Init(init::InitArgs),
    /// Teach the base model the document
    Train(Box<train::TrainArgs>),
    /// Ask the trained model
    Prompt(prompt::PromptArgs),
    /// Ask a list of questions and count the answers that hold the expected words
    Score(score::ScoreArgs),
    /// Write model files for Ollama or llama-server
    Export(Box<export::ExportArgs>),
    /// Show what a document contains, without training
    Check(check::CheckArgs),
    /// Show a document's training history and state
    Show(show::ShowArgs),
    /// Bring a document's frontmatter to the current schema version
    Migrate(migrate::MigrateArgs),
    /// Inspect this machine and the plan it would get
    Doctor(doctor::DoctorArgs),
    /// Query the metrics database of a document
    #[command(arg_required_else_help = true, subcommand_required = true)]
    Metrics {
        #[command(subcommand)]
        command: metrics::MetricsCommand,
    },
    /// Manage base models that lie on this machine
    #[command(arg_required_else_help = true, subcommand_required = true)]
    Base {
        #[command(subcommand)]
        command: base::BaseCommand,
    },
    /// Mine preferences with a judge, stage, apply and revert them
    #[command(arg_required_else_help = true, subcommand_required = true)]
    Preference {
        #[command(subcommand)]
        command: preference::PreferenceCommand,
    },
    /// Synthesize training pairs with a teacher, stage, apply and revert them
    #[command(arg_required_else_help = true, subcommand_required = true)]
    Synth {
        #[command(subcommand)]
        command: synth::SynthCommand,
    },
    /// Browse the template gallery
    #[command(arg_required_else_help = true, subcommand_required = true)]
    Templates {
        #[command(subcommand)]
        command: templates::TemplatesCommand,
    },
    /// Manage plugins: judges, teachers, targets, destinations and template sources
    #[command(arg_required_else_help = true, subcommand_required = true)]
    Plugin {
        #[command(subcommand)]
        command: plugin::PluginCommand,
    },
    /// Inspect caches: compiled code of plugins (that of tokenized sections is not built yet)
    #[command(arg_required_else_help = true, subcommand_required = true)]
    Cache {
        #[command(subcommand)]
        command: cache::CacheCommand,
    },
    #[command(flatten)]
    NotBuilt(NotBuiltCommand),
}

/// Runs a command.
pub fn run(command: &Command, settings: &Settings, console: &Console) -> Result<ExitCode, Failure> {
    match command {
        Command::Init(args) => init::run(args, settings, console),
        Command::Train(args) => train::run(args, settings, console),
        Command::Prompt(args) => prompt::run(args, settings, console),
        Command::Score(args) => score::run(args, settings, console),
        Command::Export(args) => export::run(args, settings, console),
        Command::Check(args) => check::run(args, settings, console),
        Command::Show(args) => show::run(args, settings, console),
        Command::Migrate(args) => migrate::run(args, console),
        Command::Doctor(args) => doctor::run(args, settings, console),
        Command::Metrics { command } => metrics::run(command, settings, console),
        Command::Base { command } => base::run(command, settings, console),
        Command::Plugin { command } => plugin::run(command, settings, console),
        Command::Preference { command } => preference::run(command, settings, console),
        Command::Synth { command } => synth::run(command, settings, console),
        Command::Templates { command } => templates::run(command, settings, console),
        Command::Cache { command } => cache::run(command, settings, console),
        Command::NotBuilt(_) => unreachable!("it was refused before"),
    }
}
