//! `dlm migrate`.

use std::process::ExitCode;

use dlm_flow::Failure;
use dlm_flow::migrate::{MigrateOptions, Migration};

use crate::args::build::Migrate;
use crate::console::Console;

/// Migrates and says what became of the file.
pub fn run(args: &Migrate, console: &Console) -> Result<ExitCode, Failure> {
    let report = dlm_flow::migrate::migrate(&MigrateOptions {
        path: args.path.clone(),
        is_dry_run: args.dry_run,
        keeps_backup: !args.no_backup,
    })?;
    let path = report.path.display();
    match &report.outcome {
        Migration::Current => console.info(&format!(
            "migrate: {path} already at v{} (no migrations needed).",
            report.to
        )),
        Migration::Planned { frontmatter } => {
            console.result(frontmatter);
            console.info(&format!("dry-run: {path} would migrate {}", report.chain));
        }
        Migration::Written { backup } => {
            if let Some(backup) = backup {
                console.info(&format!("backup:  {}", backup.display()));
            }
            console.info(&format!("migrated: {path} {}", report.chain));
        }
    }
    Ok(ExitCode::SUCCESS)
}
