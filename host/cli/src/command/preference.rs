//! `dlm preference`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueHint};
use dlm_flow::Failure;
use dlm_flow::prefer::{MineOptions, MinePorts, mine};
use dlm_flow::staging::{self, Placement};
use dlm_store::PlanKind;

use super::sampling::{Backend, backend_detail, parse_share, parse_temperature, widen};
use super::staging::{PlaceArgs, apply, revert};
use crate::console::Console;
use crate::plugin_flags::PluginFlags;
use crate::render;
use crate::settings::Settings;
use crate::wiring::plugins::DocumentModel;
use crate::wiring::{self, World};

/// `dlm preference`.
#[derive(Debug, Subcommand)]
pub enum PreferenceCommand {
    /// Sample answers, judge them and stage the preferences that are found
    Mine(Box<MineArgs>),
    /// Write the staged preferences into the document
    Apply(PlaceArgs),
    /// Take every mined preference out of the document
    Revert(PlaceArgs),
    /// List mined preferences, in the document and staged
    List(PlaceArgs),
}

/// `dlm preference mine` and `dlm synth preferences`.
#[derive(Debug, Args)]
pub struct MineArgs {
    /// Document whose questions are asked
    #[arg(value_hint = ValueHint::FilePath)]
    pub path: PathBuf,
    /// Answers drawn per question, at least 2
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub samples: u32,
    /// Judge: sway, sway:ft, hf:<model>, cli:<cmd>, or a plugin's name or .wasm file
    #[arg(long, value_name = "J", default_value = "sway")]
    pub judge: String,
    /// Smallest margin that counts [default: the judge's own]
    #[arg(long, value_name = "F")]
    pub threshold: Option<f64>,
    /// Keep at most this many pairs
    #[arg(long, value_name = "N")]
    pub max_pairs: Option<u32>,
    /// Sampling temperature, over 0
    #[arg(long, value_name = "F", default_value_t = 0.7, value_parser = parse_temperature)]
    pub temp: f32,
    /// Sample from the likeliest tokens that together have this probability
    #[arg(long, value_name = "F", value_parser = parse_share)]
    pub top_p: Option<f32>,
    /// Back end; `pytorch` names the native one
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    pub backend: Backend,
    /// Named adapter of a multi-adapter document
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
    /// Seed of the sampling [default: the document's]
    #[arg(long, value_name = "N")]
    pub seed: Option<i64>,
    /// Mine questions that are marked `!probe` too
    #[arg(long)]
    pub include_probes: bool,
    /// Leave out a question whose judge fails instead of stopping
    #[arg(long)]
    pub keep_going: bool,
    /// Write into the document at once instead of staging
    #[arg(long)]
    pub apply: bool,
    /// Print the plan as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub plugins: PluginFlags,
}

/// Mines, applies, reverts or lists.
pub fn run(command: &PreferenceCommand, settings: &Settings, console: &Console) -> Result<ExitCode, Failure> {
    match command {
        PreferenceCommand::Mine(args) => mine_command(args, settings, console),
        PreferenceCommand::Apply(args) => apply(PlanKind::Preference, args, Placement::End, settings, console),
        PreferenceCommand::Revert(args) => revert(PlanKind::Preference, args, settings, console),
        PreferenceCommand::List(args) => {
            let world = World::new(settings, console)?;
            let report = staging::list(&world.around, PlanKind::Preference, &args.path)?;
            render::preference::list(&report, args.json, console);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// `dlm preference mine` and `dlm synth preferences`.
pub fn mine_command(args: &MineArgs, settings: &Settings, console: &Console) -> Result<ExitCode, Failure> {
    let world = World::new(settings, console)?;
    let options = MineOptions {
        path: args.path.clone(),
        samples: args.samples as usize,
        judge: args.judge.clone(),
        threshold: args.threshold,
        pairs_max: args.max_pairs.map(|n| n as usize),
        temperature: widen(args.temp),
        top_p: args.top_p.map(widen),
        wants_mlx: args.backend == Backend::Mlx,
        adapter: args.adapter.clone(),
        seed: args.seed,
        includes_probes: args.include_probes,
        keeps_going: args.keep_going,
        applies: args.apply,
    };
    backend_detail(args.backend, console);
    let seed = args.seed.map(i64::cast_unsigned).unwrap_or_default();
    let document = DocumentModel {
        path: &args.path,
        adapter: args.adapter.as_deref(),
    };
    let plugins = wiring::plugins::open(&world, settings, console, &args.plugins, Some(document), seed)?;
    let ports = MinePorts {
        judges: &plugins.plugins,
        models: plugins.models.as_ref(),
    };
    let mined = mine(&world.around, &ports, &options);
    if let Ok(mined) = &mined {
        render::preference::mine(&mined.report, args.json, console);
    }
    let document = (args.path.as_path(), "preference-mine");
    wiring::plugins::close(&world, console, &plugins.plugins, Some(document));
    match mined?.stopped {
        Some(failure) => Err(failure),
        None => Ok(ExitCode::SUCCESS),
    }
}
