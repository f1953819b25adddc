//! The host side of the worlds: the bindings, the state of one plugin instance, and its import functions.

//!
//! Invariants: every import checks first what this plugin may do in this phase, then the limits, then acts; what takes time
//! in the host is not counted as the guest's time.

mod config;
mod files;
mod http;
mod model;
mod process;
mod run;
mod secrets;
mod wasi;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dlm_core::Cancel;
use dlm_core::ports::plugin::PluginUse;
use dlm_core::ports::target::Artifact;
use dlm_core::units::{duration, size};
use wasmtime::ResourceLimiter;
use wasmtime::component::{HasSelf, Linker, ResourceTable};

use crate::error::Who;
use crate::ledger::Ledger;
use crate::limits::{
    HANDLES_MAX, INSTANCES_MAX, MEMORIES_MAX, PassedLimit, TABLE_ELEMENTS_MAX, TABLES_MAX, TEXT_BYTES_MAX,
};
use crate::output::Output;
use crate::ports::{LogLevel, Metering, Ports, RunFacts};
use crate::watched::WatchedFiles;
use dlm_packages::Grants;
use dlm_packages::Kind;
use dlm_packages::limits::{LimitName, Limits};
use dlm_packages::manifest::ConfigValue;

pub use files::Input;
pub use http::Response;
pub(crate) use http::server_rule;
pub use model::Handle;
pub(crate) use process::{checked_env, expand};
pub use run::Bar;
pub(crate) use run::{API_VERSION, Log};
pub use secrets::Secret;
pub(crate) use wasi::{ALLOWED as WASI_ALLOWED, add_to_linker as add_wasi_to_linker};

/// Denials that are remembered.
const DENIALS_MAX: usize = 32;

/// Bindings generated from `wit/`: all imports once, then one export a kind.
pub(crate) mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package dlm:host-side;
            world imports {
                import dlm:plugin/run@1.0.0;
                import dlm:plugin/log@1.0.0;
                import dlm:plugin/progress@1.0.0;
                import dlm:plugin/config@1.0.0;
                import dlm:plugin/model@1.0.0;
                import dlm:plugin/secrets@1.0.0;
                import dlm:plugin/http@1.0.0;
                import dlm:plugin/artifacts@1.0.0;
                import dlm:plugin/upload@1.0.0;
                import dlm:plugin/output@1.0.0;
                import dlm:plugin/process@1.0.0;
            }
        ",
        world: "dlm:host-side/imports",
        imports: { default: trappable },
        with: {
            "dlm:plugin/progress.bar": super::Bar,
            "dlm:plugin/model.handle": super::Handle,
            "dlm:plugin/secrets.secret": super::Secret,
            "dlm:plugin/artifacts.input": super::Input,
            "dlm:plugin/http.response": super::Response,
        },
    });
}

pub(crate) use bindings::dlm::plugin as wit;
pub(crate) use wit::types::{Denial, Error as WitError};

/// Adds the interfaces that plugins of these kinds may import.
pub(crate) fn add_to_linker(linker: &mut Linker<State>, kinds: &[Kind]) -> wasmtime::Result<()> {
    fn own(state: &mut State) -> &mut State {
        state
    }
    let may = |interface: &str| kinds.iter().all(|kind| kind.may_import(interface));
    macro_rules! offer {
        ($($module:ident: $name:literal),*) => {$(
            if may($name) {
                wit::$module::add_to_linker::<State, HasSelf<State>>(linker, own)?;
            }
        )*};
    }
    offer!(
        types: "types", run: "run", log: "log", progress: "progress", config: "config", model: "model",
        secrets: "secrets", http: "http", artifacts: "artifacts", upload: "upload", output: "output",
        process: "process"
    );
    Ok(())
}

/// The function that is running, which decides what is available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Loading, and `open`.
    Open,
    Score,
    Complete,
    Prepare,
    Install,
    Smoke,
    Preview,
    Push,
    List,
    Fetch,
}

impl Phase {
    pub fn function(self) -> &'static str {
        match self {
            Phase::Open => "open",
            Phase::Score => "score",
            Phase::Complete => "complete",
            Phase::Prepare => "prepare",
            Phase::Install => "install",
            Phase::Smoke => "smoke",
            Phase::Preview => "preview",
            Phase::Push => "push",
            Phase::List => "list",
            Phase::Fetch => "fetch",
        }
    }

    /// Says whether programs, requests and secrets exist in this phase at all, whatever is granted. A target only writes
    /// files until its files are checked.
    pub fn reaches_outside(self, kind: Kind) -> bool {
        kind != Kind::Target || matches!(self, Phase::Install | Phase::Smoke)
    }
}

