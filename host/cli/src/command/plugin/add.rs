//! `dlm plugin search`, `add`, `outdated` and `update`: plugins by name, out of an index.

use std::process::ExitCode;

use clap::Args;
use dlm_core::Hints;
use dlm_core::nearest::nearest;
use dlm_packages::Kind;
use dlm_packages::error::{IndexError, PackageError};
use dlm_packages::index::{
    IndexPlugin, IndexSource, OutdatedPlugin, ReadIndex, Release, fetch_release, outdated, read_index, search, wanted,
};
use dlm_packages::install::{InstallFlags, offer};
use dlm_packages::lockfile::Lock;
use dlm_packages::manifest::is_name;
use serde_json::json;

use super::install::{How, complete, unwatched};
use super::{Manager, kind};
use crate::console::Console;
use crate::render::index as render;
use crate::wiring::{Interrupt, plugins::LazyHttp};

/// The flag of every command that reads an index.
#[derive(Debug, Args)]
pub struct IndexFlag {
    /// Index of plugins: an https: address or a directory [default: `index` under [plugins] in config.toml]
    #[arg(long, value_name = "URL|DIR")]
    pub index: Option<String>,
}

/// `dlm plugin search`.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// Only plugins whose name or description holds this text
    pub query: Option<String>,
    /// Only plugins of this kind
    #[arg(long, value_parser = kind(), value_name = "KIND")]
    pub kind: Option<Kind>,
    #[command(flatten)]
    pub from: IndexFlag,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// What may be agreed to beforehand.
#[derive(Debug, Args)]
pub struct ConsentFlags {
    /// Grant everything that the plugin requests, optional ones too
    #[arg(long)]
    pub grant_requested: bool,
    /// Install without a signature where one is needed
    #[arg(long)]
    pub allow_unsigned: bool,
    /// Show what would be asked and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `dlm plugin add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Name in the index, with or without a version: rubric, rubric@1.2.0, rubric@^1.2
    #[arg(value_name = "NAME[@VERSION]")]
    pub plugin: String,
    #[command(flatten)]
    pub from: IndexFlag,
    /// Grant a capability that the plugin requests, such as model:current (repeatable)
    #[arg(long = "grant", value_name = "CAP")]
    pub grants: Vec<String>,
    /// Install it although a newer version is installed
    #[arg(long)]
    pub allow_downgrade: bool,
    #[command(flatten)]
    pub consent: ConsentFlags,
    /// Print as JSON; nothing is asked
    #[arg(long)]
    pub json: bool,
}

/// `dlm plugin outdated`.
#[derive(Debug, Args)]
pub struct OutdatedArgs {
    #[command(flatten)]
    pub from: IndexFlag,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `dlm plugin update`.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// Name of an installed plugin [default: all that were installed from this index]
    pub name: Option<String>,
    #[command(flatten)]
    pub from: IndexFlag,
    /// Grant a capability that the new version requests (repeatable)
    #[arg(long = "grant", value_name = "CAP", requires = "name")]
    pub grants: Vec<String>,
    #[command(flatten)]
    pub consent: ConsentFlags,
}

/// An index that was read, and what it was read through.
struct Opened {
    read: ReadIndex,
    http: LazyHttp,
    agent: String,
    interrupt: Interrupt,
}

impl Opened {
    fn new(from: &IndexFlag, manager: &Manager, console: &Console) -> Result<Opened, PackageError> {
        let resolve = |text: &str| manager.finder.resolve(text);
        let source = match (&from.index, &manager.settings.index) {
            (Some(typed), _) => IndexSource::parse(typed, resolve)?,
            // A directory in the settings is beside them, wherever the user stands.
            (None, Some(set)) => IndexSource::parse(set, |text| manager.home().join(resolve(text)))?,
            (None, None) => return Err(IndexError::NotGiven.into()),
        };
        let interrupt = Interrupt::install().map_err(unwatched)?;
        let (http, agent) = (LazyHttp::default(), format!("dlm/{}", env!("CARGO_PKG_VERSION")));
        let read = read_index(manager.home(), &source, &http, &agent, &interrupt.cancel)?;
        console.detail(&render::line(&read));
        if let Some(age) = render::age(&read.index.date, &manager.now) {
            console.warning(&age);
        }
        Ok(Opened {
            read,
            http,
            agent,
            interrupt,
        })
    }

    fn plugin(&self, name: &str) -> Result<&IndexPlugin, IndexError> {
        let names = self.read.index.plugins.iter().map(|plugin| plugin.name.as_str());
        self.read.index.plugin(name).ok_or_else(|| IndexError::Unknown {
            name: dlm_core::inert::inert_line(name),
            suggestions: nearest(name, names),
        })
    }

