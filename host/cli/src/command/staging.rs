//! What `preference` and `synth` share: the plan that is staged for a document, written into it or taken out again.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueHint};
use dlm_flow::Failure;
use dlm_flow::staging::{self, Placement};
use dlm_store::PlanKind;

use crate::console::Console;
use crate::render;
use crate::settings::Settings;
use crate::wiring::World;

/// A document, and whether to answer as JSON.
#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// Document
    #[arg(value_hint = ValueHint::FilePath)]
    pub path: PathBuf,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// Applies a staged plan of either kind.
pub fn apply(
    kind: PlanKind,
    args: &PlaceArgs,
    placement: Placement,
    settings: &Settings,
    console: &Console,
) -> Result<ExitCode, Failure> {
    let world = World::new(settings, console)?;
    let (report, empty) = staging::apply(&world.around, kind, &args.path, placement)?;
    render::staging::apply(kind, &report, args.json, console);
    if let Some(failure) = empty {
        return Err(failure);
    }
    render::staging::wrote(kind, &report, console);
    Ok(ExitCode::SUCCESS)
}

/// Takes the sections of either kind out of the document.
pub fn revert(kind: PlanKind, args: &PlaceArgs, settings: &Settings, console: &Console) -> Result<ExitCode, Failure> {
    let world = World::new(settings, console)?;
    let report = staging::revert(&world.around, kind, &args.path)?;
    render::staging::revert(kind, &report, args.json, console);
    Ok(ExitCode::SUCCESS)
}
