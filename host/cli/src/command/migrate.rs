//! `dlm migrate`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueHint};
use dlm_flow::Failure;
use dlm_flow::migrate::MigrateOptions;

use crate::console::Console;
use crate::render;

/// `dlm migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Document to migrate
    #[arg(value_hint = ValueHint::FilePath)]
    pub path: PathBuf,
    /// Print the migrated frontmatter, write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Keep no .dlm.bak
    #[arg(long)]
    pub no_backup: bool,
}

/// Migrates and says what became of the file.
pub fn run(args: &MigrateArgs, console: &Console) -> Result<ExitCode, Failure> {
    let report = dlm_flow::migrate::migrate(&MigrateOptions {
        path: args.path.clone(),
        is_dry_run: args.dry_run,
        keeps_backup: !args.no_backup,
    })?;
    render::migrate::report(&report, console);
    Ok(ExitCode::SUCCESS)
}
