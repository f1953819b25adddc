//! Finds, checks and opens plugins of every kind; holds what all plugins of a run share.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use dlm_core::Event;
use dlm_core::digest::{Sha256, first_eight};
use dlm_core::ports::destination::{Destination, DestinationSource};
use dlm_core::ports::judge::{Judge, JudgeSource};
use dlm_core::ports::plugin::{PluginFailure, PluginUse};
use dlm_core::ports::target::{ExportTarget, TargetSource};
use dlm_core::ports::teacher::{Teacher, TeacherSource};
use dlm_core::ports::templates::{TemplateSource, Templates};
use dlm_packages::Grants;
use dlm_packages::Kind;
use dlm_packages::builtin::builtins;
use dlm_packages::capability::{Capability, CapabilityError};
use dlm_packages::discover::{Finder, FoundPlugin, Origin, Places};
use dlm_packages::error::ComponentError;
use dlm_packages::limits::{Limits, limits};
use dlm_packages::manifest::{ConfigValue, GivenValue, Manifest};
use dlm_packages::selector::Selector;
use wasmtime::Engine;

use crate::cache::{self, Compile};
use crate::consent::{AskGrant, Consent, NamingFlag};
use crate::destination::PluginDestination;
use crate::engine::{Pulse, engine};
use crate::error::{FlagError, LoadError, PluginError};
use crate::host::NewState;
use crate::judge::PluginJudge;
use crate::ledger::Ledger;
use crate::load::{Ready, ready};
use crate::open::OpenPlugin;
use crate::ports::{GrantFlags, Metering, Ports, RunFacts};
use crate::record::{Book, Recorded, RecordedJudge, RecordedTarget, RecordedTeacher, RecordedTemplates, Recorder};
use crate::target::PluginTarget;
use crate::teacher::PluginTeacher;
use crate::templates::PluginTemplates;

/// The plugins of a run.
pub struct Plugins {
    facts: RunFacts,
    ports: Ports,
    compile: Compile,
    granted: Vec<(String, Capability)>,
    denied: Vec<(String, Capability)>,
    is_sandboxed: bool,
    limits: Option<Limits>,
    finder: Finder,
    /// `name`, `key` and value, from `--plugin-opt`, later ones winning.
    options: Vec<(String, String, GivenValue)>,
    machine: OnceLock<Machine>,
    /// Components that were loaded in this run, by hash and kind.
    ready: Mutex<HashMap<(String, Kind), Ready>>,
    instances: AtomicU64,
    /// Fresh instances after calls that were stopped, by hash and kind.
    restarts: Mutex<HashMap<(String, Kind), Arc<AtomicU32>>>,
    metering: Metering,
    /// `wasi = "none"`: a plugin that imports any of it is refused.
    is_wasi_refused: bool,
    ledger: Arc<Ledger>,
    /// Remarks about the choice of a plugin that were made in this run.
    remarked: Mutex<BTreeSet<String>>,
    consent: Consent,
    recorder: Option<Arc<Recorder>>,
}

struct Machine {
    engine: Engine,
    pulse: Arc<Pulse>,
}

/// A plugin that may be opened.
pub(crate) struct Candidate<'a> {
    pub name: String,
    pub version: String,
    pub sha256: String,
    pub origin: Origin,
    /// Reads the bytes, where compiled code is not at hand.
    pub read: cache::Bytes<'a>,
    /// What the lock or dlm itself grants.
    pub granted: Vec<Capability>,
    /// What the manifest asks for.
    pub requested: Vec<String>,
    pub needs_registration: bool,
    pub settings: Vec<(String, ConfigValue)>,
}

impl Plugins {
    /// Reads the grant flags; makes no engine.
    ///
    /// **Errors**: a grant that cannot be read.
    pub fn new(facts: RunFacts, ports: Ports, compile: Compile, flags: &GrantFlags) -> Result<Plugins, PluginFailure> {
        let options = flags.options.iter().map(|text| parse_option(text));
        Ok(Plugins {
            facts,
            ports,
            compile,
            granted: parse_all(&flags.granted)?,
            denied: parse_all(&flags.denied)?,
            is_sandboxed: flags.is_sandboxed,
            limits: None,
            finder: Finder::new(Places::default()),
            options: options.collect::<Result<_, _>>()?,
            machine: OnceLock::new(),
            ready: Mutex::default(),
            instances: AtomicU64::new(0),
            restarts: Mutex::default(),
            metering: Metering::default(),
            is_wasi_refused: false,
            ledger: Arc::default(),
            remarked: Mutex::default(),
            consent: Consent::of(naming_flags(flags)),
            recorder: None,
        })
    }

