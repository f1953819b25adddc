//! The smoke test of an export: the host starts the server, waits until it is ready, has it asked, and always stops it.

mod openai;

use std::time::{Duration, Instant};

use dlm_core::Network;
use dlm_core::ports::guest_http::{GuestBody, GuestMethod, GuestRequest};
use dlm_core::ports::process::{Command, Running};
use dlm_core::ports::target::TargetSmoke;

use crate::error::{CallError, CallFailure, PluginError};
use crate::host::{Phase, WitError, checked_env, expand, server_rule};
use crate::instance::returned_error;
use crate::limits::short;
use crate::target::PluginTarget;
use crate::target::bindings::exports::dlm::plugin::target as wire;

/// Every start gets a port of its own; a port can be taken between naming and binding it.
const ATTEMPTS: u32 = 2;
const READY_PAUSE: Duration = Duration::from_millis(100);
const READY_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const STOP_GRACE: Duration = Duration::from_secs(5);
/// Longest time that a plugin can ask the host to wait for its server.
const READY_TIMEOUT_MAX: Duration = Duration::from_secs(15 * 60);
const LOG_LINES_SHOWN: usize = 20;
const READY_ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Runs the smoke test that `prepare` announced.
pub(crate) fn run(target: &mut PluginTarget, plan: &wire::Plan) -> Result<TargetSmoke, PluginError> {
    match target.smoke.clone() {
        None => Err(target.bad_result("`smoke` was asked for before `prepare`".to_owned())),
        Some(wire::SmokePlan::Skip(reason)) => Ok(TargetSmoke::Skipped { reason: short(&reason) }),
        Some(wire::SmokePlan::NoServer) => ask_guest(target, plan, None),
        Some(smoke @ (wire::SmokePlan::Custom | wire::SmokePlan::OpenaiChat)) => {
            let Some(launch) = target.launch.clone() else {
                return Err(
                    target.bad_result("its smoke test needs a server, and it says not how to start one".to_owned())
                );
            };
            served(target, plan, &launch, &smoke)
        }
    }
}

/// Tries the test with a started server, once more on another port when the server does not come up.
fn served(
    target: &mut PluginTarget,
    plan: &wire::Plan,
    launch: &wire::Launch,
    smoke: &wire::SmokePlan,
) -> Result<TargetSmoke, PluginError> {
    let is_there = target
        .running
        .store
        .data()
        .new
        .ports
        .process
        .find(&launch.program)
        .is_some();
    if !is_there {
        return Ok(TargetSmoke::Skipped {
            reason: format!("`{}` is not installed", short(&launch.program)),
        });
    }
    let mut attempt = 1;
    loop {
        match attempted(target, plan, launch, smoke) {
            Err(Attempt::NotReady(_)) if attempt < ATTEMPTS => attempt += 1,
            Err(Attempt::NotReady(error) | Attempt::Failed(error)) => return Err(error),
            Ok(passed) => return Ok(passed),
        }
    }
}

/// How an attempt failed: a server that did not come up is worth another one.
enum Attempt {
    NotReady(PluginError),
    Failed(PluginError),
}

fn attempted(
    target: &mut PluginTarget,
    plan: &wire::Plan,
    launch: &wire::Launch,
    smoke: &wire::SmokePlan,
) -> Result<TargetSmoke, Attempt> {
    let state = target.running.store.data();
    let who = state.who();
    let failed = |message: String| Attempt::Failed(CallFailure::Smoke { message }.of(who.clone()));
    let port = (state.new.ports.free_port)().map_err(|error| failed(format!("no loopback port is free: {error}")))?;
    let command = command(target, launch, port).map_err(Attempt::Failed)?;
    let used = &mut target.running.store.data_mut().used;
    used.count_program(&short(&launch.program));
    let state = target.running.store.data();
    let started = state.new.ports.process.start(&command);
    let mut server = started.map_err(|error| failed(error.to_string()))?;
    let ready = wait_ready(target, &mut *server, launch, port);
    let result = match ready {
        Err(
            error @ PluginError::Call(CallError {
                failure: CallFailure::Cancelled,
                ..
            }),
        ) => Err(Attempt::Failed(error)),
        Err(error) => Err(Attempt::NotReady(error)),
        Ok(()) => {
            target.running.store.data_mut().server_port = Some(port);
            let asked = match smoke {
                wire::SmokePlan::OpenaiChat => openai::ask(target, port),
                _ => ask_guest(target, plan, Some(port)),
            };
            target.running.store.data_mut().server_port = None;
            asked.map_err(|error| Attempt::Failed(with_tail(error, &mut *server)))
        }
    };
    server.stop(STOP_GRACE);
    result
}

