//! `dlm show`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueHint};
use dlm_flow::Failure;
use dlm_store::Home;

use crate::console::Console;
use crate::render;
use crate::settings::Settings;

/// `dlm show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Document to show
    #[arg(value_hint = ValueHint::FilePath)]
    pub path: PathBuf,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// Prints the report.
pub fn run(args: &ShowArgs, settings: &Settings, console: &Console) -> Result<ExitCode, Failure> {
    let home = Home::new(settings.home()?);
    let report = dlm_flow::show::show(&home, &args.path)?;
    render::show::report(&args.path, &report, args.json, console);
    Ok(ExitCode::SUCCESS)
}
