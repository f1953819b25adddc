//! `dlm doctor`.

use dlm_core::units::{duration, size};
use dlm_flow::doctor::{Doctor, SecondWall};

use super::parameters;
use crate::console::Console;

/// The machine, what it trains, and where things lie.
pub fn report(doctor: &Doctor, is_json: bool, console: &Console) {
    match is_json {
        true => console.json(doctor),
        false => console.result(&text(doctor)),
    }
    for plugin in &doctor.plugins {
        console.detail(&format!("plugin {} may: {}", plugin.name, plugin.grants.join("; ")));
    }
}

fn text(doctor: &Doctor) -> String {
    let machine = &doctor.report.capabilities;
    let mut lines: Vec<(&str, String)> = vec![
        (
            "backend",
            format!("{} ({})", machine.backend.name(), machine.device_name),
        ),
        ("engine", format!("{} {}", machine.engine.name, machine.engine.version)),
        ("instructions", machine.engine.device_features.join(", ")),
        ("platform", machine.platform.clone()),
        ("cores", machine.cpu_cores.to_string()),
        (
            "memory",
            format!(
                "{}, {} free",
                size(machine.ram_bytes),
                size(machine.ram_available_bytes)
            ),
        ),
        ("determinism", machine.determinism_class.run_word().to_owned()),
        ("telemetry", machine.telemetry_posture.clone()),
        ("home", doctor.home.display().to_string()),
    ];
    lines.push(("second wall", second_wall(&doctor.second_wall)));
    if let Some(free) = doctor.disk_free_bytes {
        lines.push(("disk free", size(free)));
    }
    match &doctor.local_bases_problem {
        Some(problem) => lines.push(("local bases", problem.clone())),
        None if doctor.local_bases.is_empty() => lines.push(("local bases", "none".to_owned())),
        None => lines.push(("local bases", doctor.local_bases.join(", "))),
    }
    let (ready, broken): (Vec<_>, Vec<_>) = doctor.plugins.iter().partition(|plugin| plugin.state == "ready");
    let ready: Vec<&str> = ready.iter().map(|plugin| plugin.name.as_str()).collect();
    lines.push(("plugins", format!("{} ready: {}", ready.len(), ready.join(", "))));
    for plugin in broken {
        lines.push(("plugin", format!("{}: {}", plugin.name, plugin.state)));
    }
    let runtime = &doctor.plugin_runtime;
    lines.push((
        "runtime",
        format!(
            "{} {}; its advisories: {}",
            runtime.name, runtime.version, runtime.advisories
        ),
    ));
    plan(doctor, &mut lines);
    let mut out = String::new();
    for (name, value) in lines {
        out.push_str(&format!("{name:<13} {value}\n"));
    }
    out
}

/// What is held back from programs of plugins, and what this kernel cannot hold back.
fn second_wall(wall: &SecondWall) -> String {
    let version = wall.landlock.unwrap_or_default();
    let parts = [
        ("files", version >= 1, "Landlock"),
        ("ports", version >= 4, "Landlock 4"),
        ("signals", version >= 6, "Landlock 6"),
        ("sockets", wall.seccomp, "seccomp"),
        ("privileges", wall.no_new_privileges, "no_new_privs"),
    ];
    let held: Vec<&str> = parts.iter().filter(|part| part.1).map(|part| part.0).collect();
    let lacking: Vec<String> = parts
        .iter()
        .filter(|part| !part.1)
        .map(|part| format!("{} ({})", part.0, part.2))
        .collect();
    match (held.as_slice(), lacking.as_slice()) {
        ([], _) => format!("none: this system lacks {}", lacking.join(", ")),
        (held, []) => held.join(", "),
        (held, _) => format!("{}; this system lacks {}", held.join(", "), lacking.join(", ")),
    }
}

fn plan(doctor: &Doctor, lines: &mut Vec<(&'static str, String)>) {
    match (&doctor.report.plan, &doctor.report.plan_error) {
        (Some(plan), _) => {
            lines.push(("plan", format!("{}: {}", plan.base, plan.reason)));
            lines.push((
                "",
                format!(
                    "batch {} x {}, peak {}, {} a step",
                    plan.micro_batch_size,
                    plan.grad_accum,
                    size(plan.est_peak_bytes),
                    duration(plan.est_step_seconds)
                ),
            ));
        }
        (None, Some(refusal)) => lines.push(("plan", format!("none: {refusal}"))),
        (None, None) => lines.push(("plan", "none".to_owned())),
    }
    match doctor.report.largest_fitting() {
        Some(base) => lines.push((
            "trains here",
            format!("up to {} ({})", base.key, parameters(base.params)),
        )),
        None => lines.push(("trains here", "no base of the registry".to_owned())),
    }
}
