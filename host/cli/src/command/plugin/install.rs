//! `dlm plugin install`: fetch, check, show, ask, compile, pin.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use dlm_core::{Cancel, Event, Progress};
use dlm_packages::error::{FilesError, InstallError, PackageError};
use dlm_packages::fetch::{Source, fetch};
use dlm_packages::install::{Asker, InstallFlags, Offer, decide, install, offer};
use dlm_plugins::{Ahead, Metering, NativeProcess};
use serde_json::json;

use super::Setting;
use crate::args::plugin::Install;
use crate::console::Console;
use crate::progress::Screen;
use crate::{render, wiring};

/// Installs a plugin.
pub(super) fn run(args: &Install, setting: &Setting, console: &Console) -> Result<ExitCode, PackageError> {
    let source = Source::parse(&args.source, |typed| setting.finder.resolve(typed))?;
    let interrupt = wiring::Interrupt::install().map_err(unwatched)?;
    let fetched = match &source {
        Source::File(path) => dlm_packages::fetch::from_file(path)?,
        Source::Web(url) => {
            let http = wiring::plugins::LazyHttp::default();
            let agent = format!("dlm/{}", env!("CARGO_PKG_VERSION"));
            console.info(&format!("plugin: fetching {}", dlm_packages::inert(url)));
            fetch(&source, &http, &agent, &interrupt.cancel)?
        }
    };
    let flags = InstallFlags {
        sha256: args.sha256.clone(),
        grants: args.grants.clone(),
        is_granting_requested: args.grant_requested,
        is_allowing_unsigned: args.allow_unsigned,
        name: args.name.clone(),
    };
    let offer = offer(setting.home(), fetched, setting.settings.policy, &flags)?;
    if args.dry_run {
        match args.json {
            true => console.json(&render::plugin::offer_json(&offer)),
            false => console.result(&render::plugin::consent(&offer)),
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !args.json {
        console.info(&render::plugin::consent(&offer));
    }
    let has_terminal = !args.json && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let mut ask = |question: &str| interrupt.ask(&format!("{question} [y/N] ")).map_err(asking_failed);
    let asker: Option<&mut Asker<'_>> = if has_terminal { Some(&mut ask) } else { None };
    let consent = decide(&offer, &flags, asker)?;
    // Before anything is pinned: what cannot be compiled is not installed, and Ctrl-C here leaves all as it was.
    let compiled = compile(&offer, setting, console, &interrupt.cancel)?;
    let entry = install(setting.home(), &offer, &consent, &setting.now)?;
    if args.json {
        console.json(&json!({ "installed": entry }));
        return Ok(ExitCode::SUCCESS);
    }
    console.info(&format!("plugin: installed {} {}", entry.name, entry.version));
    match entry.granted().as_slice() {
        [] => console.info("  granted: nothing"),
        granted => granted
            .iter()
            .for_each(|text| console.info(&format!("  granted: {}", dlm_packages::inert(text)))),
    }
    if let Some(time) = compiled {
        console.info(&format!(
            "  compiled: {:.1} s, kept for its first use",
            time.as_secs_f64()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Compiles what is about to be installed, so that its first use does not wait.
fn compile(
    offer: &Offer,
    setting: &Setting,
    console: &Console,
    cancel: &Cancel,
) -> Result<Option<Duration>, PackageError> {
    let screen = Screen::new(console.is_quiet);
    let phase = format!("compiling {}", dlm_packages::inert(&offer.name));
    screen.event(Event::PhaseStarted {
        phase: phase.clone(),
        total: None,
        unit: "",
    });
    let ahead = Ahead {
        compile: &wiring::plugins::compile(setting.home()),
        metering: Metering::of(&setting.settings),
        name: &offer.name,
        component: &offer.fetched.bytes,
    };
    let process = NativeProcess::new(Vec::new(), Vec::new());
    let compiled = dlm_plugins::compile_ahead(&ahead, &process, cancel);
    screen.event(Event::PhaseEnded { phase });
    Ok(compiled.map_err(|failure| InstallError::Compile(Box::new(failure)))?)
}

fn unwatched(failure: dlm_flow::Failure) -> FilesError {
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
