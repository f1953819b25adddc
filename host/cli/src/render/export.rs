//! `dlm export`.

use dlm_core::units::size;
use dlm_flow::export::ExportReport;

use super::prompt::memory_taken;
use crate::console::Console;

/// The files, how they were checked, and what to type next.
pub fn report(report: &ExportReport, is_json: bool, console: &Console) {
    if report.memory_bytes > 0 {
        memory_taken(report.memory_bytes, console);
    }
    match is_json {
        true => console.json(report),
        false => show(report, console),
    }
}

fn show(report: &ExportReport, console: &Console) {
    for line in report.plan.lines() {
        console.detail(&format!("{:<18}  {}  ({})", line.name, line.value, line.why));
    }
    for file in &report.files {
        console.info(&format!("export: {} ({})", file.path.display(), size(file.bytes)));
    }
    for check in &report.verified {
        let tokens = check
            .tokens_equal
            .map(|n| format!(", {n} texts tokenized alike"))
            .unwrap_or_default();
        console.info(&format!(
            "verified: {}: {} tensors and {} metadata keys as written{tokens}; next-token divergence {:.1e} (bound {:.0e}), \
             same choice at {} of {} positions",
            check.file,
            check.tensors,
            check.metadata_keys,
            check.logits_kl,
            check.logits_kl_bound,
            check.argmax_equal,
            check.positions
        ));
    }
    if let Some(conversations) = report.conversations {
        console.info(&format!(
            "verified: the chat template of the Modelfile says what the base's own says in {conversations} conversations"
        ));
    }
    report
        .notes
        .iter()
        .for_each(|note| console.info(&format!("note: {note}")));
    if let Some(name) = &report.registered {
        console.info(&format!("{}: registered as {name}", report.target));
    }
    let word = if report.has_answered { "answered" } else { "not run" };
    console.info(&format!("smoke: {word}: {}", report.smoke));
    if !report.usage.is_empty() {
        let directory = dlm_core::shell_quoted(&report.directory.to_string_lossy());
        console.info(&format!("next: cd {directory}"));
    }
    for line in &report.usage {
        console.info(&format!("  {line}"));
    }
}
