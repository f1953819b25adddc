//! `dlm plugin …`: plugins as files. Only `test` runs one.

mod install;
mod pack;
mod rounds;
mod test;
mod trust;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dlm_core::Hints;
use dlm_core::stamp::Stamp;
use dlm_flow::{Clock, Failure};
use dlm_packages::API;
use dlm_packages::discover::{Finder, Places};
use dlm_packages::error::{Diagnose, PackageError};
use dlm_packages::inspect::{inspect, wit};
use dlm_packages::list::list;
use dlm_packages::remove::remove;
use dlm_packages::settings::{Settings as PluginSettings, forget};
use dlm_packages::verify::verify;
use serde_json::json;

use crate::args::plugin::{Inspect, List, Plugin, Remove, Verify};
use crate::console::Console;
use crate::render;
use crate::settings::Settings;
use crate::wiring;

/// What every command here needs.
pub(crate) struct Setting {
    pub finder: Finder,
    pub settings: PluginSettings,
    /// UTC, as the lock writes it.
    pub now: String,
}

impl Setting {
    fn new(settings: &Settings) -> Result<Setting, Failure> {
        let mut places = wiring::plugins::places(&settings.home()?, None);
        // No document is named: the project is the current directory.
        places.project = Some(PathBuf::from("."));
        let settings = PluginSettings::read(&places.home, None).map_err(PackageError::from)?;
        places.is_always_hashed = settings.is_always_hashed;
        let unix_ms = wiring::SystemClock::start().unix_ms();
        Ok(Setting {
            finder: Finder::new(places),
            settings,
            now: Stamp::from_unix_ms(i64::try_from(unix_ms).unwrap_or(i64::MAX)).zoned(),
        })
    }

    pub fn places(&self) -> &Places {
        self.finder.places()
    }

    pub fn home(&self) -> &Path {
        &self.places().home
    }
}

/// Manages plugins.
pub fn run(command: &Plugin, settings: &Settings, console: &Console) -> Result<ExitCode, Failure> {
    let setting = Setting::new(settings)?;
    let done = match command {
        Plugin::List(args) => run_list(args, &setting, console),
        Plugin::Install(args) => install::run(args, &setting, console),
        Plugin::Remove(args) => run_remove(args, &setting, console),
        Plugin::Inspect(args) => run_inspect(args, &setting, console),
        Plugin::Pack(args) => pack::run(args, &setting, console),
        Plugin::Trust(args) => trust::run(args, &setting, console),
        Plugin::Verify(args) => run_verify(args, &setting, console),
        Plugin::New(args) => pack::run_new(args, console),
        Plugin::Test(args) => test::run(args, &setting, console),
    };
    match done {
        Ok(code) => Ok(code),
        Err(error) if command.is_json() => {
            console.json(&failure_json(&error));
            Ok(ExitCode::from(Hints::kind(&error).exit_code()))
        }
        Err(error) => Err(error.into()),
    }
}

/// The failure as data, in the shape of `plugins.md` section 6.
fn failure_json(error: &PackageError) -> serde_json::Value {
    let hints = error.hints();
    json!({ "error": {
        "code": error.code(),
        "class": error.class(),
        "message": error.to_string(),
        "hint": hints.first(),
        "hints": hints,
    }})
}

fn run_list(args: &List, setting: &Setting, console: &Console) -> Result<ExitCode, PackageError> {
    let mut rows = list(&setting.finder)?;
    if let Some(kind) = args.kind {
        rows.retain(|row| row.kinds.contains(&kind.kind()));
    }
    if args.outdated_api {
        rows.retain(|row| row.api.as_deref().is_some_and(is_outdated));
    }
    match args.json {
        true => console.json(&json!({ "api": format!("{}.{}", API.0, API.1), "plugins": rows })),
        false => console.result(&render::plugin::list(&rows)),
    }
    Ok(ExitCode::SUCCESS)
}

fn is_outdated(api: &str) -> bool {
    let mut parts = api.split('.').map(|part| part.parse::<u64>().unwrap_or_default());
    let own = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    own < API
}

fn run_inspect(args: &Inspect, setting: &Setting, console: &Console) -> Result<ExitCode, PackageError> {
    let (seen, bytes) = inspect(&setting.finder, &args.plugin)?;
    if args.wit {
        let text = wit(Path::new(&args.plugin), &bytes)?;
        match args.json {
            true => console.json(&json!({ "wit": text })),
            false => console.result(&text),
        }
        return Ok(ExitCode::SUCCESS);
    }
    match (args.json, args.imports, args.audit) {
        (true, true, _) => console.json(&json!({ "imports": seen.imports, "wasi": seen.wasi })),
        (true, _, true) => console.json(&json!({ "risks": seen.risks })),
        (true, ..) => console.json(&seen),
        (false, true, _) => console.result(&render::plugin::imports(&seen)),
        (false, _, true) => console.result(&render::plugin::audit(&seen)),
        (false, ..) => console.result(&render::plugin::inspection(&seen)),
    }
    Ok(ExitCode::SUCCESS)
}

fn run_remove(args: &Remove, setting: &Setting, console: &Console) -> Result<ExitCode, PackageError> {
    // The settings first: a file that cannot be edited is told before anything is gone.
    let has_forgotten = !args.keep_config && forget(setting.home(), &args.name)?;
    let removed = remove(setting.home(), &args.name)?;
    for entry in &removed.entries {
        console.info(&format!("plugin: removed {} {}", entry.name, entry.version));
        if let Some(path) = &entry.path {
            console.info(&format!(
                "  {} is no longer trusted; the file stays",
                dlm_packages::inert(&path.display().to_string())
            ));
        }
        for grant in &entry.grants {
            console.info(&format!(
                "  no longer granted: {}",
                dlm_packages::inert(&grant.capability)
            ));
        }
    }
    if !removed.compiled.is_empty() {
        console.info(&format!("  compiled code: {} removed", removed.compiled.len()));
    }
    if has_forgotten {
        console.info("  its settings in config.toml are gone");
    }
    Ok(ExitCode::SUCCESS)
}

fn run_verify(args: &Verify, setting: &Setting, console: &Console) -> Result<ExitCode, PackageError> {
    let verified = verify(setting.home())?;
    let bad = verified.iter().filter(|one| one.problem.is_some()).count();
    match args.json {
        true => console.json(&json!({ "plugins": verified })),
        false => console.result(&render::plugin::verified(&verified)),
    }
    Ok(match bad {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(1),
    })
}
