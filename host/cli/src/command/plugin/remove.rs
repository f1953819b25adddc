//! `dlm plugin remove`: an installed plugin, or the trust in a file where it lies.

use std::process::ExitCode;

use clap::Args;
use dlm_core::inert::{inert, inert_line};
use dlm_packages::error::PackageError;
use dlm_packages::inspect::is_file_name;
use dlm_packages::remove::{remove, untrust};
use dlm_packages::settings::forget;

use super::Manager;
use crate::console::Console;

/// `dlm plugin remove`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Name of an installed plugin, or a file that was trusted where it lies
    #[arg(value_name = "NAME|FILE")]
    pub plugin: String,
    /// Leave its settings in config.toml
    #[arg(long)]
    pub keep_config: bool,
}

/// Removes one.
pub(super) fn run(args: &RemoveArgs, manager: &Manager, console: &Console) -> Result<ExitCode, PackageError> {
    let is_file = is_file_name(&args.plugin);
    // The settings first: a file that cannot be edited is told before anything is gone. Those of a name that a file shares with
    // an installed plugin stay.
    let has_forgotten = !is_file && !args.keep_config && forget(manager.home(), &args.plugin)?;
    let removed = match is_file {
        true => untrust(manager.home(), &manager.finder.resolve(&args.plugin))?,
        false => remove(manager.home(), &args.plugin)?,
    };
    match &removed.entry {
        None => {
            let name = inert_line(&args.plugin);
            console.info(&format!("plugin: removed what an interrupted removal left of {name}"));
        }
        Some(entry) => {
            console.info(&format!("plugin: removed {} {}", entry.name, entry.version));
            if let Some(path) = &entry.path {
                let path = inert(&path.display().to_string());
                console.info(&format!("  {path} is no longer trusted; the file stays"));
            }
            for grant in &entry.grants {
                console.info(&format!("  no longer granted: {}", inert(&grant.capability)));
            }
        }
    }
    if !removed.compiled.is_empty() {
        console.info(&format!("  compiled code: {} removed", removed.compiled.len()));
    }
    if has_forgotten {
        console.info("  its settings in config.toml are gone");
    }
    Ok(ExitCode::SUCCESS)
}
