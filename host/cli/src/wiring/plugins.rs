//! Makes the plugin host of a command: its ports, places, grants and settings, out of arguments and environment.
//!
//! Invariant: nothing is opened here. The network client, the key store, the lock and the compiler are touched when a
//! plugin needs them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use dlm_core::http_rule::HttpRule;
use dlm_core::ports::guest_http::{GuestHttp, GuestHttpError, GuestRequest, GuestResponse};
use dlm_core::ports::model::Models;
use dlm_core::{Cancel, Subject};
use dlm_flow::Failure;
use dlm_flow::models::{EngineModels, EngineSetup};
use dlm_net::{GuestClient, GuestSettings, free_loopback_port};
use dlm_packages::PackageError;
use dlm_packages::discover::{Places, SYSTEM_DIRECTORIES};
use dlm_packages::settings::Settings as PluginSettings;
use dlm_plugins::{CodeCache, Compile, GrantFlags, LogLevel, Metering, NativeProcess, Plugins, Ports, RunFacts};
use dlm_store::secrets::KeyStore;

use super::World;
use super::hub::{certificates, who_is_offline};
use crate::console::Console;
use crate::environment;
use crate::plugin_flags::PluginFlags;
use crate::render;
use crate::settings::Settings;

/// Directories in which programs are looked for after the user's own path.
const USUAL_DIRECTORIES: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/opt/homebrew/bin"];
/// Teachers whose address a variable can change, with the secret that then goes there.
const BASE_URLS: [(&str, &str, &str); 2] = [
    ("openai", "OPENAI_BASE_URL", "OPENAI_API_KEY"),
    ("anthropic", "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"),
];

/// Where they ask without it, as their manifests have it.
const USUAL_ADDRESSES: [(&str, &str); 2] = [
    ("openai", "https://api.openai.com/v1"),
    ("anthropic", "https://api.anthropic.com/v1"),
];

/// What a command knows about its plugins.
pub struct Setup<'a> {
    pub flags: GrantFlags,
    /// The model of the run; [`dlm_core::ports::model::NoModels`] where the command has none.
    pub models: Arc<dyn Models>,
    /// The document, beside which `.dlm/plugins` is looked at.
    pub document: Option<&'a Path>,
    pub seed: u64,
    pub is_dry_run: bool,
    /// Where the calls of plugins are written to, as cases.
    pub record: Option<&'a Path>,
}

/// Makes the host.
///
/// **Errors**: a grant or a setting among the flags that cannot be read; no current directory.
pub fn plugins(world: &World, console: &Console, setup: Setup<'_>) -> Result<Plugins, Failure> {
    let facts = RunFacts {
        host_version: env!("CARGO_PKG_VERSION").to_owned(),
        seed: setup.seed,
        unix_ms: world.around.clock.unix_ms(),
        is_dry_run: setup.is_dry_run,
        log_level: if console.is_verbose {
            LogLevel::Info
        } else {
            LogLevel::Warn
        },
        directory: std::env::current_dir().map_err(|e| Failure::new(Subject::Error, e))?,
    };
    let ports = Ports {
        process: Arc::new(programs()),
        http: Arc::new(LazyHttp::default()),
        models: setup.models,
        secrets: Arc::new(KeyStore::new(&world.around.home, environment::all())),
        free_port: free_loopback_port,
        clock: Some(unix_ms),
        progress: world.around.progress.clone(),
        cancel: world.around.cancel.clone(),
    };
    let flags = setup.flags;
    let urls = base_urls();
    let (mut granted, mut denied) = (Vec::new(), Vec::new());
    for (teacher, url, secret) in &urls {
        granted.extend(base_url_grants(teacher, url, secret)?);
        let is_typed = flags
            .options
            .iter()
            .any(|option| option.starts_with(&format!("{teacher}.base-url=")));
        if !is_typed {
            denied.extend(usual_address(teacher, url));
        }
    }
    let mut places = places(world.around.home.root(), setup.document);
    let settings = PluginSettings::read(world.around.home.root(), places.project.as_deref());
    let settings = settings.map_err(PackageError::from)?;
    places.is_always_hashed = settings.is_always_hashed;
    let plugins = Plugins::new(facts, ports, compile(world.around.home.root()), &flags)?;
    let plugins = plugins.with_standing(&granted, &denied)?;
    let mut plugins = plugins.with_places(places).with_metering(Metering::of(&settings));
    if let Some(ask) = world.asker() {
        plugins = plugins.with_asker(Arc::new(move |question| ask(&render::grant::question(question))));
    }
    if let Some(directory) = setup.record {
        plugins = plugins.with_record(directory)?;
    }
    if settings.policy.is_wasi_refused {
        plugins = plugins.without_wasi();
    }
    let plugins = urls.iter().fold(plugins, |plugins, (teacher, url, _)| {
        plugins.with_setting(teacher, "base-url", url)
    });
    Ok(plugins.with_values(settings.values))
}

