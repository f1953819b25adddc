//! `dlm preference`: the plan of mining, and the listing.

use dlm_core::shell::quoted_path;
use dlm_flow::prefer::MineReport;
use dlm_flow::staging::{ListReport, Outcome};

use super::staging::skips;
use super::{first_line, one_line};
use crate::console::Console;

/// What was mined, and what to type next.
pub fn mine(report: &MineReport, is_json: bool, console: &Console) {
    match is_json {
        true => console.json(report),
        false => console.result(&mined(report)),
    }
    let path = report.path.display();
    let typed = quoted_path(&report.path);
    let count = report.additions.len();
    match report.outcome {
        Outcome::Staged => console.info(&format!(
            "preference: staged {count} section(s); write them with `dlm preference apply {typed}`"
        )),
        Outcome::Applied => console.info(&format!(
            "preference: wrote {} section(s) into {path}, {} skipped",
            report.written,
            report.skipped.len()
        )),
        Outcome::Empty | Outcome::Shown => {}
    }
}

/// What was mined before, in the document and staged.
pub fn list(report: &ListReport, is_json: bool, console: &Console) {
    match is_json {
        true => console.json(report),
        false => console.result(&preferences(report)),
    }
}

fn mined(report: &MineReport) -> String {
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

fn preferences(report: &ListReport) -> String {
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