/// What an instance is given from outside.
#[derive(Clone)]
pub(crate) struct NewState {
    pub kind: Kind,
    pub plugin: String,
    pub version: String,
    pub argument: String,
    pub facts: RunFacts,
    pub grants: Grants,
    /// Capabilities that the manifest asks for, in text form.
    pub requested: Vec<String>,
    pub settings: Vec<(String, ConfigValue)>,
    pub limits: Limits,
    pub ports: Ports,
    /// Distinguishes the random streams of instances of one plugin.
    pub instance: u64,
    /// Lower-case hex, of the component.
    pub sha256: String,
    /// Time to compile it, for the first instance of a run that had to.
    pub compiled: Option<Duration>,
    pub metering: Metering,
    /// Where the instance's uses are added up when it ends.
    pub ledger: Arc<Ledger>,
    /// Fresh instances of this plugin in this run, after calls that were stopped.
    pub restarts: Arc<AtomicU32>,
}

/// The state of one plugin instance.
pub(crate) struct State {
    pub new: NewState,
    pub phase: Phase,
    pub clock: CallClock,
    pub memory: Memory,
    pub table: ResourceTable,
    pub log: Log,
    /// Files that the host hands over: the artefacts of an export or a push.
    pub artifacts: Vec<Artifact>,
    /// Those files, and what a target wrote, as they were when they were checked.
    pub watched: WatchedFiles,
    /// Where programs run and files are written; none where the kind has no such directory.
    pub directory: Option<std::path::PathBuf>,
    /// Names that may not be written, besides those of the artefacts.
    pub reserved: Vec<String>,
    pub output: Output,
    /// Port of the server that the host started for the smoke test.
    pub server_port: Option<u16>,
    pub used: PluginUse,
    /// Requests and tokens of the instances before this one, which count towards the limits of the run.
    pub earlier: (u64, u64),
    /// Progress bars alive, and all that were made.
    pub bars: usize,
    pub bars_made: u64,
    /// Bytes of HTTP answers that are kept for the guest.
    pub answer_bytes: u64,
    /// Inputs that are open.
    pub inputs: usize,
    /// An artefact was asked for that is not there.
    pub has_missed_input: bool,
    /// Bytes of text that models were handed.
    pub model_text_bytes: u64,
    /// The secrets that it has taken.
    pub secrets: secrets::TakenSecrets,
    /// What the host denied last.
    denials: RefCell<VecDeque<String>>,
    pub wasi: wasi::Wasi,
}

