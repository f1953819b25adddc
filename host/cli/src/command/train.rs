//! `dlm train`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{BoolValueParser, StringValueParser};
use clap::{ArgAction, Args, ValueHint};
use dlm_core::hardware::SimdLevel;
use dlm_core::training::{PhaseSelection, SourcesPolicy};
use dlm_core::{FailureKind, Subject};
use dlm_flow::Failure;
use dlm_flow::train::{self, TrainCommand};
use dlm_plan::lock::LockFlags;
use dlm_plan::train::Switches;

use super::choice::{choice, on_or_off};
use crate::console::Console;
use crate::settings::{Settings, cache_off, export_probes};
use crate::unbuilt::{self, NotBuilt, not_built};
use crate::{render, wiring};

/// `dlm train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Document to train
    #[arg(value_hint = ValueHint::FilePath)]
    pub path: PathBuf,
    /// Continue an interrupted run, or train the current adapter further
    #[arg(long, conflicts_with = "fresh")]
    pub resume: bool,
    /// Start from the base's weights (the default)
    #[arg(long)]
    pub fresh: bool,
    /// Override the document's seed
    #[arg(long, value_name = "N")]
    pub seed: Option<i64>,
    /// Stop after this many steps
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub max_steps: Option<u64>,
    /// Which phases run
    #[arg(long, value_parser = choice::<PhaseSelection>(), default_value = "all")]
    pub phase: PhaseSelection,
    /// Leave preferences out that a judge mined
    #[arg(long)]
    pub no_mined: bool,
    /// Train even where it takes longer than 12 hours here
    #[arg(long)]
    pub yes_slow: bool,
    /// Print the plan and stop before any weight is loaded
    #[arg(long)]
    pub dry_run: bool,
    /// Print the report as JSON (with --dry-run: the plan)
    #[arg(long)]
    pub json: bool,
    /// Accept the license of a gated base
    #[arg(long)]
    pub i_accept_license: bool,
    /// Fail on any drift from dlm.lock
    #[arg(long, conflicts_with_all = ["update_lock", "ignore_lock"])]
    pub strict_lock: bool,
    /// Do not compare with dlm.lock; write a new one
    #[arg(long, conflicts_with = "ignore_lock")]
    pub update_lock: bool,
    /// Neither compare with dlm.lock nor write it
    #[arg(long)]
    pub ignore_lock: bool,
    /// Make every failed write to the metrics database an error
    #[arg(long)]
    pub strict_metrics: bool,
    /// Do not ask whether the base can be exported
    #[arg(long)]
    pub skip_export_probes: bool,
    /// Do not use the cache of tokenized sections (there is none yet, so no run does)
    #[arg(long)]
    pub no_cache: bool,
    #[command(flatten)]
    pub recipe: RecipeFlags,
    #[command(flatten)]
    pub unbuilt: TrainUnbuilt,
}

/// Flags of `dlm train` that depart from the recipe; without them the plan decides.
#[derive(Debug, Args)]
#[command(next_help_heading = "Recipe")]
pub struct RecipeFlags {
    /// Train rows of the base's own output beside the document's, so that it keeps what it could answer [default: on]
    #[arg(long, value_parser = on_or_off(), value_name = "on|off", hide_possible_values = true)]
    pub anchors: Option<bool>,
    /// Reword questions at every visit [default: on]
    #[arg(long, value_parser = on_or_off(), value_name = "on|off", hide_possible_values = true)]
    pub augment: Option<bool>,
    /// Put wrong tokens into answers where they are read, never where they are learned [default: on]
    #[arg(long, value_parser = on_or_off(), value_name = "on|off", hide_possible_values = true)]
    pub noise: Option<bool>,
    /// Use no more than this instruction set [default: the most that the processor has]
    #[arg(long, value_parser = choice::<SimdLevel>(), value_name = "LEVEL")]
    pub simd: Option<SimdLevel>,
}

