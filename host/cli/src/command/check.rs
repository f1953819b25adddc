//! `dlm check`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueHint};
use dlm_flow::Failure;
use dlm_flow::train::TrainCommand;

use crate::console::Console;
use crate::settings::{Settings, export_probes};
use crate::{render, wiring};

/// `dlm check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Document to read
    #[arg(value_hint = ValueHint::FilePath)]
    pub path: PathBuf,
    /// Print everything that was parsed as JSON
    #[arg(long)]
    pub json: bool,
}

/// Prints what was parsed; a file that does not parse exits 1, with its errors. As text, so does one whose rows have mistakes:
/// `dlm check … && dlm train …` then stops here. The JSON lists them, and its exit code says whether the file parsed.
pub fn run(args: &CheckArgs, settings: &Settings, console: &Console) -> Result<ExitCode, Failure> {
    let world = wiring::World::new(settings, console)?;
    let command = TrainCommand {
        threads: settings.threads.value,
        export_probes: export_probes(false).value,
        ..TrainCommand::plain(args.path.clone())
    };
    let (check, failure) = dlm_flow::check::check(Some((&world.around, &command)), &args.path)?;
    if args.json {
        render::check::json(&check, console);
        return Ok(if failure.is_some() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        });
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    render::check::report(&check, console);
    match check.report.problems.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::FAILURE),
    }
}
