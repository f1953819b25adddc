//! `dlm cache`: what dlm keeps to save time.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use dlm_core::Subject;
use dlm_flow::Failure;
use dlm_packages::error::PackageError;
use dlm_packages::lockfile::Lock;

use crate::console::Console;
use crate::render;
use crate::settings::Settings;
use crate::unbuilt::Rest;
use crate::wiring;

/// `dlm cache`.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Show the compiled code of plugins, or take it out
    Plugins(PluginsArgs),
    /// Show the cache of a document's tokenized sections (not built yet)
    Show(Rest),
    /// Take old entries out of the cache of tokenized sections (not built yet)
    Prune(Rest),
    /// Empty the cache of tokenized sections (not built yet)
    Clear(Rest),
}

/// `dlm cache plugins`.
#[derive(Debug, Args)]
pub struct PluginsArgs {
    /// Take out what was not used for 30 days, and the longest unused beyond 2 GiB, as every run with plugins does at its end
    #[arg(long)]
    pub prune: bool,
    /// Take everything out; plugins are compiled again at their next use
    #[arg(long, conflicts_with = "prune")]
    pub clear: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// Shows or empties a cache.
pub fn run(command: &CacheCommand, settings: &Settings, console: &Console) -> Result<ExitCode, Failure> {
    let CacheCommand::Plugins(args) = command else {
        unreachable!("it was refused before")
    };
    let home = settings.home()?;
    let cache = wiring::plugins::code_cache(home);
    let now = SystemTime::now();
    if args.prune || args.clear {
        let removed = if args.clear { cache.clear() } else { cache.prune(now) };
        render::cache::removed(&removed, &cache, args.json, console);
        return Ok(ExitCode::SUCCESS);
    }
    let shown = render::cache::Shown {
        kept: cache.kept(),
        owners: owners(home)?,
        keys: dlm_plugins::current_keys().map_err(|error| Failure::from(error).under(Subject::Plugin))?,
        now,
    };
    render::cache::plugins(&shown, cache.directory(), args.json, console);
    Ok(ExitCode::SUCCESS)
}

/// The plugins that are known here, by the hash of their component.
fn owners(home: &std::path::Path) -> Result<BTreeMap<String, String>, Failure> {
    let inside = dlm_packages::builtins().iter().filter_map(|plugin| {
        let sha256 = plugin.checked_sha256().ok()?;
        Some((sha256, format!("{} (inside dlm)", plugin.name)))
    });
    let lock = Lock::read(home).map_err(PackageError::from)?;
    let listed = lock.plugins.into_iter().map(|entry| {
        let place = if entry.path.is_some() {
            " (trusted where it lies)"
        } else {
            ""
        };
        (entry.sha256, format!("{} {}{place}", entry.name, entry.version))
    });
    Ok(inside.chain(listed).collect())
}