/// Says with `-v` what each plugin used, and records it in the store of the document that the command worked on.
pub fn close(world: &World, console: &Console, plugins: &Plugins, document: Option<(&Path, &str)>) {
    let used = plugins.used();
    used.iter().for_each(|one| console.detail(&render::used::line(one)));
    tell_recorded(console, plugins);
    if let Some((path, command)) = document {
        dlm_flow::used::record(&world.around, path, command, &used);
    }
    prune_code(world.around.home.root());
}

/// Says how many cases `--record` wrote.
pub fn tell_recorded(console: &Console, plugins: &Plugins) {
    let Some(recorded) = plugins.recorded() else { return };
    let directory = recorded.directory.display();
    if let Some(problem) = &recorded.problem {
        console.warning(&format!("not every call was recorded: {problem}"));
    }
    if recorded.left_out > 0 {
        console.warning(&format!("{} more calls were not recorded", recorded.left_out));
    }
    console.info(&format!(
        "plugins: recorded {} case(s) in {directory}; next: dlm plugin test NAME --case FILE",
        recorded.cases
    ));
}

/// The plugin host of a command that has a document's model, and that model for the command itself.
pub struct WithModels {
    pub plugins: Plugins,
    pub models: Arc<EngineModels>,
}

/// A document whose model a command works with.
#[derive(Clone, Copy)]
pub struct DocumentModel<'a> {
    pub path: &'a Path,
    /// Which of its adapters, on a document with several.
    pub adapter: Option<&'a str>,
}

/// Makes the host of a command whose plugins may ask models.
///
/// **Errors**: as [`plugins`].
pub fn open(
    world: &World,
    settings: &Settings,
    console: &Console,
    flags: &PluginFlags,
    document: Option<DocumentModel<'_>>,
    seed: u64,
) -> Result<WithModels, Failure> {
    let models = Arc::new(EngineModels::new(EngineSetup {
        around: world.around.clone(),
        threads: settings.threads.value,
        document: document.map(|document| document.path.to_owned()),
        adapter: document.and_then(|document| document.adapter).map(str::to_owned),
    }));
    let setup = Setup {
        flags: flags.grants(),
        record: flags.record.as_deref(),
        models: models.clone(),
        document: document.map(|document| document.path),
        seed,
        is_dry_run: false,
    };
    Ok(WithModels {
        plugins: plugins(world, console, setup)?,
        models,
    })
}

/// Where plugins may lie.
pub fn places(home: &Path, document: Option<&Path>) -> Places {
    let extra = environment::path("DLM_PLUGIN_PATH")
        .map(|set| set.value)
        .unwrap_or_default();
    let extra: Vec<PathBuf> = std::env::split_paths(&extra)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    let beside = |path: &Path| match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory.to_owned(),
        _ => PathBuf::from("."),
    };
    Places {
        home: home.to_owned(),
        user: environment::path("HOME").map(|home| home.value),
        project: document.map(beside),
        system: extra.into_iter().chain(SYSTEM_DIRECTORIES.map(PathBuf::from)).collect(),
        is_always_hashed: false,
    }
}

/// How plugins are compiled: by a process of this program, kept under the home; kept nowhere with
/// `DLM_PLUGIN_CACHE=off`.
pub fn compile(home: &Path) -> Compile {
    let is_off = environment::text("DLM_PLUGIN_CACHE").is_some_and(|set| set.value == "off");
    match std::env::current_exe() {
        Ok(program) if is_off => Compile::Apart { program },
        Ok(program) => Compile::Cached {
            directory: code_cache(home).directory().to_owned(),
            program,
        },
        Err(_) => Compile::InMemory,
    }
}

