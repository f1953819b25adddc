//! `dlm check`.

use std::fmt::Write as _;

use dlm_core::FailureKind;
use dlm_core::inert::inert_line;
use dlm_doc::{Parsed, Rows, Section, rows};
use dlm_flow::check::Check;

use crate::console::Console;

/// What was parsed, then what is wrong with it and what is likely meant otherwise.
pub fn report(check: &Check, console: &Console) {
    console.result(&text(check));
    if !check.remarks.is_empty() {
        console.remarks(&check.remarks);
    }
    warnings(check).iter().for_each(|warning| console.warning(warning));
}

/// What was likely meant otherwise, and what `dlm train` would say.
fn warnings(check: &Check) -> Vec<String> {
    let mut warnings = check.advice.clone();
    let Some(verdict) = &check.training else {
        return warnings;
    };
    warnings.extend(verdict.warnings.iter().cloned());
    warnings.extend(verdict.refusal.as_ref().map(|failure| {
        let hints: String = failure.hints.iter().map(|hint| format!("\n  {hint}")).collect();
        let what = match failure.kind {
            FailureKind::NothingToDo => "has nothing to do",
            _ => "refuses it",
        };
        format!("`dlm train` {what}: {failure}{hints}")
    }));
    warnings
}

/// Everything that was parsed, as data.
pub fn json(check: &Check, console: &Console) {
    console.json(&check.to_json());
}

/// What was parsed; empty for a file that does not parse.
fn text(check: &Check) -> String {
    let Ok(parsed) = &check.report.outcome else {
        return String::new();
    };
    let front = parsed.frontmatter();
    let mut out = format!("{}\n", check.path.display());
    let mut line =
        |name: &str, value: String| writeln!(out, "  {name:<9} {}", inert_line(&value)).expect("strings take all");
    line("id", front.dlm_id.to_string());
    let is_elsewhere = check
        .training
        .as_ref()
        .is_some_and(|training| training.is_base_elsewhere);
    line(
        "base",
        match is_elsewhere {
            true => format!(
                "{} (not on this machine, so its files were not judged)",
                front.base_model
            ),
            false => front.base_model.clone(),
        },
    );
    line("version", version(parsed));
    if let Some(prompt) = &front.system_prompt {
        line("system", format!("{} characters", prompt.chars().count()));
    }
    line("sections", parsed.sections().len().to_string());
    let rows: Vec<Vec<String>> = parsed.sections().iter().map(section).collect();
    if !rows.is_empty() {
        let table = super::table(&["line", "type", "id", "adapter", "holds"], &rows);
        table
            .lines()
            .for_each(|row| writeln!(out, "    {row}").expect("strings take all"));
    }
    let (problems, warnings) = (check.report.problems.len(), parsed.warnings.len());
    match (problems, warnings) {
        (0, 0) if !self::warnings(check).is_empty() => out.push_str("  it parses; see the warnings\n"),
        (0, 0) => out.push_str("  no problems\n"),
        _ => writeln!(out, "  {problems} problem(s), {warnings} warning(s)").expect("strings take all"),
    }
    out
}

fn version(parsed: &Parsed) -> String {
    let current = dlm_doc::SCHEMA_VERSION;
    match parsed.declared_version {
        version if version == current => format!("{current} (current)"),
        old => format!("{old}, read as {current}; `dlm migrate` rewrites it"),
    }
}

fn section(section: &Section) -> Vec<String> {
    let holds = match rows(section) {
        Ok(Rows::Pairs(pairs)) => format!("{} pair(s)", pairs.len()),
        Ok(Rows::Triples(triples)) => format!("{} triple(s)", triples.len()),
        Ok(Rows::None) => match &section.media {
            Some(media) => media.path.clone(),
            None => format!("{} characters", section.content.chars().count()),
        },
        Err(_) => "rows with a mistake".to_owned(),
    };
    vec![
        section.start_line.to_string(),
        section.kind.as_str().to_owned(),
        section.id().to_string(),
        section.adapter.clone().unwrap_or_else(|| "-".to_owned()),
        holds,
    ]
}
