//! What mining and synthesis share: staging a plan, writing sections into the document, taking them out again, listing.
//!
//! Invariants: a document changes by whole-file replacement and only where a section is added or removed; the store's
//! lock is held while a plan or a document is written, never while a model or a teacher works.

pub mod similarity;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dlm_core::ports::model::ModelError;
use dlm_core::shell::quoted_path;
use dlm_core::{Section, SectionId, SectionKind, Subject, Ulid};
use dlm_doc::{Rows, rows};
use dlm_store::{Disk, LockWait, PendingPlan, PlanKind, Store, StoreGuard, WAIT_HOUSEKEEPING};
use serde::Serialize;

use crate::document;
use crate::failure::Failure;
use crate::surroundings::Surroundings;

/// Something that was not taken, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skip {
    /// The prompt, question or section id.
    pub subject: String,
    pub reason: &'static str,
    pub detail: Option<String>,
}

impl Skip {
    pub(crate) fn new(subject: impl Into<String>, reason: &'static str) -> Self {
        Self {
            subject: subject.into(),
            reason,
            detail: None,
        }
    }

    pub(crate) fn because(self, detail: impl Into<String>) -> Self {
        Self {
            detail: Some(detail.into()),
            ..self
        }
    }
}

/// What happened to the pairs that a run accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Staged,
    Applied,
    /// There were none.
    Empty,
    /// `--dry-run`.
    Shown,
}

impl Outcome {
    /// The word of the metrics database and of reports.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Staged => "staged",
            Outcome::Applied => "applied",
            Outcome::Empty => "empty",
            Outcome::Shown => "shown",
        }
    }
}

/// Where new sections are put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// At the end of the document.
    End,
    /// Right after the section that each was made from; at the end where that is gone.
    Inline,
}

/// What applying a staged plan did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ApplyReport {
    pub path: PathBuf,
    /// Ids of the sections that were written, in order.
    pub added: Vec<SectionId>,
    pub skipped: Vec<Skip>,
    pub warnings: Vec<String>,
}

/// What reverting did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RevertReport {
    pub path: PathBuf,
    pub removed: usize,
}

/// One section of a listing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ListEntry {
    pub section_id: SectionId,
    /// Judge or teacher, as typed.
    pub made_by: String,
    /// The strategy of a synthesized section.
    pub strategy: Option<String>,
    /// The run that a preference was mined from.
    pub run_id: Option<u64>,
    /// The section that a pair was synthesized from.
    pub source: Option<SectionId>,
    /// First line of the prompt, or `<unparseable>`, `<empty>`, `<blank>`.
    pub prompt: String,
}

/// What is in the document and what is staged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ListReport {
    pub path: PathBuf,
    pub applied: Vec<ListEntry>,
    pub staged: Vec<ListEntry>,
}

/// Becomes the store's writer for the moment of staging or writing.
pub(crate) fn lock(around: &Surroundings, store: &Store) -> Result<StoreGuard, Failure> {
    let mut guard = store.lock(&LockWait {
        timeout: WAIT_HOUSEKEEPING,
        // An interrupted run still stages what it has.
        cancel: dlm_core::Cancel::new(),
        now: around.now(),
    })?;
    for notice in guard.take_notices() {
        around.note(format!("store: {notice}"));
    }
    Ok(guard)
}

/// Stages sections in place of an older plan.
pub(crate) fn stage(
    around: &Surroundings,
    kind: PlanKind,
    place: &Place<'_>,
    made_from: Vec<SectionId>,
    sections: Vec<Section>,
) -> Result<(), Failure> {
    let guard = lock(around, place.store)?;
    let plan = PendingPlan {
        source_path: absolute(place.path, kind)?.display().to_string(),
        created_at: around.now(),
        dlm_id: Some(place.dlm_id.clone()),
        made_from,
        sections,
    };
    guard.stage(kind, &plan)?;
    guard.release()?;
    Ok(())
}

/// A document and its store.
pub(crate) struct Place<'a> {
    pub path: &'a Path,
    pub dlm_id: &'a Ulid,
    pub store: &'a Store,
}

/// Writes sections into the document and clears the staged plan; returns the ids that were written. Sections that the
/// document has by now are left out.
pub(crate) fn write(
    around: &Surroundings,
    kind: PlanKind,
    place: &Place<'_>,
    sections: &[Section],
    placement: Placement,
) -> Result<Vec<SectionId>, Failure> {
    let guard = lock(around, place.store)?;
    let mut present = ids(&document::load(place.path)?);
    let fresh: Vec<Section> = sections
        .iter()
        .filter(|section| present.insert(section.id()))
        .cloned()
        .collect();
    if !fresh.is_empty() {
        add_to_document(place.path, &fresh, placement, kind)?;
    }
    guard.clear_pending(kind)?;
    guard.release()?;
    Ok(fresh.iter().map(Section::id).collect())
}

