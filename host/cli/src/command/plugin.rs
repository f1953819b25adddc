//! `dlm plugin …`: plugins as files. Only `test` runs one.

mod add;
mod build;
mod install;
mod keys;
mod pack;
mod publish;
mod remove;
mod rounds;
mod sources;
mod test;
mod trust;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use dlm_core::Hints;
use dlm_core::stamp::Stamp;
use dlm_flow::{Clock, Failure};
use dlm_packages::API;
use dlm_packages::Kind;
use dlm_packages::discover::{Finder, Places};
use dlm_packages::error::{Diagnose, PackageError, SelectorError};
use dlm_packages::inspect::{inspect, wit};
use dlm_packages::list::list;
use dlm_packages::settings::Settings as PluginSettings;
use dlm_packages::verify::verify;
use serde_json::json;

use crate::console::Console;
use crate::render;
use crate::settings::Settings;
use crate::wiring;

/// `dlm plugin`.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// List the plugins inside dlm, installed ones, and those in the project's and the system's directories
    List(ListArgs),
    /// Check a plugin, ask for its grants, pin its hash and install it
    Install(install::InstallArgs),
    /// Search an index of plugins
    Search(add::SearchArgs),
    /// Install a plugin of an index by its name
    Add(add::AddArgs),
    /// List installed plugins of which an index has a newer version
    Outdated(add::OutdatedArgs),
    /// Install newer versions from an index
    Update(add::UpdateArgs),
    /// Remove an installed plugin with its grants and compiled code, or the trust in a file where it lies
    Remove(remove::RemoveArgs),
    /// Show everything about a plugin without running it
    Inspect(InspectArgs),
    /// Build a plugin's project with the tools that are here, and pack it
    Build(build::BuildArgs),
    /// Embed plugin.toml into a module or component
    Pack(pack::PackArgs),
    /// Write the index of a directory of packed plugins
    Index(publish::PublishArgs),
    /// Change grants, trust a file where it lies, or trust a signer's key
    Trust(trust::TrustArgs),
    /// List the trusted keys of signers, or revoke one
    Keys(keys::KeysArgs),
    /// Compare every file of the lock with its pinned hash and signature
    Verify(VerifyArgs),
    /// Start the project of a plugin
    New(pack::NewArgs),
    /// Run a plugin's cases with a scripted host, and the checks that every plugin must pass
    Test(test::TestArgs),
}

impl PluginCommand {
    /// True where the answer, a failure included, is wanted as JSON.
    pub fn is_json(&self) -> bool {
        match self {
            PluginCommand::List(args) => args.json,
            PluginCommand::Install(args) => args.json,
            PluginCommand::Inspect(args) => args.json,
            PluginCommand::Verify(args) => args.json,
            PluginCommand::Test(args) => args.json,
            PluginCommand::Keys(args) => args.json,
            PluginCommand::Search(args) => args.json,
            PluginCommand::Add(args) => args.json,
            PluginCommand::Outdated(args) => args.json,
            PluginCommand::Remove(_)
            | PluginCommand::Build(_)
            | PluginCommand::Pack(_)
            | PluginCommand::Index(_)
            | PluginCommand::Update(_)
            | PluginCommand::Trust(_)
            | PluginCommand::New(_) => false,
        }
    }
}

/// `dlm plugin list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only plugins of this kind
    #[arg(long, value_parser = kind(), value_name = "KIND")]
    pub kind: Option<Kind>,
    /// Only plugins that were built for an older plugin API than that of this dlm
    #[arg(long)]
    pub outdated_api: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `dlm plugin inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Name of a plugin, or a file
    #[arg(value_name = "NAME|FILE")]
    pub plugin: String,
    /// Print its types as WIT
    #[arg(long, conflicts_with_all = ["imports", "audit"])]
    pub wit: bool,
    /// Print its imports with the functions that it uses
    #[arg(long, conflicts_with = "audit")]
    pub imports: bool,
    /// Print one line per risk
    #[arg(long)]
    pub audit: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `dlm plugin verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// Parses the word of a kind.
fn kind() -> impl TypedValueParser<Value = Kind> {
    PossibleValuesParser::new(Kind::ALL.map(Kind::name))
        .map(|word| Kind::parse(&word).expect("clap lets only known words through"))
}

/// A selector where a name of an index is wanted.
fn wrong_name(typed: &str) -> PackageError {
    SelectorError {
        text: dlm_core::inert::inert_line(&dlm_core::inert::cut(typed, 120)),
        cause: "is not `NAME` or `NAME@VERSION`".to_owned(),
        hint: Some("a file is installed by: dlm plugin install ./FILE.wasm".to_owned()),
    }
    .into()
}

/// What every command here needs.
pub(crate) struct Manager {
    pub finder: Finder,
    pub settings: PluginSettings,
    /// UTC, as the lock writes it.
    pub now: String,
}

impl Manager {
    fn new(settings: &Settings) -> Result<Manager, Failure> {
        let mut places = wiring::plugins::places(settings.home()?, None);
        // No document is named: the project is the current directory.
        places.project = Some(PathBuf::from("."));
        let settings = PluginSettings::read(&places.home, None).map_err(PackageError::from)?;
        places.is_always_hashed = settings.is_always_hashed;
        let unix_ms = wiring::SystemClock::start().unix_ms();
        Ok(Manager {
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
pub fn run(command: &PluginCommand, settings: &Settings, console: &Console) -> Result<ExitCode, Failure> {
    let manager = Manager::new(settings)?;
    let done = match command {
        PluginCommand::List(args) => run_list(args, &manager, console),
        PluginCommand::Install(args) => install::run(args, &manager, console),
        PluginCommand::Search(args) => add::run_search(args, &manager, console),
        PluginCommand::Add(args) => add::run_add(args, &manager, console),
        PluginCommand::Outdated(args) => add::run_outdated(args, &manager, console),
        PluginCommand::Update(args) => add::run_update(args, &manager, console),
        PluginCommand::Index(args) => publish::run(args, &manager, console),
        PluginCommand::Remove(args) => remove::run(args, &manager, console),
        PluginCommand::Inspect(args) => run_inspect(args, &manager, console),
        PluginCommand::Build(args) => build::run(args, console),
        PluginCommand::Pack(args) => pack::run(args, &manager, console),
        PluginCommand::Trust(args) => trust::run(args, &manager, console),
        PluginCommand::Keys(args) => keys::run(args, &manager, console),
        PluginCommand::Verify(args) => run_verify(args, &manager, console),
        PluginCommand::New(args) => pack::run_new(args, console),
        PluginCommand::Test(args) => test::run(args, &manager, console),
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

fn run_list(args: &ListArgs, manager: &Manager, console: &Console) -> Result<ExitCode, PackageError> {
    let mut rows = list(&manager.finder)?;
    if let Some(kind) = args.kind {
        rows.retain(|row| row.kinds.contains(&kind));
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

fn run_inspect(args: &InspectArgs, manager: &Manager, console: &Console) -> Result<ExitCode, PackageError> {
    let (seen, bytes) = inspect(&manager.finder, &args.plugin)?;
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

fn run_verify(args: &VerifyArgs, manager: &Manager, console: &Console) -> Result<ExitCode, PackageError> {
    let verified = verify(manager.home())?;
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
