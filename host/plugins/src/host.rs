//! The host side of the target world: the bindings, the state of one plugin instance, and its import functions.
//!
//! Invariants: every import checks first what this plugin may do in this phase, then the limits, then acts; what takes time
//! in the host is not counted as the guest's time.

mod files;
mod http;
mod process;
mod run;

use std::time::{Duration, Instant};

use dlm_core::ports::target::Stage;
use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;

use crate::capability::Grants;
use crate::error::Who;
use crate::limits::{
    HANDLES_MAX, INSTANCES_MAX, LimitName, Limits, MEMORIES_MAX, Passed, TABLE_ELEMENTS_MAX, TABLES_MAX, size, time,
};
use crate::output::Output;
use crate::source::{LogLevel, Ports, RunFacts};

pub use files::Input;
pub use http::Response;
pub(crate) use process::{checked_env, expand};
pub(crate) use run::Log;
pub use run::{Bar, Secret};

/// Bindings generated from `wit/`. The world is the contract's target world less `upload`, which needs reach beyond this
/// machine; a plugin that imports it is refused by name.
pub(crate) mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package dlm:host-side;
            world target-host {
                import dlm:plugin/run@1.0.0;
                import dlm:plugin/log@1.0.0;
                import dlm:plugin/progress@1.0.0;
                import dlm:plugin/config@1.0.0;
                import dlm:plugin/secrets@1.0.0;
                import dlm:plugin/http@1.0.0;
                import dlm:plugin/artifacts@1.0.0;
                import dlm:plugin/output@1.0.0;
                import dlm:plugin/process@1.0.0;
                export dlm:plugin/target@1.0.0;
            }
        ",
        world: "dlm:host-side/target-host",
        imports: { default: trappable },
        with: {
            "dlm:plugin/progress.bar": super::Bar,
            "dlm:plugin/secrets.secret": super::Secret,
            "dlm:plugin/artifacts.input": super::Input,
            "dlm:plugin/http.response": super::Response,
        },
    });
}

pub(crate) use bindings::dlm::plugin as wit;
pub(crate) use wit::types::{Denial, Error as WitError};

/// Interfaces of the contract that a target may import from this host.
pub(crate) const OFFERED: [&str; 10] = [
    "types",
    "run",
    "log",
    "progress",
    "config",
    "secrets",
    "http",
    "artifacts",
    "output",
    "process",
];

/// The function that is running, which decides what is available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    Prepare,
    Install,
    Smoke,
}

impl Phase {
    pub fn function(self) -> &'static str {
        match self {
            Phase::Open => "open",
            Phase::Prepare => "prepare",
            Phase::Install => "install",
            Phase::Smoke => "smoke",
        }
    }
}

/// What an instance is given from outside.
pub(crate) struct NewState {
    pub facts: RunFacts,
    pub grants: Grants,
    pub limits: Limits,
    pub ports: Ports,
}

/// The state of one plugin instance.
pub(crate) struct State {
    pub plugin: String,
    pub version: String,
    pub facts: RunFacts,
    pub grants: Grants,
    pub limits: Limits,
    pub ports: Ports,
    pub phase: Phase,
    pub clock: CallClock,
    pub memory: Memory,
    pub table: ResourceTable,
    pub log: Log,
    pub stage: Option<Stage>,
    pub output: Output,
    /// Port of the server that the host started for the smoke test.
    pub server_port: Option<u16>,
    pub requests: u64,
    pub process_runs: u64,
    pub bars: usize,
}

impl State {
    pub fn new(plugin: &str, version: &str, new: NewState) -> State {
        let NewState {
            facts,
            grants,
            limits,
            ports,
        } = new;
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MAX);
        State {
            plugin: plugin.to_owned(),
            version: version.to_owned(),
            log: Log::new(facts.log_level),
            facts,
            grants,
            limits,
            ports,
            phase: Phase::Open,
            clock: CallClock::new(),
            memory: Memory::new(limits.memory_bytes),
            table,
            stage: None,
            output: Output::default(),
            server_port: None,
            requests: 0,
            process_runs: 0,
            bars: 0,
        }
    }

    pub fn who(&self) -> Box<Who> {
        Box::new(Who {
            plugin: self.plugin.clone(),
            version: self.version.clone(),
            function: Some(self.phase.function()),
        })
    }

    /// Says why the guest must stop now, if it must.
    pub fn stop(&self) -> Option<Stop> {
        if self.ports.cancel.is_cancelled() {
            return Some(Stop::Cancelled);
        }
        let (allowed, wall) = (self.call_time(), self.limits.wall_time);
        if self.clock.guest_time() > allowed {
            let text = format!("{} of its own time", time(allowed));
            return Some(Stop::Passed(Passed::raisable(
                LimitName::Deadline,
                allowed.as_secs(),
                text,
            )));
        }
        if self.clock.wall_time() > wall {
            let text = format!("{} in one call", time(wall));
            return Some(Stop::Passed(Passed::raisable(
                LimitName::WallTime,
                wall.as_secs(),
                text,
            )));
        }
        None
    }

    fn call_time(&self) -> Duration {
        match self.phase {
            Phase::Open => self.limits.open_time,
            _ => self.limits.call_time,
        }
    }

    /// Time left of this call for work in the host.
    pub fn wall_left(&self) -> Duration {
        self.limits.wall_time.saturating_sub(self.clock.wall_time())
    }

    /// Runs host work, keeping its time apart from the guest's.
    pub fn in_host<T>(&mut self, work: impl FnOnce(&mut State) -> T) -> T {
        let started = Instant::now();
        let result = work(self);
        self.clock.host += started.elapsed();
        result
    }

    /// A line for the user about something the guest asked for and did not get.
    pub fn remark(&mut self, text: &str) {
        self.log
            .take(LogLevel::Warn, text.to_owned(), &self.plugin, &*self.ports.progress);
    }
}

/// Why a guest was stopped from outside.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stop {
    #[error(transparent)]
    Passed(#[from] Passed),
    #[error("cancelled")]
    Cancelled,
}

impl Stop {
    pub fn trap(passed: Passed) -> wasmtime::Error {
        wasmtime::Error::new(Stop::Passed(passed))
    }
}

/// A denial in the guest's terms.
pub(crate) fn denied(capability: String, message: String) -> WitError {
    WitError::Denied(Denial { capability, message })
}

/// The clock of one call. Monotonic time is read here because a time limit cannot be passed in.
pub(crate) struct CallClock {
    started: Instant,
    host: Duration,
}

impl CallClock {
    pub fn new() -> CallClock {
        CallClock {
            started: Instant::now(),
            host: Duration::ZERO,
        }
    }

    fn wall_time(&self) -> Duration {
        self.started.elapsed()
    }

    fn guest_time(&self) -> Duration {
        self.wall_time().saturating_sub(self.host)
    }
}

/// Adds up the memories and tables of an instance and refuses growth past the limit.
pub(crate) struct Memory {
    limit: u64,
    used: u64,
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
            return Err(Stop::trap(Passed::raisable(LimitName::Memory, self.limit, text)));
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