fn add_to_document(path: &Path, sections: &[Section], placement: Placement, kind: PlanKind) -> Result<(), Failure> {
    let document = document::load(path)?;
    let failed = |e: dlm_doc::EditError| Failure::from(e).under(kind.subject());
    let text = match placement {
        Placement::End => dlm_doc::append_sections(&document.text, sections).map_err(failed)?,
        Placement::Inline => {
            let known: Vec<SectionId> = document.parsed.sections().iter().map(Section::id).collect();
            let place = |section: &Section| {
                let source = &section.synth.as_ref()?.source_section_id;
                known.iter().position(|id| id == source)
            };
            let (inline, rest): (Vec<&Section>, Vec<&Section>) = sections.iter().partition(|s| place(s).is_some());
            let inline: Vec<(usize, Section)> = inline
                .into_iter()
                .filter_map(|section| Some((place(section)?, section.clone())))
                .collect();
            let text = dlm_doc::insert_sections(&document.text, &inline).map_err(failed)?;
            dlm_doc::append_sections(&text, &rest.into_iter().cloned().collect::<Vec<_>>()).map_err(failed)?
        }
    };
    Disk::new()
        .write(path, text.as_bytes())
        .map_err(|e| Failure::from(e).under(kind.subject()))
}

/// Applies a staged plan.
///
/// **Errors**: nothing staged, a corrupt plan, a plan of another document, nothing left to add (misuse; the plan is then
/// cleared and the report comes with the failure).
pub fn apply(
    around: &Surroundings,
    kind: PlanKind,
    path: &Path,
    placement: Placement,
) -> Result<(ApplyReport, Option<Failure>), Failure> {
    let subject = kind.subject();
    let document = document::load(path)?;
    let dlm_id = &document.parsed.frontmatter().dlm_id;
    let store = Store::new(&around.home, dlm_id);
    let Some(plan) = store.pending(kind)? else {
        return Err(nothing_staged(kind, path));
    };
    if let Some(staged) = plan.dlm_id.as_ref().filter(|staged| *staged != dlm_id) {
        let what = format!(
            "the staged plan belongs to document {staged}, {} is {dlm_id}",
            path.display()
        );
        return Err(Failure::new(subject, what).hint(remake(kind, path)));
    }
    let mut present = ids(&document);
    let mut report = ApplyReport {
        path: path.to_path_buf(),
        added: Vec::new(),
        skipped: Vec::new(),
        warnings: stale_warning(&plan, &present).into_iter().collect(),
    };
    let mut sections = Vec::new();
    for section in plan.sections {
        let id = section.id();
        match refusal(kind, &section) {
            Some(reason) => report.skipped.push(Skip::new(id.as_str(), reason)),
            None if !present.insert(id.clone()) => report.skipped.push(Skip::new(id.as_str(), "already_present")),
            None => sections.push(section),
        }
    }
    let place = Place {
        path,
        dlm_id,
        store: &store,
    };
    report.added = write(around, kind, &place, &sections, placement)?;
    let empty = report.added.is_empty().then(|| {
        Failure::misuse(
            subject,
            "nothing of the staged plan is left to add; the plan was cleared",
        )
    });
    Ok((report, empty))
}

/// Says why a staged section is not written.
fn refusal(kind: PlanKind, section: &Section) -> Option<&'static str> {
    match kind {
        PlanKind::Preference if section.kind != SectionKind::Preference => Some("not_a_preference"),
        PlanKind::Preference if section.mined.is_none() => Some("not_mined"),
        PlanKind::Synth if section.kind != SectionKind::Instruction => Some("not_an_instruction"),
        PlanKind::Synth if section.synth.is_none() => Some("not_synthesized"),
        _ => None,
    }
}

fn stale_warning(plan: &PendingPlan, present: &BTreeSet<SectionId>) -> Option<String> {
    let gone = plan.made_from.iter().filter(|id| !present.contains(*id)).count();
    (gone > 0).then(|| {
        format!(
            "{gone} of the {} sections that this plan was made from have changed since it was staged ({}Z)",
            plan.made_from.len(),
            plan.created_at
        )
    })
}

fn nothing_staged(kind: PlanKind, path: &Path) -> Failure {
    Failure::new(kind.subject(), format!("nothing is staged for {}", path.display())).hint(remake(kind, path))
}

fn remake(kind: PlanKind, path: &Path) -> String {
    match kind {
        PlanKind::Preference => format!("dlm preference mine {}", quoted_path(path)),
        PlanKind::Synth => format!("dlm synth instructions {}", quoted_path(path)),
    }
}

/// Discards a staged plan.
///
/// **Errors**: nothing staged, the disk. A corrupt plan is discarded as well.
pub fn drop_plan(around: &Surroundings, kind: PlanKind, path: &Path) -> Result<(), Failure> {
    let document = document::load(path)?;
    let store = Store::new(&around.home, &document.parsed.frontmatter().dlm_id);
    if !store.pending_path(kind).is_file() {
        return Err(nothing_staged(kind, path));
    }
    let guard = lock(around, &store)?;
    guard.clear_pending(kind)?;
    guard.release()?;
    Ok(())
}

