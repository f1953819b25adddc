//! `dlm plugin install`: fetch, check, show, ask, compile, pin.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use dlm_core::units::duration;
use dlm_core::{Cancel, Event, Progress};
use dlm_packages::error::{FilesError, InstallError, PackageError};
use dlm_packages::fetch::{Source, fetch};
use dlm_packages::install::{Asker, InstallFlags, Offer, decide, install, offer};
use dlm_plugins::{Ahead, Metering, NativeProcess};
use serde_json::json;

use super::Manager;
use crate::console::Console;
use crate::progress::Screen;
use crate::wiring::Interrupt;
use crate::{render, wiring};

/// `dlm plugin install`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// A file or an https: address
    #[arg(value_name = "SRC")]
    pub source: String,
    /// Refuse any file but the one with this hash
    #[arg(long, value_name = "HASH", value_parser = parse_sha256)]
    pub sha256: Option<String>,
    /// Grant a capability that the plugin requests, such as model:current (repeatable)
    #[arg(long = "grant", value_name = "CAP")]
    pub grants: Vec<String>,
    /// Grant everything that the plugin requests, optional ones too
    #[arg(long)]
    pub grant_requested: bool,
    /// Install without a signature where one is needed
    #[arg(long)]
    pub allow_unsigned: bool,
    /// Install it although a newer version is installed
    #[arg(long)]
    pub allow_downgrade: bool,
    /// Install it under this name instead of its own
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Show what would be asked and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print as JSON; nothing is asked
    #[arg(long)]
    pub json: bool,
}

/// Installs a plugin.
pub(super) fn run(args: &InstallArgs, manager: &Manager, console: &Console) -> Result<ExitCode, PackageError> {
    let source = Source::parse(&args.source, |typed| manager.finder.resolve(typed))?;
    let interrupt = wiring::Interrupt::install().map_err(unwatched)?;
    let fetched = match &source {
        Source::File(path) => dlm_packages::fetch::from_file(path)?,
        Source::Web(url) => {
            let http = wiring::plugins::LazyHttp::default();
            let agent = format!("dlm/{}", env!("CARGO_PKG_VERSION"));
            console.info(&format!("plugin: fetching {}", dlm_core::inert::inert(url)));
            fetch(&source, &http, &agent, &interrupt.cancel)?
        }
    };
    let flags = InstallFlags {
        sha256: args.sha256.clone(),
        grants: args.grants.clone(),
        is_granting_requested: args.grant_requested,
        is_allowing_unsigned: args.allow_unsigned,
        is_allowing_downgrade: args.allow_downgrade,
        name: args.name.clone(),
    };
    let offer = offer(manager.home(), fetched, manager.settings.policy, &flags)?;
    let how = How {
        is_dry_run: args.dry_run,
        is_json: args.json,
    };
    complete(&offer, &flags, how, manager, console, &interrupt)
}

/// How far an installation goes, and how it is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    /// Shows the offer and changes nothing.
    pub is_dry_run: bool,
    /// Answers in JSON and asks nothing.
    pub is_json: bool,
}

/// Shows what is offered, asks, compiles and installs.
pub(super) fn complete(
    offer: &Offer,
    flags: &InstallFlags,
    how: How,
    manager: &Manager,
    console: &Console,
    interrupt: &Interrupt,
) -> Result<ExitCode, PackageError> {
    if how.is_dry_run {
        match how.is_json {
            true => console.json(&render::plugin::offer_json(offer)),
            false => console.result(&render::plugin::consent(offer)),
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !how.is_json {
        console.info(&render::plugin::consent(offer));
    }
    let has_terminal = !how.is_json && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let mut ask = |question: &str| interrupt.ask(&format!("{question} [y/N] ")).map_err(asking_failed);
    let asker: Option<&mut Asker<'_>> = if has_terminal { Some(&mut ask) } else { None };
    let consent = decide(offer, flags, asker)?;
    // Before anything is pinned: what cannot be compiled is not installed, and Ctrl-C here leaves all as it was.
    let compiled = compile(offer, manager, console, &interrupt.cancel)?;
    let entry = install(manager.home(), offer, &consent, &manager.now)?;
    wiring::plugins::prune_code(manager.home());
    if how.is_json {
        console.json(&json!({ "installed": entry }));
        return Ok(ExitCode::SUCCESS);
    }
    console.info(&format!("plugin: installed {} {}", entry.name, entry.version));
    match entry.granted().as_slice() {
        [] => console.info("  granted: nothing"),
        granted => granted
            .iter()
            .for_each(|text| console.info(&format!("  granted: {}", dlm_core::inert::inert(text)))),
    }
    if let Some(time) = compiled {
        console.info(&format!(
            "  compiled: {}, kept for its first use",
            duration(time.as_secs_f64())
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Compiles what is about to be installed, so that its first use does not wait.
fn compile(
    offer: &Offer,
    manager: &Manager,
    console: &Console,
    cancel: &Cancel,
) -> Result<Option<Duration>, PackageError> {
    let screen = Screen::new(console.is_quiet);
    let phase = format!("compiling {}", dlm_core::inert::inert(&offer.name));
    screen.event(Event::PhaseStarted {
        phase: phase.clone(),
        total: None,
        unit: "",
    });
    let ahead = Ahead {
        compile: &wiring::plugins::compile(manager.home()),
        metering: Metering::of(&manager.settings),
        name: &offer.name,
        component: &offer.fetched.bytes,
    };
    let process = NativeProcess::new(Vec::new(), Vec::new());
    let compiled = dlm_plugins::compile_ahead(&ahead, &process, cancel);
    screen.event(Event::PhaseEnded { phase });
    Ok(compiled.map_err(|failure| InstallError::Compile(Box::new(failure)))?)
}

pub(super) fn unwatched(failure: dlm_flow::Failure) -> FilesError {
    FilesError {
        action: "watch for Ctrl-C on",
        path: "the terminal".into(),
        source: std::io::Error::other(failure.message()),
    }
}

fn asking_failed(source: std::io::Error) -> PackageError {
    FilesError {
        action: "read the answer from",
        path: "the terminal".into(),
        source,
    }
    .into()
}

fn parse_sha256(text: &str) -> Result<String, String> {
    match text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("expected 64 hex digits".to_owned()),
    }
}
