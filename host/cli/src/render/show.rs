//! `dlm show`.

use std::path::Path;

use dlm_core::inert::inert_line;
use dlm_core::manifest::RunStatus;
use dlm_core::shell::quoted_path;
use dlm_core::units::size;
use dlm_doc::SourceDirective;
use dlm_flow::show::{Security, Show, ShownSection, StoredDocument, UntrainedDocument};
use dlm_store::LockStatus;
use serde::Serialize;

use crate::console::Console;

/// Hex digits of a revision that are shown.
const REVISION_DIGITS: usize = 7;

/// Collects `name value` lines.
struct Lines(String);

impl Lines {
    fn put(&mut self, name: &str, value: impl AsRef<str>) {
        self.0
            .push_str(format!("  {name:<14} {}", inert_line(value.as_ref())).trim_end());
        self.0.push('\n');
    }

    fn more(&mut self, value: impl AsRef<str>) {
        self.put("", value);
    }
}

/// The report with what `--verify` found, where it was asked for.
#[derive(Serialize)]
struct Verified<'a> {
    #[serde(flatten)]
    show: &'a Show,
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<&'a [String]>,
}

/// What the document at `path` is and what its store holds; `damage` is what `--verify` found.
pub fn report(path: &Path, show: &Show, damage: Option<&[String]>, is_json: bool, console: &Console) {
    if is_json {
        return console.json(&Verified { show, damage });
    }
    let mut text = text(path, show);
    if let Some(damage) = damage {
        let mut lines = Lines(String::new());
        match damage {
            [] => lines.put("verified", "every file that has a digest is what was written"),
            found => found.iter().for_each(|line| lines.put("damaged", line)),
        }
        text.push_str(&lines.0);
    }
    console.result(&text);
    if let Show::Stored(report) = show {
        report
            .content_hashes
            .iter()
            .for_each(|(id, seen)| console.detail(&format!("section {id}: {seen}")));
    }
}

fn text(path: &Path, show: &Show) -> String {
    let mut lines = Lines(format!("{}\n", path.display()));
    match show {
        Show::Untrained(report) => untrained(&mut lines, report),
        Show::Stored(report) => stored(&mut lines, path, report),
    }
    lines.0
}

fn untrained(lines: &mut Lines, report: &UntrainedDocument) {
    lines.put("dlm_id", &report.dlm_id);
    lines.put("base_model", &report.base_model);
    lines.put("store", "not yet initialized (run dlm train)");
    sections(lines, &report.sections, &[]);
    sources(lines, report.training_sources.as_deref());
    security(lines, report.base_security.as_ref());
}

fn stored(lines: &mut Lines, path: &Path, report: &StoredDocument) {
    lines.put("dlm_id", &report.dlm_id);
    let revision: String = report
        .base_model_revision
        .iter()
        .flat_map(|r| r.chars())
        .take(REVISION_DIGITS)
        .collect();
    match revision.is_empty() {
        true => lines.put("base_model", &report.base_model),
        false => lines.put("base_model", format!("{} (revision {revision})", report.base_model)),
    }
    lines.put(
        "store",
        format!("{} ({})", report.path.display(), size(report.total_size_bytes)),
    );
    adapters(lines, path, report);
    runs(lines, report);
    lines.put("exports", report.exports.len().to_string());
    for export in &report.exports {
        let kind = if export.merged { "merged" } else { "base + adapter" };
        lines.more(format!(
            "{}  {} {} ({kind})",
            export.exported_at, export.target, export.quant
        ));
    }
    lines.put(
        "dlm.lock",
        match report.lock.status {
            LockStatus::Absent => "absent",
            LockStatus::Ok => "ok",
            LockStatus::Unreadable => "unreadable (`dlm train --update-lock` writes a new one)",
        },
    );
    sections(lines, &report.sections, &report.removed_sections);
    sources(lines, report.training_sources.as_deref());
    extras(lines, report);
    security(lines, report.base_security.as_ref());
}