/// Takes every section out of the document that mining or synthesis put there.
///
/// **Errors**: the document does not parse, the disk.
pub fn revert(around: &Surroundings, kind: PlanKind, path: &Path) -> Result<RevertReport, Failure> {
    let document = document::load(path)?;
    let made: Vec<usize> = document
        .parsed
        .sections()
        .iter()
        .enumerate()
        .filter(|(_, section)| refusal(kind, section).is_none())
        .map(|(index, _)| index)
        .collect();
    if !made.is_empty() {
        let store = Store::new(&around.home, &document.parsed.frontmatter().dlm_id);
        let guard = lock(around, &store)?;
        let text =
            dlm_doc::remove_sections(&document.text, &made).map_err(|e| Failure::from(e).under(kind.subject()))?;
        Disk::new()
            .write(path, text.as_bytes())
            .map_err(|e| Failure::from(e).under(kind.subject()))?;
        guard.release()?;
    }
    Ok(RevertReport {
        path: path.to_path_buf(),
        removed: made.len(),
    })
}

/// Lists what is in the document and what is staged.
///
/// **Errors**: the document does not parse, the staged plan is corrupt.
pub fn list(around: &Surroundings, kind: PlanKind, path: &Path) -> Result<ListReport, Failure> {
    let document = document::load(path)?;
    let store = Store::new(&around.home, &document.parsed.frontmatter().dlm_id);
    let staged = store.pending(kind)?.map(|plan| plan.sections).unwrap_or_default();
    let made = |sections: &[Section]| -> Vec<ListEntry> {
        sections
            .iter()
            .filter(|section| refusal(kind, section).is_none())
            .map(listed)
            .collect()
    };
    Ok(ListReport {
        path: path.to_path_buf(),
        applied: made(document.parsed.sections()),
        staged: made(&staged),
    })
}

fn listed(section: &Section) -> ListEntry {
    let mined = section.mined.as_ref();
    let synth = section.synth.as_ref();
    let made_by = mined
        .map(|m| &m.judge_name)
        .or(synth.map(|s| &s.synth_teacher))
        .map(|name| dlm_doc::marker::decode_name(name))
        .unwrap_or_default();
    ListEntry {
        section_id: section.id(),
        made_by,
        strategy: synth.map(|s| s.synth_strategy.clone()),
        run_id: mined.map(|m| m.mined_run_id),
        source: synth.map(|s| s.source_section_id.clone()),
        prompt: prompt_line(section),
    }
}

/// The first line of a section's first prompt.
fn prompt_line(section: &Section) -> String {
    if section.content.is_empty() {
        return "<empty>".to_owned();
    }
    if section.content.trim().is_empty() {
        return "<blank>".to_owned();
    }
    let prompt = match rows(section) {
        Ok(Rows::Pairs(pairs)) => pairs.into_iter().next().map(|pair| pair.question),
        Ok(Rows::Triples(triples)) => triples.into_iter().next().map(|triple| triple.prompt),
        _ => None,
    };
    let first = prompt.as_deref().and_then(|prompt| prompt.lines().next());
    first.map_or_else(|| "<unparseable>".to_owned(), str::to_owned)
}

/// The ids of a document's sections.
pub(crate) fn ids(document: &document::Document) -> BTreeSet<SectionId> {
    document.parsed.sections().iter().map(Section::id).collect()
}

fn absolute(path: &Path, kind: PlanKind) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|e| Failure::new(kind.subject(), format!("{}: {e}", path.display())))
}

/// What a person is told of a model that did not answer.
pub(crate) fn model_failure(subject: Subject, error: &ModelError) -> Failure {
    match error {
        ModelError::Cancelled => Failure::interrupted(""),
        ModelError::InvalidInput(_) => Failure::misuse(subject, error.to_string()),
        _ => Failure::new(subject, error.to_string()),
    }
}

/// Puts a plugin's failure under the command's word.
pub(crate) fn plugin_failure(subject: Subject, failure: dlm_core::ports::plugin::PluginFailure) -> Failure {
    Failure::from(failure).under(subject)
}

/// Says in a failure that ended a run early what became of the pairs accepted before it.
pub(crate) fn with_count(failure: Failure, count: usize, outcome: Outcome, kind: PlanKind, path: &Path) -> Failure {
    let kept = match (count, outcome) {
        (0, _) => "no pair was accepted before".to_owned(),
        (count, Outcome::Staged) => format!("{count} pair(s) accepted before are staged"),
        (count, _) => format!("{count} pair(s) were accepted before"),
    };
    let failure = failure.adding(&kept);
    match outcome {
        Outcome::Staged => failure.hint(format!("dlm {} apply {}", kind.command(), quoted_path(path))),
        _ => failure,
    }
}