    /// Says who is asked for what a plugin needs and was not granted; without it the plugin is refused.
    pub fn with_asker(mut self, ask: Arc<AskGrant>) -> Plugins {
        self.consent.with_asker(ask);
        self
    }

    /// Adds grants and denials, as `name=capability`, that the user gave elsewhere than by flags of this command. They may
    /// be about plugins that it does not use.
    ///
    /// **Errors**: a text that is no capability.
    pub fn with_standing(mut self, granted: &[String], denied: &[String]) -> Result<Plugins, PluginFailure> {
        self.granted.extend(parse_all(granted)?);
        self.denied.extend(parse_all(denied)?);
        Ok(self)
    }

    /// Writes every call of a plugin into a directory, as a case.
    ///
    /// **Errors**: a directory that cannot be made.
    pub fn with_record(mut self, directory: &Path) -> Result<Plugins, PluginFailure> {
        let made = Recorder::new(directory).map_err(|cause| PluginError::from(FlagError::Record { cause }))?;
        self.recorder = Some(Arc::new(made));
        Ok(self)
    }

    /// What became of the recording, where there is one.
    pub fn recorded(&self) -> Option<Recorded> {
        self.recorder.as_ref().map(|recorder| recorder.recorded())
    }

    /// Puts a tape behind an instance, where calls are recorded.
    fn book(&self, opened: &mut OpenPlugin<'_>) -> Option<Book> {
        self.recorder
            .as_ref()
            .map(|recorder| Book::open(recorder, &mut opened.new))
    }

    /// Replaces the default limits, which grants raise.
    pub fn with_limits(mut self, limits: Limits) -> Plugins {
        self.limits = Some(limits);
        self
    }

    /// Says how the work of guests is measured.
    pub fn with_metering(mut self, metering: Metering) -> Plugins {
        self.metering = metering;
        self
    }

    /// Refuses plugins that import WASI, however they came here.
    pub fn without_wasi(mut self) -> Plugins {
        self.is_wasi_refused = true;
        self
    }

    /// What each plugin used, as far as its instances have ended.
    pub fn used(&self) -> Vec<PluginUse> {
        self.ledger.all()
    }

    /// Says where plugins that are not built in may lie.
    pub fn with_places(mut self, places: Places) -> Plugins {
        self.finder = Finder::new(places);
        self
    }

    /// Adds settings of a plugin that come from elsewhere than its flags; flags win.
    pub fn with_setting(mut self, plugin: &str, key: &str, value: &str) -> Plugins {
        let option = (plugin.to_owned(), key.to_owned(), GivenValue::Typed(value.to_owned()));
        self.options.insert(0, option);
        self
    }

    /// Adds settings by plugin name from the user's files, least important first; variables and flags win.
    pub fn with_values(mut self, values: BTreeMap<String, Vec<(String, GivenValue)>>) -> Plugins {
        let of_plugin = |(plugin, values): (String, Vec<(String, GivenValue)>)| {
            values.into_iter().map(move |(key, value)| (plugin.clone(), key, value))
        };
        let mut all: Vec<_> = values.into_iter().flat_map(of_plugin).collect();
        all.append(&mut self.options);
        self.options = all;
        self
    }

    /// The values that the user gave the plugin called `name`, the last one of a key winning.
    ///
    /// A file on the command line may call itself as it likes: what settings files say of that name is not for it.
    fn given(&self, name: &str, origin: Origin) -> Vec<(String, GivenValue)> {
        let mut given: Vec<(String, GivenValue)> = Vec::new();
        for (_, key, value) in self.options.iter().filter(|(plugin, ..)| plugin == name) {
            given.retain(|(other, _)| other != key);
            given.push((key.clone(), value.clone()));
        }
        given.retain(|(_, value)| origin != Origin::Path || matches!(value, GivenValue::Typed(_)));
        given
    }

    fn machine(&self) -> Result<&Machine, PluginError> {
        if let Some(machine) = self.machine.get() {
            return Ok(machine);
        }
        let engine = engine(self.metering)?;
        let pulse = Arc::new(Pulse::new(&engine)?);
        Ok(self.machine.get_or_init(|| Machine { engine, pulse }))
    }

