//! `dlm export`.

use dlm_core::units::size;
use dlm_flow::export::{ExportPreview, ExportReport, QualityReport, TextQuality};

use super::prompt::memory_taken;
use crate::console::Console;

/// The files of every export, how they were checked, and what to type next; as JSON an object for one and a list for several.
pub fn reports(reports: &[ExportReport], is_json: bool, console: &Console) {
    let memory = reports.iter().map(|report| report.memory_bytes).max().unwrap_or(0);
    if memory > 0 {
        memory_taken(memory, console);
    }
    match (is_json, reports) {
        (true, [report]) => console.json(report),
        (true, reports) => console.json(&reports),
        (false, reports) => reports.iter().for_each(|report| show(report, console)),
    }
}

/// The table of levels.
pub fn quality(report: &QualityReport, is_json: bool, console: &Console) {
    memory_taken(report.memory_bytes, console);
    if is_json {
        return console.json(report);
    }
    let line = |cells: [&str; 8]| {
        let [level, size, rest @ ..] = cells;
        let rest: Vec<String> = rest.iter().map(|cell| format!("{cell:>12}")).collect();
        console.result(format!("{level:<8}{size:>10}{}", rest.concat()).trim_end());
    };
    line(["", "", "document", "", "", "general", "", ""]);
    line([
        "level",
        "size",
        "perplexity",
        "divergence",
        "same",
        "perplexity",
        "divergence",
        "same",
    ]);
    let text = |quality: &TextQuality| {
        [
            format!("{:.3}", quality.perplexity),
            format!("{:.5}", quality.divergence),
            format!("{:.1} %", 100.0 * quality.same_choice),
        ]
    };
    for level in &report.levels {
        let ([a, b, c], [d, e, f]) = (text(&level.document), text(&level.general));
        line([level.quant, &size(level.bytes), &a, &b, &c, &d, &e, &f]);
    }
    console.info(&format!(
        "in memory: perplexity {:.3} on the document ({} tokens), {:.3} on general text ({} tokens); divergence is of the next \
         token, from the weights in memory; same: positions with the same most likely token",
        report.document_perplexity, report.document_tokens, report.general_perplexity, report.general_tokens
    ));
}

/// What would be written.
pub fn preview(previews: &[ExportPreview], is_json: bool, console: &Console) {
    match (is_json, previews) {
        (true, [preview]) => return console.json(preview),
        (true, previews) => return console.json(&previews),
        (false, _) => {}
    }
    for preview in previews {
        for line in preview.plan.lines() {
            console.info(&format!("{:<18}  {}  ({})", line.name, line.value, line.why));
        }
        for file in &preview.files {
            let bytes = file
                .bytes
                .map(|bytes| format!(" ({})", size(bytes)))
                .unwrap_or_default();
            let path = preview.directory.join(&file.name);
            console.info(&format!("would write: {}{bytes}", path.display()));
        }
        if preview.memory_bytes > 0 {
            console.info(&format!("would take: about {} of memory", size(preview.memory_bytes)));
        }
    }
    console.info("dry-run: nothing was exported");
}

fn show(report: &ExportReport, console: &Console) {
    for line in report.plan.lines() {
        console.detail(&format!("{:<18}  {}  ({})", line.name, line.value, line.why));
    }
    for file in &report.files {
        let is_base = file
            .path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("base."));
        let cached = if is_base && report.is_base_cached {
            " (cached base)"
        } else {
            ""
        };
        console.info(&format!(
            "export: {} ({}){cached}",
            file.path.display(),
            size(file.bytes)
        ));
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
    if let Some(path) = &report.sway {
        console.info(&format!("export: {}", path.display()));
        let path = dlm_core::shell_quoted(&path.to_string_lossy());
        console.info(&format!("next: sway run {path}"));
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
