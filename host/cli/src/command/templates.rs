//! `dlm templates`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use dlm_flow::Failure;
use dlm_flow::templates::{BUNDLED, list};

use crate::console::Console;
use crate::plugin_flags::PluginFlags;
use crate::render;
use crate::settings::Settings;
use crate::wiring::{self, World};

/// `dlm templates`.
#[derive(Debug, Subcommand)]
pub enum TemplatesCommand {
    /// List the templates of the bundled gallery or of another source
    List(ListArgs),
}

/// `dlm templates list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only templates that match this text
    pub query: Option<String>,
    /// Source of templates: bundled, or one that is configured
    #[arg(long, value_name = "NAME", default_value = "bundled")]
    pub source: String,
    /// Print everything that is known of each template as JSON
    #[arg(long)]
    pub json: bool,
    /// Refresh from the upstream gallery (there is none yet: the bundled one is shown)
    #[arg(long)]
    pub refresh: bool,
    /// Take an upstream gallery without a signature (reserved)
    #[arg(long, requires = "refresh")]
    pub accept_unsigned: bool,
    #[command(flatten)]
    pub plugins: PluginFlags,
}

/// Lists templates.
pub fn run(command: &TemplatesCommand, settings: &Settings, console: &Console) -> Result<ExitCode, Failure> {
    let TemplatesCommand::List(args) = command;
    let world = World::new(settings, console)?;
    let plugins = wiring::plugins::open(&world, settings, console, &args.plugins, None, 0)?;
    let source = source(args, console);
    let location = settings.template_location(source)?.value;
    let rows = list(&plugins.plugins, source, &location, args.query.as_deref());
    if let Ok(rows) = &rows {
        render::templates::list(rows, source, args.query.as_deref(), args.json, console);
    }
    wiring::plugins::close(&world, console, &plugins.plugins, None);
    rows.map(|_| ExitCode::SUCCESS)
}

/// There is no upstream gallery yet, so refreshing falls back to the bundled one, as documented.
fn source<'a>(args: &'a ListArgs, console: &Console) -> &'a str {
    if !args.refresh {
        return &args.source;
    }
    let unsigned = if args.accept_unsigned { ", signed or not" } else { "" };
    console.warning(&format!(
        "there is no upstream gallery yet{unsigned}: the bundled one is shown"
    ));
    BUNDLED
}