    /// What the plugin called `name` may do in this run.
    fn grants(&self, kind: Kind, name: &str, granted: &[Capability], argument: &str) -> Grants {
        if self.is_sandboxed {
            return Grants::sandboxed(argument);
        }
        let of_name = |list: &[(String, Capability)]| {
            let own = list.iter().filter(|(plugin, _)| plugin == name);
            own.map(|(_, capability)| capability.clone()).collect::<Vec<_>>()
        };
        let all = granted.iter().cloned().chain(of_name(&self.granted));
        let fitting = all.filter(|capability| capability.fits(kind));
        Grants::new(fitting.collect(), of_name(&self.denied), argument)
    }

    /// Loads a candidate's code, once per run.
    fn ready<'a>(&self, kind: Kind, candidate: &'a Candidate<'a>) -> Result<Ready, PluginError> {
        let key = (candidate.sha256.clone(), kind);
        // Held while compiling, so that the workers of a teacher do not compile it several times.
        let mut known = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ready) = known.get(&key) {
            return Ok(ready.clone());
        }
        let engine = &self.machine()?.engine;
        let plugin = cache::Plugin {
            name: &candidate.name,
            sha256: &candidate.sha256,
            is_counting: self.metering.counts_instructions(),
            read: candidate.read,
        };
        let ports = &self.ports;
        let (component, compiled) = cache::component(engine, &self.compile, &*ports.process, &ports.cancel, &plugin)?;
        let made = ready(&candidate.name, engine, &component, kind)?;
        if made.has_wasi && self.is_wasi_refused {
            let plugin = candidate.name.clone();
            return Err(PluginError::package(ComponentError::Wasi { plugin }));
        }
        known.insert(key, made.clone());
        Ok(Ready { compiled, ..made })
    }

    /// The counter that every instance of a plugin shares.
    fn restarts(&self, sha256: &str, kind: Kind) -> Arc<AtomicU32> {
        let mut known = self.restarts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry((sha256.to_owned(), kind)).or_default())
    }

    /// Prepares a candidate for its first call.
    pub(crate) fn opened<'a>(
        &self,
        kind: Kind,
        candidate: &'a Candidate<'a>,
        argument: &str,
    ) -> Result<OpenPlugin<'_>, PluginError> {
        let ready = self.ready(kind, candidate)?;
        let grants = self.grants(kind, &candidate.name, &candidate.granted, argument);
        let limits = self.limits.unwrap_or(limits(kind)).raised(grants.limits());
        let facts = RunFacts {
            seed: seed(self.facts.seed, &candidate.name, &candidate.sha256),
            ..self.facts.clone()
        };
        Ok(OpenPlugin {
            pulse: &self.machine()?.pulse,
            needs_registration: candidate.needs_registration,
            sha256: candidate.sha256.clone(),
            origin: candidate.origin,
            new: NewState {
                kind,
                plugin: candidate.name.clone(),
                version: candidate.version.clone(),
                argument: argument.to_owned(),
                facts,
                grants,
                requested: candidate.requested.clone(),
                settings: candidate.settings.clone(),
                limits,
                ports: self.ports.clone(),
                instance: self.instances.fetch_add(1, Ordering::Relaxed),
                sha256: candidate.sha256.clone(),
                compiled: ready.compiled,
                metering: self.metering,
                ledger: Arc::clone(&self.ledger),
                restarts: self.restarts(&candidate.sha256, kind),
            },
            ready,
        })
    }

    /// Tells the user what there is to say about the choice of a plugin, once a run.
    fn remark(&self, remarks: &[String]) {
        let mut known = self.remarked.lock().unwrap_or_else(PoisonError::into_inner);
        for remark in remarks.iter().filter(|remark| known.insert((*remark).clone())) {
            self.ports.progress.event(Event::Note(format!("plugin: {remark}")));
        }
    }

    /// Finds what `selector` names and prepares it.
    fn find<T>(
        &self,
        kind: Kind,
        selector: &Selector,
        open: impl FnOnce(OpenPlugin<'_>) -> Result<T, PluginError>,
    ) -> Result<T, PluginError> {
        let found = self.settled(kind, selector)?;
        self.remark(&found.remarks);
        let settings = found
            .manifest
            .resolve_config(&self.given(&found.manifest.name, found.origin));
        let settings = settings.map_err(PluginError::package)?;
        let read = || found.read().map_err(PluginError::from);
        let candidate = Candidate {
            name: found.manifest.name.clone(),
            version: found.manifest.version.to_string(),
            sha256: found.sha256.clone(),
            origin: found.origin,
            read: &read,
            granted: self.held(&found)?,
            requested: requested(&found.manifest),
            needs_registration: found.manifest.needs_registration,
            settings,
        };
        open(self.opened(kind, &candidate, &found.argument)?)
    }

    /// Finds what `selector` names and settles what it may do; nothing of it was compiled yet.
    fn settled(&self, kind: Kind, selector: &Selector) -> Result<FoundPlugin, PluginError> {
        let found = self.finder.find(selector, Some(kind))?;
        let name = &found.manifest.name;
        self.consent.check_flags(kind, name)?;
        let held = self.held(&found)?;
        self.consent
            .settle(kind, &found, &self.grants(kind, name, &held, &found.argument))?;
        Ok(found)
    }

    /// What a plugin was granted for good, and what was agreed to in this run.
    fn held(&self, found: &FoundPlugin) -> Result<Vec<Capability>, PluginError> {
        let mut held = parse_capabilities(found.granted.iter().map(String::as_str))?;
        held.extend(self.consent.agreed(&found.sha256));
        Ok(held)
    }

    /// Opens a component that is not built in as a target, with the grants that the flags give it by its name.
    ///
    /// **Errors**: anything that makes it unusable.
    pub fn open_bytes(&self, name: &str, component: &[u8], argument: &str) -> Result<PluginTarget, PluginError> {
        let manifest = Manifest::of_component(component).map_err(|bad| LoadError::of_manifest(name, bad))?;
        let read = || Ok(Cow::Borrowed(component));
        let candidate = Candidate {
            name: manifest.name.clone(),
            version: manifest.version.to_string(),
            sha256: dlm_core::digest::sha256_hex(component),
            origin: Origin::Path,
            read: &read,
            granted: Vec::new(),
            requested: requested(&manifest),
            needs_registration: manifest.needs_registration,
            settings: Vec::new(),
        };
        PluginTarget::open(self.opened(Kind::Target, &candidate, argument)?)
    }
}

