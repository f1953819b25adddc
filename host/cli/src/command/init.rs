//! `dlm init`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::BoolValueParser;
use clap::{ArgAction, Args, ValueHint};
use dlm_core::{FailureKind, Subject};
use dlm_flow::Failure;
use dlm_flow::init::InitOptions;
use dlm_flow::templates::{self, CheckedTemplate};

use crate::console::Console;
use crate::plugin_flags::PluginFlags;
use crate::render;
use crate::settings::{Settings, export_probes};
use crate::unbuilt::{NotBuilt, not_built};
use crate::wiring::{self, World};

/// `dlm init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Document to create
    #[arg(value_hint = ValueHint::FilePath)]
    pub path: PathBuf,
    /// Registry key, hf:org/name, or a local base [default: qwen2.5-1.5b]
    #[arg(long, value_name = "KEY")]
    pub base: Option<String>,
    /// Start from a template: NAME of the bundled gallery, or SOURCE:NAME; without --base, on the base it was written for
    #[arg(long, value_name = "NAME")]
    pub template: Option<String>,
    /// Scaffold a vision-language document (not built yet)
    #[arg(long, conflicts_with = "template", action = ArgAction::SetTrue, value_parser = not_built(BoolValueParser::new()))]
    pub multimodal: NotBuilt,
    /// Scaffold an audio-language document (not built yet)
    #[arg(long, conflicts_with_all = ["multimodal", "template"], action = ArgAction::SetTrue, value_parser = not_built(BoolValueParser::new()))]
    pub audio: NotBuilt,
    /// Do not ask whether the base can be exported
    #[arg(long)]
    pub skip_export_probes: bool,
    /// Accept the license of a gated base
    #[arg(long)]
    pub i_accept_license: bool,
    /// Overwrite an existing document (it gets a new id; its old store stays)
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub plugins: PluginFlags,
}

/// Makes a document and its store.
pub fn run(args: &InitArgs, settings: &Settings, console: &Console) -> Result<ExitCode, Failure> {
    if args.template.is_none() {
        args.plugins
            .refuse_all("without `--template`, `dlm init` uses no plugin")?;
    }
    let world = World::new(settings, console)?;
    let options = InitOptions {
        path: args.path.clone(),
        base: args.base.clone(),
        export_probes: export_probes(args.skip_export_probes).value,
        accepts_license: args.i_accept_license,
        overwrites: args.force,
    };
    let template = match &args.template {
        Some(text) => Some(template(text, args, settings, console, &world)?),
        None => None,
    };
    let report = dlm_flow::init::init(&world.around, &options, template.as_ref(), &|question| {
        world.ask(question)
    })?;
    render::init::report(&report, console);
    Ok(ExitCode::SUCCESS)
}

/// Fetches and checks a template; its document and files are foreign until then.
fn template(
    text: &str,
    args: &InitArgs,
    settings: &Settings,
    console: &Console,
    world: &World,
) -> Result<CheckedTemplate, Failure> {
    let (source, name) = templates::selector(text)?;
    let plugins = wiring::plugins::open(world, settings, console, &args.plugins, None, 0)?;
    let location = settings.template_location(source)?.value;
    let template = templates::fetch(&plugins.plugins, source, &location, name);
    wiring::plugins::close(world, console, &plugins.plugins, None);
    // An unknown source is the same mistake as an unknown template, which `spec/cli.md` section 4 gives exit 1.
    template.map_err(|failure| Failure {
        kind: FailureKind::Runtime,
        ..failure.under(Subject::Init)
    })
}
