//! `dlm synth`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use dlm_core::Cancel;
use dlm_flow::Failure;
use dlm_flow::staging::{self, Placement};
use dlm_flow::synth::{Filter, Strategies, SynthOptions, SynthPorts, instructions};
use dlm_store::PlanKind;

use super::preference::{MineArgs, mine_command};
use super::sampling::{parse_share, parse_temperature, widen};
use super::staging::{PlaceArgs, apply, revert};
use crate::console::Console;
use crate::plugin_flags::PluginFlags;
use crate::render;
use crate::settings::Settings;
use crate::wiring::plugins::DocumentModel;
use crate::wiring::{self, World};

/// `dlm synth`.
#[derive(Debug, Subcommand)]
pub enum SynthCommand {
    /// Let a teacher write question-answer pairs from the document's prose
    Instructions(Box<InstructionsArgs>),
    /// Mine preferences: the same as `dlm preference mine`
    Preferences(Box<MineArgs>),
    /// Write the staged pairs into the document
    Apply(ApplyArgs),
    /// Take every synthesized pair out of the document
    Revert(PlaceArgs),
    /// List synthesized pairs, in the document and staged
    List(PlaceArgs),
    /// Throw the staged pairs away
    Drop(PlaceArgs),
}

/// `dlm synth apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Put each pair right after the section it was made from
    #[arg(long)]
    pub inline: bool,
}

/// `dlm synth instructions`.
#[derive(Debug, Args)]
pub struct InstructionsArgs {
    /// Document whose prose is read
    #[arg(value_hint = ValueHint::FilePath)]
    pub path: PathBuf,
    /// Teacher: self, self:base, hf:<model>, openai:<model>, anthropic:<model>, vllm-server:<url>, or a plugin
    #[arg(long, value_name = "T", default_value = "self")]
    pub teacher: String,
    /// Pairs asked for per prose section
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub per_section: u32,
    /// What is asked: facts of the prose, questions beyond it, or both
    #[arg(long, value_enum, default_value_t = Strategy::Extraction)]
    pub strategy: Strategy,
    /// What passes: pairs that the prose supports, everything, or everything but near duplicates [default: sway]
    #[arg(long, value_enum)]
    pub filter: Option<FilterChoice>,
    /// Smallest grounding, nats per token; only with --filter sway [default: 0.1]
    #[arg(long, value_name = "F")]
    pub threshold: Option<f64>,
    /// Accept at most this many pairs
    #[arg(long, value_name = "N")]
    pub max_pairs: Option<u32>,
    /// Longest answer of the teacher, in tokens
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub max_new_tokens: u32,
    /// Temperature of the teacher; 0 always takes the likeliest token
    #[arg(long, value_name = "F", default_value_t = 0.0, value_parser = parse_temperature)]
    pub temp: f32,
    /// Teacher samples from the likeliest tokens that together have this probability
    #[arg(long, value_name = "F", value_parser = parse_share)]
    pub top_p: Option<f32>,
    /// Seed of the teacher's sampling
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Teachers that work side by side, where the teacher allows it
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub concurrency: u32,
    /// Ask a remote teacher again for what it answered before
    #[arg(long)]
    pub no_kept_answers: bool,
    /// Named adapter of a multi-adapter document: it teaches and filters, and is given the pairs
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
    /// Write accepted pairs into the document at once
    #[arg(long)]
    pub apply: bool,
    /// With --apply: put each pair right after the section it was made from
    #[arg(long)]
    pub inline: bool,
    /// Show the plan, stage and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the plan as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub plugins: PluginFlags,
}

/// `--strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Strategy {
    Extraction,
    Expansion,
    Both,
}

/// `--filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FilterChoice {
    Sway,
    None,
    DedupOnly,
}

/// Longest sleep without a look at Ctrl-C.
const NAP: Duration = Duration::from_millis(50);

/// Synthesizes, applies, reverts, lists or drops.
pub fn run(command: &SynthCommand, settings: &Settings, console: &Console) -> Result<ExitCode, Failure> {
    match command {
        SynthCommand::Instructions(args) => instructions_command(args, settings, console),
        SynthCommand::Preferences(args) => mine_command(args, settings, console),
        SynthCommand::Apply(args) => {
            let placement = if args.inline { Placement::Inline } else { Placement::End };
            apply(PlanKind::Synth, &args.place, placement, settings, console)
        }
        SynthCommand::Revert(args) => revert(PlanKind::Synth, args, settings, console),
        SynthCommand::List(args) => {
            let world = World::new(settings, console)?;
            let report = staging::list(&world.around, PlanKind::Synth, &args.path)?;
            render::synth::list(&report, args.json, console);
            Ok(ExitCode::SUCCESS)
        }
        SynthCommand::Drop(args) => drop_command(args, settings, console),
    }
}

fn drop_command(args: &PlaceArgs, settings: &Settings, console: &Console) -> Result<ExitCode, Failure> {
    let world = World::new(settings, console)?;
    staging::drop_plan(&world.around, PlanKind::Synth, &args.path)?;
    render::synth::dropped(&args.path, args.json, console);
    Ok(ExitCode::SUCCESS)
}

fn instructions_command(args: &InstructionsArgs, settings: &Settings, console: &Console) -> Result<ExitCode, Failure> {
    let world = World::new(settings, console)?;
    let options = options(args);
    let seed = args.seed.unwrap_or_default();
    let document = DocumentModel {
        path: &args.path,
        adapter: args.adapter.as_deref(),
    };
    let plugins = wiring::plugins::open(&world, settings, console, &args.plugins, Some(document), seed)?;
    let ports = SynthPorts {
        teachers: &plugins.plugins,
        models: plugins.models.as_ref(),
        pause: &pause,
    };
    let done = instructions(&world.around, &ports, &options);
    if let Ok(done) = &done {
        render::synth::instructions(&done.report, args.json, console);
    }
    let document = (args.path.as_path(), "synth-instructions");
    wiring::plugins::close(&world, console, &plugins.plugins, Some(document));
    match done?.stopped {
        Some(failure) => Err(failure),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn options(args: &InstructionsArgs) -> SynthOptions {
    SynthOptions {
        path: args.path.clone(),
        teacher: args.teacher.clone(),
        per_section: args.per_section as usize,
        strategies: match args.strategy {
            Strategy::Extraction => Strategies::Extraction,
            Strategy::Expansion => Strategies::Expansion,
            Strategy::Both => Strategies::Both,
        },
        filter: args.filter.map(|filter| match filter {
            FilterChoice::Sway => Filter::Sway,
            FilterChoice::None => Filter::None,
            FilterChoice::DedupOnly => Filter::DedupOnly,
        }),
        threshold: args.threshold,
        pairs_max: args.max_pairs.map(|n| n as usize),
        new_tokens_max: args.max_new_tokens,
        temperature: widen(args.temp),
        top_p: args.top_p.map(widen),
        seed: args.seed,
        adapter: args.adapter.clone(),
        concurrency: args.concurrency as usize,
        uses_kept_answers: !args.no_kept_answers,
        applies: args.apply,
        is_inline: args.inline,
        is_dry_run: args.dry_run,
    }
}

/// Waits between two tries of a request, looking at Ctrl-C.
fn pause(wait: Duration, cancel: &Cancel) {
    let until = Instant::now() + wait;
    while !cancel.is_cancelled() && Instant::now() < until {
        std::thread::sleep(NAP.min(until.saturating_duration_since(Instant::now())));
    }
}
