//! `dlm base add|list|show|remove`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Subcommand, ValueHint};
use dlm_core::Subject;
use dlm_flow::Failure;
use dlm_store::Home;

use crate::console::{self, Console};
use crate::render;
use crate::settings::Settings;
use crate::wiring::World;

/// `dlm base`.
#[derive(Debug, Subcommand)]
pub enum BaseCommand {
    /// Make a local base from a directory of safetensors, a GGUF file, or a wheel that holds one
    Add {
        /// Name to give it
        name: String,
        /// Directory, .gguf file or .whl file
        #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
        from: PathBuf,
    },
    /// List the registry and the local bases
    List {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what is known about a base
    Show {
        /// Registry key or local name
        name: String,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete a local base
    Remove {
        /// Local name
        name: String,
        /// Do not ask on a terminal
        #[arg(long)]
        force: bool,
    },
}

/// Manages the bases on this machine.
pub fn run(command: &BaseCommand, settings: &Settings, console: &Console) -> Result<ExitCode, Failure> {
    match command {
        BaseCommand::Add { name, from } => {
            let world = World::new(settings, console)?;
            let base = dlm_flow::base::add(&world.around, name, from)?;
            render::base::added(&base, name, console);
        }
        BaseCommand::List { json } => {
            let world = World::new(settings, console)?;
            let list = dlm_flow::base::list(&world.around)?;
            render::base::list(&list, *json, console);
        }
        BaseCommand::Show { name, json } => {
            let world = World::new(settings, console)?;
            let detail = dlm_flow::base::detail(&world.around, name)?;
            render::base::detail(&detail, *json, console);
        }
        BaseCommand::Remove { name, force } => remove(name, *force, settings, console)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks on a terminal; elsewhere the documents that need the base are only named.
fn remove(name: &str, is_forced: bool, settings: &Settings, console: &Console) -> Result<(), Failure> {
    let home = Home::new(settings.home()?);
    let removal = dlm_flow::base::removal(&home, name)?;
    let name = &removal.name;
    render::base::needed(&removal, console);
    let has_terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if has_terminal && !is_forced {
        let is_sure = console::ask(&format!("remove the base {name}? [y/N] "));
        if !is_sure.map_err(|e| Failure::new(Subject::Base, e))? {
            console.info("base: nothing was removed");
            return Ok(());
        }
    }
    dlm_flow::base::remove(&home, &removal)?;
    console.info(&format!("base: removed {name}"));
    Ok(())
}
