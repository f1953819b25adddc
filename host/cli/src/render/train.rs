//! `dlm train`: the plan, what a run has learned, and what to type next.

use std::io::IsTerminal;
use std::path::Path;

use dlm_core::Choice;
use dlm_core::inert::inert_line;
use dlm_core::shell::{quoted, quoted_path};
use dlm_core::training::Ending;
use dlm_core::units::{duration, size};
use dlm_flow::Failure;
use dlm_flow::gate::GateReport;
use dlm_flow::train::{PreferenceReport, PreparedRun, ProbeScore, TrainReport};
use serde_json::json;

use crate::console::Console;
use crate::memory;

/// That a document has no row to train.
pub fn nothing_to_do(failure: &Failure, console: &Console) {
    console.info(&format!("no-op: {}", failure.error));
}

/// What a run would do, for `--dry-run`; `resumed` is what each adapter would go on from.
pub fn plans(prepared: &[PreparedRun], resumed: Vec<Option<String>>, is_json: bool, console: &Console) {
    if is_json {
        return match prepared {
            [run] => console.json(&run.plan),
            runs => console.json(&runs.iter().map(|run| &run.plan).collect::<Vec<_>>()),
        };
    }
    let text = |(run, resumed): (&PreparedRun, Option<String>)| {
        let resumed = resumed.map(|from| format!("resume: {from}\n")).unwrap_or_default();
        plan_text(run) + &resumed
    };
    console.result(&prepared.iter().zip(resumed).map(text).collect::<String>());
}

/// The plan with `--verbose`.
pub fn details(prepared: &[PreparedRun], console: &Console) {
    if console.is_verbose {
        let texts = prepared.iter().map(plan_text);
        texts.for_each(|text| text.lines().for_each(|line| console.detail(line)));
    }
}

/// What a phase did.
pub fn report(report: &TrainReport, console: &Console) {
    for line in recall_lines(report) {
        console.info(&line);
    }
    for line in memory_lines(report) {
        console.info(&line);
    }
    for line in report.preference.iter().flat_map(preference_lines) {
        console.info(&line);
    }
    let adapter = report.adapter_name.as_ref();
    console.info(&format!(
        "{}{}: v{:04} ({} steps, seed={}, determinism={})",
        adapter.map(|name| format!("{name}: ")).unwrap_or_default(),
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
}

/// What became of the gate.
pub fn gate(gate: &GateReport, console: &Console) {
    let shares = gate.adapters.iter().map(|share| {
        format!(
            "{} {:.2} ({} samples)",
            inert_line(&share.name),
            share.mean_weight,
            share.samples
        )
    });
    console.info(&format!(
        "gate: {}: {}",
        gate.mode.name(),
        shares.collect::<Vec<_>>().join(", ")
    ));
    if let (Some(loss), Some(entropy)) = (gate.loss, gate.entropy) {
        console.detail(&format!(
            "gate: loss {loss:.3}, entropy of the weights {entropy:.3} nats"
        ));
    }
    if let (Some(accuracy), Some(majority)) = (gate.accuracy, gate.majority) {
        console.info(&format!(
            "gate: {:.0} % of unseen questions go to their adapter (leave-one-out); always guessing one reaches {:.0} %",
            accuracy * 100.0,
            majority * 100.0
        ));
    }
    if let Some(why) = &gate.why_uniform {
        console.info(&format!("gate: every adapter has the same weight: {why}"));
    }
}

/// The result of all phases, for scripts: the last one's loss, or its report with those before it; then what to type next.
/// Nothing where a phase failed (`gate` is none) or there was none.
pub fn results(
    reports: &[TrainReport],
    gate: Option<&Option<GateReport>>,
    path: &Path,
    is_json: bool,
    console: &Console,
) {
    let (Some((last, earlier)), Some(gate)) = (reports.split_last(), gate) else {
        return;
    };
    // The bare number is for scripts; a person who reads both streams at once gets it with its name.
    let is_read_by_a_person = std::io::stdout().is_terminal() && !console.is_quiet;
    if is_json {
        let mut value = json!(last);
        value["peak_memory_bytes"] = json!(memory::peak_bytes());
        if !earlier.is_empty() {
            value["earlier"] = json!(earlier);
        }
        if let Some(gate) = gate {
            value["gate"] = json!(gate);
        }
        console.json(&value);
    } else if is_read_by_a_person {
        console.info(&format!("loss:    {:.4}", last.loss));
    } else {
        console.result(&format!("{}", last.loss));
    }
    console.info(&next(reports, path));
}

/// What is preferred now, and what it cost.
fn preference_lines(preference: &PreferenceReport) -> Vec<String> {
    let PreferenceReport {
        pairs,
        before,
        after,
        scale,
        tried,
    } = preference;
    let mut lines = vec![
        format!(
            "preferences: the chosen answer is the likelier one in {} of {pairs} pairs ({} before), by {:.2} nats in the mean ({:.2} before)",
            after.preferred, before.preferred, after.logprob_margin, before.logprob_margin
        ),
        format!(
            "rewards: chosen {:+.3}, rejected {:+.3}, margin {:.3}, accuracy {:.2}",
            after.rewards.chosen, after.rewards.rejected, after.rewards.margin, after.rewards.accuracy
        ),
    ];
    if let Some(full) = tried.first().filter(|full| full.broken > 0) {
        let broken = |count: usize| match count {
            0 => "no answer".to_owned(),
            1 => "1 answer".to_owned(),
            count => format!("{count} answers"),
        };
        let kept = tried
            .iter()
            .find(|trial| trial.scale == *scale)
            .map_or(0, |trial| trial.broken);
        lines.push(format!(
            "preferences: the whole change broke {} that was given before; {scale} of it is kept and breaks {}",
            broken(full.broken),
            broken(kept)
        ));
    }
    lines
}

fn plan_text(prepared: &PreparedRun) -> String {
    let lines = prepared.plan.lines();
    let width = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    if let Some(name) = prepared.lane.name() {
        out.push_str(&format!("adapter `{name}`:\n"));
    }
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
    for id in &replay.preferences {
        out.push_str(&format!("replayed: {id} (a preference)\n"));
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
fn next(reports: &[TrainReport], path: &Path) -> String {
    /// Longest question that is offered to be typed.
    const QUESTION_CHARS_MAX: usize = 80;
    let mut asked = reports
        .iter()
        .flat_map(|report| report.recall.iter().map(move |pair| (report, pair.question.trim())));
    let short = asked.find(|(_, text)| {
        !text.contains(char::is_control) && !text.starts_with('-') && text.chars().count() <= QUESTION_CHARS_MAX
    });
    let adapter = short.map_or(reports.last(), |(report, _)| Some(report));
    let adapter = adapter.and_then(|report| report.adapter_name.as_ref());
    let adapter = adapter.map(|name| format!(" --adapter {name}")).unwrap_or_default();
    let question = short.map_or("\"a question\"".to_owned(), |(_, text)| quoted(text));
    format!("next: dlm prompt {}{adapter} {question}", quoted_path(path))
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