fn requested(manifest: &Manifest) -> Vec<String> {
    let requests = manifest.requests.iter();
    requests.map(|request| request.capability.clone()).collect()
}

fn selector(text: &str) -> Result<Selector, PluginError> {
    Selector::parse(text).map_err(PluginError::package)
}

/// A plugin by its bare name, with an argument that is not part of what was typed as a selector.
fn named(name: &str, argument: &str) -> Result<Selector, PluginError> {
    let mut named = selector(name)?;
    argument.clone_into(&mut named.argument);
    Ok(named)
}

impl JudgeSource for Plugins {
    fn open_judge(&self, text: &str) -> Result<Box<dyn Judge>, PluginFailure> {
        Ok(self.find(Kind::Judge, &selector(text)?, |mut opened| {
            let book = self.book(&mut opened);
            let judge = PluginJudge::open(opened)?;
            Ok(match book {
                Some(book) => Box::new(RecordedJudge(judge, book)) as Box<dyn Judge>,
                None => Box::new(judge),
            })
        })?)
    }
}

impl TeacherSource for Plugins {
    fn open_teacher(&self, text: &str) -> Result<Box<dyn Teacher>, PluginFailure> {
        Ok(self.find(Kind::Teacher, &selector(text)?, |mut opened| {
            let book = self.book(&mut opened);
            let teacher = PluginTeacher::open(opened)?;
            Ok(match book {
                Some(book) => Box::new(RecordedTeacher(teacher, book)) as Box<dyn Teacher>,
                None => Box::new(teacher),
            })
        })?)
    }
}

impl TemplateSource for Plugins {
    fn open_templates(&self, name: &str, location: &str) -> Result<Box<dyn Templates>, PluginFailure> {
        let selector = named(name, location)?;
        Ok(self.find(Kind::Templates, &selector, |mut opened| {
            let book = self.book(&mut opened);
            let templates = PluginTemplates::open(opened)?;
            Ok(match book {
                Some(book) => Box::new(RecordedTemplates(templates, book)) as Box<dyn Templates>,
                None => Box::new(templates),
            })
        })?)
    }
}

impl DestinationSource for Plugins {
    fn open_destination(&self, scheme: &str, rest: &str) -> Result<Box<dyn Destination>, PluginFailure> {
        let selector = named(scheme, rest)?;
        Ok(Box::new(self.find(
            Kind::Destination,
            &selector,
            PluginDestination::open,
        )?))
    }
}

