//! `dlm show`.

use std::process::ExitCode;

use dlm_flow::Failure;
use dlm_store::Home;

use crate::args::Global;
use crate::args::build::Show;
use crate::console::Console;
use crate::{render, wiring};

/// Prints the report.
pub fn run(args: &Show, global: &Global, console: &Console) -> Result<ExitCode, Failure> {
    let home = Home::new(wiring::home(global)?);
    let report = dlm_flow::show::show(&home, &args.path)?;
    if args.json {
        console.json(&report);
    } else {
        console.result(&render::show::text(&args.path, &report));
    }
    Ok(ExitCode::SUCCESS)
}
