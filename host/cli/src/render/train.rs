//! `dlm train`: the plan, what a run has learned, and what to type next.

use std::io::IsTerminal;
use std::path::Path;

use dlm_core::Choice;
use dlm_core::inert::inert_line;
use dlm_core::shell::{quoted, quoted_path};
use dlm_core::training::Ending;
use dlm_core::units::{duration, size};
use dlm_flow::Failure;
use dlm_flow::train::{PreparedRun, ProbeScore, TrainReport};
use serde_json::json;

use crate::console::Console;
use crate::memory;

/// That a document has no row to train.
pub fn nothing_to_do(failure: &Failure, console: &Console) {
    console.info(&format!("no-op: {}", failure.error));
}

/// What a run would do, for `--dry-run`; `resumed` is what it would go on from.
pub fn plan(prepared: &PreparedRun, resumed: Option<String>, is_json: bool, console: &Console) {
    if is_json {
        return console.json(&prepared.plan);
    }
    let resumed = resumed.map(|from| format!("resume: {from}\n")).unwrap_or_default();
    console.result(&(plan_text(prepared) + &resumed));
}

/// The plan with `--verbose`.
pub fn details(prepared: &PreparedRun, console: &Console) {
    if console.is_verbose {
        plan_text(prepared).lines().for_each(|line| console.detail(line));
    }
}

/// What a run did; the loss alone is the result.
pub fn report(report: &TrainReport, path: &Path, is_json: bool, console: &Console) {
    for line in recall_lines(report) {
        console.info(&line);
    }
    for line in memory_lines(report) {
        console.info(&line);
    }
    console.info(&format!(
        "{}: v{:04} ({} steps, seed={}, determinism={})",
        report.phase.word(),
        report.version,
        report.steps,
        report.seed,
        report.determinism.run_word()
    ));
    console.info(&format!("adapter: {}", report.adapter.display()));
    console.info(&format!("log:     {}", report.log.display()));
    let peak = memory::peak_bytes();
    let peak_text = peak.map(|b| format!(", peak memory {}", size(b))).unwrap_or_default();
    console.info(&format!(
        "time:    {} in all, {} of training at {:.0} tokens/s{peak_text}",
        duration(report.seconds_total),
        duration(report.seconds_training),
        report.tokens_per_s
    ));
    if report.ending == Ending::MaxSteps {
        let why = format!(
            "stopped by --max-steps {}: the plan had {} updates",
            report.steps_max, report.steps_planned
        );
        console.info(&why);
    }
    // The bare number is for scripts; a person who reads both streams at once gets it with its name.
    let is_read_by_a_person = std::io::stdout().is_terminal() && !console.is_quiet;
    if is_json {
        let mut value = json!(report);
        value["peak_memory_bytes"] = json!(peak);
        console.json(&value);
    } else if is_read_by_a_person {
        console.info(&format!("loss:    {:.4}", report.loss));
    } else {
        console.result(&format!("{}", report.loss));
    }
    console.info(&next(report, path));
}

fn plan_text(prepared: &PreparedRun) -> String {
    let lines = prepared.plan.lines();
    let width = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for line in lines {
        out.push_str(&format!("{:<width$}  {}  ({})\n", line.name, line.value, line.why));
    }
    for example in prepared.dataset.examples().filter(|example| example.is_validation()) {
        out.push_str(&format!(
            "held out: section {} (line {}), row {}\n",
            example.origin,
            example.origin.line(),
            example.index + 1
        ));
    }
    let replay = prepared.replay();
    for section in &replay.drawn {
        out.push_str(&format!(
            "replayed: {} ({} rows, {} tokens)\n",
            section.row_id, section.rows, section.tokens
        ));
    }
    for id in &replay.retained {
        out.push_str(&format!(
            "kept aside: section {id}, never rehearsed, to measure what is retained\n"
        ));
    }
    for (old, new) in &replay.superseded {
        out.push_str(&format!("superseded: section {old} by section {new}\n"));
    }
    out
}

/// The command that shows what was learned: with the document's first question where it has a short one.
fn next(report: &TrainReport, path: &Path) -> String {
    /// Longest question that is offered to be typed.
    const QUESTION_CHARS_MAX: usize = 80;
    let mut asked = report.recall.iter().map(|pair| pair.question.trim());
    let short = asked.find(|text| {
        !text.contains(char::is_control) && !text.starts_with('-') && text.chars().count() <= QUESTION_CHARS_MAX
    });
    let question = short.map_or("\"a question\"".to_owned(), quoted);
    format!("next: dlm prompt {} {question}", quoted_path(path))
}

/// What was rehearsed, what is retained without, and how the probes did.
fn memory_lines(report: &TrainReport) -> Vec<String> {
    let mut lines = Vec::new();
    if !report.replay.drawn.is_empty() {
        lines.push(format!(
            "replay: {} rows of {} deleted sections were rehearsed",
            report.replay.rows(),
            report.replay.drawn.len()
        ));
    }
    if let Some(retention) = &report.retention {
        let change = retention
            .delta
            .map(|delta| format!(" ({delta:+.3} against the version before)"))
            .unwrap_or_default();
        lines.push(format!(
            "retention: loss {:.3}{change} on {} deleted sections that are not rehearsed",
            retention.loss,
            report.replay.retained.len()
        ));
    }
    let count = report.probes.len() as f64;
    if count > 0.0 {
        let marked = report.probes.iter().filter(|probe| probe.is_explicit).count();
        let drawn = report.probes.len() - marked;
        let mean = |value: fn(&ProbeScore) -> f64| report.probes.iter().map(value).sum::<f64>() / count;
        lines.push(format!(
            "probes: {marked} marked, {drawn} drawn: {}/{} exact, F1 {:.2}, log-probability of the answer {:.2} a token (base {:.2})",
            report.probes.iter().filter(|probe| probe.exact).count(),
            report.probes.len(),
            mean(|probe| probe.f1),
            mean(|probe| probe.logprob),
            mean(|probe| probe.logprob_base)
        ));
    }
    lines
}

/// Recall per section, and every pair that was not learned.
fn recall_lines(report: &TrainReport) -> Vec<String> {
    if report.recall.is_empty() {
        return Vec::new();
    }
    let mut lines = Vec::new();
    let mut sections: Vec<(&str, usize)> = report.recall.iter().map(|r| (r.section_id.as_str(), r.line)).collect();
    sections.dedup();
    for (id, line) in sections {
        let pairs: Vec<_> = report
            .recall
            .iter()
            .filter(|r| r.section_id == id && r.line == line)
            .collect();
        let known = pairs.iter().filter(|r| r.recalled).count();
        lines.push(format!(
            "recall: section {id} (line {line}): {known}/{} answers",
            pairs.len()
        ));
        for missed in pairs.iter().filter(|r| !r.recalled) {
            lines.push(format!("  not learned: {}", inert_line(&missed.question)));
            lines.push(format!("    answers:  {}", inert_line(&missed.response)));
            lines.push(format!("    expected: {}", inert_line(&missed.reference)));
        }
    }
    lines.push(format!(
        "recall: {}/{} answers of the document",
        report.recalled,
        report.recall.len()
    ));
    lines
}
