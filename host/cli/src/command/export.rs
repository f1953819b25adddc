//! `dlm export`.

use std::process::ExitCode;
use std::sync::Arc;

use dlm_core::ports::model::NoModels;
use dlm_flow::Failure;
use dlm_flow::export::{ExportCommand, ExportReport, export};
use dlm_plan::export::ExportOptions;

use crate::args::Global;
use crate::args::build::Export;
use crate::console::Console;
use crate::wiring::plugins::{Setup, close, plugins};
use crate::{unbuilt, wiring};

/// Exports, checks, hands over to the target, and prints what was made.
pub fn run(args: &Export, global: &Global, console: &Console) -> Result<ExitCode, Failure> {
    unbuilt::export(&args.unbuilt)?;
    if args.adapter.is_some() {
        return Err(Failure::misuse(
            "export",
            "`--adapter` is only valid on documents with several adapters",
        ));
    }
    let world = wiring::World::new(global, console)?;
    let around = world.around();
    let targets = plugins(
        &world,
        console,
        Setup {
            flags: args.plugins.grants(),
            models: Arc::new(NoModels),
            document: Some(&args.path),
            seed: 0,
            is_dry_run: false,
        },
    )?;
    let command = ExportCommand {
        path: args.path.clone(),
        options: ExportOptions {
            quant: args.quant,
            target: Some(args.target.clone()),
            is_merged: args.merged,
            without_template: args.no_template,
            name: args.name.clone(),
            ..ExportOptions::default()
        },
        is_smoked: !args.no_smoke,
        is_registered: !args.skip_ollama,
        threads: global.threads,
        hub_root: world.hub_root().to_owned(),
    };
    let report = export(&around, &targets, &command);
    match &report {
        Ok(report) if args.json => console.json(report),
        Ok(report) => show(report, console),
        Err(_) => {}
    }
    close(&world, console, &targets, Some((args.path.as_path(), "export")));
    report.map(|_| ExitCode::SUCCESS)
}

fn show(report: &ExportReport, console: &Console) {
    for file in &report.files {
        console.info(&format!(
            "export: {} ({})",
            file.path.display(),
            crate::render::size(file.bytes)
        ));
    }
    for check in &report.verified {
        let tokens = check
            .tokens_equal
            .map(|n| format!(", {n} texts tokenized alike"))
            .unwrap_or_default();
        console.info(&format!(
            "verified: {}: {} tensors and {} metadata keys as written{tokens}; next-token divergence {:.1e} (bound {:.0e}), \
             same choice at {} of {} positions",
            check.file,
            check.tensors,
            check.metadata_keys,
            check.logits_kl,
            check.logits_kl_bound,
            check.argmax_equal,
            check.positions
        ));
    }
    report
        .notes
        .iter()
        .for_each(|note| console.info(&format!("note: {note}")));
    if let Some(name) = &report.registered {
        console.info(&format!("{}: registered as {name}", report.target));
    }
    let word = if report.has_answered { "answered" } else { "not run" };
    console.info(&format!("smoke: {word}: {}", report.smoke));
    if !report.usage.is_empty() {
        let directory = dlm_core::shell_quoted(&report.directory.to_string_lossy());
        console.info(&format!("next: cd {directory}"));
    }
    for line in &report.usage {
        console.info(&format!("  {line}"));
    }
}
