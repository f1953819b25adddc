//! `dlm export`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use dlm_flow::Failure;
use dlm_flow::export::{ExportCommand, ExportReport, export};
use dlm_net::{LocalHttp, free_loopback_port};
use dlm_plan::export::ExportOptions;
use dlm_plugins::{GrantFlags, LogLevel, NativeProcess, Ports, RunFacts, Targets};

use crate::args::Global;
use crate::args::build::Export;
use crate::console::Console;
use crate::progress::Screen;
use crate::{unbuilt, wiring};

/// Folders in which runtimes are looked for after the user's own path.
const USUAL_FOLDERS: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/opt/homebrew/bin"];

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
    let facts = RunFacts {
        host_version: env!("CARGO_PKG_VERSION").to_owned(),
        seed: 0,
        unix_ms: around.clock.unix_ms(),
        is_dry_run: false,
        log_level: if console.is_verbose {
            LogLevel::Info
        } else {
            LogLevel::Warn
        },
    };
    let ports = Ports {
        process: Rc::new(NativeProcess::new(search_path(), environment())),
        http: Rc::new(LocalHttp),
        free_port: free_loopback_port,
        progress: Rc::new(Screen::new(console.is_quiet)),
        cancel: world.cancel().clone(),
    };
    let targets = Targets::new(facts, ports, &GrantFlags::default())?;
    let command = ExportCommand {
        path: args.path.clone(),
        options: ExportOptions {
            quant: args.quant.map(|q| q.name().to_owned()),
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
    let report = export(&around, &targets, &command)?;
    if args.json {
        console.json(&report);
    } else {
        show(&report, console);
    }
    Ok(ExitCode::SUCCESS)
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
            .map(|n| format!(", {n} texts tokenised alike"))
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
    for line in &report.usage {
        console.info(&format!("  {line}"));
    }
}

fn search_path() -> Vec<PathBuf> {
    let user = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&user)
        .chain(USUAL_FOLDERS.map(PathBuf::from))
        .collect()
}

fn environment() -> Vec<(String, String)> {
    ["PATH", "HOME", "LANG", "TMPDIR"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
        .collect()
}