impl TargetSource for Plugins {
    fn names(&self) -> Vec<String> {
        let targets = builtins().iter().filter(|builtin| builtin.is_a(Kind::Target));
        targets.map(|builtin| builtin.name.to_owned()).collect()
    }

    fn check(&self, text: &str) -> Result<(), PluginFailure> {
        self.settled(Kind::Target, &selector(text)?)?;
        Ok(())
    }

    fn open(&self, text: &str) -> Result<Box<dyn ExportTarget>, PluginFailure> {
        Ok(self.find(Kind::Target, &selector(text)?, |mut opened| {
            let book = self.book(&mut opened);
            let target = PluginTarget::open(opened)?;
            Ok(match book {
                Some(book) => Box::new(RecordedTarget(target, book)) as Box<dyn ExportTarget>,
                None => Box::new(target),
            })
        })?)
    }
}

/// The flags of the command line that name a plugin.
fn naming_flags(flags: &GrantFlags) -> Vec<NamingFlag> {
    let named = |flag: &'static str, texts: &[String], end: char| {
        let of_text = |text: &String| NamingFlag {
            flag,
            plugin: text.split(end).next().unwrap_or_default().to_owned(),
            text: text.clone(),
        };
        texts.iter().map(of_text).collect::<Vec<_>>()
    };
    [
        named("--grant", &flags.granted, '='),
        named("--deny", &flags.denied, '='),
        named("--plugin-opt", &flags.options, '.'),
    ]
    .concat()
}

/// Reads `name.key=value`.
fn parse_option(text: &str) -> Result<(String, String, GivenValue), PluginError> {
    let parts = || {
        let (path, value) = text.split_once('=')?;
        let (name, key) = path.split_once('.')?;
        let is_whole = !name.is_empty() && !key.is_empty();
        is_whole.then(|| (name.to_owned(), key.to_owned(), GivenValue::Typed(value.to_owned())))
    };
    parts().ok_or_else(|| {
        let selector = dlm_core::inert::inert_line(text);
        let cause = "`name.key=value` was expected for `--plugin-opt`".to_owned();
        FlagError::Option { selector, cause }.into()
    })
}

fn parse_capabilities<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<Capability>, PluginError> {
    let parse = |text| {
        let parsed = Capability::parse(text);
        parsed.map_err(|CapabilityError { text, cause }| FlagError::Grant { text, cause }.into())
    };
    texts.map(parse).collect()
}

fn parse_all(texts: &[String]) -> Result<Vec<(String, Capability)>, PluginError> {
    let parse = |text: &String| {
        let wrong = |cause: &str| {
            let text = dlm_core::inert::inert(text);
            let cause = cause.to_owned();
            PluginError::from(FlagError::Grant { text, cause })
        };
        let (name, capability) = text
            .split_once('=')
            .ok_or_else(|| wrong("`name=capability` was expected"))?;
        let capability = Capability::parse(capability).map_err(|bad| wrong(&format!("it {}", bad.cause)))?;
        Ok((name.to_owned(), capability))
    };
    texts.iter().map(parse).collect()
}

/// The seed that one plugin sees: stable for a run, different for each plugin.
fn seed(run: u64, name: &str, sha256: &str) -> u64 {
    let mut hash = Sha256::new();
    hash.update(run.to_le_bytes());
    hash.update(name.as_bytes());
    hash.update(sha256.as_bytes());
    u64::from_le_bytes(first_eight(&hash.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_on_the_command_line_gets_typed_settings_alone() {
        let state = crate::host::testing::state(&Arc::default());
        let flags = GrantFlags {
            options: vec!["rubric.strictness=0.7".to_owned()],
            ..GrantFlags::default()
        };
        let (facts, ports) = (state.new.facts.clone(), state.new.ports.clone());
        let stated = ("key".to_owned(), GivenValue::Stated(serde_json::json!("private")));
        let plugins = Plugins::new(facts, ports, Compile::InMemory, &flags)
            .unwrap()
            .with_values(BTreeMap::from([("rubric".to_owned(), vec![stated])]));
        let keys = |origin| {
            let given = plugins.given("rubric", origin);
            given.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        assert_eq!(keys(Origin::Path), ["strictness"]);
        for origin in [Origin::User, Origin::Project, Origin::System, Origin::Builtin] {
            assert_eq!(keys(origin), ["key", "strictness"]);
        }
    }
}