impl State {
    pub fn new(new: NewState) -> State {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MAX);
        State {
            phase: Phase::Open,
            clock: CallClock::new(),
            memory: Memory::new(new.limits.memory_bytes),
            table,
            log: Log::new(new.facts.log_level),
            artifacts: Vec::new(),
            watched: WatchedFiles::default(),
            directory: None,
            reserved: Vec::new(),
            output: Output::default(),
            server_port: None,
            used: PluginUse {
                plugin: new.plugin.clone(),
                version: new.version.clone(),
                sha256: new.sha256.clone(),
                kind: new.kind.name().to_owned(),
                granted: new.grants.texts(),
                instances: 1,
                compile_ms: new
                    .compiled
                    .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
                ..PluginUse::default()
            },
            earlier: (0, 0),
            bars: 0,
            bars_made: 0,
            answer_bytes: 0,
            inputs: 0,
            has_missed_input: false,
            model_text_bytes: 0,
            secrets: secrets::TakenSecrets::default(),
            denials: RefCell::default(),
            wasi: wasi::Wasi::default(),
            new,
        }
    }

    pub fn who(&self) -> Box<Who> {
        Box::new(Who {
            kind: self.new.kind,
            plugin: self.new.plugin.clone(),
            version: self.new.version.clone(),
            function: Some(self.phase.function()),
        })
    }

    /// Takes over what counts for a whole run from the instance before this one.
    pub fn go_on_from(&mut self, mut old: State) {
        let (requests, tokens) = old.earlier;
        self.earlier = (requests + old.used.requests(), tokens + old.used.model_tokens);
        self.model_text_bytes = old.model_text_bytes;
        self.bars_made = old.bars_made;
        std::mem::swap(&mut self.log, &mut old.log);
        self.log.last = None;
    }

    /// Hands files over, as they are now.
    pub fn hand_over(&mut self, artifacts: Vec<Artifact>) {
        self.watched = WatchedFiles::look(artifacts.iter().map(|artifact| artifact.path.clone()));
        self.artifacts = artifacts;
    }

    /// Says why the guest must stop now, if it must.
    pub fn stop(&self) -> Option<Stop> {
        stop(&self.new.ports.cancel, &self.clock, self.allowed())
    }

    /// A look at the call that is running which can be taken while the guest has the state.
    pub fn watch(&self) -> impl Fn() -> Option<Stop> + use<> {
        let (cancel, clock, allowed) = (self.new.ports.cancel.clone(), self.clock.clone(), self.allowed());
        move || stop(&cancel, &clock, allowed)
    }

    fn allowed(&self) -> CallTimes {
        CallTimes {
            own: (self.new.metering != Metering::Instructions).then(|| self.call_time()),
            wall: self.new.limits.wall_time,
        }
    }

    pub fn call_time(&self) -> Duration {
        match self.phase {
            Phase::Open => self.new.limits.open_time,
            _ => self.new.limits.call_time,
        }
    }

    /// Time left of this call for work in the host.
    pub fn wall_left(&self) -> Duration {
        self.new.limits.wall_time.saturating_sub(self.clock.wall_time())
    }

    /// Runs host work, keeping its time apart from the guest's.
    pub fn in_host<T>(&mut self, work: impl FnOnce(&mut State) -> T) -> T {
        let started = Instant::now();
        let result = work(self);
        self.clock.spend(started.elapsed());
        result
    }

    /// Refuses what lies outside the sandbox in phases that have none of it.
    pub fn check_outside(&self, capability: impl FnOnce() -> String) -> Result<(), WitError> {
        if self.phase.reaches_outside(self.new.kind) {
            return Ok(());
        }
        Err(self.denied(capability(), "nothing outside is reached before `install`"))
    }

    /// A denial in the guest's terms; kept, so that only what the host denied is offered as a grant.
    pub fn denied(&self, capability: String, message: impl Into<String>) -> WitError {
        let mut denials = self.denials.borrow_mut();
        if !denials.contains(&capability) && capability.len() <= TEXT_BYTES_MAX {
            if denials.len() >= DENIALS_MAX {
                denials.pop_front();
            }
            denials.push_back(capability.clone());
        }
        WitError::Denied(Denial {
            capability,
            message: message.into(),
        })
    }

    /// Says whether the host denied this, lately.
    pub fn was_denied(&self, capability: &str) -> bool {
        self.denials.borrow().iter().any(|denied| denied == capability)
    }

    /// A line for the user about something the guest asked for and did not get.
    pub fn remark(&mut self, text: &str) {
        self.log.take(
            LogLevel::Warn,
            text.to_owned(),
            &self.new.plugin,
            &*self.new.ports.progress,
        );
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.used.memory_peak_bytes = self.memory.used;
        self.new.ledger.add(std::mem::take(&mut self.used));
    }
}

/// Times of one call.
#[derive(Clone, Copy)]
struct CallTimes {
    /// Inside the guest; nothing where instructions are counted instead.
    own: Option<Duration>,
    /// Host calls included.
    wall: Duration,
}

fn stop(cancel: &Cancel, clock: &CallClock, allowed: CallTimes) -> Option<Stop> {
    if cancel.is_cancelled() {
        return Some(Stop::Cancelled);
    }
    if let Some(own) = allowed.own.filter(|own| clock.guest_time() > *own) {
        return Some(Stop::Passed(deadline_passed(own)));
    }
    let wall = allowed.wall;
    (clock.wall_time() > wall).then(|| {
        let text = format!("{} in one call", duration(wall.as_secs_f64()));
        Stop::Passed(PassedLimit::raisable(LimitName::WallTime, wall.as_secs(), text))
    })
}

/// The limit on the guest's own time in a call.
pub(crate) fn deadline_passed(allowed: Duration) -> PassedLimit {
    let text = format!("{} of its own time", duration(allowed.as_secs_f64()));
    PassedLimit::raisable(LimitName::Deadline, allowed.as_secs(), text)
}