/// Flags of `dlm train` that are refused until their feature is built.
#[derive(Debug, Args)]
#[command(next_help_heading = unbuilt::HEADING)]
pub struct TrainUnbuilt {
    /// Train on several devices
    #[arg(long, value_name = "SPEC", value_parser = not_built(StringValueParser::new()))]
    pub gpus: Option<NotBuilt>,
    /// Train again whenever the document is saved
    #[arg(long, action = ArgAction::SetTrue, value_parser = not_built(BoolValueParser::new()))]
    pub watch: NotBuilt,
    /// Steps of one --watch cycle
    #[arg(long, value_name = "N", value_parser = not_built(clap::value_parser!(u64)))]
    pub watch_max_steps: Option<NotBuilt>,
    /// Quiet time before a --watch cycle
    #[arg(long, value_name = "N", value_parser = not_built(clap::value_parser!(u64)))]
    pub watch_debounce_ms: Option<NotBuilt>,
    /// Talk with the model while --watch trains it
    #[arg(long, action = ArgAction::SetTrue, value_parser = not_built(BoolValueParser::new()))]
    pub repl: NotBuilt,
    /// Base for a directory that is scaffolded
    #[arg(long, value_name = "KEY", value_parser = not_built(StringValueParser::new()))]
    pub base: Option<NotBuilt>,
    /// Files to take in from a scaffolded directory
    #[arg(long, value_name = "GLOB", value_parser = not_built(StringValueParser::new()))]
    pub include: Vec<NotBuilt>,
    /// Files to leave out of a scaffolded directory
    #[arg(long, value_name = "GLOB", value_parser = not_built(StringValueParser::new()))]
    pub exclude: Vec<NotBuilt>,
    /// Descend into subdirectories when scaffolding
    #[arg(long, overrides_with = "no_recursive", action = ArgAction::SetTrue, value_parser = not_built(BoolValueParser::new()))]
    pub recursive: NotBuilt,
    /// Do not descend into subdirectories when scaffolding
    #[arg(long, action = ArgAction::SetTrue, value_parser = not_built(BoolValueParser::new()))]
    pub no_recursive: NotBuilt,
    /// Name of the scaffolded document
    #[arg(long, value_name = "NAME", value_parser = not_built(StringValueParser::new()))]
    pub name: Option<NotBuilt>,
    /// Which files sources may name
    #[arg(long, value_parser = not_built(choice::<SourcesPolicy>()))]
    pub policy: Option<NotBuilt>,
    /// Write a scaffolded document again
    #[arg(long, action = ArgAction::SetTrue, value_parser = not_built(BoolValueParser::new()))]
    pub rescaffold: NotBuilt,
    /// Accept probes over a socket during --watch
    #[arg(long, value_name = "HOST:PORT", value_parser = not_built(StringValueParser::new()))]
    pub listen_rpc: Option<NotBuilt>,
    /// End after this many --watch cycles
    #[arg(long, value_name = "N", value_parser = not_built(clap::value_parser!(u64)))]
    pub max_cycles: Option<NotBuilt>,
}

/// Trains, or with `--dry-run` shows what would be done.
pub fn run(args: &TrainArgs, settings: &Settings, console: &Console) -> Result<ExitCode, Failure> {
    if args.path.is_dir() {
        let what = format!(
            "{} is a directory, and making a document of a directory's files is not built yet in this version",
            args.path.display()
        );
        return Err(Failure::misuse(Subject::Error, what).hint("write a document: `dlm init <path>.dlm`"));
    }
    let world = wiring::World::new(settings, console)?;
    let around = &world.around;
    let command = TrainCommand {
        path: args.path.clone(),
        is_resume: args.resume,
        seed: args.seed,
        max_steps: args.max_steps,
        threads: settings.threads.value,
        switches: Switches {
            anchors: args.recipe.anchors,
            augment: args.recipe.augment,
            noise: args.recipe.noise,
            simd_max: args.recipe.simd,
        },
        phases: args.phase,
        skips_mined: args.no_mined,
        allows_slow: args.yes_slow,
        cache_off: cache_off(args.no_cache),
        lock: LockFlags {
            strict: args.strict_lock,
            update: args.update_lock,
            ignore: args.ignore_lock,
        },
        is_strict_about_metrics: args.strict_metrics,
        accepts_license: args.i_accept_license,
        export_probes: export_probes(args.skip_export_probes).value,
    };
    command.lock.mode()?;
    if !args.dry_run {
        train::settle(around, &args.path)?;
    }
    let prepared = match train::prepare(around, &command) {
        // A document without a row is no failure.
        Err(failure) if failure.kind == FailureKind::NothingToDo => {
            render::train::nothing_to_do(&failure, console);
            return Ok(ExitCode::SUCCESS);
        }
        other => other?,
    };
    if args.dry_run {
        let resumed: Vec<_> = prepared
            .iter()
            .map(|run| train::rehearse(around, &command, run))
            .collect::<Result<_, _>>()?;
        render::train::plans(&prepared, resumed, args.json, console);
        return Ok(ExitCode::SUCCESS);
    }
    render::train::details(&prepared, console);
    let mut reports = Vec::new();
    let outcome = train::run(around, &command, &prepared, &mut |report| {
        render::train::report(report, console);
        reports.push(report.clone());
    });
    if let Ok(Some(gate)) = &outcome {
        render::train::gate(gate, console);
    }
    render::train::results(&reports, outcome.as_ref().ok(), &args.path, args.json, console);
    outcome?;
    Ok(ExitCode::SUCCESS)
}

fn parse_count(text: &str) -> Result<u64, String> {
    match text.parse::<u64>() {
        Ok(value) if value >= 1 => Ok(value),
        _ => Err("expected a whole number of at least 1".to_owned()),
    }
}
