//! Loading a component and calling it: what it may import, how a call is bounded, and what its end means.

use wasmtime::component::{Component, HasSelf, Linker, ResourceTableError};
use wasmtime::{Engine, Store, Trap, UpdateDeadline};

use crate::engine::Ticker;
use crate::error::{GuestFailure, PluginError, Who};
use crate::host::bindings::exports::dlm::plugin::target::Guest;
use crate::host::bindings::{TargetHost, TargetHostPre};
use crate::host::{CallClock, OFFERED, Phase, State, Stop, WitError};
use crate::limits::{HANDLES_MAX, LimitName, Passed, STACK_BYTES_MAX, TEXT_BYTES_MAX, size};
use crate::terminal::{cut, inert};

const PACKAGE: &str = "dlm:plugin/";
const SUPPORTED: &str = "1.0";

/// A plugin instance.
pub(crate) struct Loaded {
    engine: Engine,
    pub store: Store<State>,
    world: TargetHost,
    /// True once a call was stopped from outside; the instance is then in no known state.
    is_spent: bool,
}

impl Loaded {
    /// Compiles and instantiates a component, running its start functions under the limits of `open`.
    ///
    /// **Errors**: not a component, an import or a version that this host has not, or a limit.
    pub fn new(engine: &Engine, component: &[u8], state: State) -> Result<Loaded, PluginError> {
        let plugin = state.plugin.clone();
        let malformed = |error: wasmtime::Error| PluginError::Malformed {
            plugin: plugin.clone(),
            cause: inert(&format!("{error:#}")),
        };
        let component = Component::from_binary(engine, component).map_err(malformed)?;
        check_type(&plugin, engine, &component)?;
        let mut linker: Linker<State> = Linker::new(engine);
        TargetHost::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state).map_err(malformed)?;
        // Exports and imports are matched by type here, before anything of the guest runs.
        let ready = linker.instantiate_pre(&component).and_then(TargetHostPre::new);
        let ready = ready.map_err(malformed)?;
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_max_component_handles(HANDLES_MAX);
        store.set_hostcall_fuel(usize::try_from(store.data().limits.transfer_bytes).unwrap_or(usize::MAX));
        store.epoch_deadline_callback(|context| match context.data().stop() {
            None => Ok(UpdateDeadline::Continue(1)),
            Some(stop) => Err(wasmtime::Error::new(stop)),
        });
        let world = {
            let _ticker = Ticker::start(engine);
            begin(&mut store, Phase::Open);
            ready.instantiate(&mut store)
        };
        let world = world.map_err(|error| ended(&mut store, error))?;
        Ok(Loaded {
            engine: engine.clone(),
            store,
            world,
            is_spent: false,
        })
    }

    /// Calls one function of the guest.
    ///
    /// **Errors**: what the guest returned, a limit, a trap, or that the instance was stopped before.
    pub fn call<T>(
        &mut self,
        phase: Phase,
        function: impl FnOnce(&Guest, &mut Store<State>) -> wasmtime::Result<Result<T, WitError>>,
    ) -> Result<T, PluginError> {
        begin(&mut self.store, phase);
        if self.is_spent {
            return Err(PluginError::Crashed {
                who: self.store.data().who(),
                cause: "it was stopped in an earlier call".to_owned(),
                last_log: None,
            });
        }
        let returned = {
            let _ticker = Ticker::start(&self.engine);
            function(self.world.dlm_plugin_target(), &mut self.store)
        };
        let dropped = std::mem::take(&mut self.store.data_mut().log.dropped);
        if dropped > 0 {
            self.store
                .data_mut()
                .remark(&format!("{dropped} more log lines were dropped"));
        }
        match returned {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(returned_error(self.store.data(), error)),
            Err(error) => {
                self.is_spent = true;
                Err(ended(&mut self.store, error))
            }
        }
    }
}

fn begin(store: &mut Store<State>, phase: Phase) {
    let state = store.data_mut();
    state.phase = phase;
    state.clock = CallClock::new();
    store.set_epoch_deadline(1);
}