/// The compiled code of plugins that is kept under the home.
pub fn code_cache(home: &Path) -> CodeCache {
    CodeCache::new(&home.join("cache").join("plugins"))
}

/// Takes out of the code cache what nobody used for long; after the work, which is not kept waiting for it.
pub fn prune_code(home: &Path) {
    code_cache(home).prune(SystemTime::now());
}

/// Addresses of teachers that the user changed in the environment.
fn base_urls() -> Vec<(&'static str, String, &'static str)> {
    let set = BASE_URLS.into_iter();
    set.filter_map(|(teacher, variable, secret)| Some((teacher, environment::text(variable)?.value, secret)))
        .collect()
}

/// Setting the variable is the consent to talk to that address and to send the key there.
fn base_url_grants(teacher: &str, url: &str, secret: &str) -> Result<[String; 2], Failure> {
    let rule = HttpRule::parse(url.trim_end_matches('/')).map_err(|e| {
        Failure::misuse(
            Subject::Teacher,
            format!("the address of `{teacher}` in the environment: {e}"),
        )
    })?;
    let host = rule.host.to_string();
    Ok([
        format!("{teacher}=http:{rule}"),
        format!("{teacher}=secret:{secret}@{host}"),
    ])
}

/// The programs of this machine, each with a guard. Where dlm does not know its own file, Linux has no `/proc`, by which a guard
/// finds what it guards.
fn programs() -> NativeProcess {
    let programs = NativeProcess::new(search_path(), programs_environment());
    match std::env::current_exe() {
        Ok(program) => programs.with_guard(program),
        Err(_) => programs,
    }
}

/// The address that a teacher does not need beside the one of its variable, as a denial: nothing is said of it, or goes there.
fn usual_address(teacher: &str, url: &str) -> Option<String> {
    let (_, usual) = USUAL_ADDRESSES.iter().find(|(name, _)| *name == teacher)?;
    let host = |text: &str| {
        HttpRule::parse(text.trim_end_matches('/'))
            .ok()
            .map(|rule| rule.host.to_string())
    };
    (host(url) != host(usual)).then(|| format!("{teacher}=http:{usual}"))
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn search_path() -> Vec<PathBuf> {
    let user = environment::path("PATH").map(|set| set.value).unwrap_or_default();
    std::env::split_paths(&user)
        .chain(USUAL_DIRECTORIES.map(PathBuf::from))
        .collect()
}

fn programs_environment() -> Vec<(String, String)> {
    ["PATH", "HOME", "LANG", "TMPDIR"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), environment::text(name)?.value)))
        .collect()
}

/// The plugins' HTTP, whose client and certificates are made at the first request.
#[derive(Default)]
pub struct LazyHttp(OnceLock<GuestClient>);

impl LazyHttp {
    fn client(&self) -> Result<&GuestClient, GuestHttpError> {
        if let Some(client) = self.0.get() {
            return Ok(client);
        }
        let invalid = |cause: String| GuestHttpError::Invalid(cause);
        let proxy = |names: [&'static str; 2]| names.into_iter().find_map(environment::text).map(|proxy| proxy.value);
        let settings = GuestSettings {
            https_proxy: proxy(["HTTPS_PROXY", "https_proxy"]),
            http_proxy: proxy(["HTTP_PROXY", "http_proxy"]),
            no_proxy: proxy(["NO_PROXY", "no_proxy"]),
            ca_pem: certificates().map_err(|error| invalid(error.to_string()))?,
            offline: who_is_offline("DLM_OFFLINE"),
        };
        let client = GuestClient::new(&settings).map_err(|error| invalid(error.to_string()))?;
        Ok(self.0.get_or_init(|| client))
    }
}

impl GuestHttp for LazyHttp {
    fn send(
        &self,
        request: &GuestRequest,
        rules: &[HttpRule],
        cancel: &Cancel,
    ) -> Result<GuestResponse, GuestHttpError> {
        self.client()?.send(request, rules, cancel)
    }
}