fn adapters(lines: &mut Lines, path: &Path, report: &StoredDocument) {
    if report.named_adapters.is_empty() {
        match (report.adapter_version, report.has_adapter_current) {
            (0, false) => lines.put("adapter", "none (no dlm train yet)"),
            (version, true) => lines.put("adapter", format!("v{version:04}")),
            (version, false) => lines.put(
                "adapter",
                format!("v{version:04} is recorded, but there is no current pointer"),
            ),
        }
    }
    for adapter in &report.named_adapters {
        let state = match adapter.has_current {
            true => format!("v{:04}", adapter.latest_version),
            false => "no current pointer".to_owned(),
        };
        lines.put("adapter", format!("{}  {state}", adapter.name));
    }
    for kept in &report.resumable_versions {
        lines.more(format!(
            "{} is kept after step {}; go on, with the same options: dlm train {} --resume",
            kept.path,
            kept.step,
            quoted_path(path)
        ));
    }
    for orphan in &report.orphan_versions {
        lines.more(format!("{orphan} was left by a run that did not end"));
    }
    for rejected in &report.rejected_versions {
        lines.more(format!("{rejected} was refused"));
    }
}

fn runs(lines: &mut Lines, report: &StoredDocument) {
    let last = match &report.last_trained_at {
        Some(time) => format!("{} — last {time}", report.training_runs),
        None => report.training_runs.to_string(),
    };
    lines.put("training runs", last);
    for run in report.runs.iter().rev().take(5) {
        let status = match run.status {
            RunStatus::Running if report.interrupted_runs.contains(&run.run_id) => "interrupted",
            status => status.name(),
        };
        let loss = run
            .final_train_loss
            .map_or(String::new(), |loss| format!(", loss {loss:.4}"));
        lines.more(format!(
            "run {} {status}, v{:04}, {} steps, seed {}{loss}",
            run.run_id, run.adapter_version, run.steps, run.seed
        ));
    }
}

fn sections(lines: &mut Lines, sections: &[ShownSection], removed: &[String]) {
    let new = sections.iter().filter(|section| section.status == "new").count();
    lines.put(
        "sections",
        format!(
            "{} ({new} new, {} unchanged, {} removed since the last run)",
            sections.len(),
            sections.len() - new,
            removed.len()
        ),
    );
    for section in sections {
        let adapter = section
            .adapter
            .as_ref()
            .map_or(String::new(), |name| format!("#{name}"));
        lines.more(format!(
            "{}  {}{adapter}, line {}, {}",
            section.id, section.kind, section.start_line, section.status
        ));
    }
    for id in removed {
        lines.more(format!("{id}  removed"));
    }
}

fn sources(lines: &mut Lines, sources: Option<&[SourceDirective]>) {
    for source in sources.unwrap_or_default() {
        lines.put(
            "source",
            format!("{}  include {}", source.path, source.include.join(", ")),
        );
    }
}

fn extras(lines: &mut Lines, report: &StoredDocument) {
    if let Some(cache) = &report.training_cache {
        let rate = cache
            .last_run_hit_rate
            .map_or(String::new(), |rate| format!(", last hit rate {:.1}%", rate * 100.0));
        lines.put(
            "cache",
            format!("{} entries, {}{rate}", cache.entry_count, size(cache.bytes)),
        );
    }
    if let Some(gate) = &report.gate {
        lines.put(
            "gate",
            format!(
                "{} over {}",
                gate.mode.as_deref().unwrap_or("-"),
                gate.adapter_names.join(", ")
            ),
        );
    }
    if let Some(mining) = &report.mining {
        lines.put(
            "mined",
            format!(
                "{} pair(s) in {} run(s)",
                mining.total_auto_mined_pairs, mining.preference_mining_runs
            ),
        );
    }
    if report.orphaned {
        let source = report.source_path.as_deref().unwrap_or("-");
        lines.put(
            "warning",
            format!("the store was made for {source}, which is gone or another document"),
        );
    }
    for problem in &report.problems {
        lines.put("warning", problem);
    }
}

fn security(lines: &mut Lines, security: Option<&Security>) {
    if let Some(security) = security.filter(|security| security.trust_remote_code) {
        lines.put(
            "security",
            format!(
                "`{}` needs model code of its own, which never runs here",
                security.base_model
            ),
        );
    }
}
