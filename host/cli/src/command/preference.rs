//! `dlm preference`.

use std::process::ExitCode;

use dlm_flow::Failure;
use dlm_flow::align::{self, ApplyReport, Outcome, Placement, RevertReport};
use dlm_flow::prefer::{MineOptions, MinePorts, Mined, mine};
use dlm_store::PlanKind;

use crate::args::Global;
use crate::args::align::{Mine, Place, Preference};
use crate::args::build::Backend;
use crate::console::Console;
use crate::render;
use crate::wiring::{self, World};

/// Mines, applies, reverts or lists.
pub fn run(command: &Preference, global: &Global, console: &Console) -> Result<ExitCode, Failure> {
    match command {
        Preference::Mine(args) => mine_command(args, global, console),
        Preference::Apply(args) => apply(PlanKind::Preference, args, Placement::End, global, console),
        Preference::Revert(args) => revert(PlanKind::Preference, args, global, console),
        Preference::List(args) => {
            let world = World::new(global, console)?;
            let report = align::list(&world.around(), PlanKind::Preference, &args.path)?;
            match args.json {
                true => console.json(&report),
                false => console.result(&render::align::preferences(&report)),
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// `dlm preference mine` and `dlm synth preferences`.
pub fn mine_command(args: &Mine, global: &Global, console: &Console) -> Result<ExitCode, Failure> {
    let world = World::new(global, console)?;
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
        hub_root: world.hub_root().to_owned(),
    };
    let seed = args.seed.map(i64::cast_unsigned).unwrap_or_default();
    let plugins = wiring::plugins::open(&world, global, console, &args.plugins, Some(&args.path), seed)?;
    let ports = MinePorts {
        judges: &plugins.plugins,
        models: plugins.models.as_ref(),
    };
    let mined = mine(&world.around(), &ports, &options);
    if let Ok(mined) = &mined {
        tell(mined, args, console);
    }
    let document = (args.path.as_path(), "preference-mine");
    wiring::plugins::close(&world, console, &plugins.plugins, Some(document));
    match mined?.stopped {
        Some(failure) => Err(failure),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// 0.7 as typed, not the nearest single-precision number.
pub fn widen(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn tell(mined: &Mined, args: &Mine, console: &Console) {
    let report = &mined.report;
    match args.json {
        true => console.json(report),
        false => console.result(&render::align::mined(report)),
    }
    let path = args.path.display();
    let count = report.additions.len();
    match report.outcome {
        Outcome::Staged => console.info(&format!(
            "preference: staged {count} section(s); write them with `dlm preference apply {path}`"
        )),
        Outcome::Applied => console.info(&format!(
            "preference: wrote {} section(s) into {path}, {} skipped",
            report.written,
            report.skipped.len()
        )),
        Outcome::Empty | Outcome::Shown => {}
    }
}

/// Applies a staged plan of either kind.
pub fn apply(
    kind: PlanKind,
    args: &Place,
    placement: Placement,
    global: &Global,
    console: &Console,
) -> Result<ExitCode, Failure> {
    let world = World::new(global, console)?;
    let (report, empty) = align::apply(&world.around(), kind, &args.path, placement)?;
    let ApplyReport { added, warnings, .. } = &report;
    warnings.iter().for_each(|warning| console.warning(warning));
    match args.json {
        true => console.json(&report),
        false => console.result(&render::align::applied(kind.command(), &report)),
    }
    if let Some(failure) = empty {
        return Err(failure);
    }
    console.info(&format!(
        "{}: wrote {} section(s) into {}, {} skipped",
        kind.command(),
        added.len(),
        args.path.display(),
        report.skipped.len()
    ));
    if kind == PlanKind::Preference {
        console.info("note: this version keeps preferences in the document and does not train on them yet");
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes the sections of either kind out of the document.
pub fn revert(kind: PlanKind, args: &Place, global: &Global, console: &Console) -> Result<ExitCode, Failure> {
    let world = World::new(global, console)?;
    let report: RevertReport = align::revert(&world.around(), kind, &args.path)?;
    match args.json {
        true => console.json(&report),
        false => console.result(&format!(
            "{} revert: removed {} section(s)",
            kind.command(),
            report.removed
        )),
    }
    Ok(ExitCode::SUCCESS)
}
