//! Plans and listings of `preference` and `synth`, and the list of templates.
//!
//! Invariants: texts of models, teachers and template authors are shown without control characters, cut to one line.

use std::collections::BTreeMap;

use dlm_flow::align::{ApplyReport, ListReport, Listed, Skip};
use dlm_flow::prefer::MineReport;
use dlm_flow::synth::{Filter, SynthReport};
use dlm_flow::templates::TemplateRow;

/// Longest quoted line, in characters.
const LINE_CHARS_MAX: usize = 80;

/// The first line of a text, cut and harmless.
pub fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut shown: String = line.chars().take(LINE_CHARS_MAX).map(harmless).collect();
    if line.chars().nth(LINE_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// One line, of any length, harmless.
fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().map(harmless).collect()
}

/// Control, direction and invisible characters could redraw the terminal or hide a text.
fn harmless(c: char) -> char {
    let is_shown = !c.is_control() && !dlm_packages::is_harmful(c);
    if is_shown { c } else { '\u{fffd}' }
}

fn reason(reason: &str, detail: Option<&String>) -> String {
    match detail {
        Some(detail) => format!("{reason} ({})", one_line(detail)),
        None => reason.to_owned(),
    }
}

/// The plan of `preference mine`.
pub fn mined(report: &MineReport) -> String {
    let mut out = format!(
        "preference mine plan: {} add, {} skip\n",
        report.additions.len(),
        report.skipped.len()
    );
    if !report.additions.is_empty() {
        out.push_str("=== additions ===\n");
    }
    for pair in &report.additions {
        out.push_str(&format!(
            "+ ::preference:: [section_id={} judge={} margin={:.3}]\n    prompt: {}\n    chosen: {}\n    rejected: {}\n",
            pair.section_id,
            one_line(&pair.judge),
            pair.margin,
            first_line(&pair.prompt),
            first_line(&pair.chosen),
            first_line(&pair.rejected)
        ));
    }
    out + &skips(&report.skipped)
}

fn skips(skipped: &[Skip]) -> String {
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

/// What `preference apply` and `synth apply` did.
pub fn applied(command: &str, report: &ApplyReport) -> String {
    let head = format!(
        "{command} apply plan: {} add, {} skip\n",
        report.added.len(),
        report.skipped.len()
    );
    let added: String = report.added.iter().map(|id| format!("+ {id}\n")).collect();
    head + &added + &skips(&report.skipped)
}

/// The listing of `preference list`.
pub fn preferences(report: &ListReport) -> String {
    let mut out = format!(
        "{}\napplied auto-mined: {}\nstaged pending: {}\n",
        report.path.display(),
        report.applied.len(),
        report.staged.len()
    );
    for (title, sections) in [("Applied", &report.applied), ("Pending", &report.staged)] {
        if !sections.is_empty() {
            out.push_str(&format!("{title}\n"));
        }
        for section in sections {
            let run = section.run_id.map_or_else(|| "-".to_owned(), |run| run.to_string());
            out.push_str(&format!(
                "- {}  judge={}  run={run}  prompt={}\n",
                section.section_id,
                one_line(&section.made_by),
                first_line(&section.prompt)
            ));
        }
    }
    if report.applied.is_empty() && report.staged.is_empty() {
        out.push_str(&format!(
            "nothing was mined yet: dlm preference mine {}\n",
            report.path.display()
        ));
    }
    out
}

/// The plan and filter report of `synth instructions`.
pub fn synthesized(report: &SynthReport) -> String {
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

/// The listing of `synth list`.
pub fn pairs(report: &ListReport) -> String {
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

fn counts(title: &str, sections: &[Listed], key: impl Fn(&Listed) -> Option<String>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for section in sections {
        *counts
            .entry(key(section).unwrap_or_else(|| "-".to_owned()))
            .or_default() += 1;
    }
    let each: Vec<String> = counts.iter().map(|(key, count)| format!("{key}={count}")).collect();
    format!("  {title}: {}\n", each.join(", "))
}

/// The list of templates.
pub fn templates(rows: &[TemplateRow]) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| vec![row.name.clone(), one_line(&row.title), one_line(&row.recommended_base)])
        .collect();
    super::table(&["name", "title", "base"], &cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_cannot_redraw_the_terminal() {
        assert_eq!(first_line("a\nb"), "a");
        assert_eq!(first_line(&"x".repeat(80)), "x".repeat(80));
        assert_eq!(first_line(&"x".repeat(81)), "x".repeat(80) + "…");
        assert_eq!(first_line("\x1b[2J\u{202e}ok"), "\u{fffd}[2J\u{fffd}ok");
        assert_eq!(first_line(""), "");
    }
}
