//! Finds, checks and opens targets; holds what all plugins of a run share.

use std::cell::OnceCell;
use std::rc::Rc;

use dlm_core::Cancel;
use dlm_core::event::Progress;
use dlm_core::ports::http::Http;
use dlm_core::ports::process::Process;
use dlm_core::ports::target::{ExportTarget, PluginFailure, TargetSource};
use sha2::{Digest, Sha256};
use wasmtime::Engine;

use crate::builtin::{Builtin, builtins};
use crate::capability::{Capability, Grants};
use crate::engine::engine;
use crate::error::PluginError;
use crate::host::NewState;
use crate::limits::{Limits, TARGET_LIMITS};
use crate::target::{Candidate, PluginTarget};

/// Targets of the specification that this version has not.
const NOT_BUILT: [&str; 2] = ["vllm", "mlx-serve"];

/// Importance of a log line; lines below the run's level are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// Facts about the run that plugins may know, passed in because libraries read no clock and no randomness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFacts {
    /// Version of dlm.
    pub host_version: String,
    /// Seed of the run; each plugin gets a number derived from it.
    pub seed: u64,
    /// Start of the run, milliseconds since 1970.
    pub unix_ms: u64,
    pub is_dry_run: bool,
    /// Least important line that is shown: `Warn` by default, `Info` with `-v`.
    pub log_level: LogLevel,
}

/// The ports through which plugins act.
#[derive(Clone)]
pub struct Ports {
    pub process: Rc<dyn Process>,
    /// Must reach `127.0.0.1`; this crate never asks it for anything else.
    pub http: Rc<dyn Http>,
    /// Names a loopback port that nothing listens on.
    pub free_port: fn() -> std::io::Result<u16>,
    pub progress: Rc<dyn Progress>,
    pub cancel: Cancel,
}

/// What the user changed about the grants of this run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrantFlags {
    /// `name=capability`, from `--grant`.
    pub granted: Vec<String>,
    /// `name=capability`, from `--deny`.
    pub denied: Vec<String>,
    /// `--sandbox`: no plugin has any grant.
    pub is_sandboxed: bool,
}

/// The targets of this program.
pub struct Targets {
    facts: RunFacts,
    ports: Ports,
    granted: Vec<(String, Capability)>,
    denied: Vec<(String, Capability)>,
    is_sandboxed: bool,
    limits: Limits,
    engine: OnceCell<Engine>,
}

impl Targets {
    /// Reads the grant flags; makes no engine.
    ///
    /// **Errors**: a grant that cannot be read or names no known plugin.
    pub fn new(facts: RunFacts, ports: Ports, flags: &GrantFlags) -> Result<Targets, PluginFailure> {
        Ok(Targets {
            facts,
            ports,
            granted: parse_all(&flags.granted)?,
            denied: parse_all(&flags.denied)?,
            is_sandboxed: flags.is_sandboxed,
            limits: TARGET_LIMITS,
            engine: OnceCell::new(),
        })
    }

    /// Replaces the default limits, which grants raise.
    pub fn with_limits(mut self, limits: Limits) -> Targets {
        self.limits = limits;
        self
    }

    fn find(&self, selector: &str) -> Result<&'static Builtin, PluginError> {
        let name = selector.split_once(':').map_or(selector, |(name, _)| name);
        let known = || builtins().iter().map(|builtin| builtin.name.to_owned()).collect();
        let found = builtins().iter().find(|builtin| builtin.name == name);
        found.ok_or_else(|| {
            if NOT_BUILT.contains(&name) {
                PluginError::NotBuilt {
                    name: name.to_owned(),
                    known: known(),
                }
            } else {
                PluginError::Unknown {
                    name: name.to_owned(),
                    known: known(),
                }
            }
        })
    }

    /// What the plugin called `name` may do in this run.
    ///
    /// **Errors**: a grant in `fixed` that cannot be read.
    fn grants(&self, name: &str, fixed: &[&str]) -> Result<Grants, PluginError> {
        if self.is_sandboxed {
            return Ok(Grants::default());
        }
        let fixed = fixed.iter().map(|text| {
            Capability::parse(text).map_err(|bad| PluginError::Grant {
                text: bad.text,
                cause: bad.cause,
            })
        });
        let mut granted = fixed.collect::<Result<Vec<Capability>, _>>()?;
        let of_name = |list: &[(String, Capability)]| {
            let own = list.iter().filter(|(plugin, _)| plugin == name);
            own.map(|(_, capability)| capability.clone()).collect::<Vec<_>>()
        };
        granted.extend(of_name(&self.granted));
        Ok(Grants::new(granted, of_name(&self.denied)))
    }

    fn engine(&self) -> Result<&Engine, PluginError> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let made = engine()?;
        Ok(self.engine.get_or_init(|| made))
    }

    /// Opens a component that is not built in, with its argument and with the grants that the flags give it by its name.
    ///
    /// **Errors**: anything that makes it unusable.
    pub fn open_bytes(&self, name: &str, component: &[u8], argument: &str) -> Result<PluginTarget, PluginError> {
        let grants = self.grants(name, &[])?;
        self.open_with(name, component, argument, grants)
    }

    fn open_with(
        &self,
        name: &str,
        component: &[u8],
        argument: &str,
        grants: Grants,
    ) -> Result<PluginTarget, PluginError> {
        let sha256 = crate::builtin::sha256(component);
        let facts = RunFacts {
            seed: seed(self.facts.seed, name, &sha256),
            ..self.facts.clone()
        };
        let limits = self.limits.raised(grants.limits());
        let state = NewState {
            facts,
            grants,
            limits,
            ports: self.ports.clone(),
        };
        PluginTarget::open(
            self.engine()?,
            &Candidate {
                name,
                component,
                sha256,
            },
            argument,
            state,
        )
    }
}

impl TargetSource for Targets {
    fn names(&self) -> Vec<String> {
        builtins().iter().map(|builtin| builtin.name.to_owned()).collect()
    }

    fn check(&self, selector: &str) -> Result<(), PluginFailure> {
        self.find(selector)?;
        Ok(())
    }

    fn open(&self, selector: &str) -> Result<Box<dyn ExportTarget>, PluginFailure> {
        let builtin = self.find(selector)?;
        builtin.checked_sha256()?;
        let argument = selector.split_once(':').map_or("", |(_, argument)| argument);
        let grants = self.grants(builtin.name, builtin.grants)?;
        Ok(Box::new(self.open_with(
            builtin.name,
            builtin.wasm,
            argument,
            grants,
        )?))
    }
}

fn parse_all(texts: &[String]) -> Result<Vec<(String, Capability)>, PluginError> {
    let parse = |text: &String| {
        let wrong = |cause: &str| PluginError::Grant {
            text: crate::terminal::inert(text),
            cause: cause.to_owned(),
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
    let digest = hash.finalize();
    digest
        .iter()
        .take(8)
        .rev()
        .fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}
