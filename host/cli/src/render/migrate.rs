//! `dlm migrate`.

use dlm_flow::migrate::{MigrateReport, Migration};

use crate::console::Console;

/// What became of the file.
pub fn report(report: &MigrateReport, console: &Console) {
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
}