/// Why a guest was stopped from outside.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stop {
    #[error(transparent)]
    Passed(#[from] PassedLimit),
    #[error("cancelled")]
    Cancelled,
}

impl Stop {
    pub fn trap(passed: PassedLimit) -> wasmtime::Error {
        wasmtime::Error::new(Stop::Passed(passed))
    }
}

/// The clock of one call. Monotonic time is read here because a time limit cannot be passed in. Clones share the time that was
/// spent in the host.
#[derive(Clone)]
pub(crate) struct CallClock {
    started: Instant,
    host_ns: Arc<AtomicU64>,
}

impl CallClock {
    pub fn new() -> CallClock {
        CallClock {
            started: Instant::now(),
            host_ns: Arc::default(),
        }
    }

    /// Begins the next call.
    pub fn restart(&mut self) {
        self.started = Instant::now();
        self.host_ns.store(0, Ordering::Relaxed);
    }

    pub fn host_time(&self) -> Duration {
        Duration::from_nanos(self.host_ns.load(Ordering::Relaxed))
    }

    /// Keeps time of host work apart.
    fn spend(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.host_ns.fetch_add(ns, Ordering::Relaxed);
    }

    pub fn wall_time(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn guest_time(&self) -> Duration {
        self.wall_time().saturating_sub(self.host_time())
    }
}

/// Adds up the memories and tables of an instance and refuses growth past the limit.
pub(crate) struct Memory {
    limit: u64,
    pub used: u64,
    table_elements: usize,
}

impl Memory {
    fn new(limit: u64) -> Memory {
        Memory {
            limit,
            used: 0,
            table_elements: 0,
        }
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        let used = self.used.saturating_add(more);
        if used > self.limit {
            let text = format!("{} of memory", size(self.limit));
            return Err(Stop::trap(PassedLimit::raisable(LimitName::Memory, self.limit, text)));
        }
        self.used = used;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let used = self.table_elements.saturating_add(desired.saturating_sub(current));
        let fits = used <= TABLE_ELEMENTS_MAX;
        if fits {
            self.table_elements = used;
        }
        Ok(fits)
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::sync::Mutex;

    use dlm_core::Cancel;
    use dlm_core::event::Event;
    use dlm_core::http_rule::HttpRule;
    use dlm_core::ports::guest_http::{GuestHttp, GuestHttpError, GuestRequest, GuestResponse};
    use dlm_core::ports::model::NoModels;
    use dlm_core::ports::secrets::NoSecrets;

    use super::*;

    /// Keeps every event.
    #[derive(Default)]
    pub(crate) struct Recorder(pub Mutex<Vec<Event>>);

    impl dlm_core::Progress for Recorder {
        fn event(&self, event: Event) {
            self.0.lock().unwrap().push(event);
        }
    }

    struct NoHttp;

    impl GuestHttp for NoHttp {
        fn send(&self, _: &GuestRequest, _: &[HttpRule], _: &Cancel) -> Result<GuestResponse, GuestHttpError> {
            Err(GuestHttpError::Cancelled)
        }
    }

    /// The state of a judge that holds nothing.
    pub(crate) fn state(events: &Arc<Recorder>) -> State {
        State::new(NewState {
            kind: Kind::Judge,
            plugin: "rubric".to_owned(),
            version: "1.0.0".to_owned(),
            argument: String::new(),
            facts: RunFacts {
                host_version: "1.2.3".to_owned(),
                seed: 7,
                unix_ms: 0,
                is_dry_run: false,
                log_level: LogLevel::Warn,
                directory: std::path::PathBuf::from("/"),
            },
            grants: Grants::default(),
            requested: Vec::new(),
            settings: Vec::new(),
            limits: dlm_packages::limits::limits(Kind::Judge),
            ports: Ports {
                process: Arc::new(crate::NativeProcess::new(Vec::new(), Vec::new())),
                http: Arc::new(NoHttp),
                models: Arc::new(NoModels),
                secrets: Arc::new(NoSecrets),
                free_port: || Ok(1),
                clock: None,
                progress: events.clone(),
                cancel: Cancel::new(),
            },
            instance: 0,
            sha256: String::new(),
            compiled: None,
            metering: Metering::Time,
            ledger: Arc::default(),
            restarts: Arc::default(),
        })
    }
}
