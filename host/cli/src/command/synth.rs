//! `dlm synth`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use dlm_core::Cancel;
use dlm_flow::Failure;
use dlm_flow::align::{self, Outcome, Placement};
use dlm_flow::synth::{Filter, Strategies, SynthOptions, SynthPorts, Synthesized, instructions};
use dlm_store::PlanKind;
use serde_json::json;

use super::preference::{apply, mine_command, revert, widen};
use crate::args::Global;
use crate::args::align::{self as args, Instructions, Place, Synth};
use crate::console::Console;
use crate::render;
use crate::wiring::{self, World};

/// Longest sleep without a look at Ctrl-C.
const NAP: Duration = Duration::from_millis(50);

/// Synthesizes, applies, reverts, lists or drops.
pub fn run(command: &Synth, global: &Global, console: &Console) -> Result<ExitCode, Failure> {
    match command {
        Synth::Instructions(args) => instructions_command(args, global, console),
        Synth::Preferences(args) => mine_command(args, global, console),
        Synth::Apply(args) => {
            let placement = if args.inline { Placement::Inline } else { Placement::End };
            apply(PlanKind::Synth, &args.place, placement, global, console)
        }
        Synth::Revert(args) => revert(PlanKind::Synth, args, global, console),
        Synth::List(args) => {
            let world = World::new(global, console)?;
            let report = align::list(&world.around(), PlanKind::Synth, &args.path)?;
            match args.json {
                true => console.json(&report),
                false => console.result(&render::align::pairs(&report)),
            }
            Ok(ExitCode::SUCCESS)
        }
        Synth::Drop(args) => drop_command(args, global, console),
    }
}

fn drop_command(args: &Place, global: &Global, console: &Console) -> Result<ExitCode, Failure> {
    let world = World::new(global, console)?;
    align::drop_plan(&world.around(), PlanKind::Synth, &args.path)?;
    match args.json {
        true => console.json(&json!({"path": args.path, "dropped": true})),
        false => console.info(&format!(
            "synth: the staged plan of {} was dropped",
            args.path.display()
        )),
    }
    Ok(ExitCode::SUCCESS)
}

fn instructions_command(args: &Instructions, global: &Global, console: &Console) -> Result<ExitCode, Failure> {
    let world = World::new(global, console)?;
    let options = options(args, world.hub_root());
    let seed = args.seed.unwrap_or_default();
    let plugins = wiring::plugins::open(&world, global, console, &args.plugins, Some(&args.path), seed)?;
    let ports = SynthPorts {
        teachers: &plugins.plugins,
        models: plugins.models.as_ref(),
        pause: &pause,
    };
    let done = instructions(&world.around(), &ports, &options);
    if let Ok(done) = &done {
        tell(done, args, console);
    }
    let document = (args.path.as_path(), "synth-instructions");
    wiring::plugins::close(&world, console, &plugins.plugins, Some(document));
    match done?.stopped {
        Some(failure) => Err(failure),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn options(args: &Instructions, hub_root: &str) -> SynthOptions {
    SynthOptions {
        path: args.path.clone(),
        teacher: args.teacher.clone(),
        per_section: args.per_section as usize,
        strategies: match args.strategy {
            args::Strategy::Extraction => Strategies::Extraction,
            args::Strategy::Expansion => Strategies::Expansion,
            args::Strategy::Both => Strategies::Both,
        },
        filter: args.filter.map(|filter| match filter {
            args::Filter::Sway => Filter::Sway,
            args::Filter::None => Filter::None,
            args::Filter::DedupOnly => Filter::DedupOnly,
        }),
        threshold: args.threshold,
        pairs_max: args.max_pairs.map(|n| n as usize),
        new_tokens_max: args.max_new_tokens,
        temperature: widen(args.temp),
        top_p: args.top_p.map(widen),
        seed: args.seed,
        concurrency: args.concurrency as usize,
        uses_kept_answers: !args.no_kept_answers,
        applies: args.apply,
        is_inline: args.inline,
        is_dry_run: args.dry_run,
        hub_root: hub_root.to_owned(),
    }
}

/// Waits between two tries of a request, looking at Ctrl-C.
fn pause(wait: Duration, cancel: &Cancel) {
    let until = Instant::now() + wait;
    while !cancel.is_cancelled() && Instant::now() < until {
        std::thread::sleep(NAP.min(until.saturating_duration_since(Instant::now())));
    }
}

fn tell(done: &Synthesized, args: &Instructions, console: &Console) {
    let report = &done.report;
    match args.json {
        true => console.json(report),
        false => console.result(&render::align::synthesized(report)),
    }
    let usage = &report.usage;
    let kept = match usage.kept_answers {
        0 => String::new(),
        kept => format!(", {kept} answer(s) kept from an earlier run"),
    };
    console.info(&format!(
        "synth: {} request(s) to {}: {} prompt and {} completion tokens{kept}",
        usage.requests,
        render::align::first_line(&report.teacher),
        usage.prompt_tokens,
        usage.completion_tokens
    ));
    let path = args.path.display();
    let accepted = report.filter.accepted;
    match report.outcome {
        Outcome::Staged => console.info(&format!(
            "synth: staged {accepted} pair(s); look at them with `dlm synth list {path}`, write them with `dlm synth apply {path}`"
        )),
        Outcome::Applied => console.info(&format!("synth: wrote {} section(s) into {path}", report.written)),
        Outcome::Shown => console.info(&format!("synth: dry run: {accepted} pair(s) accepted, nothing staged or written")),
        Outcome::Empty => {}
    }
}
