//! `dlm doctor`.

use std::process::ExitCode;

use clap::Args;
use dlm_flow::Failure;
use dlm_flow::doctor::{PluginRuntime, PluginState};

use crate::console::Console;
use crate::render;
use crate::settings::Settings;
use crate::wiring::World;

/// `dlm doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Plan for this base: registry key, local base, or hf:org/name that is on this machine [default: qwen2.5-1.5b]
    #[arg(long, value_name = "KEY")]
    pub base: Option<String>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// Prints the report; a plan that is refused is part of it.
pub fn run(args: &DoctorArgs, settings: &Settings, console: &Console) -> Result<ExitCode, Failure> {
    let world = World::new(settings, console)?;
    let plugins = (plugins(), runtime());
    let report = dlm_flow::doctor::doctor(&world.around, settings.threads.value, args.base.as_deref(), plugins)?;
    render::doctor::report(&report, args.json, console);
    Ok(ExitCode::SUCCESS)
}

/// What runs plugins in this program.
fn runtime() -> PluginRuntime {
    PluginRuntime {
        name: "wasmtime",
        version: dlm_plugins::RUNTIME_VERSION,
        advisories: "https://github.com/bytecodealliance/wasmtime/security/advisories",
    }
}

/// The plugins that come with the program, their bytes checked against the recorded hash; none is loaded.
fn plugins() -> Vec<PluginState> {
    let state = |plugin: &dlm_packages::Builtin| {
        let (state, sha256) = match plugin.checked_sha256() {
            Ok(sha256) => ("ready".to_owned(), Some(sha256)),
            Err(error) => (error.to_string(), None),
        };
        PluginState {
            name: plugin.name.to_owned(),
            state,
            sha256,
            grants: plugin.grants(),
        }
    };
    dlm_packages::builtins().iter().map(state).collect()
}