    /// Fetches one version and goes the way of every installation.
    fn install(
        &self,
        (name, release): (&str, &Release),
        (flags, how): (&InstallFlags, How),
        manager: &Manager,
        console: &Console,
    ) -> Result<ExitCode, PackageError> {
        console.info(&format!("plugin: fetching {name} {}", release.version));
        let cancel = &self.interrupt.cancel;
        let fetched = fetch_release(&self.read, name, release, &self.http, &self.agent, cancel)?;
        let offer = offer(manager.home(), fetched, manager.settings.policy, flags)?;
        release.compare(name, &offer.checked)?;
        complete(&offer, flags, how, manager, console, &self.interrupt)
    }
}

/// Lists what an index has.
pub(super) fn run_search(args: &SearchArgs, manager: &Manager, console: &Console) -> Result<ExitCode, PackageError> {
    let opened = Opened::new(&args.from, manager, console)?;
    let lock = Lock::read(manager.home())?;
    let found = search(&opened.read.index, &lock, args.query.as_deref(), args.kind);
    match args.json {
        true => console.json(&json!({ "index": render::facts(&opened.read), "plugins": found })),
        false => console.result(&render::found(&found)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Installs a plugin of an index.
pub(super) fn run_add(args: &AddArgs, manager: &Manager, console: &Console) -> Result<ExitCode, PackageError> {
    let refused = || super::wrong_name(&args.plugin);
    let (name, version) = match args.plugin.split_once('@') {
        Some((name, version)) => (name, Some(wanted(version).map_err(|_| refused())?)),
        None => (args.plugin.as_str(), None),
    };
    if !is_name(name) {
        return Err(refused());
    }
    let opened = Opened::new(&args.from, manager, console)?;
    let release = opened.plugin(name)?.choose(version.as_ref())?;
    let flags = InstallFlags {
        is_allowing_downgrade: args.allow_downgrade,
        ..flags(&args.consent, &args.grants)
    };
    let how = How {
        is_dry_run: args.consent.dry_run,
        is_json: args.json,
    };
    opened.install((name, release), (&flags, how), manager, console)
}

/// Lists installed plugins of which an index has a newer version.
pub(super) fn run_outdated(
    args: &OutdatedArgs,
    manager: &Manager,
    console: &Console,
) -> Result<ExitCode, PackageError> {
    let opened = Opened::new(&args.from, manager, console)?;
    let rows = outdated(&opened.read, &Lock::read(manager.home())?);
    match args.json {
        true => console.json(&json!({ "index": render::facts(&opened.read), "plugins": rows })),
        false => console.result(&render::outdated(&rows)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Installs newer versions; one that is refused leaves its old version, and the others go on.
pub(super) fn run_update(args: &UpdateArgs, manager: &Manager, console: &Console) -> Result<ExitCode, PackageError> {
    let opened = Opened::new(&args.from, manager, console)?;
    let lock = Lock::read(manager.home())?;
    let rows = outdated(&opened.read, &lock);
    let flags = flags(&args.consent, &args.grants);
    let how = How {
        is_dry_run: args.consent.dry_run,
        is_json: false,
    };
    let one = |name: &str| {
        let release = opened.plugin(name)?.choose(None)?;
        opened.install((name, release), (&flags, how), manager, console)
    };
    if let Some(name) = &args.name {
        if !rows.iter().any(|row| row.name == *name) {
            return Err(nothing_newer(&opened, &lock, name)?);
        }
        return one(name);
    }
    let (here, elsewhere): (Vec<&OutdatedPlugin>, Vec<&OutdatedPlugin>) = rows.iter().partition(|row| row.is_from_here);
    for row in elsewhere {
        console.info(&render::elsewhere(row));
    }
    if here.is_empty() {
        console.info("plugin: nothing that was installed from this index has a newer version");
    }
    let mut code = ExitCode::SUCCESS;
    for row in here {
        match one(&row.name) {
            Ok(_) => {}
            Err(PackageError::Cancelled) => return Err(PackageError::Cancelled),
            Err(error) => {
                console.warning(&format!("{} stays at {}: {error}", row.name, row.installed));
                error.hints().iter().for_each(|hint| console.info(&format!("  {hint}")));
                console.info(&format!("  flags for it alone: dlm plugin update {} …", row.name));
                code = ExitCode::from(1);
            }
        }
    }
    Ok(code)
}

/// Why a plugin that was named is not updated.
fn nothing_newer(opened: &Opened, lock: &Lock, name: &str) -> Result<PackageError, PackageError> {
    let shown = dlm_core::inert::inert_line(name);
    let Some(entry) = lock.installed(name) else {
        return Ok(IndexError::NotInstalled { name: shown }.into());
    };
    let newest = opened.plugin(name)?.choose(None)?;
    Ok(IndexError::UpToDate {
        name: shown,
        installed: entry.version.clone(),
        newest: newest.version.clone(),
    }
    .into())
}

fn flags(consent: &ConsentFlags, grants: &[String]) -> InstallFlags {
    InstallFlags {
        grants: grants.to_vec(),
        is_granting_requested: consent.grant_requested,
        is_allowing_unsigned: consent.allow_unsigned,
        ..InstallFlags::default()
    }
}