/// Checks the names and versions of a component's imports and exports before anything of it runs.
fn check_type(plugin: &str, engine: &Engine, component: &Component) -> Result<(), PluginError> {
    let kind = component.component_type();
    for (import, _) in kind.imports(engine) {
        let known = import.strip_prefix(PACKAGE).and_then(|rest| rest.split_once('@'));
        match known {
            Some((interface, version)) if OFFERED.contains(&interface) => check_version(plugin, version)?,
            _ => {
                return Err(PluginError::Import {
                    plugin: plugin.to_owned(),
                    import: inert(import),
                });
            }
        }
    }
    let mut is_target = false;
    for (export, _) in kind.exports(engine) {
        let known = export.strip_prefix(PACKAGE).and_then(|rest| rest.split_once('@'));
        if let Some((interface, version)) = known {
            check_version(plugin, version)?;
            is_target |= interface == "target";
        }
    }
    if is_target {
        return Ok(());
    }
    Err(PluginError::WrongKind {
        plugin: plugin.to_owned(),
    })
}

fn check_version(plugin: &str, version: &str) -> Result<(), PluginError> {
    let major = semver::Version::parse(version).map(|version| version.major);
    if major.is_ok_and(|major| major == 1) {
        return Ok(());
    }
    Err(PluginError::Api {
        plugin: plugin.to_owned(),
        found: inert(version),
        supported: SUPPORTED,
    })
}

/// Says what the end of a call from outside means.
fn ended(store: &mut Store<State>, error: wasmtime::Error) -> PluginError {
    let transfer = store.data().limits.transfer_bytes;
    let state = store.data_mut();
    let (who, last_log) = (state.who(), state.log.last.take());
    let limit = |who: Box<Who>, passed: Passed, last_log| PluginError::Limit {
        who,
        limit: passed.name,
        allowed: passed.allowed,
        raise: passed.raise,
        last_log,
    };
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return match stop {
            Stop::Cancelled => PluginError::Cancelled { who },
            Stop::Passed(passed) => limit(who, passed.clone(), last_log),
        };
    }
    if error.downcast_ref::<Trap>() == Some(&Trap::StackOverflow) {
        let passed = Passed::fixed("stack", format!("{} of stack", size(STACK_BYTES_MAX as u64)));
        return limit(who, passed, last_log);
    }
    if matches!(
        error.downcast_ref::<ResourceTableError>(),
        Some(ResourceTableError::Full)
    ) {
        return limit(
            who,
            Passed::fixed("handles", format!("{HANDLES_MAX} live handles")),
            last_log,
        );
    }
    let cause = error.root_cause().to_string();
    // wasmtime has no type for this error; the wording is held by a test.
    if cause.contains("fuel allocated for hostcalls has been exhausted") {
        let text = format!("{} of data in one call", size(transfer));
        return limit(who, Passed::raisable(LimitName::Transfer, transfer, text), last_log);
    }
    PluginError::Crashed {
        who,
        cause: inert(&cut(&cause, TEXT_BYTES_MAX)),
        last_log,
    }
}

/// Turns the error that a guest returned into ours.
pub(crate) fn returned_error(state: &State, error: WitError) -> PluginError {
    let who = state.who();
    let guest = |failure: GuestFailure, message: String| PluginError::Guest {
        who: who.clone(),
        failure,
        message: inert(&cut(&message, TEXT_BYTES_MAX)),
    };
    match error {
        WitError::InvalidInput(message) => guest(GuestFailure::InvalidInput, message),
        WitError::Unsupported(message) => guest(GuestFailure::Unsupported, message),
        WitError::Unavailable(message) => guest(GuestFailure::Unavailable, message),
        WitError::NotFound(message) => guest(GuestFailure::NotFound, message),
        WitError::Conflict(message) => guest(GuestFailure::Conflict, message),
        WitError::RateLimited(retry) => guest(GuestFailure::RateLimited, retry.message),
        WitError::TimedOut(message) => guest(GuestFailure::TimedOut, message),
        WitError::Rejected(rejection) => guest(GuestFailure::Rejected, rejection.message),
        WitError::Corrupt(message) => guest(GuestFailure::Corrupt, message),
        WitError::Failed(message) => guest(GuestFailure::Failed, message),
        WitError::Cancelled => PluginError::Cancelled { who },
        WitError::Denied(denial) => PluginError::Denied {
            // A guest could name any capability; only one that can be parsed is offered as a grant.
            is_grantable: matches!(state.phase, Phase::Install | Phase::Smoke)
                && crate::capability::Capability::parse(&denial.capability).is_ok(),
            capability: inert(&cut(&denial.capability, TEXT_BYTES_MAX)),
            message: inert(&cut(&denial.message, TEXT_BYTES_MAX)),
            granted: state.grants.texts(),
            who,
        },
    }
}
