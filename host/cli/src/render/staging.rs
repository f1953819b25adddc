//! What `preference` and `synth` share: a staged plan that was written into the document, or taken out again.

use dlm_flow::staging::{ApplyReport, RevertReport, Skip};
use dlm_store::PlanKind;

use super::{first_line, one_line};
use crate::console::Console;

/// What `apply` wrote and left out.
pub fn apply(kind: PlanKind, report: &ApplyReport, is_json: bool, console: &Console) {
    report.warnings.iter().for_each(|warning| console.warning(warning));
    match is_json {
        true => console.json(report),
        false => console.result(&applied(kind.command(), report)),
    }
}

/// That `apply` came to its end.
pub fn wrote(kind: PlanKind, report: &ApplyReport, console: &Console) {
    console.info(&format!(
        "{}: wrote {} section(s) into {}, {} skipped",
        kind.command(),
        report.added.len(),
        report.path.display(),
        report.skipped.len()
    ));
    if kind == PlanKind::Preference {
        console.info("note: this version keeps preferences in the document and does not train on them yet");
    }
}

/// What `revert` took out.
pub fn revert(kind: PlanKind, report: &RevertReport, is_json: bool, console: &Console) {
    match is_json {
        true => console.json(report),
        false => console.result(&format!(
            "{} revert: removed {} section(s)",
            kind.command(),
            report.removed
        )),
    }
}

fn applied(command: &str, report: &ApplyReport) -> String {
    let head = format!(
        "{command} apply plan: {} add, {} skip\n",
        report.added.len(),
        report.skipped.len()
    );
    let added: String = report.added.iter().map(|id| format!("+ {id}\n")).collect();
    head + &added + &skips(&report.skipped)
}

/// One line for each thing that was not taken, with the reason.
pub fn skips(skipped: &[Skip]) -> String {
    let mut out = String::new();
    if !skipped.is_empty() {
        out.push_str("=== skipped ===\n");
    }
    for skip in skipped {
        let why = reason(skip.reason, skip.detail.as_ref());
        out.push_str(&format!("- {}: {why}\n", first_line(&skip.subject)));
    }
    out
}

/// Why something was not taken.
pub fn reason(reason: &str, detail: Option<&String>) -> String {
    match detail {
        Some(detail) => format!("{reason} ({})", one_line(detail)),
        None => reason.to_owned(),
    }
}
