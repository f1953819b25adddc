//! `dlm check`.

use std::process::ExitCode;

use dlm_flow::Failure;

use crate::args::build::Check;
use crate::console::Console;
use crate::render;

/// Prints what was parsed; a file that does not parse exits 1, with its errors.
pub fn run(args: &Check, console: &Console) -> Result<ExitCode, Failure> {
    let (check, failure) = dlm_flow::check::check(&args.path)?;
    if args.json {
        console.json(&check.to_json());
        return Ok(if failure.is_some() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        });
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    console.result(&render::check::text(&check));
    if !check.remarks.is_empty() {
        console.remarks(&check.remarks);
    }
    Ok(ExitCode::SUCCESS)
}
