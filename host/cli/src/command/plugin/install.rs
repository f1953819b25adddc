//! `dlm plugin install`: fetch, check, show, ask, pin.

use std::io::IsTerminal;
use std::process::ExitCode;

use dlm_plugins::manage::error::ManageError;
use dlm_plugins::manage::fetch::{Source, fetch};
use dlm_plugins::manage::install::{Asker, InstallFlags, decide, install, offer};
use serde_json::json;

use super::Setting;
use crate::args::plugin::Install;
use crate::console::Console;
use crate::{render, wiring};

/// Installs a plugin.
pub(super) fn run(args: &Install, setting: &Setting, console: &Console) -> Result<ExitCode, ManageError> {
    let source = Source::parse(&args.source, |typed| setting.finder.resolve(typed))?;
    let fetched = match &source {
        Source::File(path) => dlm_plugins::manage::fetch::from_file(path)?,
        Source::Web(url) => {
            let failed = |cause: String| ManageError::Fetch {
                url: dlm_plugins::inert(url),
                cause,
            };
            let http = wiring::plugins::LazyHttp::default();
            let cancel = wiring::cancel_on_interrupt().map_err(|failure| failed(failure.message))?;
            let agent = format!("dlm/{}", env!("CARGO_PKG_VERSION"));
            console.info(&format!("plugin: fetching {}", dlm_plugins::inert(url)));
            fetch(&source, &http, &agent, &cancel)?
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
    let mut ask = |question: &str| wiring::ask_plainly(&format!("{question} [y/N] ")).map_err(asking_failed);
    let asker: Option<&mut Asker<'_>> = if has_terminal { Some(&mut ask) } else { None };
    let consent = decide(&offer, &flags, asker)?;
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
            .for_each(|text| console.info(&format!("  granted: {}", dlm_plugins::inert(text)))),
    }
    Ok(ExitCode::SUCCESS)
}

fn asking_failed(source: std::io::Error) -> ManageError {
    ManageError::Files {
        action: "read the answer from",
        path: "the terminal".into(),
        source,
    }
}
