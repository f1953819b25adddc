//! `dlm synth`: the plan with its filter, and the listing.

use std::collections::BTreeMap;
use std::path::Path;

use dlm_core::shell::quoted_path;
use dlm_flow::staging::{ListEntry, ListReport, Outcome};
use dlm_flow::synth::{Filter, SynthReport};
use serde_json::json;

use super::staging::reason;
use super::{first_line, one_line};
use crate::console::Console;

/// What was synthesized, what it cost, and what to type next.
pub fn instructions(report: &SynthReport, is_json: bool, console: &Console) {
    match is_json {
        true => console.json(report),
        false => console.result(&synthesized(report)),
    }
    let usage = &report.usage;
    let kept = match usage.kept_answers {
        0 => String::new(),
        kept => format!(", {kept} answer(s) kept from an earlier run"),
    };
    console.info(&format!(
        "synth: {} request(s) to {}: {} prompt and {} completion tokens{kept}",
        usage.requests,
        first_line(&report.teacher),
        usage.prompt_tokens,
        usage.completion_tokens
    ));
    let path = report.path.display();
    let typed = quoted_path(&report.path);
    let accepted = report.filter.accepted;
    match report.outcome {
        Outcome::Staged => console.info(&format!(
            "synth: staged {accepted} pair(s); look at them with `dlm synth list {typed}`, write them with `dlm synth apply {typed}`"
        )),
        Outcome::Applied => console.info(&format!("synth: wrote {} section(s) into {path}", report.written)),
        Outcome::Shown => console.info(&format!("synth: dry run: {accepted} pair(s) accepted, nothing staged or written")),
        Outcome::Empty => {}
    }
}

/// What was synthesized before, in the document and staged.
pub fn list(report: &ListReport, is_json: bool, console: &Console) {
    match is_json {
        true => console.json(report),
        false => console.result(&pairs(report)),
    }
}

/// That the staged plan of a document is gone.
pub fn dropped(path: &Path, is_json: bool, console: &Console) {
    match is_json {
        true => console.json(&json!({"path": path, "dropped": true})),
        false => console.info(&format!("synth: the staged plan of {} was dropped", path.display())),
    }
}

fn synthesized(report: &SynthReport) -> String {
    let mut out = format!(
        "synth plan: {} add, {} skip\n",
        report.additions.len(),
        report.skipped.len()
    );
    for pair in &report.additions {
        out.push_str(&format!(
            "+ ::instruction:: [section_id={} source={} teacher={} strategy={}]\n    q: {}\n    a: {}\n",
            pair.section_id,
            pair.source,
            one_line(&pair.teacher),
            pair.strategy.name(),
            first_line(&pair.question),
            first_line(&pair.answer)
        ));
    }
    for skip in &report.skipped {
        let strategy = skip.strategy.map_or("-", |strategy| strategy.name());
        let why = reason(skip.reason, skip.detail.as_ref());
        out.push_str(&format!("- {} [{strategy}]: {why}\n", skip.section));
    }
    let filter = &report.filter;
    let head = format!(
        "\nsynth filter: generated {}, dedup {}, ",
        filter.generated, filter.dedup
    );
    out.push_str(&head);
    match (filter.filter, filter.judge_passed) {
        (Filter::Sway, Some(passed)) => {
            out.push_str(&format!("judge passed {passed}, threshold {}\n", filter.accepted))
        }
        _ => out.push_str(&format!("accepted {}\n", filter.accepted)),
    }
    if !report.filtered.is_empty() {
        out.push_str("=== filtered ===\n");
    }
    for pair in &report.filtered {
        out.push_str(&format!(
            "- {}: {} ({})  q: {}\n",
            pair.section_id,
            pair.reason,
            one_line(&pair.detail),
            first_line(&pair.question)
        ));
    }
    out
}

fn pairs(report: &ListReport) -> String {
    let mut out = format!(
        "{}\napplied auto-synth: {}\nstaged pending: {}\n",
        report.path.display(),
        report.applied.len(),
        report.staged.len()
    );
    for (title, sections) in [("Applied", &report.applied), ("Pending", &report.staged)] {
        if sections.is_empty() {
            continue;
        }
        out.push_str(&format!("{title}\n"));
        out.push_str(&counts("by teacher", sections, |s| Some(one_line(&s.made_by))));
        out.push_str(&counts("by strategy", sections, |s| {
            s.strategy.as_deref().map(one_line)
        }));
        out.push_str(&counts("by source", sections, |s| {
            s.source.as_ref().map(ToString::to_string)
        }));
        for section in sections {
            out.push_str(&format!(
                "- {}  teacher={}  strategy={}  source={}  prompt={}\n",
                section.section_id,
                one_line(&section.made_by),
                one_line(section.strategy.as_deref().unwrap_or("-")),
                section.source.as_ref().map_or("-", |id| id.as_str()),
                first_line(&section.prompt)
            ));
        }
    }
    if report.applied.is_empty() && report.staged.is_empty() {
        out.push_str(&format!(
            "nothing was synthesized yet: dlm synth instructions {}\n",
            report.path.display()
        ));
    }
    out
}

fn counts(title: &str, sections: &[ListEntry], key: impl Fn(&ListEntry) -> Option<String>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for section in sections {
        *counts
            .entry(key(section).unwrap_or_else(|| "-".to_owned()))
            .or_default() += 1;
    }
    let each: Vec<String> = counts.iter().map(|(key, count)| format!("{key}={count}")).collect();
    format!("  {title}: {}\n", each.join(", "))
}