/// The launch command with real paths, host and port, checked against the grants.
fn command(target: &PluginTarget, launch: &wire::Launch, port: u16) -> Result<Command, PluginError> {
    let state = target.running.store.data();
    let fills = [("{host}", "127.0.0.1".to_owned()), ("{port}", port.to_string())];
    let made = || -> Result<Command, WitError> {
        let (program, arguments) = expand(state, &launch.program, &launch.arguments, &fills)?;
        Ok(Command {
            program,
            arguments,
            env: checked_env(&launch.env)?,
            directory: None,
            is_inheriting: false,
            stdin: Vec::new(),
            wall: Some(state.wall(Network::Server)),
        })
    };
    made().map_err(|error| returned_error(state, error))
}

/// Polls the ready path until it answers 2xx.
fn wait_ready(
    target: &PluginTarget,
    server: &mut dyn Running,
    launch: &wire::Launch,
    port: u16,
) -> Result<(), PluginError> {
    let state = target.running.store.data();
    let (ports, who) = (&state.new.ports, state.who());
    let request = GuestRequest {
        url: format!("http://127.0.0.1:{port}{}", launch.ready_path),
        timeout: READY_REQUEST_TIMEOUT,
        response_bytes_max: READY_ANSWER_BYTES_MAX,
        ..own_request(target)
    };
    let rules = [server_rule(port)];
    let timeout = Duration::from_millis(u64::from(launch.ready_timeout_ms)).min(READY_TIMEOUT_MAX);
    let started = Instant::now();
    let failed = |message: String, server: &mut dyn Running| {
        let error = CallFailure::Smoke { message }.of(who.clone());
        Err(with_tail(error, server))
    };
    loop {
        if ports.cancel.is_cancelled() {
            return Err(CallFailure::Cancelled.of(who.clone()));
        }
        match server.ended() {
            Ok(None) => {}
            Ok(Some(status)) => {
                return failed(
                    format!("`{}` ended with exit status {status}", short(&launch.program)),
                    server,
                );
            }
            Err(error) => return failed(error.to_string(), server),
        }
        // Whatever goes wrong here means "not ready yet"; what lasts ends in the timeout below.
        if ports
            .http
            .send(&request, &rules, &ports.cancel)
            .is_ok_and(|answer| (200..300).contains(&answer.status))
        {
            return Ok(());
        }
        if started.elapsed() > timeout {
            let message = format!(
                "`{}` was not ready after {} s",
                short(&launch.program),
                timeout.as_secs()
            );
            return failed(message, server);
        }
        server.wait(READY_PAUSE);
    }
}

fn ask_guest(target: &mut PluginTarget, plan: &wire::Plan, port: Option<u16>) -> Result<TargetSmoke, PluginError> {
    let endpoint = port.map(|port| wire::Endpoint {
        url: format!("http://127.0.0.1:{port}"),
    });
    let report = target.running.call(Phase::Smoke, async |world, store| {
        world
            .dlm_plugin_target()
            .call_smoke(store, plan, endpoint.as_ref())
            .await
    })?;
    let detail = short(&report.detail);
    if report.ok {
        return Ok(TargetSmoke::Passed { detail });
    }
    Err(CallFailure::Smoke { message: detail }.of(target.running.store.data().who()))
}

/// A request of the host itself, to be filled in.
fn own_request(target: &PluginTarget) -> GuestRequest {
    GuestRequest {
        method: GuestMethod::Get,
        url: String::new(),
        headers: Vec::new(),
        secret_headers: Vec::new(),
        secrets: Vec::new(),
        body: GuestBody::Bytes(Vec::new()),
        timeout: READY_REQUEST_TIMEOUT,
        follow_redirects: 0,
        response_bytes_max: READY_ANSWER_BYTES_MAX,
        user_agent: format!("dlm/{}", target.running.store.data().new.facts.host_version),
    }
}

/// Adds the server's last lines to a failed smoke test.
fn with_tail(error: PluginError, server: &mut dyn Running) -> PluginError {
    let (who, message) = match error {
        PluginError::Call(CallError {
            who,
            failure: CallFailure::Smoke { message },
        }) => (who, message),
        error => return error,
    };
    let tail = server.tail(LOG_LINES_SHOWN);
    let message = if tail.is_empty() {
        message
    } else {
        format!(
            "{message}; the last lines of `{}`:\n  {}",
            server.program().display(),
            tail.join("\n  ")
        )
    };
    CallFailure::Smoke { message }.of(who)
}
