//! `dlm show`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueHint};
use dlm_flow::Failure;
use dlm_store::Home;

use crate::console::Console;
use crate::render;
use crate::settings::Settings;
use crate::wiring;

/// `dlm show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Document to show
    #[arg(value_hint = ValueHint::FilePath)]
    pub path: PathBuf,
    /// Read every file that has a digest, and exit with 1 where one is damaged
    #[arg(long)]
    pub verify: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// Prints the report.
pub fn run(args: &ShowArgs, settings: &Settings, console: &Console) -> Result<ExitCode, Failure> {
    let home = Home::new(settings.home()?);
    let report = dlm_flow::show::show(&home, &args.path)?;
    let damage = match args.verify {
        true => {
            let world = wiring::World::new(settings, console)?;
            Some(dlm_flow::show::verify(&world.around, &args.path)?)
        }
        false => None,
    };
    render::show::report(&args.path, &report, damage.as_deref(), args.json, console);
    match damage {
        Some(damage) if !damage.is_empty() => Ok(ExitCode::FAILURE),
        _ => Ok(ExitCode::SUCCESS),
    }
}
