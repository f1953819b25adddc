//! `dlm check`.

use std::process::ExitCode;

use dlm_flow::Failure;

use crate::args::Global;
use crate::args::build::Check;
use crate::console::Console;
use crate::{render, wiring};

/// Prints what was parsed; a file that does not parse exits 1, with its errors. As text, so does one whose rows have mistakes:
/// `dlm check … && dlm train …` then stops here. The JSON lists them, and its exit code says whether the file parsed.
pub fn run(args: &Check, global: &Global, console: &Console) -> Result<ExitCode, Failure> {
    let world = wiring::World::new(global, console)?;
    let (check, failure) = dlm_flow::check::check(Some(&world.around()), &args.path)?;
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
    check.advice.iter().for_each(|advice| console.warning(advice));
    match check.report.problems.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::FAILURE),
    }
}
