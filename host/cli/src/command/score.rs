//! `dlm score`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueHint};
use dlm_flow::Failure;
use dlm_flow::score::{ScoreCommand, score};

use crate::console::Console;
use crate::render;
use crate::settings::Settings;
use crate::wiring;

/// `dlm score`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").args(["questions", "text"]).required(true).multiple(true))]
pub struct ScoreArgs {
    /// Document whose model answers
    #[arg(value_hint = ValueHint::FilePath)]
    pub path: PathBuf,
    /// JSON file with questions and the words that right answers hold: {"pairs": [{"question": "…", "accept": ["…"],
    /// "paraphrases": ["…"]}], "general": [{"question": "…", "accept": ["…"]}]}
    #[arg(long, value_name = "FILE.json", value_hint = ValueHint::FilePath)]
    pub questions: Option<PathBuf>,
    /// Text file whose mean loss is measured
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub text: Option<PathBuf>,
    /// Ask the base alone, without the trained adapter
    #[arg(long)]
    pub base_only: bool,
    /// Named adapter of a multi-adapter document
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
    /// Adapter in a directory of PEFT's, in the place of the document's own
    #[arg(long, value_name = "DIR", conflicts_with_all = ["adapter", "base_only"], value_hint = ValueHint::DirPath)]
    pub adapter_dir: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// Asks the questions, reads the text, prints counts and losses.
pub fn run(args: &ScoreArgs, settings: &Settings, console: &Console) -> Result<ExitCode, Failure> {
    let world = wiring::World::new(settings, console)?;
    let command = ScoreCommand {
        path: args.path.clone(),
        questions: args.questions.clone(),
        text: args.text.clone(),
        is_base_only: args.base_only,
        adapter: args.adapter.clone(),
        adapter_directory: args.adapter_dir.clone(),
        threads: settings.threads.value,
    };
    let report = score(&world.around, &command)?;
    render::score::report(&report, args.json, console);
    Ok(ExitCode::SUCCESS)
}
